"""A search field."""

from __future__ import annotations

from PySide6.QtCore import QTimer, Signal
from PySide6.QtWidgets import QLineEdit, QToolButton

from diffstudio.ui.widgets import icons
from diffstudio.ui.widgets.helpers import describe, limit_length, takes_text_only

SEARCH_DELAY_MS = 150


class SearchField(QLineEdit):
    """A search field. Emits `searched` after a pause in typing, or on Enter."""

    searched = Signal()

    def __init__(self, placeholder: str, tooltip: str) -> None:
        super().__init__()
        takes_text_only(self)
        self.setPlaceholderText(placeholder)
        self.setClearButtonEnabled(True)
        limit_length(self, 1000)
        self.setMinimumWidth(80)
        for cross in self.findChildren(QToolButton):  # Qt's own, which appears with the first letter
            describe(cross, "Clear", "Clear the search")
        self.addAction(icons.icon("magnifying-glass", "dim"), QLineEdit.ActionPosition.LeadingPosition).setText(
            "Search"
        )
        describe(self, "Search", tooltip)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(SEARCH_DELAY_MS)
        self.textChanged.connect(lambda: self._timer.start())
        self.returnPressed.connect(self.search_now)
        self._timer.timeout.connect(self.searched)

    def search_now(self) -> None:
        self._timer.stop()
        self.searched.emit()
