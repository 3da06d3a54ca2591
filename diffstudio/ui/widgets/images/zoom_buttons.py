"""The buttons that zoom an image: out, in, and the percentage, which switches between fitted and actual size."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QHBoxLayout, QWidget

from diffstudio.ui.widgets import text_size, theme
from diffstudio.ui.widgets.controls import SecondaryButton
from diffstudio.ui.widgets.helpers import describe, set_tooltip


class ZoomButtons(QWidget):
    """`stepped` carries 1 or -1."""

    stepped = Signal(object)
    toggled = Signal()  # between the fitted size and 100%

    def __init__(self) -> None:
        super().__init__()
        describe(self, "Zoom", " ")
        self.zoom_out = SecondaryButton("", "minus", "Zoom out (-)", name="Zoom out", role="dim")
        self.percent = SecondaryButton("100%", "", "Show actual size (1)")
        self.percent.setFlat(True)
        self.percent.setFont(theme.font(theme.SMALL_PIXELS))
        text_size.fix_size(self.percent, 64, 28)
        self.zoom_in = SecondaryButton("", "plus", "Zoom in (+)", name="Zoom in", role="dim")
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(0)
        for button in (self.zoom_out, self.percent, self.zoom_in):
            row.addWidget(button)
        self.zoom_out.clicked.connect(lambda: self.stepped.emit(-1))
        self.zoom_in.clicked.connect(lambda: self.stepped.emit(1))
        self.percent.clicked.connect(self.toggled)

    def show_zoom(self, scale: float, *, fits: bool, can_zoom_in: bool = True, can_zoom_out: bool = True) -> None:
        """`scale`: screen px per image px. `fits`: the image is as large as its place."""
        self.percent.setText(f"{scale:.0%}")
        self.percent.setAccessibleName(f"Zoom {self.percent.text()}{', fitted' if fits else ''}")
        set_tooltip(self.percent, "Show actual size (1)" if fits else "Fit to window (0)")
        self.zoom_in.setEnabled(can_zoom_in)
        self.zoom_out.setEnabled(can_zoom_out)
