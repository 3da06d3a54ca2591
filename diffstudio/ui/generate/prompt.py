"""The prompt: a few lines of text with the history of what was asked before."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QPoint, QSize, Qt, Signal
from PySide6.QtGui import QFontMetrics, QKeyEvent, QTextCursor
from PySide6.QtWidgets import QMenu, QPlainTextEdit, QWidget

from diffstudio.studio.requests import LONGEST_PROMPT
from diffstudio.ui.controls import describe, restyle

_MOST_IN_MENU = 30


class PromptEdit(QPlainTextEdit):
    """Text that is pasted plain, leaves with Tab, and says when it is longer than a prompt may be.

    Up in an empty field, or in one that shows an old prompt, goes back in the history; Alt+Up does so anywhere.
    """

    too_long = Signal(bool)
    submitted = Signal()             # Ctrl+Enter, which the field would otherwise keep to itself

    def __init__(self, name: str, placeholder: str, tooltip: str, lines: int, history: bool = False) -> None:
        super().__init__()
        describe(self, name, tooltip)
        self.setPlaceholderText(placeholder)
        self.setTabChangesFocus(True)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAsNeeded)
        self.setFixedHeight(QFontMetrics(self.font()).lineSpacing() * lines + 26)
        self._with_history, self._history, self._place = history, tuple[str, ...](), -1
        self._draft = ""
        self._over = False
        self.textChanged.connect(self._check)

    def text(self) -> str:
        return self.toPlainText()

    def set_text(self, text: str) -> None:
        """Undoable, unlike setPlainText; the cursor goes to the end."""
        if text == self.toPlainText():
            return
        cursor = QTextCursor(self.document())
        cursor.select(QTextCursor.SelectionType.Document)
        cursor.insertText(text)
        self.moveCursor(QTextCursor.MoveOperation.End)

    def set_history(self, history: Sequence[str]) -> None:
        """Newest first."""
        self._history, self._place = tuple(history), -1

    def history(self) -> tuple[str, ...]:
        return self._history

    def history_menu(self, parent: QWidget) -> QMenu:
        menu = QMenu(parent)
        menu.setAccessibleName("Earlier prompts")
        metrics = QFontMetrics(menu.font())
        for prompt in self._history[:_MOST_IN_MENU]:
            line = metrics.elidedText(" ".join(prompt.split()), Qt.TextElideMode.ElideRight, 420)
            action = menu.addAction(line.replace("&", "&&"))
            action.triggered.connect(lambda _=False, prompt=prompt: self.set_text(prompt))
        if not self._history:
            menu.addAction("Prompts you use are kept here").setEnabled(False)
        return menu

    def keyPressEvent(self, event: QKeyEvent) -> None:
        control = bool(event.modifiers() & Qt.KeyboardModifier.ControlModifier)
        if control and event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self.submitted.emit()
            return
        if event.key() in (Qt.Key.Key_Up, Qt.Key.Key_Down) and self._with_history and self._history:
            alt = bool(event.modifiers() & Qt.KeyboardModifier.AltModifier)
            shown = self._place >= 0 and self.toPlainText() == self._history[self._place]
            up = event.key() == Qt.Key.Key_Up
            if alt or shown or (up and not self.toPlainText()):
                self._walk(1 if up else -1)
                return
        super().keyPressEvent(event)

    def _walk(self, way: int) -> None:
        if self._place < 0:
            self._draft = self.toPlainText()
        self._place = min(max(self._place + way, -1), len(self._history) - 1)
        self.set_text(self._draft if self._place < 0 else self._history[self._place])

    def _check(self) -> None:
        over = len(self.toPlainText()) > LONGEST_PROMPT
        if over != self._over:
            self._over = over
            restyle(self, "wrong", over)
            self.too_long.emit(over)

    def sizeHint(self) -> QSize:
        return QSize(200, self.height())


def below(widget: QWidget, menu: QMenu) -> QPoint:
    """Where a menu that belongs to a button opens: under it, its right ends in line."""
    corner = widget.mapToGlobal(QPoint(widget.width(), widget.height() + 4))
    return corner - QPoint(menu.sizeHint().width(), 0)
