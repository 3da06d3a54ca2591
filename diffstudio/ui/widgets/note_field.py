"""A text field for a note. It saves when it loses the focus, or after a pause in typing."""

from __future__ import annotations

from PySide6.QtCore import QTimer, Signal
from PySide6.QtGui import QFocusEvent
from PySide6.QtWidgets import QPlainTextEdit

from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.helpers import describe, takes_text_only
from diffstudio.ui.widgets.text_size import fix_size

SAVE_DELAY_MS = 800
HEIGHT = 84  # px: about four lines


class NoteField(QPlainTextEdit):
    """Emits `edited` with the text to save, of at most `longest` characters."""

    edited = Signal(str)

    def __init__(self, placeholder: str, tooltip: str, longest: int) -> None:
        super().__init__()
        self._saved, self._longest = "", longest
        self.setPlaceholderText(placeholder)
        self.setTabChangesFocus(True)
        fix_size(self, height=HEIGHT)
        self.setFont(theme.font(theme.FONT_PIXELS))
        describe(self, "Note", tooltip)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(SAVE_DELAY_MS)
        self._timer.timeout.connect(self.save)
        self.textChanged.connect(self._timer.start)
        takes_text_only(self)

    def show_text(self, text: str) -> None:
        """Show a stored note. Call `save` before, or unsaved text is lost."""
        self._saved = text
        if self.toPlainText() != text:
            self.setPlainText(text)
        self._timer.stop()

    def has_edits(self) -> bool:
        return not self.isReadOnly() and self.toPlainText()[: self._longest] != self._saved

    def save(self) -> None:
        """Emit `edited` if the text differs from what was stored."""
        self._timer.stop()
        if self.has_edits():
            self._saved = self.toPlainText()[: self._longest]
            self.edited.emit(self._saved)

    def focusOutEvent(self, event: QFocusEvent) -> None:
        super().focusOutEvent(event)
        self.save()
