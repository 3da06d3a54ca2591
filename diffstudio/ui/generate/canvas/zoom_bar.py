"""The bar in the corner of the canvas: how large the image is shown, and buttons that change it."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QFrame, QHBoxLayout, QWidget

from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.controls import SecondaryButton
from diffstudio.ui.widgets.helpers import describe, set_tooltip


class ZoomBar(QFrame):
    """`stepped` carries 1 or -1."""

    stepped = Signal(object)
    toggled = Signal()  # between the fitted size and 100 %
    full_screen_requested = Signal()

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setObjectName("zoomBar")
        describe(self, "Zoom", " ")
        self.zoom_out = SecondaryButton("", "minus", "Zoom out (-)", name="Zoom out", role="dim")
        self.percent = SecondaryButton("100 %", "", "Show actual size (1)")
        self.percent.setFlat(True)
        self.percent.setFont(theme.font(theme.SMALL_PIXELS))
        self.percent.setFixedSize(60, 28)
        self.zoom_in = SecondaryButton("", "plus", "Zoom in (+)", name="Zoom in", role="dim")
        self.full_screen = SecondaryButton(
            "", "corners-out", "Full screen (F11, or double-click the image)", name="Full screen", role="dim"
        )
        row = QHBoxLayout(self)
        row.setContentsMargins(2, 2, 2, 2)
        row.setSpacing(0)
        for button in (self.zoom_out, self.percent, self.zoom_in, self.full_screen):
            row.addWidget(button)
        self.zoom_out.clicked.connect(lambda: self.stepped.emit(-1))
        self.zoom_in.clicked.connect(lambda: self.stepped.emit(1))
        self.percent.clicked.connect(self.toggled)
        self.full_screen.clicked.connect(self.full_screen_requested)

    def show_zoom(self, scale: float, *, fits: bool, can_zoom_in: bool, can_zoom_out: bool) -> None:
        """`scale`: screen px per image px. `fits`: the image is as large as the canvas."""
        self.percent.setText(f"{scale:.0%}".replace("%", " %"))
        self.percent.setAccessibleName(f"Zoom {self.percent.text()}{', fitted' if fits else ''}")
        set_tooltip(self.percent, "Show actual size (1)" if fits else "Fit to window (0)")
        self.zoom_in.setEnabled(can_zoom_in)
        self.zoom_out.setEnabled(can_zoom_out)

    def show_full_screen(self, on: bool) -> None:
        """Whether the canvas fills the screen."""
        self.full_screen.set_icon("corners-in" if on else "corners-out", "dim")
        text = "Leave full screen" if on else "Full screen"
        self.full_screen.setAccessibleName(text)
        set_tooltip(self.full_screen, f"{text} ({'Escape' if on else 'F11, or double-click the image'})")
