"""The message banner at the bottom of a room."""

from __future__ import annotations

from PySide6.QtWidgets import QHBoxLayout, QWidget

from diffstudio.ui.widgets.controls import Banner


class MessageBanner(QWidget):
    """A banner with margins, hidden without a message."""

    def __init__(self) -> None:
        super().__init__()
        self.banner = Banner()
        row = QHBoxLayout(self)
        row.setContentsMargins(20, 4, 20, 12)
        row.addWidget(self.banner)
        self.banner.dismissed.connect(self.hide)
        self.hide()

    def show_message(self, kind: str, text: str, action: str = "") -> None:
        self.banner.show_message(kind, text, action)
        self.banner.show()
        self.show()

    def text(self) -> str:
        """The message shown; empty if there is none."""
        return "" if self.isHidden() else self.banner.text()
