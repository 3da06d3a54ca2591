"""The left column: everything that goes into a request."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtGui import QKeySequence
from PySide6.QtWidgets import QFrame, QGridLayout, QHBoxLayout, QVBoxLayout, QWidget

from diffstudio.errors import BadRequest, CheckpointDamaged
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.components.search import compatible_vaes
from diffstudio.models.conditioning.token_count import reads_weights
from diffstudio.models.detection.families_table import FAMILIES
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.jobs.memory_forecast import MemoryForecast, Wanted
from diffstudio.studio.prompts.token_count import Counted
from diffstudio.studio.requests import LONGEST_PROMPT, GenerateRequest, SamplerName
from diffstudio.ui.generate import labels
from diffstudio.ui.generate.sections.add_buttons import AddButtons
from diffstudio.ui.generate.sections.checkpoint_chooser import CheckpointChooser
from diffstudio.ui.generate.sections.controlnet_section import ControlNetSection
from diffstudio.ui.generate.sections.hires_section import HiresSection
from diffstudio.ui.generate.sections.init_image_section import InitImageSection
from diffstudio.ui.generate.sections.lora_section import LoraSection
from diffstudio.ui.generate.sections.prompt import PromptEdit, below
from diffstudio.ui.generate.sections.seed import SeedControl
from diffstudio.ui.generate.sections.size import SizeControl, limits_of
from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.controls import PrimaryButton, SecondaryButton, SectionLabel
from diffstudio.ui.widgets.helpers import describe, label, scroll_area, set_style_property
from diffstudio.ui.widgets.inputs import CheckBox, LabelledComboBox, LabelledSlider

_NEEDS_AFTER_MS = 150  # without a change
MOST_IMAGES = 64  # of one press; the queue takes any number of presses


class Panel(QFrame):
    """`generate` carries the finished request."""

    generate = Signal(object)
    count_wanted = Signal(
        object, object
    )  # Checkpoint, a prompt: how many of its tokens are read; answer with show_count
    models_wanted = Signal()
    needs_wanted = Signal(object)  # Wanted: how much memory that takes; answer with show_needs
    said = Signal(str)  # a sentence for the room
    beside_wanted = Signal(object, object)  # work for another thread, and who is told what it returned

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("panel")
        self.setProperty("side", "left")
        self.checkpoint = CheckpointChooser()
        self.prompt = PromptEdit(
            "Prompt",
            "What the picture shows…",
            "What the picture shows. Up brings back earlier prompts (Alt+Up while there is text); Ctrl+Enter generates",
            3,
            history=True,
        )
        self.history = SecondaryButton("", "clock-counter-clockwise", "Earlier prompts", role="dim")
        self.negative = PromptEdit("Negative prompt", "Leave out…", "What the picture should not show", 1)
        self.unprompted = label("This checkpoint takes no prompt: it makes what it has learnt.", "dim", wrap=True)
        self.classes = LabelledComboBox(
            "Class", (), "What the picture shows: the classes this checkpoint was trained on"
        )
        self.start = InitImageSection()
        self.size_control = SizeControl()
        self.loras = LoraSection(self.prompt, self.negative)
        self.control = ControlNetSection(self._size_to_make)
        self.enlarge = HiresSection(self._size_to_make)
        self.steps = LabelledSlider(
            "Steps", 1, 100, 20, tooltip="How many steps from noise to picture: more are slower and finer"
        )
        self.guidance = LabelledSlider(
            "Guidance",
            0,
            15,
            3.0,
            step=0.1,
            decimals=1,
            tooltip="How closely the prompt is followed: 1 as it is, more is stronger and less varied, 0 ignores it",
        )
        self.guide_last = CheckBox("Guide the last step")
        describe(
            self.guide_last,
            "Guide the last step",
            "The last step's estimate is the picture, and guidance (CFG) lays grain "
            "over it. Pictures made before version 0.2 were drawn so: tick this to draw them again exactly",
        )
        self.guide_last.hide()
        self.sampler = LabelledComboBox(
            "Sampler",
            [(name, text) for name, (text, _) in labels.SAMPLERS.items()],
            "The method that walks from noise to picture",
        )
        self.spacing = LabelledComboBox(
            "Spacing", labels.spacings_for(None), "How the steps are spread between noise and picture"
        )
        self.vae = LabelledComboBox(
            "Autoencoder",
            [("", "Its own")],
            "What turns the checkpoint's latents into a picture: its own, or "
            "another of the same kind that is in your folders",
        )
        self.vae.hide()
        self.seed = SeedControl()
        self.count = LabelledSlider(
            "Images", 1, MOST_IMAGES, 1, tooltip="How many pictures; each has a seed of its own, one up from the last"
        )
        self.needs = label("", "faint", pixels=theme.SMALL_PIXELS, wrap=True)
        self.needs.hide()
        self._needs_timer = QTimer(self, singleShot=True, interval=_NEEDS_AFTER_MS)
        self._see_timer = QTimer(self, singleShot=True, interval=0)  # once what was opened has its place
        self.trouble = label("", "bad", pixels=theme.SMALL_PIXELS, wrap=True)
        self.button = PrimaryButton("Generate", _shortcut_text("Ctrl+Return"), "Make the pictures (Ctrl+Enter)")
        self._busy = False
        self._models: tuple[Checkpoint, ...] = ()
        self._looked = self._asked_early = False  # for checkpoints; for pictures, before any had been found
        self._usual = FAMILIES["pixel"]  # the settings that the column began with, or took over last
        self._shown: Path | None = None  # the checkpoint that the column was last made to fit
        self.size_control.set_limits(None)
        self._explain_choices()
        self._lay_out()
        self._connect()
        self._check()

    # What there is to choose from

    def set_checkpoints(self, checkpoints: Sequence[Checkpoint], problems: int = 0) -> None:
        """Of all models there are, those that make pictures are offered."""
        self.checkpoint.set_checkpoints([checkpoint for checkpoint in checkpoints if checkpoint.can_generate], problems)
        for section in (self.loras, self.control, self.enlarge):
            section.set_models(checkpoints)
        self._models = tuple(checkpoints)
        self._checkpoint_changed(self.checkpoint.current())
        self._looked = True
        if self._asked_early:
            self._asked_early = False
            self.submit()

    def choose(self, checkpoint: Checkpoint) -> None:
        """As if a person had chosen it from the list; nothing happens when it is not in there."""
        if self.checkpoint.choose(str(checkpoint.path)):
            self._checkpoint_changed(self.checkpoint.current())

    def use_lora(self, model: Checkpoint) -> None:
        """Name a LoRA, or a textual inversion, in the prompt, as if it had been chosen from the list."""
        self.loras.add(model)

    def add_words(self, words: str) -> None:
        """At the end of the prompt, unless they stand in it between commas."""
        text = self.prompt.text().rstrip().rstrip(",")
        if words.casefold() not in (piece.strip().casefold() for piece in text.split(",")):
            self.prompt.change_to(f"{text}, {words}" if text else words)

    def set_history(self, prompts: Sequence[str]) -> None:
        self.prompt.set_history(prompts)

    def set_busy(self, busy: bool) -> None:
        """While something is being made a further press waits its turn, and the button says so."""
        self._busy = busy
        self.button.setText("Add to queue" if busy else "Generate")

    # The request

    def request(self) -> GenerateRequest:
        """What the column says now. BadRequest where it says something impossible."""
        checkpoint = self.checkpoint.current()
        if checkpoint is None:
            raise BadRequest(
                "There is no checkpoint to make pictures with", remedy="Train one, or add a folder of models"
            )
        count = int(self.count.value())
        if problem := self.seed.problem(count):
            raise BadRequest(problem.rstrip("."))
        width, height = self.size_control.size_wanted()
        prompt, negative = self._prompts(checkpoint)
        return self.enlarge.applied(
            self.control.applied(
                self.start.applied(
                    GenerateRequest(
                        prompt=prompt,
                        negative=negative,
                        checkpoint=checkpoint.name,
                        seed=self.seed.value(),
                        steps=int(self.steps.value()),
                        sampler=self.sampler.value(),
                        spacing=self.spacing.value(),
                        guidance=float(self.guidance.value()),
                        width=width,
                        height=height,
                        count=count,
                        vae=self.vae.value() or "",
                        guide_last_call=True
                        if self.guide_last.isChecked() and self._may_leave_last(checkpoint)
                        else None,
                    )
                )
            )
        )

    def use(self, request: GenerateRequest) -> bool:
        """Show a request that was made before. False when its checkpoint is not there: the rest is shown all the same."""
        found = self.checkpoint.choose(request.checkpoint)
        self._checkpoint_changed(self.checkpoint.current(), take_settings=False)
        self.prompt.set_text(request.prompt)
        self.classes.set_value(request.prompt)
        self.negative.set_text(request.negative)
        self.steps.set_value(request.steps)
        self.guidance.set_value(request.guidance)
        self.guide_last.setChecked(request.guide_last_call is True and self._may_leave_last(self.checkpoint.current()))
        self.sampler.set_value(request.sampler)
        self.spacing.set_value(request.spacing)
        if not self.vae.set_value(request.vae):
            self.vae.set_value("")
            self.said.emit(f"The autoencoder “{request.vae}” is not here, so the checkpoint's own takes its place.")
        self.size_control.set_size(request.width, request.height)
        self.start.use(request)
        self.control.use(request)
        self.enlarge.use(request)
        self.seed.set_kept(request.seed)
        self.count.set_value(min(request.count, MOST_IMAGES))
        self._check()
        return found

    def show_count(self, checkpoint: Checkpoint, text: str, counted: Counted) -> None:
        """How much of what this checkpoint reads a prompt takes."""
        if checkpoint == self.checkpoint.current():
            for edit in (self.prompt, self.negative):
                edit.show_count(text, counted)

    def ask_needs(self) -> None:
        """How much memory what the column says would take now."""
        checkpoint = self.checkpoint.current()
        if checkpoint is None or not self.isVisible():
            return
        with contextlib.suppress(BadRequest):
            self.needs_wanted.emit(Wanted(self.request(), checkpoint, self.control.networks()))

    def show_needs(self, wanted: Wanted, needs: MemoryForecast | None) -> None:
        """None where it is not known."""
        said = "" if needs is None or wanted.checkpoint != self.checkpoint.current() else labels.memory(needs)
        self.needs.setText(said)
        self.needs.setVisible(bool(said))
        if needs is not None:
            set_style_property(self.needs, "tone", "faint" if needs.fits else "warn")
            describe(self.needs, said, labels.memory_plan(needs))

    def submit(self) -> None:
        """What the button does. Asked for while the folders are still being read, it is done when they have been."""
        if not self.button.isEnabled():
            self._asked_early = not self._looked
            return
        try:
            request = self.request()
            request = replace(request, seed=self.seed.next())
        except (BadRequest, ValueError) as error:
            self._say(str(error))
            return
        self._say("")
        self.generate.emit(request)

    def _prompts(self, checkpoint: Checkpoint) -> tuple[str, str]:
        match checkpoint.conditioning:
            case Conditioning.TEXT:
                return self.prompt.text().strip(), self.negative.text().strip()
            case Conditioning.CLASS:
                return str(self.classes.value() or ""), ""
            case _:
                return "", ""

    # Following what is chosen

    def _checkpoint_changed(self, checkpoint: Checkpoint | None, *, take_settings: bool = True) -> None:
        conditioning = checkpoint.conditioning if checkpoint else Conditioning.TEXT
        text, classes = conditioning is Conditioning.TEXT, conditioning is Conditioning.CLASS
        for part in (self.prompt_section, self.prompt, self.negative):
            part.setVisible(text)
        self.unprompted.setVisible(conditioning is Conditioning.NONE)
        self.classes.setVisible(classes)
        self.guide_last.setVisible(self._may_leave_last(checkpoint))
        self.size_control.set_limits(None if checkpoint is None else limits_of(checkpoint))
        if checkpoint is not None:
            if classes:
                self.classes.set_choices([(name, name) for name in checkpoint.classes])
            self.guidance.setEnabled(conditioning is not Conditioning.NONE)
            another, self._shown = checkpoint.path != self._shown, checkpoint.path
        self.loras.set_checkpoint(checkpoint)
        self.control.set_checkpoint(checkpoint)
        self.enlarge.set_checkpoint(checkpoint)
        self.spacing.set_choices(labels.spacings_for(checkpoint))
        self._offer_autoencoders(checkpoint)
        if checkpoint is not None and another and take_settings:
            self._take_usual(checkpoint)
        for edit in (self.prompt, self.negative):
            edit.set_weighable(checkpoint is not None and reads_weights(checkpoint))
            edit.count_again()
        self._check()

    @staticmethod
    def _may_leave_last(checkpoint: Checkpoint | None) -> bool:
        """Whether its last step goes unguided unless a person says otherwise: of the families, those that are trained here."""
        return (
            checkpoint is not None and checkpoint.family == "pixel" and checkpoint.conditioning is not Conditioning.NONE
        )

    def _offer_autoencoders(self, checkpoint: Checkpoint | None) -> None:
        fitting = compatible_vaes(checkpoint, self._models) if checkpoint is not None else []
        self.vae.set_choices([("", "Its own"), *((model.name, model.title) for model in fitting)])
        self.vae.setVisible(bool(fitting))

    def _take_usual(self, checkpoint: Checkpoint) -> None:
        """Settings that its makers recommend, in place of the last checkpoint's where nobody changed those."""
        usual, last = labels.usual_for(checkpoint), self._usual
        if usual is None:
            return
        self._usual = usual
        self.guidance.set_value(_usual_guidance(checkpoint, usual.guidance))
        if self.steps.value() == last.steps:
            self.steps.set_value(usual.steps)
        for control, then, now in (
            (self.sampler, last.sampler, usual.sampler),
            (self.spacing, last.spacing, usual.spacing),
        ):
            if control.value() == then:
                control.set_value(now)

    def _size_to_make(self) -> tuple[int, int]:
        """Width and height in px."""
        checkpoint, (width, height) = self.checkpoint.current(), self.size_control.size_wanted()
        own = (checkpoint.width, checkpoint.height) if checkpoint is not None else (0, 0)
        return width or own[0] or 512, height or own[1] or 512

    def _check(self) -> None:
        self._needs_timer.start()
        problem = self.seed.problem(int(self.count.value()))
        for name, edit in (("prompt", self.prompt), ("negative prompt", self.negative)):
            if (length := len(edit.text())) > LONGEST_PROMPT:
                problem = f"The {name} has {length:,} characters and at most {LONGEST_PROMPT:,} are read. Shorten it."
        self.button.setEnabled(not problem and self.checkpoint.current() is not None)
        self._say(problem)

    def _say(self, problem: str) -> None:
        self.trouble.setText(problem)
        self.trouble.setVisible(bool(problem))

    def _count(self, text: str) -> None:
        checkpoint = self.checkpoint.current()
        if checkpoint is not None:
            self.count_wanted.emit(checkpoint, text)

    def _open_history(self) -> None:
        menu = self.prompt.history_menu(self.history)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        menu.popup(below(self.history, menu))

    # Making it

    def _explain_choices(self) -> None:
        tips = Qt.ItemDataRole.ToolTipRole
        for index, (_, tip) in enumerate(labels.SAMPLERS.values()):
            self.sampler.combo.setItemData(index, tip, tips)
        self.sampler.set_value(SamplerName.HEUN)

    def _connect(self) -> None:
        self.checkpoint.chosen.connect(self._checkpoint_changed)
        self.checkpoint.more_wanted.connect(self.models_wanted)
        for edit in (self.prompt, self.negative):
            edit.too_long.connect(self._check)
            edit.submitted.connect(self.submit)
            edit.count_wanted.connect(self._count)
        self.seed.changed.connect(self._check)
        self.count.value_changed.connect(self._check)
        self.history.clicked.connect(self._open_history)
        self.button.clicked.connect(self.submit)
        self.control.models_wanted.connect(self.models_wanted)
        self.control.beside_wanted.connect(self.beside_wanted)
        self.size_control.changed.connect(self.control.look_again)
        self.size_control.changed.connect(self.enlarge.look_again)
        self.start.changed.connect(lambda: self.enlarge.set_painted(self.start.masked()))
        for changed in (self.size_control.changed, self.control.changed, self.start.changed, self.enlarge.changed):
            changed.connect(self._check)
        self._needs_timer.timeout.connect(self.ask_needs)
        self.enlarge.opened.connect(self._see_timer.start)
        self._see_timer.timeout.connect(lambda: self._scroll.ensureWidgetVisible(self.enlarge, 0, 8))

    def _lay_out(self) -> None:
        contents = QWidget()
        contents.setObjectName("contents")
        column = QVBoxLayout(contents)
        column.setContentsMargins(16, 16, 16, 8)
        column.setSpacing(12)
        self.prompt_section = QWidget()
        heading = QHBoxLayout(self.prompt_section)
        heading.setContentsMargins(0, 0, 0, 0)
        heading.addWidget(SectionLabel("Prompt"), 1)
        heading.addWidget(self.history)
        column.addWidget(self.checkpoint)
        column.addWidget(self.prompt_section)
        column.setSpacing(8)
        column.addWidget(self.unprompted)
        column.addWidget(self.prompt)
        column.addWidget(self.negative)
        column.addWidget(self.classes)
        self.ways = AddButtons((self.loras.add_button, self.start.choose_button, self.control.add_button))
        column.addWidget(self.ways)
        column.addWidget(self.loras)
        column.addWidget(self.start)
        column.addWidget(self.control)
        column.addSpacing(4)
        column.addWidget(SectionLabel("Image"))
        grid = QGridLayout()
        grid.setHorizontalSpacing(14)
        grid.setVerticalSpacing(12)
        for index, part in enumerate((self.steps, self.guidance, self.sampler, self.spacing)):
            grid.addWidget(part, index // 2, index % 2)
            grid.setColumnStretch(index % 2, 1)
        grid.addWidget(self.guide_last, 2, 0, 1, 2)
        grid.addWidget(self.vae, 3, 0, 1, 2)
        column.addLayout(grid)
        column.addSpacing(4)
        column.addWidget(self.seed)
        column.addSpacing(4)
        column.addWidget(self.count)
        column.addSpacing(4)
        column.addWidget(SectionLabel("Size"))
        column.addWidget(self.size_control)
        column.addWidget(self.enlarge)
        column.addStretch(1)
        scroll = self._scroll = scroll_area(contents)
        foot = QVBoxLayout()
        foot.setContentsMargins(16, 8, 16, 16)
        foot.setSpacing(8)
        foot.addWidget(self.trouble)
        foot.addWidget(self.needs)
        foot.addWidget(self.button)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(0)
        whole.addWidget(scroll, 1)
        whole.addLayout(foot)
        self.classes.hide()
        self.unprompted.hide()


def _usual_guidance(checkpoint: Checkpoint, otherwise: float) -> float:
    """What the checkpoint recommends in its header."""
    try:
        scale = float(checkpoint.json("guidance")["scale"])
    except (CheckpointDamaged, KeyError, TypeError, ValueError):
        return otherwise
    return scale if 0 <= scale <= 15 else otherwise


def _shortcut_text(keys: str) -> str:
    """As this system writes it: Ctrl+Enter, or ⌘ and the sign for Return on a Mac."""
    text = QKeySequence(keys).toString(QKeySequence.SequenceFormat.NativeText)
    return text.replace("Return", "Enter")
