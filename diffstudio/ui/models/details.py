"""What a checkpoint is, how it was trained, and what can be done with it."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from diffstudio.errors import CheckpointDangerous
from diffstudio.models.checkpoint import Checkpoint, Layout, Origin, Role
from diffstudio.models.files.hashes import autov2
from diffstudio.models.library.sidecars import NO_SIDECAR, Sidecar
from diffstudio.studio.library.annotations import Annotation
from diffstudio.studio.library.weight_requests import Tool
from diffstudio.ui.models import model_info
from diffstudio.ui.models.item_model import Entry, Problem
from diffstudio.ui.models.notes_editor import NotesEditor
from diffstudio.ui.models.trigger_words import TriggerWordChips
from diffstudio.ui.models.type_override import TypeOverride
from diffstudio.ui.widgets import actions, theme
from diffstudio.ui.widgets.controls import Banner, PrimaryButton, SecondaryButton, SectionLabel
from diffstudio.ui.widgets.flow_layout import FlowLayout
from diffstudio.ui.widgets.helpers import ElidedLabel, describe, scroll_area
from diffstudio.ui.widgets.images import Thumbnail
from diffstudio.ui.widgets.wrapping_text import FactsTable, WrappingText

WIDEST = 640  # px of text: longer lines are hard to read
_SMALL = 72  # px of a picture that was made with it
_TOOLS = {
    Tool.CONVERT: ("Convert…", "arrows-left-right", "Write the weights in another precision or file format"),
    Tool.MERGE: ("Merge…", "git-merge", "Merge with other checkpoints of the same family"),
    Tool.FUSE_LORA: ("Fuse LoRA…", "plus", "Fuse a LoRA into the weights of a new checkpoint"),
    Tool.PRUNE: ("Prune…", "scissors", "Write a smaller file, without weights that inference does not need"),
    Tool.EXPORT: ("Export…", "export", "Write a diffusers folder"),
}


class CheckpointDetails(QWidget):
    """The right side of the Models room."""

    use_requested = Signal()  # what the large button says: generate with it, or put it into the prompt
    trigger_word_requested = Signal(str)  # into the prompt
    tool_requested = Signal(object)  # Tool
    star_requested = Signal()
    folder_requested = Signal()
    delete_requested = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._entry: Entry | None = None
        self._beside, self._hash = NO_SIDECAR, ""
        self.picture = Thumbnail(128, theme.RADIUS, name="An image made with this checkpoint")
        self.title = ElidedLabel("", pixels=18, bold=True)
        self.below = ElidedLabel("", "dim")
        self.about = WrappingText(pixels=theme.FONT_PIXELS)
        self.warning = Banner()
        self.words = TriggerWordChips("Trigger words", "Copy the trigger words")
        self.tags = TriggerWordChips("Trained on", "Copy the tags of its training images")
        self.model_facts, self.training_facts = FactsTable(96), FactsTable(96)
        self._training_title = SectionLabel("Training")
        self._model_title = SectionLabel("Checkpoint")
        self.use = PrimaryButton("Generate with this", tooltip="Use this checkpoint in the Generate room")
        self.notes, self.taken_for = NotesEditor(), TypeOverride()
        self.star = SecondaryButton("Star", "star", "Star this model (Ctrl+D)")
        self.folder = SecondaryButton(actions.SHOW_IN_FOLDER, "folder-open", actions.SHOW_IN_FOLDER_TIP)
        self.delete = SecondaryButton("Delete", "trash", "Move this file to the system's trash")
        self.tools = {tool: SecondaryButton(text, icon, tip) for tool, (text, icon, tip) in _TOOLS.items()}
        self._connect()
        self._lay_out()

    def _connect(self) -> None:
        self.use.clicked.connect(self.use_requested)
        self.star.clicked.connect(self.star_requested)
        self.folder.clicked.connect(self.folder_requested)
        self.delete.clicked.connect(self.delete_requested)
        self.warning.acted.connect(lambda: self.tool_requested.emit(Tool.CONVERT))
        for chips in (self.words, self.tags):
            chips.wanted.connect(self.trigger_word_requested)
        for tool, button in self.tools.items():
            button.clicked.connect(lambda _=False, tool=tool: self.tool_requested.emit(tool))

    def _lay_out(self) -> None:
        contents = QWidget()
        contents.setObjectName("contents")
        contents.setMaximumWidth(WIDEST)
        column = QVBoxLayout(contents)
        column.setContentsMargins(24, 20, 20, 20)
        column.setSpacing(8)
        column.addLayout(self._head())
        column.addSpacing(8)
        column.addWidget(self.warning)
        column.addWidget(self.about)
        self._made_with = QWidget()
        self._made_with_title = SectionLabel("Images")
        self._strip = FlowLayout(self._made_with, spacing=8)
        self._making_title = SectionLabel("Weight tools")
        making, row = QWidget(), FlowLayout(spacing=8)
        making.setLayout(row)
        for button in self.tools.values():
            row.addWidget(button)
        self._making = making
        for part in (
            self.words,
            self.tags,
            self._made_with_title,
            self._made_with,
            self.notes,
            self._making_title,
            making,
            self._model_title,
            self.model_facts,
            self.taken_for,
            self._training_title,
            self.training_facts,
        ):
            if part in (
                self._made_with_title,
                self.notes,
                self._making_title,
                self._model_title,
                self.taken_for,
                self._training_title,
            ):
                column.addSpacing(8)
            column.addWidget(part)
        column.addStretch(1)
        self._scroll = scroll_area(contents)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.addWidget(self._scroll)
        self.show_made_with([])
        self.show_tools(())

    def _head(self) -> QHBoxLayout:
        head = QHBoxLayout()
        head.setSpacing(16)
        head.addWidget(self.picture, 0, Qt.AlignmentFlag.AlignTop)
        words = QVBoxLayout()
        words.setSpacing(4)
        words.addWidget(self.title)
        words.addWidget(self.below)
        words.addSpacing(8)
        buttons = FlowLayout(spacing=8)
        for button in (self.star, self.folder, self.delete):
            buttons.addWidget(button)
        words.addWidget(self.use, 0, Qt.AlignmentFlag.AlignLeft)
        words.addSpacing(4)
        words.addLayout(buttons)
        words.addStretch(1)
        head.addLayout(words, 1)
        return head

    # ---- what is shown -----------------------------------------------------------------------------------------------

    def entry(self) -> Entry | None:
        return self._entry

    def show_said(self, said: Annotation) -> None:
        """What a person noted about the entry."""
        self.notes.show_said(said)
        self.star.setText("Starred" if said.favourite else "Star")
        self.star.set_icon(*(("star-fill", "warn") if said.favourite else ("star", "text")))

    def show_hash(self, sha256: str) -> None:
        """Of the entry's file, with the short form other programs name it by; empty while it is not known."""
        self._hash = sha256
        self._show_facts()

    def show_tools(self, tools: Sequence[Tool]) -> None:
        """Those that can be used on the entry; none until that is known."""
        for tool, button in self.tools.items():
            button.setVisible(tool in tools)
        self._making_title.setVisible(bool(tools))
        self._making.setVisible(bool(tools))
        self._show_warning(Tool.CONVERT in tools)

    def show_made_with(self, pictures: Sequence[tuple[QImage, str]]) -> None:
        """The newest pictures made with it, each with its prompt."""
        while (item := self._strip.takeAt(0)) is not None:
            if (widget := item.widget()) is not None:
                widget.hide()
                widget.deleteLater()
        for image, prompt in pictures:
            small = Thumbnail(_SMALL, name=prompt or "An image made with it", tooltip=prompt)
            small.set_image(image)
            self._strip.addWidget(small)
            small.show()
        self._made_with.setVisible(bool(pictures))
        self._made_with_title.setVisible(bool(pictures))

    def show_entry(self, entry: Entry | None, picture: QImage, beside: Sidecar = NO_SIDECAR) -> None:
        """A checkpoint with what lies beside it, or a file that is none and why."""
        before = self._entry
        if entry is None or before is None or entry.path != before.path:
            self._hash = ""
            self.show_made_with([])
            self._entry = entry
            self.show_tools(())
            self._scroll.verticalScrollBar().setValue(0)
        self._entry, self._beside = entry, beside
        self.setVisible(entry is not None)
        if entry is None:
            return
        self.picture.setVisible(not picture.isNull())
        self.picture.set_image(picture)
        checkpoint = entry if isinstance(entry, Checkpoint) else None
        if checkpoint is not None:
            self.title.setText(checkpoint.title)
            self.below.setText(model_info.summary(checkpoint))
            about = model_info.description(checkpoint, beside)
            if checkpoint.role is Role.UNKNOWN:
                about = "diffstudio does not recognise this file and cannot generate images with it."
            self.about.set_text(about)
        elif isinstance(entry, Problem):
            self.title.setText(entry.path.name)
            dangerous = isinstance(entry.error, CheckpointDangerous)
            self.below.setText("This file is dangerous" if dangerous else "This file cannot be used")
            self.about.set_text(str(entry.error))
        self._show_facts()
        self._show_words(checkpoint)
        training = model_info.training_facts(checkpoint, beside) if checkpoint else []
        self.training_facts.show_facts(training)
        self._training_title.setVisible(bool(training))
        self._model_title.set_text(
            "Checkpoint" if checkpoint is not None and checkpoint.role is Role.CHECKPOINT else "File"
        )
        self.about.setVisible(bool(self.about.text()))
        self._show_use(checkpoint)
        self.taken_for.show_checkpoint(checkpoint)
        self.delete.setVisible(checkpoint is None or checkpoint.origin is not Origin.STARTER)

    def _show_use(self, checkpoint: Checkpoint | None) -> None:
        if goes_into_prompt(checkpoint):
            tip = (
                "Add its tag to the prompt in the Generate room"
                if checkpoint is not None and checkpoint.role is Role.LORA
                else ("Add its name to the prompt in the Generate room")
            )
            self.use.setText("Use in prompt")
            describe(self.use, "Use in prompt", tip)
        else:
            self.use.setText("Generate with this")
            describe(self.use, "Generate with this", "Use this checkpoint in the Generate room")
        self.use.setVisible(goes_into_prompt(checkpoint) or (checkpoint is not None and model_info.usable(checkpoint)))

    def _show_warning(self, convertible: bool) -> None:
        """A pickle was looked through; as a safetensors file nobody needs to."""
        checkpoint = self._entry
        if convertible and isinstance(checkpoint, Checkpoint) and checkpoint.layout is Layout.PICKLE:
            self.warning.show_message(
                "info",
                "This file is a pickle: a program that could run anything. It was looked through, nothing in it "
                "would have, and it was not run. As a safetensors file it cannot.",
                "Convert to safetensors",
            )
            self.warning.close_button.hide()
            self.warning.show()
        else:
            self.warning.hide()

    def _show_words(self, checkpoint: Checkpoint | None) -> None:
        words = model_info.words(checkpoint, self._beside) if checkpoint is not None else []
        self.words.show_words(words)
        self.tags.show_words(model_info.tags(checkpoint, words) if checkpoint is not None else [])

    def _show_facts(self) -> None:
        match self._entry:
            case Checkpoint() as checkpoint:
                hashes = [("AutoV2", autov2(self._hash)), ("SHA-256", self._hash)] if self._hash else []
                self.model_facts.show_facts(model_info.model_facts(checkpoint, self._beside) + hashes)
            case Problem(path=path):
                self.model_facts.show_facts([("File", str(path))])


def goes_into_prompt(checkpoint: Checkpoint | None) -> bool:
    """Whether a prompt is where it is used."""
    return checkpoint is not None and checkpoint.role in (Role.LORA, Role.EMBEDDING)
