"""The bar in the corner of the canvas: how large the image is shown, and buttons that change it."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QFrame, QHBoxLayout, QWidget

from diffstudio.ui.widgets.controls import SecondaryButton
from diffstudio.ui.widgets.helpers import describe, set_tooltip
from diffstudio.ui.widgets.images.channel_combo_box import ChannelComboBox
from diffstudio.ui.widgets.images.zoom_buttons import ZoomButtons


class ZoomBar(QFrame):
    """The zoom buttons, and the one for the full screen."""

    full_screen_requested = Signal()

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setObjectName("zoomBar")
        describe(self, "Zoom and full screen", " ")
        self.zoom = ZoomButtons()
        self.full_screen = SecondaryButton(
            "", "corners-out", "Full screen (F11, or double-click the image)", name="Full screen", role="dim"
        )
        self.channels = ChannelComboBox("the image")
        row = QHBoxLayout(self)
        row.setContentsMargins(2, 2, 2, 2)
        row.setSpacing(0)
        row.addWidget(self.channels)
        row.addWidget(self.zoom)
        row.addWidget(self.full_screen)
        self.full_screen.clicked.connect(self.full_screen_requested)

    def offer_channels(self, count: int) -> None:
        """Offer each of the channels of an array; 0 hides the drop-down."""
        self.channels.offer(count)
        self.channels.set_value(0)

    def show_full_screen(self, on: bool) -> None:
        """Whether the canvas fills the screen."""
        self.full_screen.set_icon("corners-in" if on else "corners-out", "dim")
        text = "Leave full screen" if on else "Full screen"
        self.full_screen.setAccessibleName(text)
        set_tooltip(self.full_screen, f"{text} ({'Escape' if on else 'F11, or double-click the image'})")
