"""What a person says about a model: a star, tags, a note. Kept as they leave the field, or stop writing for a moment."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtGui import QFocusEvent
from PySide6.QtWidgets import QCompleter, QLineEdit, QPlainTextEdit, QVBoxLayout, QWidget

from diffstudio.studio.library.annotations import LONGEST_NOTE, NO_ANNOTATION, Annotation
from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.controls import SectionLabel
from diffstudio.ui.widgets.helpers import describe

KEPT_AFTER_MS = 800
NOTE_HEIGHT = 84  # px: about four lines


class _Note(QPlainTextEdit):
    left = Signal()

    def focusOutEvent(self, event: QFocusEvent) -> None:
        super().focusOutEvent(event)
        self.left.emit()


class NotesEditor(QWidget):
    """Tags and a note; the star is the room's, beside the title. `changed` carries the Annotation to keep."""

    changed = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self._said = NO_ANNOTATION
        self.tags = QLineEdit()
        self.tags.setPlaceholderText("Tags, separated by commas")
        self.tags.setMaxLength(2000)
        describe(self.tags, "Tags", "Tags to find this model by, separated by commas")
        self.note = _Note()
        self.note.setPlaceholderText("What it is good at, settings that work…")
        self.note.setTabChangesFocus(True)
        self.note.setFixedHeight(NOTE_HEIGHT)
        self.note.setFont(theme.font(theme.FONT_PIXELS))
        describe(self.note, "Note", "Your notes on this model. The file is not changed")
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(KEPT_AFTER_MS)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        column.addWidget(SectionLabel("Notes"))
        column.addWidget(self.tags)
        column.addWidget(self.note)
        self.tags.textEdited.connect(lambda _: self._timer.start())
        self.note.textChanged.connect(self._timer.start)
        self.tags.editingFinished.connect(self.keep)
        self.note.left.connect(self.keep)
        self._timer.timeout.connect(self.keep)

    def show_said(self, said: Annotation) -> None:
        """Show what is said about another model. Call `keep` first where a person may have been writing."""
        self._said = said
        self.tags.setText(", ".join(said.tags))
        if self.note.toPlainText() != said.note:
            self.note.setPlainText(said.note)
        self._timer.stop()

    def offer_tags(self, tags: Sequence[str]) -> None:
        """Complete what is typed after the last comma with one of these."""
        completer = _LastOf(list(tags))
        completer.setCaseSensitivity(Qt.CaseSensitivity.CaseInsensitive)
        self.tags.setCompleter(completer)
        completer.setParent(self.tags)

    def set_starred(self, starred: bool) -> None:
        self._emit(Annotation(self._said.note, self._said.tags, starred))

    def keep(self) -> None:
        """Say what was written, if it is something else than before."""
        self._timer.stop()
        self._emit(
            Annotation(self.note.toPlainText()[:LONGEST_NOTE], tuple(self.tags.text().split(",")), self._said.favourite)
        )

    def _emit(self, said: Annotation) -> None:
        if said != self._said:
            self._said = said
            self.changed.emit(said)


class _LastOf(QCompleter):
    """Completes the last of several words with commas between them."""

    def splitPath(self, path: str) -> list[str]:
        return [path.rpartition(",")[2].strip()]

    def pathFromIndex(self, index: object) -> str:
        chosen = super().pathFromIndex(index)  # type: ignore[arg-type]
        widget = self.widget()
        before = widget.text().rpartition(",")[0] if isinstance(widget, QLineEdit) else ""
        return f"{before}, {chosen}" if before else chosen
