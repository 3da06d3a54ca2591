"""The search over the models: words, a kind, the starred ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from diffstudio.models.checkpoint import Checkpoint, Role
from diffstudio.models.library.sidecars import NO_SIDECAR, Sidecar
from diffstudio.studio.library.annotations import NO_ANNOTATION, Annotation
from diffstudio.ui.models import model_info
from diffstudio.ui.models.item_model import Entry
from diffstudio.ui.widgets.inputs import Chip, ComboBox, SearchField

EVERYTHING = None
_LEARNT_WORDS = (
    "modelspec.trigger_phrase",
    "modelspec.tags",
    "ss_tag_frequency",
)  # in the header, by those who train adapters
KINDS = {
    Role.CHECKPOINT: "Checkpoints",
    Role.LORA: "LoRAs",
    Role.EMBEDDING: "Embeddings",
    Role.VAE: "VAEs",
    Role.CONTROLNET: "ControlNets",
    Role.UPSCALER: "Upscalers",
    Role.TEXT_ENCODER: "Text encoders",
    Role.NETWORK: "Networks",
    Role.UNKNOWN: "Unrecognised",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries are to be shown. Nothing chosen is everything."""

    words: str = ""
    role: Role | None = EVERYTHING
    starred: bool = False

    def __bool__(self) -> bool:
        return bool(self.words.strip() or self.role or self.starred)

    def fits(self, entry: Entry, said: Annotation = NO_ANNOTATION, beside: Sidecar = NO_SIDECAR) -> bool:
        """Every word must be somewhere: in the title, the path, the kind, the trigger words, a tag or the note."""
        if self.starred and not said.favourite:
            return False
        if self.role is not None and not (isinstance(entry, Checkpoint) and entry.role is self.role):
            return False
        words = self.words.casefold().split()
        if not words:
            return True
        held = [
            entry.title,
            str(entry.path),
            said.note,
            *said.tags,
            beside.title,
            beside.description,
            beside.base,
            *beside.words,
            *beside.tags,
        ]
        if isinstance(entry, Checkpoint):
            held += [model_info.summary(entry), *(entry.metadata.get(key, "") for key in _LEARNT_WORDS)]
        text = "\n".join(held).casefold()
        return all(word in text for word in words)


class FilterBar(QWidget):
    """What to look for. `changed` when something else is wanted."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.search = SearchField("Search models…", "Search names, types, tags, notes and trigger words (Ctrl+F)")
        self.kind = ComboBox("Type", [(EVERYTHING, "All types")], "Show one type only: checkpoints, LoRAs, embeddings…")
        self.starred = Chip("Starred", tooltip="Show starred models only", icon="star")
        below = QHBoxLayout()
        below.setSpacing(8)
        below.addWidget(self.kind, 1)
        below.addWidget(self.starred, 0, Qt.AlignmentFlag.AlignLeft)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        column.addWidget(self.search)
        column.addLayout(below)
        self.search.searched.connect(self.changed)
        self.kind.chosen.connect(lambda _: self.changed.emit())
        self.starred.clicked.connect(lambda _: self.changed.emit())

    def wanted(self) -> Wanted:
        return Wanted(self.search.text(), self.kind.value(), self.starred.isChecked())

    def show_kinds_of(self, entries: Sequence[Entry]) -> None:
        """Offer the kinds that are there, when there is more than one. What was chosen stays if it is."""
        before = self.kind.value()
        there = {entry.role for entry in entries if isinstance(entry, Checkpoint)}
        self.kind.set_choices([(EVERYTHING, "All types"), *((role, KINDS[role]) for role in Role if role in there)])
        self.kind.set_value(before)
        self.kind.setVisible(len(there) > 1 or before is not None)

    def clear(self) -> None:
        self.search.clear()
        self.kind.set_value(EVERYTHING)
        self.starred.setChecked(False)
        self.search.search_now()
