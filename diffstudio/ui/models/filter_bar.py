"""The filter above the list of models: search text, type, starred."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.types import Role
from diffstudio.models.library.sidecars import NO_SIDECAR, Sidecar
from diffstudio.studio.library.annotations import NO_ANNOTATION, Annotation
from diffstudio.ui.models import model_info
from diffstudio.ui.models.item_model import Entry
from diffstudio.ui.widgets import actions
from diffstudio.ui.widgets.controls import Chip
from diffstudio.ui.widgets.inputs.combo_box import ComboBox
from diffstudio.ui.widgets.inputs.search_field import SearchField

ALL_TYPES = None
_TRIGGER_WORD_KEYS = (
    "modelspec.trigger_phrase",
    "modelspec.tags",
    "ss_tag_frequency",
)  # header keys that trainers of adapters write
TYPE_LABELS = {
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
class ModelFilter:
    """Which models to show; empty shows all."""

    text: str = ""
    role: Role | None = ALL_TYPES
    starred: bool = False

    def __bool__(self) -> bool:
        return bool(self.text.strip() or self.role or self.starred)

    def matches(self, entry: Entry, annotation: Annotation = NO_ANNOTATION, sidecar: Sidecar = NO_SIDECAR) -> bool:
        """Whether every word occurs in the title, path, type, trigger words, tags, note or description of the entry."""
        if self.starred and not annotation.favourite:
            return False
        if self.role is not None and not (isinstance(entry, Checkpoint) and entry.role is self.role):
            return False
        words = self.text.casefold().split()
        if not words:
            return True
        searched = [
            entry.title,
            str(entry.path),
            annotation.note,
            *annotation.tags,
            sidecar.title,
            sidecar.description,
            sidecar.base,
            *sidecar.trigger_words,
            *sidecar.tags,
        ]
        if isinstance(entry, Checkpoint):
            searched += [model_info.summary(entry), *(entry.metadata.get(key, "") for key in _TRIGGER_WORD_KEYS)]
        haystack = "\n".join(searched).casefold()
        return all(word in haystack for word in words)


class FilterBar(QWidget):
    """The search field, the type and the Starred chip. Emits `changed` when the filter changes."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.search = SearchField("Search models…", "Search names, types, tags, notes and trigger words (Ctrl+F)")
        self.type = ComboBox("Type", [(ALL_TYPES, "All types")], "Show one type only: checkpoints, LoRAs, embeddings…")
        self.starred = Chip(actions.STARRED, tooltip="Show starred models only", icon="star")
        below = QHBoxLayout()
        below.setSpacing(8)
        below.addWidget(self.type, 1)
        below.addWidget(self.starred, 0, Qt.AlignmentFlag.AlignLeft)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        column.addWidget(self.search)
        column.addLayout(below)
        self.search.searched.connect(self.changed)
        self.type.chosen.connect(lambda _: self.changed.emit())
        self.starred.clicked.connect(lambda _: self.changed.emit())

    def model_filter(self) -> ModelFilter:
        return ModelFilter(self.search.text(), self.type.value(), self.starred.isChecked())

    def offer_types_of(self, entries: Sequence[Entry]) -> None:
        """Offer the types of these entries, keeping the selected one; hidden if there is only one type."""
        previous = self.type.value()
        roles = {entry.role for entry in entries if isinstance(entry, Checkpoint)}
        self.type.set_choices(
            [(ALL_TYPES, "All types"), *((role, TYPE_LABELS[role]) for role in Role if role in roles)]
        )
        self.type.set_value(previous)
        self.type.setVisible(len(roles) > 1 or previous is not None)

    def clear(self) -> None:
        self.search.clear()
        self.type.set_value(ALL_TYPES)
        self.starred.setChecked(False)
        self.search.search_now()
