"""A text field for a note. It saves when it loses the focus, or after a pause in typing."""

from __future__ import annotations

from PySide6.QtCore import QTimer, Signal
from PySide6.QtGui import QFocusEvent, QResizeEvent
from PySide6.QtWidgets import QPlainTextEdit

from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.helpers import describe, label, set_style_property, takes_text_only
from diffstudio.ui.widgets.text_size import fix_size

SAVE_DELAY_MS = 800
HEIGHT = 84  # px: about four lines


class NoteField(QPlainTextEdit):
    """Emits `edited` with the text to save: at most the first `longest` characters, which it says where there are more.

    Saving changes neither the text nor the place of the cursor.
    """

    edited = Signal(str)

    def __init__(self, placeholder: str, tooltip: str, longest: int) -> None:
        super().__init__()
        self._saved: str | None = ""  # None for what is not known to be stored
        self._longest = longest
        self.setPlaceholderText(placeholder)
        self.setTabChangesFocus(True)
        fix_size(self, height=HEIGHT)
        self.setFont(theme.font(theme.FONT_PIXELS))
        describe(self, "Note", tooltip)
        self.too_long = label("", "bad", pixels=theme.TINY_PIXELS, wrap=True)
        self.too_long.setParent(self)
        self.too_long.hide()
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(SAVE_DELAY_MS)
        self._timer.timeout.connect(self.save)
        self.textChanged.connect(self._timer.start)
        self.textChanged.connect(self._check_length)
        takes_text_only(self)

    def show_text(self, text: str) -> None:
        """Show a stored note. Call `save` before, or unsaved text is lost. What is too long to be saved stays while the
        field has the focus.
        """
        self._saved = text
        shown = self.text_to_save() if self.hasFocus() else self.toPlainText()
        if shown != text:
            self.setPlainText(text)
        self._timer.stop()

    def text_to_save(self) -> str:
        return self.toPlainText()[: self._longest]

    def has_edits(self) -> bool:
        return not self.isReadOnly() and self.text_to_save() != self._saved

    def keep_edits(self) -> None:
        """The text could not be saved: it has edits still, which are saved the next time."""
        self._saved = None

    def save(self) -> None:
        """Emit `edited` if the text differs from what was stored."""
        self._timer.stop()
        if self.has_edits():
            self._saved = text = self.text_to_save()
            self.edited.emit(text)

    def focusOutEvent(self, event: QFocusEvent) -> None:
        super().focusOutEvent(event)
        self.save()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._place_message()

    def _check_length(self) -> None:
        over = len(self.toPlainText()) - self._longest
        what = f"Only the first {self._longest:,} characters are saved. Remove {over:,}." if over > 0 else ""
        if what != self.too_long.text():
            self.too_long.setText(what)
            self.setAccessibleDescription(what)
            set_style_property(self, "wrong", bool(what))
            self._place_message()

    def _place_message(self) -> None:
        """Below the text, within the field."""
        shown = bool(self.too_long.text())
        width = self.width() - 20
        height = self.too_long.heightForWidth(width) if shown else 0
        self.setViewportMargins(0, 0, 0, height)
        self.too_long.setGeometry(10, self.height() - height - 4, width, height)
        self.too_long.setVisible(shown)
