"""The LoRA section: one row for each <lora:name:weight> tag of the prompt, and a list to add more.

The prompt is the only source of truth: the rows follow its text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from PySide6.QtCore import QPoint, QSize, Qt, Signal
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QListWidget, QListWidgetItem, QVBoxLayout, QWidget

from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.types import Role
from diffstudio.models.library.lookup import match_name, similar_names, stem_of
from diffstudio.models.library.training_metadata import suggested_words
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.generation.loras import misfit
from diffstudio.studio.prompts.lora_tags import TAG, LoraUse, add_tag, parse_tag, replace_tag, with_weight
from diffstudio.studio.prompts.wildcards import escaped
from diffstudio.ui.generate.sections.add_buttons import AddButton
from diffstudio.ui.generate.sections.prompt import PromptEdit
from diffstudio.ui.widgets import icons, terms, theme
from diffstudio.ui.widgets.controls import Chip, SecondaryButton, SectionLabel
from diffstudio.ui.widgets.helpers import describe, label, set_tooltip
from diffstudio.ui.widgets.inputs.search_field import SearchField
from diffstudio.ui.widgets.inputs.sliders import LabelledSlider
from diffstudio.ui.widgets.layout.flow_layout import FlowLayout

DEFAULT_WEIGHT = 0.8
_MAX_CHIPS = 8
_SEARCHABLE = 8  # with fewer models there is no search field
_NEGATIVE = re.compile(r"(?i)neg|bad|worst|ugly|deform")  # in the names of embeddings meant for the negative prompt


def unescaped(text: str) -> str:
    """A model name as a prompt spells it, without the backslashes before template characters."""
    return re.sub(r"\\([{}_#])", r"\1", text)


class LoraPicker(QFrame):
    """A searchable popup list. `picked` carries the Checkpoint: a LoRA or an embedding."""

    picked = Signal(object)

    def __init__(self, parent: QWidget, offered: Sequence[Checkpoint]) -> None:
        super().__init__(parent, Qt.WindowType.Popup)
        self.setObjectName("card")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        describe(self, "LoRAs and embeddings")
        self._offered, self._texts = offered, dict[str, str]()
        self.search = SearchField("Search", "Search names and trigger words; Enter adds the first match")
        self.list = QListWidget()
        describe(self.list, "LoRAs and embeddings", "Press Enter or click to add")
        self.list.setIconSize(QSize(16, 16))
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        column = QVBoxLayout(self)
        column.setContentsMargins(8, 8, 8, 8)
        column.setSpacing(8)
        column.addWidget(self.search)
        column.addWidget(self.list)
        self.search.setVisible(len(offered) > _SEARCHABLE)
        self.search.textChanged.connect(self._fill)
        self.search.returnPressed.connect(lambda: self._pick(self.list.currentItem()))
        self.list.itemClicked.connect(self._pick)
        self.list.itemActivated.connect(self._pick)
        self._done = False
        self._fill()

    def open_below(self, button: QWidget, width: int) -> None:
        rows = min(len(self._offered), 9)
        searched = self.search.sizeHint().height() + 8 if self.search.isVisibleTo(self) else 0
        self.setFixedSize(width, 28 * rows + 2 * self.list.frameWidth() + 16 + searched)
        self.move(button.mapToGlobal(QPoint(0, button.height() + 4)))
        self.show()
        (self.search if self.search.isVisibleTo(self) else self.list).setFocus()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Down and self.search.hasFocus():
            self.list.setFocus()
        else:
            super().keyPressEvent(event)

    def _fill(self) -> None:
        words = self.search.text().casefold().split()
        self.list.clear()
        for model in self._offered:
            if words and not all(word in self._searched(model) for word in words):
                continue
            lora = model.role is Role.LORA
            item = QListWidgetItem(icons.icon("stack" if lora else "text-aa", "dim"), model.name)
            set_tooltip(item, f"{model.path}\n{model.reason}".rstrip())
            item.setData(Qt.ItemDataRole.AccessibleTextRole, f"{model.name}, {'LoRA' if lora else 'embedding'}")
            item.setData(Qt.ItemDataRole.UserRole, model.name)
            item.setSizeHint(QSize(0, 28))
            self.list.addItem(item)
        self.list.setCurrentRow(0)

    def _searched(self, model: Checkpoint) -> str:
        """Name, title and trigger words; read on first use, since there may be many."""
        if model.name not in self._texts:
            triggers = suggested_words(model.metadata) if model.role is Role.LORA else ()
            self._texts[model.name] = " ".join((model.name, model.title, *triggers)).casefold()
        return self._texts[model.name]

    def _pick(self, item: QListWidgetItem | None) -> None:
        if item is None or self._done:
            return
        self._done = True  # one click can emit both itemClicked and itemActivated
        name = item.data(Qt.ItemDataRole.UserRole)
        model = next(model for model in self._offered if model.name == name)
        self.close()
        self.picked.emit(model)


class LoraRow(QWidget):
    """The row of one LoRA tag."""

    weight_changed = Signal(float)
    trigger_word_clicked = Signal(str)  # a trigger word, into the prompt
    replacement_clicked = Signal(str)  # another LoRA in its place
    remove_requested = Signal()

    def __init__(self, use: LoraUse, lora: Checkpoint | None, problem: str, suggestions: Sequence[str]) -> None:
        super().__init__()
        self.lora, self.problem = lora, problem
        self.name = lora.title if lora is not None else unescaped(use.name)
        self.slider = LabelledSlider(
            self.name,
            -2,
            2,
            1,
            step=0.05,
            decimals=2,
            tooltip="LoRA weight: 1 as trained, 0 off, negative values invert its effect",
        )
        self.remove_button = SecondaryButton(
            "", "x", f"Remove {self.name} from the prompt", name=f"Remove {self.name}", role="dim"
        )
        self.warning = label(problem, "warn", pixels=theme.SMALL_PIXELS, wrap=True)
        self.warning.setVisible(bool(problem))
        self.trigger_chips: list[Chip] = []
        chips = QWidget()
        flow = FlowLayout(chips, 4)
        self._trigger_words = suggested_words(lora.metadata)[:_MAX_CHIPS] if lora is not None else ()
        for word in self._trigger_words:
            chip = Chip(word, checkable=False, tooltip=f"Add the trigger word “{word}” to the prompt")
            chip.clicked.connect(partial(self.trigger_word_clicked.emit, word))
            self.trigger_chips.append(chip)
            flow.addWidget(chip)
        self.suggestions = [Chip(name, checkable=False, tooltip=f"Use {name} instead") for name in suggestions]
        for name, chip in zip(suggestions, self.suggestions, strict=True):
            chip.clicked.connect(partial(self.replacement_clicked.emit, name))
            flow.addWidget(chip)
        chips.setVisible(bool(self.trigger_chips or self.suggestions))
        top, column = QHBoxLayout(), QVBoxLayout(self)
        top.setSpacing(4)
        top.addWidget(self.slider, 1)
        top.addWidget(self.remove_button, 0, Qt.AlignmentFlag.AlignTop)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addLayout(top)
        column.addWidget(self.warning)
        column.addWidget(chips)
        self.slider.value_changed.connect(lambda value: self.weight_changed.emit(float(value)))
        self.remove_button.clicked.connect(self.remove_requested)
        self.show_use(use)

    def show_use(self, use: LoraUse) -> None:
        """Show the weight of the tag; the slider's range grows to include it."""
        if use.network != self.slider.value():
            self.slider.set_range(min(-2.0, use.network), max(2.0, use.network))
            self.slider.set_value(use.network)

    def show_prompt(self, prompt: str) -> None:
        """Disable the trigger words that the prompt already contains."""
        for word, chip in zip(self._trigger_words, self.trigger_chips, strict=True):
            chip.setEnabled(not any(_contains(prompt, text) for text in (word, _literally(word))))


class LoraSection(QWidget):
    """Shows the LoRA tags of the prompt fields; every change here edits their text."""

    def __init__(self, prompt: PromptEdit, negative: PromptEdit) -> None:
        super().__init__()
        self._prompt, self._negative = prompt, negative
        self._models: tuple[Checkpoint, ...] = ()
        self._checkpoint: Checkpoint | None = None
        self._shown_names: list[str] = []  # the LoRA names of the rows, as the prompt spells them
        self._last_change: tuple[int, str] | None = None  # the row changed last, and the resulting prompt
        self.rows: list[LoraRow] = []
        self.heading = SectionLabel("LoRAs")
        self.add_button = AddButton("Add LoRA…", terms.LORA, "stack")
        self.add_button.clicked.connect(self.open_picker)
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(8)
        self._column.addWidget(self.heading)
        self._column.addWidget(self.add_button)
        prompt.textChanged.connect(self._update_from_text)
        self._update_state()

    # Models

    def set_models(self, models: Sequence[Checkpoint]) -> None:
        """Take the LoRAs and embeddings out of all models."""
        self._models = tuple(model for model in models if model.role in (Role.LORA, Role.EMBEDDING))
        self._rebuild()

    def set_checkpoint(self, checkpoint: Checkpoint | None) -> None:
        if checkpoint != self._checkpoint:
            self._checkpoint = checkpoint
            self._rebuild()

    def offered(self) -> list[Checkpoint]:
        """The models that fit the checkpoint and can be named in a prompt, LoRAs first."""
        if self._checkpoint is None or self._checkpoint.conditioning is not Conditioning.TEXT:
            return []
        fitting = [model for model in self._models if not misfit(model, self._checkpoint) and _can_be_named(model)]
        return sorted(fitting, key=lambda model: (model.role is not Role.LORA, model.name.casefold()))

    # User input

    def open_picker(self) -> LoraPicker:
        picker = LoraPicker(self, self.offered())
        picker.picked.connect(self.add)
        picker.open_below(self.add_button, max(self.width(), 240))
        return picker

    def add(self, model: Checkpoint) -> None:
        """Add a LoRA tag to the prompt, or an embedding's name to the prompt or negative prompt."""
        if model.role is Role.EMBEDDING:
            self._write(self._negative if _NEGATIVE.search(model.name) else self._prompt, escaped(model.name))
        elif not any(row.lora == model for row in self.rows):
            use = LoraUse(escaped(model.name), DEFAULT_WEIGHT, DEFAULT_WEIGHT)
            self._prompt.change_to(add_tag(self._prompt.text(), use))

    def _write(self, edit: PromptEdit, words: str) -> None:
        text, tags = _without_last_tags(edit.text())
        if not _contains(text, words):
            edit.change_to(
                f"{text.rstrip(',')}, {words}{tags}" if text else words + (f" {tags.lstrip()}" if tags else "")
            )

    def _set_weight(self, place: int, weight: float) -> None:
        before = self._prompt.text()
        after = replace_tag(before, place, with_weight(self._uses()[place], weight))
        self._prompt.change_to(after, join_undo=self._last_change == (place, before))
        self._last_change = place, after

    def _remove(self, place: int) -> None:
        self._prompt.change_to(replace_tag(self._prompt.text(), place, None))
        self.add_button.setFocus()

    def _rename(self, place: int, name: str) -> None:
        self._prompt.change_to(
            replace_tag(self._prompt.text(), place, replace(self._uses()[place], name=escaped(name)))
        )

    # Following the prompt

    def _uses(self) -> list[LoraUse]:
        return [parse_tag(match) for match in TAG.finditer(self._prompt.text())]

    def _update_from_text(self) -> None:
        uses = self._uses()
        if [use.name for use in uses] != self._shown_names:
            self._rebuild()
            return
        for row, use in zip(self.rows, uses, strict=True):
            row.show_use(use)
            row.show_prompt(self._prompt.text())

    def _rebuild(self) -> None:
        for row in self.rows:
            self._column.removeWidget(row)
            row.hide()
            row.deleteLater()
        uses = self._uses()
        self.rows, self._shown_names = [], [use.name for use in uses]
        for place, use in enumerate(uses):
            row = self._row(use)
            row.weight_changed.connect(partial(self._set_weight, place))
            row.replacement_clicked.connect(partial(self._rename, place))
            row.remove_requested.connect(partial(self._remove, place))
            row.trigger_word_clicked.connect(lambda word: self._write(self._prompt, _literally(word)))
            row.show_prompt(self._prompt.text())
            self.rows.append(row)
            self._column.insertWidget(1 + place, row)  # below the heading
        self._update_state()

    def _row(self, use: LoraUse) -> LoraRow:
        loras = [model for model in self._models if model.role is Role.LORA]
        name = stem_of(unescaped(use.name))
        lora = match_name(loras, name)
        if lora is None:
            names = [model.name for model in self.offered() if model.role is Role.LORA]
            return LoraRow(use, None, "No LoRA has this name.", (similar_names(name, names) or names)[:3])
        reason = misfit(lora, self._checkpoint) if self._checkpoint is not None else ""
        return LoraRow(use, lora, f"{reason}, so it has no effect." if reason else "", ())

    def _update_state(self) -> None:
        text = self._checkpoint is not None and self._checkpoint.conditioning is Conditioning.TEXT
        offered = self.offered()
        self.heading.setVisible(bool(self.rows))
        self.add_button.setVisible(bool(offered))
        loras = any(model.role is Role.LORA for model in offered)
        self.add_button.set_texts(
            ("Add another LoRA…" if self.rows else "Add LoRA…") if loras else "Add embedding…",
            "Choose from the LoRAs and embeddings (textual inversions) that fit this checkpoint",
        )
        self.setVisible(text and bool(self.rows or (offered and self.isAncestorOf(self.add_button))))


def _can_be_named(model: Checkpoint) -> bool:
    """Whether a tag with this name is parsed back to the same name."""
    match = TAG.fullmatch(LoraUse(escaped(model.name)).tag())
    return model.role is not Role.LORA or (match is not None and unescaped(match[1]) == model.name)


def _contains(prompt: str, words: str) -> bool:
    """Whether the words stand in the prompt, not as a part of longer ones."""
    return re.search(rf"(?<!\w){re.escape(words)}(?!\w)", prompt, re.IGNORECASE) is not None


def _without_last_tags(prompt: str) -> tuple[str, str]:
    """The text, and the tags at its end."""
    end = re.search(r"(?:\s*<[^<>]*>)*\s*$", prompt)
    place = end.start() if end is not None else len(prompt)
    return prompt[:place].rstrip(), prompt[place:].rstrip()


def _literally(word: str) -> str:
    """Escape weighting and template characters, so that the prompt means these words."""
    return escaped(re.sub(r"[()\[\]]", r"\\\g<0>", word))
