"""The widgets of the Generate room and where they are: panel, canvas with its controls, queue and history."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QBoxLayout, QHBoxLayout, QStackedWidget, QVBoxLayout, QWidget

from diffstudio.ui.generate.canvas import Canvas
from diffstudio.ui.generate.filmstrip import Filmstrip
from diffstudio.ui.generate.panel import Panel
from diffstudio.ui.generate.queue_and_history import QueueAndHistory
from diffstudio.ui.widgets import actions, theme
from diffstudio.ui.widgets.controls import Banner, EmptyState, ProgressLine, SecondaryButton
from diffstudio.ui.widgets.helpers import ElidedLabel

_BUTTON_TEXT_WIDTH = 420  # px of the middle column: below it a button shows only its icon
_NARROW = 1180  # px: below it the side columns are narrower


class GenerateLayout(QWidget):
    """Holds the widgets, adapts them to the width of the window, and shows messages in the banner."""

    retry_requested = Signal()  # by a banner whose button has no action of its own

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("background")
        self.panel, self.right = Panel(), QueueAndHistory()
        self.banner = Banner()
        self.banner.hide()
        self.title = ElidedLabel("", pixels=15, bold=True)
        self.status = ElidedLabel("", "dim", mode=Qt.TextElideMode.ElideRight)
        self.canvas, self.filmstrip, self.progress = Canvas(), Filmstrip(), ProgressLine("Progress")
        self.empty = EmptyState("sparkle", "Looking for checkpoints…", "")
        self.pause_button = SecondaryButton("Pause", "pause-fill", "Pause after the current network call (Ctrl+P)")
        self.stop_button = SecondaryButton("Stop", "stop-fill", "Stop after the current network call (Ctrl+.)")
        self.restart_button = SecondaryButton("Restart from step 1", "arrow-counter-clockwise")
        self.reuse_button = SecondaryButton(actions.USE_SETTINGS, "sliders-horizontal", actions.USE_SETTINGS_TIP)
        self.hint = ElidedLabel("", "dim", pixels=theme.SMALL_PIXELS)
        self.hint.setAlignment(Qt.AlignmentFlag.AlignRight)
        self._heading_stacked = False
        self._banner_action: Callable[[], object] = self.retry_requested.emit
        self.banner.acted.connect(lambda: self._banner_action())
        self._lay_out()

    def show_message(
        self, kind: str, text: str, action: str = "", on_action: Callable[[], object] | None = None
    ) -> None:
        """Show the banner. Its button calls `on_action`, or by default submits the failed request again."""
        self._banner_action = on_action or self.retry_requested.emit
        self.banner.show_message(kind, text, action)
        self.banner.setVisible(bool(text))

    def _lay_out(self) -> None:
        self.header = QWidget()
        self._heading = QBoxLayout(QBoxLayout.Direction.LeftToRight, self.header)
        self._heading.setContentsMargins(0, 0, 0, 0)
        self._heading.setSpacing(4)
        self._heading.addWidget(self.title, 1)
        self._heading.addWidget(self.status, 1)
        self.foot = QWidget()
        buttons = QHBoxLayout(self.foot)
        buttons.setContentsMargins(0, 0, 0, 0)
        buttons.setSpacing(8)
        for button in (self.pause_button, self.stop_button, self.reuse_button, self.restart_button):
            buttons.addWidget(button)
        buttons.addWidget(self.hint, 1)
        buttons.addStretch(0)
        self.foot.setFixedHeight(34)
        self.middle = QStackedWidget()
        self.middle.addWidget(self.empty)
        self.middle.addWidget(self.canvas)
        column = self._column = QVBoxLayout()
        column.setSpacing(12)
        column.addWidget(self.banner)
        column.addWidget(self.header)
        column.addWidget(self.middle, 1)
        column.addWidget(self.progress)
        column.addWidget(self.filmstrip)
        column.addWidget(self.foot)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(0)
        row.addWidget(self.panel)
        row.addLayout(column, 1)
        row.addWidget(self.right)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        narrow = self.width() < _NARROW
        self.panel.setFixedWidth(288 if narrow else 328)
        self.right.setFixedWidth(216 if narrow else 260)
        middle = self.width() - self.panel.width() - self.right.width()
        stacked = middle < 640
        self._heading.setDirection(QBoxLayout.Direction.TopToBottom if stacked else QBoxLayout.Direction.LeftToRight)
        self.status.setAlignment(Qt.AlignmentFlag.AlignLeft if stacked else Qt.AlignmentFlag.AlignRight)
        self._heading_stacked = stacked
        self.reuse_button.setText("" if middle < _BUTTON_TEXT_WIDTH else actions.USE_SETTINGS)
        self._column.setContentsMargins(*((16, 12, 16, 12) if stacked else (24, 16, 24, 16)))
