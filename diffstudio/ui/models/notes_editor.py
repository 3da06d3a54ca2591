"""The editor for a model's tags and note. Saves when a field loses focus or after a pause in typing."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtGui import QFocusEvent
from PySide6.QtWidgets import QCompleter, QLineEdit, QPlainTextEdit, QVBoxLayout, QWidget

from diffstudio.studio.library.annotations import LONGEST_NOTE, NO_ANNOTATION, Annotation
from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.controls import SectionLabel
from diffstudio.ui.widgets.helpers import describe, takes_text_only
from diffstudio.ui.widgets.text_size import fix_size

SAVE_DELAY_MS = 800
NOTE_HEIGHT = 84  # px: about four lines


class _NoteField(QPlainTextEdit):
    focus_lost = Signal()

    def focusOutEvent(self, event: QFocusEvent) -> None:
        super().focusOutEvent(event)
        self.focus_lost.emit()


class NotesEditor(QWidget):
    """Edits an Annotation: tags, a note and, by `set_starred`, the star. `changed` carries the Annotation to save."""

    changed = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self._annotation = NO_ANNOTATION
        self.tags = QLineEdit()
        takes_text_only(self.tags)
        self.tags.setPlaceholderText("Tags, separated by commas")
        self.tags.setMaxLength(2000)
        describe(self.tags, "Tags", "Tags to find this model by, separated by commas")
        self.note = _NoteField()
        takes_text_only(self.note)
        self.note.setPlaceholderText("What it is good at, settings that work…")
        self.note.setTabChangesFocus(True)
        fix_size(self.note, height=NOTE_HEIGHT)
        self.note.setFont(theme.font(theme.FONT_PIXELS))
        describe(self.note, "Note", "Your notes on this model. The file is not changed")
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(SAVE_DELAY_MS)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        column.addWidget(SectionLabel("Notes"))
        column.addWidget(self.tags)
        column.addWidget(self.note)
        self.tags.textEdited.connect(lambda _: self._timer.start())
        self.note.textChanged.connect(self._timer.start)
        self.tags.editingFinished.connect(self.save)
        self.note.focus_lost.connect(self.save)
        self._timer.timeout.connect(self.save)

    def show_annotation(self, annotation: Annotation) -> None:
        """Show the annotation of another model. Call `save` before, or unsaved text is lost."""
        self._annotation = annotation
        self.tags.setText(", ".join(annotation.tags))
        if self.note.toPlainText() != annotation.note:
            self.note.setPlainText(annotation.note)
        self._timer.stop()

    def offer_tags(self, tags: Sequence[str]) -> None:
        """Complete the tag after the last comma from these tags."""
        completer = TagCompleter(list(tags))
        completer.setCaseSensitivity(Qt.CaseSensitivity.CaseInsensitive)
        self.tags.setCompleter(completer)
        completer.setParent(self.tags)

    def set_starred(self, starred: bool) -> None:
        """Star the model or not; what is typed and not saved yet is saved with it."""
        self._timer.stop()
        self._emit(self._typed(starred))

    def save(self) -> None:
        """Emit `changed` if the tags or the note differ from what is shown."""
        self._timer.stop()
        self._emit(self._typed(self._annotation.favourite))

    def _typed(self, starred: bool) -> Annotation:
        return Annotation(self.note.toPlainText()[:LONGEST_NOTE], tuple(self.tags.text().split(",")), starred)

    def _emit(self, annotation: Annotation) -> None:
        if annotation != self._annotation:
            self._annotation = annotation
            self.changed.emit(annotation)


class TagCompleter(QCompleter):
    """Completes the last tag of a comma-separated list."""

    def splitPath(self, path: str) -> list[str]:
        return [path.rpartition(",")[2].strip()]

    def pathFromIndex(self, index: object) -> str:
        chosen = super().pathFromIndex(index)  # type: ignore[arg-type]
        widget = self.widget()
        before = widget.text().rpartition(",")[0] if isinstance(widget, QLineEdit) else ""
        return f"{before}, {chosen}" if before else chosen
