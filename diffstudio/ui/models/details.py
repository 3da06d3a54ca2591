"""The right side of the Models room: a model's description, trigger words, tools, metadata and training."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QImage, QResizeEvent
from PySide6.QtWidgets import QBoxLayout, QHBoxLayout, QVBoxLayout, QWidget

from diffstudio.errors import CheckpointDangerous
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.types import Layout, Role
from diffstudio.models.files.hashes import autov2
from diffstudio.models.library.sidecars import NO_SIDECAR, Sidecar
from diffstudio.studio.library.annotations import Annotation
from diffstudio.studio.library.model_files import run_of
from diffstudio.studio.library.weight_requests import Tool
from diffstudio.ui.models import model_info
from diffstudio.ui.models.file_actions import GO_TO_RUN, RENAME, USE_IN_PROMPT, can_rename, can_trash
from diffstudio.ui.models.item_model import Entry, Problem
from diffstudio.ui.models.notes_editor import NotesEditor
from diffstudio.ui.models.trigger_words import TriggerWordChips
from diffstudio.ui.models.type_override import TypeOverride
from diffstudio.ui.widgets import actions, theme
from diffstudio.ui.widgets.banner import Banner
from diffstudio.ui.widgets.controls import PrimaryButton, SecondaryButton, SectionLabel
from diffstudio.ui.widgets.helpers import ElidedLabel, PartsLabel, describe, scroll_area
from diffstudio.ui.widgets.images.image_menu import ImageTarget
from diffstudio.ui.widgets.images.image_thumbnail import ImageThumbnail
from diffstudio.ui.widgets.images.roving_focus import RovingFocus
from diffstudio.ui.widgets.images.thumbnail import Thumbnail
from diffstudio.ui.widgets.layout.flow_layout import FlowLayout
from diffstudio.ui.widgets.wrapping_text import FactsTable, WrappingText

MAX_WIDTH = 640  # px of a column; longer lines are hard to read
_TWO_COLUMNS = 880  # px from which the sections are in two columns
_IMAGE_SIDE = 72  # px
_TOOLS = {
    Tool.CONVERT: ("Convert…", "arrows-left-right", "Write the weights in another precision or file format"),
    Tool.MERGE: ("Merge…", "git-merge", "Merge with other checkpoints of the same family"),
    Tool.FUSE_LORA: ("Fuse LoRA…", "plus", "Fuse a LoRA into the weights of a new checkpoint"),
    Tool.PRUNE: ("Prune…", "scissors", "Write a smaller file, without weights that inference does not need"),
    Tool.EXPORT: ("Export…", "export", "Write a diffusers folder"),
    Tool.FIT_STEPS: ("Fit steps…", "ruler", "Find the times of few steps that suit this checkpoint best"),
}
_USE_TIP = "Use this checkpoint in the Generate room"


class CheckpointDetails(QWidget):
    """Shows one model file, or why a file cannot be used."""

    use_requested = Signal()  # the primary button: generate with it, or use it in the prompt
    trigger_word_requested = Signal(str)  # to add to the prompt
    tool_requested = Signal(object)  # Tool
    star_requested = Signal()
    rename_requested = Signal()
    folder_requested = Signal()
    run_requested = Signal()
    delete_requested = Signal()
    menu_requested = Signal(object, object)  # ImageTarget, QPoint

    def __init__(self) -> None:
        super().__init__()
        self._entry: Entry | None = None
        self._sidecar, self._hash = NO_SIDECAR, ""
        self.images: list[ImageThumbnail] = []  # the newest made with it
        self.thumbnail = Thumbnail(128, theme.RADIUS, name="An image made with this checkpoint")
        self.title = ElidedLabel("", pixels=18, bold=True)
        self.summary = PartsLabel("", "dim")
        self.description = WrappingText(pixels=theme.FONT_PIXELS)
        self.warning = Banner()
        self.trigger_words = TriggerWordChips("Trigger words", "Copy the trigger words")
        self.training_tags = TriggerWordChips("Trained on", "Copy the tags of its training images")
        self.model_table, self.training_table = FactsTable(96), FactsTable(96)
        self._training_title = SectionLabel("Training")
        self._model_title = SectionLabel("Checkpoint")
        self.use = PrimaryButton(actions.GENERATE_WITH_THIS, tooltip=_USE_TIP)
        self.notes, self.type_override = NotesEditor(), TypeOverride()
        self.star = SecondaryButton(actions.STAR, "star", "Star this model (Ctrl+D)")
        self.rename = SecondaryButton(RENAME, "pencil-simple", "Rename this model and the files that belong to it (F2)")
        self.folder = SecondaryButton(actions.SHOW_IN_FOLDER, "folder-open", actions.SHOW_IN_FOLDER_TIP)
        self.run = SecondaryButton(GO_TO_RUN, "chart-line-up", "Show the training run that made this checkpoint")
        self.delete = SecondaryButton(actions.DELETE, "trash", "Move this file to the system trash (Delete)")
        self.tools = {tool: SecondaryButton(text, icon, tip) for tool, (text, icon, tip) in _TOOLS.items()}
        self._connect()
        self._lay_out()

    def _connect(self) -> None:
        self.use.clicked.connect(self.use_requested)
        self.star.clicked.connect(self.star_requested)
        self.rename.clicked.connect(self.rename_requested)
        self.folder.clicked.connect(self.folder_requested)
        self.run.clicked.connect(self.run_requested)
        self.delete.clicked.connect(self.delete_requested)
        self.warning.acted.connect(lambda: self.tool_requested.emit(Tool.CONVERT))
        for chips in (self.trigger_words, self.training_tags):
            chips.requested.connect(self.trigger_word_requested)
        for tool, button in self.tools.items():
            button.clicked.connect(lambda _=False, tool=tool: self.tool_requested.emit(tool))

    def _lay_out(self) -> None:
        contents = QWidget()
        contents.setObjectName("contents")
        contents.setMaximumWidth(2 * MAX_WIDTH)
        column = QVBoxLayout(contents)
        column.setContentsMargins(24, 20, 20, 20)
        column.setSpacing(8)
        column.addLayout(self._head())
        column.addSpacing(8)
        column.addWidget(self.warning)
        column.addWidget(self.description)
        self._images = QWidget()
        self._images_title = SectionLabel("Images")
        self._strip = FlowLayout(self._images, spacing=8)
        self._focus = RovingFocus(self._images)
        self._tools_title = SectionLabel("Weight tools")
        tools_row, row = QWidget(), FlowLayout(spacing=8)
        tools_row.setLayout(row)
        for button in self.tools.values():
            row.addWidget(button)
        self._tools_row = tools_row
        self._halves = QBoxLayout(QBoxLayout.Direction.TopToBottom)
        self._halves.addLayout(
            _sections(
                (self.trigger_words,),
                (self.training_tags,),
                (self._images_title, self._images),
                (self.notes,),
                (self._tools_title, tools_row),
            )
        )
        self._halves.addLayout(
            _sections(
                (self._model_title, self.model_table),
                (self.type_override,),
                (self._training_title, self.training_table),
            )
        )
        column.addLayout(self._halves)
        column.addStretch(1)
        self._scroll = scroll_area(contents)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.addWidget(self._scroll)
        self.show_images([])
        self.show_tools(())

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self.fit_text()

    def fit_text(self) -> None:
        """The sections in two columns where the room is wide enough for both."""
        wide = self.width() >= theme.scaled(_TWO_COLUMNS)
        self._halves.setDirection(QBoxLayout.Direction.LeftToRight if wide else QBoxLayout.Direction.TopToBottom)
        self._halves.setSpacing(32 if wide else 16)
        for half in range(2):
            self._halves.setStretch(half, int(wide))

    def _head(self) -> QHBoxLayout:
        head = QHBoxLayout()
        head.setSpacing(16)
        head.addWidget(self.thumbnail, 0, Qt.AlignmentFlag.AlignTop)
        column = QVBoxLayout()
        column.setSpacing(4)
        column.addWidget(self.title)
        column.addWidget(self.summary)
        column.addSpacing(8)
        buttons = FlowLayout(spacing=8)
        for button in (self.star, self.rename, self.folder, self.run, self.delete):
            buttons.addWidget(button)
        column.addWidget(self.use, 0, Qt.AlignmentFlag.AlignLeft)
        column.addSpacing(4)
        column.addLayout(buttons)
        column.addStretch(1)
        head.addLayout(column, 1)
        return head

    # Showing an entry

    def entry(self) -> Entry | None:
        return self._entry

    def show_annotation(self, annotation: Annotation) -> None:
        """Show the notes, tags and star of the entry."""
        self.notes.show_annotation(annotation)
        self._show_star(annotation)

    def show_saved(self, annotation: Annotation) -> None:
        """Show the star as it is stored. The fields are left alone, where somebody may be typing."""
        self.notes.show_saved(annotation)
        self._show_star(annotation)

    def _show_star(self, annotation: Annotation) -> None:
        self.star.setText(actions.STARRED if annotation.favourite else actions.STAR)
        self.star.set_icon(*(("star-fill", "warn") if annotation.favourite else ("star", "text")))

    def show_hash(self, sha256: str) -> None:
        """Show the SHA-256 and the AutoV2 hash of the file; empty while unknown."""
        self._hash = sha256
        self._show_model_table()

    def show_tools(self, tools: Sequence[Tool]) -> None:
        """Show the tools that can be used on the entry; none until that is known."""
        for tool, button in self.tools.items():
            button.setVisible(tool in tools)
        self._tools_title.setVisible(bool(tools))
        self._tools_row.setVisible(bool(tools))
        self._show_warning(Tool.CONVERT in tools)

    def show_images(self, images: Sequence[ImageTarget]) -> None:
        """Show the newest images made with it, each with the usual image menu."""
        before, self.images = self.images, []
        for target in images:
            prompt = target.text()
            small = ImageThumbnail(target, _IMAGE_SIDE, name=prompt or "An image made with it", tooltip=prompt)
            small.menu_requested.connect(self.menu_requested)
            self._strip.addWidget(small)
            small.show()
            self.images.append(small)
        self._focus.set_images(self.images)
        for small in before:
            self._strip.removeWidget(small)
            small.hide()
            small.deleteLater()
        self._images.setVisible(bool(images))
        self._images_title.setVisible(bool(images))

    def show_entry(self, entry: Entry | None, thumbnail: QImage, sidecar: Sidecar = NO_SIDECAR) -> None:
        """Show a checkpoint with its sidecars, or a file that cannot be used and why; None hides the panel."""
        before = self._entry
        if entry is None or before is None or entry.path != before.path:
            self._hash = ""
            self.show_images([])
            self._entry = entry
            self.show_tools(())
            self._scroll.verticalScrollBar().setValue(0)
        self._entry, self._sidecar = entry, sidecar
        self.setVisible(entry is not None)
        if entry is None:
            return
        self.thumbnail.setVisible(not thumbnail.isNull())
        self.thumbnail.set_image(thumbnail)
        checkpoint = entry if isinstance(entry, Checkpoint) else None
        if checkpoint is not None:
            self.title.setText(checkpoint.title)
            self.summary.setText(model_info.summary(checkpoint))
            description = model_info.description(checkpoint, sidecar)
            if checkpoint.role is Role.UNKNOWN:
                description = "diffstudio does not recognise this file and cannot generate images with it."
            self.description.set_text(description)
        elif isinstance(entry, Problem):
            self.title.setText(entry.path.name)
            dangerous = isinstance(entry.error, CheckpointDangerous)
            self.summary.setText("This file is dangerous" if dangerous else "This file cannot be used")
            self.description.set_text(str(entry.error))
        self._show_model_table()
        self._show_trigger_words(checkpoint)
        training = model_info.training_rows(checkpoint, sidecar) if checkpoint else []
        self.training_table.show_facts(training)
        self._training_title.setVisible(bool(training))
        self._model_title.set_text(
            "Checkpoint" if checkpoint is not None and checkpoint.role is Role.CHECKPOINT else "File"
        )
        self.description.setVisible(bool(self.description.text()))
        self._show_use(checkpoint)
        self.type_override.show_checkpoint(checkpoint)
        self.rename.setVisible(can_rename(entry))
        self.run.setVisible(run_of(entry.path) is not None)
        self.delete.setVisible(can_trash(entry))

    def _show_use(self, checkpoint: Checkpoint | None) -> None:
        if used_in_prompt(checkpoint):
            tip = (
                "Add its tag to the prompt in the Generate room"
                if checkpoint is not None and checkpoint.role is Role.LORA
                else ("Add its name to the prompt in the Generate room")
            )
            self.use.setText(USE_IN_PROMPT)
            describe(self.use, USE_IN_PROMPT, tip)
        else:
            self.use.setText(actions.GENERATE_WITH_THIS)
            describe(self.use, actions.GENERATE_WITH_THIS, _USE_TIP)
        self.use.setVisible(used_in_prompt(checkpoint) or (checkpoint is not None and checkpoint.can_generate))

    def _show_warning(self, convertible: bool) -> None:
        """Offer to convert a pickle to safetensors."""
        checkpoint = self._entry
        if convertible and isinstance(checkpoint, Checkpoint) and checkpoint.layout is Layout.PICKLE:
            self.warning.show_message(
                "info",
                "This file is a pickle, a format that can run code when it is loaded. The scan found nothing dangerous. "
                "A safetensors file cannot run code.",
                "Convert to safetensors",
            )
            self.warning.close_button.hide()
            self.warning.show()
        else:
            self.warning.hide()

    def _show_trigger_words(self, checkpoint: Checkpoint | None) -> None:
        trigger_words = model_info.trigger_words(checkpoint, self._sidecar) if checkpoint is not None else []
        self.trigger_words.show_words(trigger_words)
        self.training_tags.show_words(
            model_info.training_tags(checkpoint, trigger_words) if checkpoint is not None else []
        )

    def _show_model_table(self) -> None:
        match self._entry:
            case Checkpoint() as checkpoint:
                hashes = [("AutoV2", autov2(self._hash)), ("SHA-256", self._hash)] if self._hash else []
                self.model_table.show_facts(model_info.model_rows(checkpoint, self._sidecar) + hashes)
            case Problem(path=path):
                self.model_table.show_facts([("File", str(path))])


def _sections(*sections: Sequence[QWidget]) -> QVBoxLayout:
    """A column of sections, each with its title and parts."""
    column = QVBoxLayout()
    column.setSpacing(8)
    for section in sections:
        margins = section[0].contentsMargins()
        margins.setTop(margins.top() + 8)  # unlike a spacing, it is hidden with the section
        section[0].setContentsMargins(margins)
        for part in section:
            column.addWidget(part)
    column.addStretch(1)
    return column


def used_in_prompt(checkpoint: Checkpoint | None) -> bool:
    """Whether the model is used by its name in a prompt: a LoRA or an embedding."""
    return checkpoint is not None and checkpoint.role in (Role.LORA, Role.EMBEDDING)
