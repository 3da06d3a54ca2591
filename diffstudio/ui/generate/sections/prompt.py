"""The prompt field: text with a history, a token counter and attention-weight shortcuts."""

from __future__ import annotations

import os
from collections.abc import Sequence

from PySide6.QtCore import QEvent, QMimeData, QPoint, QSize, Qt, QTimer, Signal
from PySide6.QtGui import (
    QFontMetrics,
    QGuiApplication,
    QHelpEvent,
    QKeyEvent,
    QKeySequence,
    QResizeEvent,
    QTextCharFormat,
    QTextCursor,
)
from PySide6.QtWidgets import QMenu, QPlainTextEdit, QTextEdit, QWidget

from diffstudio.models.conditioning.prompt_weighting import reweighted
from diffstudio.studio.prompts.token_count import PromptTokenCount
from diffstudio.studio.requests.limits import LONGEST_PROMPT
from diffstudio.ui.generate import labels
from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.helpers import describe, label, set_style_property, set_tooltip, show_tooltip
from diffstudio.ui.widgets.images.drag_and_drop import DroppedKind, parse_drop
from diffstudio.ui.widgets.menus import add_entry

_MAX_MENU_PROMPTS = 30
_COUNT_AFTER_MS = 150  # after the last key
_COUNT_PIXELS = 16  # height of the token count


class PromptEdit(QPlainTextEdit):
    """A plain-text field. Tab leaves it; `too_long` reports when the text exceeds the longest prompt allowed.

    Up in an empty field, or in one that shows an earlier prompt, goes back in the history; Alt+Up does so anywhere.
    Ctrl+Up and Ctrl+Down change the attention weight of the selection, for checkpoints that support it
    (`set_weighting_enabled`). The last line shows the token count; text beyond the token limit is underlined.
    """

    token_count_requested = Signal(object)  # the text, shortly after it has changed; answer with show_token_count
    too_long = Signal(bool)
    submitted = Signal()  # Ctrl+Enter

    def __init__(self, name: str, placeholder: str, tooltip: str, lines: int, history: bool = False) -> None:
        super().__init__()
        describe(self, name, tooltip)
        self.setPlaceholderText(placeholder)
        self.setTabChangesFocus(True)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAsNeeded)
        self._lines = lines
        self._always_counts = lines > 1
        self._weighting_enabled, self._tooltip = False, tooltip
        self.count = label("", "dim", pixels=theme.TINY_PIXELS)
        self.count.setParent(self)
        self.count.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self._counted, self._count_tip = PromptTokenCount(), ""
        self._count_timer = QTimer(self, singleShot=True, interval=_COUNT_AFTER_MS)
        self._count_timer.timeout.connect(lambda: self.token_count_requested.emit(self.toPlainText()))
        self.show_token_count("", PromptTokenCount())
        self._with_history, self._history, self._history_index = history, tuple[str, ...](), -1
        self._draft = ""
        self._over = False
        self.textChanged.connect(self._check)

    def text(self) -> str:
        return self.toPlainText()

    def set_text(self, text: str) -> None:
        """Replace the text (undoable, unlike setPlainText); the cursor moves to the end."""
        if text == self.toPlainText():
            return
        cursor = QTextCursor(self.document())
        cursor.select(QTextCursor.SelectionType.Document)
        cursor.insertText(text)
        self.moveCursor(QTextCursor.MoveOperation.End)

    def change_to(self, text: str, *, join_undo: bool = False) -> None:
        """Edit the part that differs, as one undo step; with `join_undo`, as part of the last one. The cursor stays."""
        before = self.toPlainText()
        if text == before:
            return
        same = len(os.path.commonprefix([before, text]))
        rest = len(os.path.commonprefix([before[same:][::-1], text[same:][::-1]]))
        cursor = QTextCursor(self.document())
        cursor.setPosition(_units(before[:same]))
        cursor.setPosition(_units(before[: len(before) - rest]), QTextCursor.MoveMode.KeepAnchor)
        cursor.joinPreviousEditBlock() if join_undo else cursor.beginEditBlock()
        cursor.insertText(text[same : len(text) - rest])
        cursor.endEditBlock()

    def set_history(self, history: Sequence[str]) -> None:
        """Newest first."""
        self._history, self._history_index = tuple(history), -1

    def history(self) -> tuple[str, ...]:
        return self._history

    def history_menu(self, parent: QWidget) -> QMenu:
        menu = QMenu(parent)
        menu.setAccessibleName("Earlier prompts")
        metrics = QFontMetrics(menu.font())
        for prompt in self._history[:_MAX_MENU_PROMPTS]:
            line = metrics.elidedText(" ".join(prompt.split()), Qt.TextElideMode.ElideRight, 420)
            action = add_entry(menu, line)
            action.triggered.connect(lambda _=False, prompt=prompt: self.set_text(prompt))
        if not self._history:
            menu.addAction("Prompts you use appear here").setEnabled(False)
        return menu

    def show_token_count(self, text: str, counted: PromptTokenCount) -> None:
        """Show the token count of `text`; ignored when the text has changed since."""
        if text != self.toPlainText():
            return
        summary, tone, tip = labels.token_count_texts(counted) if text else ("", "dim", "")
        shown = summary if self._always_counts or tone != "dim" or counted.in_chunks else ""
        self._counted, self._count_tip = counted, tip or f"Tokens: {summary}"
        self.count.setText(shown)
        describe(self.count, f"Tokens: {summary}", tip)
        set_style_property(self.count, "tone", tone)
        self.fit_text()
        self._mark_unread()

    def fit_text(self) -> None:
        """Make room for the lines, and for the token count below them."""
        room = theme.scaled(_COUNT_PIXELS) if self._always_counts or self.count.text() else 0
        self.setViewportMargins(0, 0, 0, room)
        self.setFixedHeight(QFontMetrics(self.font()).lineSpacing() * self._lines + 26 + room)

    def set_weighting_enabled(self, enabled: bool) -> None:
        self._weighting_enabled = enabled
        set_tooltip(
            self,
            f"{self._tooltip}. (word:1.2) raises and [word] lowers attention; Ctrl+Up and Ctrl+Down change it for the "
            "selection"
            if enabled
            else self._tooltip,
        )

    def recount_tokens(self) -> None:
        """Count again: another checkpoint has another tokenizer."""
        self._count_timer.start()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.matches(QKeySequence.StandardKey.Paste) and _is_taken_elsewhere(
            QGuiApplication.clipboard().mimeData()
        ):
            event.ignore()
            return
        control = bool(event.modifiers() & Qt.KeyboardModifier.ControlModifier)
        if control and self._weighting_enabled and event.key() in (Qt.Key.Key_Up, Qt.Key.Key_Down):
            self._change_weight(1 if event.key() == Qt.Key.Key_Up else -1)
            return
        if control and event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self.submitted.emit()
            return
        selects = bool(event.modifiers() & Qt.KeyboardModifier.ShiftModifier)
        arrow = event.key() in (Qt.Key.Key_Up, Qt.Key.Key_Down) and not (control or selects)
        if arrow and self._with_history and self._history:
            alt = bool(event.modifiers() & Qt.KeyboardModifier.AltModifier)
            shown = self._history_index >= 0 and self.toPlainText() == self._history[self._history_index]
            up = event.key() == Qt.Key.Key_Up
            if alt or shown or (up and not self.toPlainText()):
                self._browse_history(1 if up else -1)
                return
        super().keyPressEvent(event)

    def _browse_history(self, direction: int) -> None:
        if self._history_index < 0:
            self._draft = self.toPlainText()
        self._history_index = min(max(self._history_index + direction, -1), len(self._history) - 1)
        self.set_text(self._draft if self._history_index < 0 else self._history[self._history_index])

    def _change_weight(self, steps: int) -> None:
        cursor, before = self.textCursor(), self.toPlainText()
        start, end = (len(_by_units(before, place)) for place in (cursor.selectionStart(), cursor.selectionEnd()))
        after, start, end = reweighted(before, start, end, steps)
        self.change_to(after)
        cursor.setPosition(_units(after[:start]))
        cursor.setPosition(_units(after[:end]), QTextCursor.MoveMode.KeepAnchor)
        self.setTextCursor(cursor)

    def _mark_unread(self) -> None:
        """Dim and underline the text beyond the token limit."""
        cut = self._counted.tokens.cut if self._counted.tokens is not None else None
        if cut is None:
            self.setExtraSelections([])
            return
        unread = QTextEdit.ExtraSelection()
        unread.format = QTextCharFormat()
        unread.format.setForeground(theme.colour("hint"))
        unread.format.setUnderlineColor(theme.colour("warn"))
        unread.format.setUnderlineStyle(QTextCharFormat.UnderlineStyle.DashUnderline)
        unread.cursor = QTextCursor(self.document())
        text = self.toPlainText()
        unread.cursor.setPosition(_units(text[: cut[0]]))
        unread.cursor.setPosition(_units(text[: cut[1]]), QTextCursor.MoveMode.KeepAnchor)
        self.setExtraSelections([unread])

    def viewportEvent(self, event: QEvent) -> bool:
        if isinstance(event, QHelpEvent) and event.type() == QEvent.Type.ToolTip:
            place = self.cursorForPosition(event.pos()).position()
            if any(
                unread.cursor.selectionStart() <= place < unread.cursor.selectionEnd()
                for unread in self.extraSelections()
            ):
                show_tooltip(event.globalPos(), self._count_tip, self)
                return True
        return super().viewportEvent(event)

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange:  # another theme
            self._mark_unread()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        right = min(self.width() - 10, self.viewport().geometry().right() - 2)  # left of the scroll bar
        height = theme.scaled(_COUNT_PIXELS)
        self.count.setGeometry(10, self.height() - height - 4, right - 10, height)

    def _check(self) -> None:
        self._count_timer.start()
        over = len(self.toPlainText()) > LONGEST_PROMPT
        if over != self._over:
            self._over = over
            set_style_property(self, "wrong", over)
            self.too_long.emit(over)

    def canInsertFromMimeData(self, source: QMimeData) -> bool:
        """Refuse files and images: a panel or the window takes them."""
        return not _is_taken_elsewhere(source) and super().canInsertFromMimeData(source)

    def sizeHint(self) -> QSize:
        return QSize(200, self.height())


def _is_taken_elsewhere(data: QMimeData) -> bool:
    return any(item.kind is not DroppedKind.UNUSABLE for item in parse_drop(data))


def _units(text: str) -> int:
    """Length in UTF-16 code units, which Qt counts in."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _by_units(text: str, units: int) -> str:
    """The first `units` UTF-16 code units of the text."""
    return text.encode("utf-16-le", "surrogatepass")[: 2 * units].decode("utf-16-le", "ignore")


def below(widget: QWidget, menu: QMenu) -> QPoint:
    """The position of a menu below a button, aligned at its right edge."""
    corner = widget.mapToGlobal(QPoint(widget.width(), widget.height() + 4))
    return corner - QPoint(menu.sizeHint().width(), 0)
