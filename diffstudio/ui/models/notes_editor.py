"""The editor for a model's tags and note. Saves when a field loses focus or after a pause in typing."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtWidgets import QCompleter, QLineEdit, QVBoxLayout, QWidget

from diffstudio.studio.library.annotations import LONGEST_NOTE, LONGEST_TAG, MOST_TAGS, NO_ANNOTATION, Annotation
from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.controls import SectionLabel
from diffstudio.ui.widgets.helpers import describe, label, limit_length, set_style_property, takes_text_only
from diffstudio.ui.widgets.note_field import SAVE_DELAY_MS, NoteField

_LONGEST_LIST = 10_000  # characters of all tags as they are typed


class NotesEditor(QWidget):
    """Edits an Annotation: tags, a note and, by `set_starred`, the star. `changed` carries the Annotation to save.

    Saving changes neither a text that is being typed nor the place of the cursor: tags are tidied when the edit ends.
    """

    changed = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self._annotation = NO_ANNOTATION
        self.tags = QLineEdit()
        takes_text_only(self.tags)
        self.tags.setPlaceholderText("Tags, separated by commas")
        limit_length(self.tags, _LONGEST_LIST)
        describe(self.tags, "Tags", "Tags to find this model by, separated by commas")
        self.left_out = label("", "bad", pixels=theme.SMALL_PIXELS, wrap=True)  # of the tags
        self.left_out.hide()
        self.note = NoteField(
            "What it is good at, settings that work…", "Your notes on this model. The file is not changed", LONGEST_NOTE
        )
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(SAVE_DELAY_MS)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        column.addWidget(SectionLabel("Notes"))
        column.addWidget(self.tags)
        column.addWidget(self.left_out)
        column.addWidget(self.note)
        self.tags.textEdited.connect(lambda _: self._timer.start())
        self.tags.textChanged.connect(self._check_tags)
        self.tags.editingFinished.connect(self._end_tags)
        self.note.edited.connect(lambda _: self.save())
        self._timer.timeout.connect(self.save)

    def show_annotation(self, annotation: Annotation) -> None:
        """Show the annotation of another model. Call `save` before, or unsaved text is lost."""
        self._annotation = annotation
        self._show_tags(annotation)
        self.note.show_text(annotation.note)
        self._timer.stop()

    def show_saved(self, annotation: Annotation) -> None:
        """What is stored of the model that is shown; what is typed stays, and is saved later if it differs."""
        self._annotation = annotation

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
        return Annotation(self.note.text_to_save(), tuple(self.tags.text().split(",")), starred)

    def _show_tags(self, annotation: Annotation) -> None:
        if self.tags.text() != (tidied := ", ".join(annotation.tags)):
            self.tags.setText(tidied)

    def _end_tags(self) -> None:
        self.save()
        if not self.left_out.text():  # or what is left out would vanish
            self._show_tags(self._typed(False))

    def _check_tags(self) -> None:
        tags = [" ".join(tag.split()) for tag in self.tags.text().split(",")]
        whats = []
        if any(len(tag) > LONGEST_TAG for tag in tags):
            whats.append(f"A tag is too long: its first {LONGEST_TAG} characters are saved.")
        if len({tag.casefold() for tag in tags if tag}) > MOST_TAGS:
            whats.append(f"Only the first {MOST_TAGS} tags are saved.")
        self.left_out.setText(" ".join(whats))
        self.left_out.setVisible(bool(whats))
        set_style_property(self.tags, "wrong", bool(whats))

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
