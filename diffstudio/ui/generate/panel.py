"""The left column: every setting of a GenerateRequest."""

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
from diffstudio.models.conditioning.token_count import supports_prompt_weights
from diffstudio.models.detection.families_table import FAMILIES
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.jobs.memory_forecast import MemoryForecast, MemoryQuery
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
from diffstudio.ui.widgets import terms, theme
from diffstudio.ui.widgets.controls import PrimaryButton, SecondaryButton, SectionLabel
from diffstudio.ui.widgets.helpers import describe, label, scroll_area, set_style_property
from diffstudio.ui.widgets.inputs import CheckBox, LabelledComboBox, LabelledSlider

MEMORY_FORECAST_DELAY_MS = 150  # after the last change
MAX_IMAGES = 64  # of one request


class Panel(QFrame):
    """`generate` carries the request when the button or Ctrl+Enter is pressed."""

    generate = Signal(object)
    token_count_requested = Signal(object, object)  # Checkpoint, prompt; answer with show_token_count
    models_room_requested = Signal()
    memory_forecast_requested = Signal(object)  # MemoryQuery; answer with show_memory_forecast
    message = Signal(str)  # a warning for the room
    background_work_requested = Signal(object, object)  # a function for another thread, and a callback for its result

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("panel")
        self.setProperty("side", "left")
        self.checkpoint = CheckpointChooser()
        self.prompt = PromptEdit(
            terms.PROMPT,
            "Describe the image…",
            "What the image shows. Up recalls earlier prompts (Alt+Up when there is text); Ctrl+Enter generates",
            3,
            history=True,
        )
        self.history = SecondaryButton("", "clock-counter-clockwise", "Earlier prompts", role="dim")
        self.negative = PromptEdit(terms.NEGATIVE_PROMPT, "Negative prompt…", "What the image should not show", 1)
        self.unprompted = label("This checkpoint is unconditional: it takes no prompt.", "dim", wrap=True)
        self.classes = LabelledComboBox(
            "Class", (), "What the image shows: one of the classes this checkpoint was trained on"
        )
        self.init_image = InitImageSection()
        self.size_control = SizeControl()
        self.loras = LoraSection(self.prompt, self.negative)
        self.controlnets = ControlNetSection(self._size_to_make)
        self.hires_fix = HiresSection(self._size_to_make)
        self.steps = LabelledSlider(
            terms.STEPS, 1, 100, 20, tooltip="Denoising steps: more are slower and can add detail"
        )
        self.guidance = LabelledSlider(
            terms.CFG_SCALE,
            0,
            15,
            3.0,
            step=0.1,
            decimals=1,
            tooltip="Guidance: how closely the prompt is followed. 1 turns guidance off, 0 ignores the prompt",
        )
        self.guide_last = CheckBox("Guide the last step")
        describe(
            self.guide_last,
            "Guide the last step",
            "Apply CFG in the last step too, which adds grain. Tick this to reproduce images from before version 0.2",
        )
        self.guide_last.hide()
        self.sampler = LabelledComboBox(
            terms.SAMPLER,
            [(name, text) for name, (text, _) in labels.SAMPLERS.items()],
            "The sampling method that removes the noise",
        )
        self.spacing = LabelledComboBox(
            terms.SCHEDULER, labels.schedulers_for(None), "Spacing of the noise levels over the steps"
        )
        self.vae = LabelledComboBox(
            terms.VAE,
            [("", "From checkpoint")],
            "The autoencoder that decodes latents into the image: the checkpoint's own, or another that fits it",
        )
        self.vae.hide()
        self.seed = SeedControl()
        self.count = LabelledSlider(
            "Images", 1, MAX_IMAGES, 1, tooltip="Batch: how many images to generate. Each uses the next seed"
        )
        self.memory_label = label("", "faint", pixels=theme.SMALL_PIXELS, wrap=True)
        self.memory_label.hide()
        self._memory_timer = QTimer(self, singleShot=True, interval=MEMORY_FORECAST_DELAY_MS)
        self._scroll_timer = QTimer(self, singleShot=True, interval=0)  # once what was opened has its place
        self.error_label = label("", "bad", pixels=theme.SMALL_PIXELS, wrap=True)
        self.button = PrimaryButton("Generate", _shortcut_text("Ctrl+Return"), "Generate (Ctrl+Enter)")
        self._busy = False
        self._models: tuple[Checkpoint, ...] = ()
        self._scanned = self._submit_after_scan = False  # the latter: submit() was called before the first scan
        self._recommended = FAMILIES["pixel"]  # the recommended settings that were loaded last
        self._shown: Path | None = None  # of the checkpoint shown last
        self.size_control.set_limits(None)
        self._describe_samplers()
        self._lay_out()
        self._connect()
        self._check()

    # Choices

    def set_checkpoints(self, checkpoints: Sequence[Checkpoint], problems: int = 0) -> None:
        """Offer the models that can generate images."""
        self.checkpoint.set_checkpoints([checkpoint for checkpoint in checkpoints if checkpoint.can_generate], problems)
        for section in (self.loras, self.controlnets, self.hires_fix):
            section.set_models(checkpoints)
        self._models = tuple(checkpoints)
        self._checkpoint_changed(self.checkpoint.current())
        self._scanned = True
        if self._submit_after_scan:
            self._submit_after_scan = False
            self.submit()

    def choose(self, checkpoint: Checkpoint) -> None:
        """Choose a checkpoint as if from the list; nothing happens when it is not listed."""
        if self.checkpoint.choose(str(checkpoint.path)):
            self._checkpoint_changed(self.checkpoint.current())

    def use_lora(self, model: Checkpoint) -> None:
        """Add a LoRA or an embedding to the prompt, as if it had been chosen from the list."""
        self.loras.add(model)

    def add_trigger_words(self, words: str) -> None:
        """Append trigger words to the prompt, unless it contains them between commas."""
        text = self.prompt.text().rstrip().rstrip(",")
        if words.casefold() not in (piece.strip().casefold() for piece in text.split(",")):
            self.prompt.change_to(f"{text}, {words}" if text else words)

    def set_history(self, prompts: Sequence[str]) -> None:
        self.prompt.set_history(prompts)

    def set_busy(self, busy: bool) -> None:
        """While a job runs, further requests are queued, and the button says so."""
        self._busy = busy
        self.button.setText("Add to queue" if busy else "Generate")

    # The request

    def request(self) -> GenerateRequest:
        """The request as the panel describes it. BadRequest when it is impossible."""
        checkpoint = self.checkpoint.current()
        if checkpoint is None:
            raise BadRequest(
                "There is no checkpoint to generate with", remedy="Train one, or add a model folder in Settings"
            )
        count = int(self.count.value())
        if problem := self.seed.problem(count):
            raise BadRequest(problem.rstrip("."))
        width, height = self.size_control.requested_size()
        prompt, negative = self._prompts(checkpoint)
        return self.hires_fix.apply_to(
            self.controlnets.apply_to(
                self.init_image.apply_to(
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
                        if self.guide_last.isChecked() and self._unguided_last_step(checkpoint)
                        else None,
                    )
                )
            )
        )

    def load_from(self, request: GenerateRequest) -> bool:
        """Load the settings of an earlier request. False when its checkpoint is missing; everything else is loaded."""
        found = self.checkpoint.choose(request.checkpoint)
        self._checkpoint_changed(self.checkpoint.current(), take_settings=False)
        self.prompt.set_text(request.prompt)
        self.classes.set_value(request.prompt)
        self.negative.set_text(request.negative)
        self.steps.set_value(request.steps)
        self.guidance.set_value(request.guidance)
        self.guide_last.setChecked(
            request.guide_last_call is True and self._unguided_last_step(self.checkpoint.current())
        )
        self.sampler.set_value(request.sampler)
        self.spacing.set_value(request.spacing)
        if not self.vae.set_value(request.vae):
            self.vae.set_value("")
            self.message.emit(f"The VAE “{request.vae}” is missing; the checkpoint's own is used instead.")
        self.size_control.set_size(request.width, request.height)
        self.init_image.load_from(request)
        self.controlnets.load_from(request)
        self.hires_fix.load_from(request)
        self.seed.set_fixed(request.seed)
        self.count.set_value(min(request.count, MAX_IMAGES))
        self._check()
        return found

    def show_token_count(self, checkpoint: Checkpoint, text: str, counted: Counted) -> None:
        """Show the token count of a prompt."""
        if checkpoint == self.checkpoint.current():
            for edit in (self.prompt, self.negative):
                edit.show_token_count(text, counted)

    def request_memory_forecast(self) -> None:
        """Ask for a memory forecast of the current settings."""
        checkpoint = self.checkpoint.current()
        if checkpoint is None or not self.isVisible():
            return
        with contextlib.suppress(BadRequest):
            self.memory_forecast_requested.emit(MemoryQuery(self.request(), checkpoint, self.controlnets.networks()))

    def show_memory_forecast(self, job: MemoryQuery, forecast: MemoryForecast | None) -> None:
        """Show a forecast; None where it is unknown."""
        text = (
            "" if forecast is None or job.checkpoint != self.checkpoint.current() else labels.memory_forecast(forecast)
        )
        self.memory_label.setText(text)
        self.memory_label.setVisible(bool(text))
        if forecast is not None:
            set_style_property(self.memory_label, "tone", "faint" if forecast.fits else "warn")
            describe(self.memory_label, text, labels.memory_plan(forecast))

    def submit(self) -> None:
        """Emit the request. Called before the first scan of the model folders has ended, it waits for it."""
        if not self.button.isEnabled():
            self._submit_after_scan = not self._scanned
            return
        try:
            request = self.request()
            request = replace(request, seed=self.seed.next_seed())
        except (BadRequest, ValueError) as error:
            self._show_error(str(error))
            return
        self._show_error("")
        self.generate.emit(request)

    def _prompts(self, checkpoint: Checkpoint) -> tuple[str, str]:
        match checkpoint.conditioning:
            case Conditioning.TEXT:
                return self.prompt.text().strip(), self.negative.text().strip()
            case Conditioning.CLASS:
                return str(self.classes.value() or ""), ""
            case _:
                return "", ""

    # Updates

    def _checkpoint_changed(self, checkpoint: Checkpoint | None, *, take_settings: bool = True) -> None:
        conditioning = checkpoint.conditioning if checkpoint else Conditioning.TEXT
        text, classes = conditioning is Conditioning.TEXT, conditioning is Conditioning.CLASS
        for part in (self.prompt_section, self.prompt, self.negative):
            part.setVisible(text)
        self.unprompted.setVisible(conditioning is Conditioning.NONE)
        self.classes.setVisible(classes)
        self.guide_last.setVisible(self._unguided_last_step(checkpoint))
        self.size_control.set_limits(None if checkpoint is None else limits_of(checkpoint))
        if checkpoint is not None:
            if classes:
                self.classes.set_choices([(name, name) for name in checkpoint.classes])
            self.guidance.setEnabled(conditioning is not Conditioning.NONE)
            another, self._shown = checkpoint.path != self._shown, checkpoint.path
        self.loras.set_checkpoint(checkpoint)
        self.controlnets.set_checkpoint(checkpoint)
        self.hires_fix.set_checkpoint(checkpoint)
        self.spacing.set_choices(labels.schedulers_for(checkpoint))
        self._update_vaes(checkpoint)
        if checkpoint is not None and another and take_settings:
            self._load_recommended(checkpoint)
        for edit in (self.prompt, self.negative):
            edit.set_weighting_enabled(checkpoint is not None and supports_prompt_weights(checkpoint))
            edit.recount_tokens()
        self._check()

    @staticmethod
    def _unguided_last_step(checkpoint: Checkpoint | None) -> bool:
        """Whether the checkpoint leaves its last step unguided by default: models trained here do."""
        return (
            checkpoint is not None and checkpoint.family == "pixel" and checkpoint.conditioning is not Conditioning.NONE
        )

    def _update_vaes(self, checkpoint: Checkpoint | None) -> None:
        fitting = compatible_vaes(checkpoint, self._models) if checkpoint is not None else []
        self.vae.set_choices([("", "From checkpoint"), *((model.name, model.title) for model in fitting)])
        self.vae.setVisible(bool(fitting))

    def _load_recommended(self, checkpoint: Checkpoint) -> None:
        """Load the recommended settings, replacing those of the last checkpoint unless the user changed them."""
        usual, last = labels.recommended_for(checkpoint), self._recommended
        if usual is None:
            return
        self._recommended = usual
        self.guidance.set_value(_recommended_cfg_scale(checkpoint, usual.guidance))
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
        checkpoint, (width, height) = self.checkpoint.current(), self.size_control.requested_size()
        own = (checkpoint.width, checkpoint.height) if checkpoint is not None else (0, 0)
        return width or own[0] or 512, height or own[1] or 512

    def _check(self) -> None:
        self._memory_timer.start()
        problem = self.seed.problem(int(self.count.value()))
        for name, edit in (("prompt", self.prompt), ("negative prompt", self.negative)):
            if (length := len(edit.text())) > LONGEST_PROMPT:
                problem = f"The {name} has {length:,} characters. The maximum is {LONGEST_PROMPT:,}."
        self.button.setEnabled(not problem and self.checkpoint.current() is not None)
        self._show_error(problem)

    def _show_error(self, problem: str) -> None:
        self.error_label.setText(problem)
        self.error_label.setVisible(bool(problem))

    def _request_token_count(self, text: str) -> None:
        checkpoint = self.checkpoint.current()
        if checkpoint is not None:
            self.token_count_requested.emit(checkpoint, text)

    def _open_history(self) -> None:
        menu = self.prompt.history_menu(self.history)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        menu.popup(below(self.history, menu))

    # Construction

    def _describe_samplers(self) -> None:
        tips = Qt.ItemDataRole.ToolTipRole
        for index, (_, tip) in enumerate(labels.SAMPLERS.values()):
            self.sampler.combo.setItemData(index, tip, tips)
        self.sampler.set_value(SamplerName.HEUN)

    def _connect(self) -> None:
        self.checkpoint.chosen.connect(self._checkpoint_changed)
        self.checkpoint.models_room_requested.connect(self.models_room_requested)
        for edit in (self.prompt, self.negative):
            edit.too_long.connect(self._check)
            edit.submitted.connect(self.submit)
            edit.token_count_requested.connect(self._request_token_count)
        self.seed.changed.connect(self._check)
        self.count.value_changed.connect(self._check)
        self.history.clicked.connect(self._open_history)
        self.button.clicked.connect(self.submit)
        self.controlnets.models_room_requested.connect(self.models_room_requested)
        self.controlnets.background_work_requested.connect(self.background_work_requested)
        self.size_control.changed.connect(self.controlnets.schedule_preview)
        self.size_control.changed.connect(self.hires_fix.update_size)
        self.init_image.changed.connect(lambda: self.hires_fix.set_inpainting(self.init_image.has_mask()))
        for changed in (
            self.size_control.changed,
            self.controlnets.changed,
            self.init_image.changed,
            self.hires_fix.changed,
        ):
            changed.connect(self._check)
        self._memory_timer.timeout.connect(self.request_memory_forecast)
        self.hires_fix.opened.connect(self._scroll_timer.start)
        self._scroll_timer.timeout.connect(lambda: self._scroll.ensureWidgetVisible(self.hires_fix, 0, 8))

    def _lay_out(self) -> None:
        contents = QWidget()
        contents.setObjectName("contents")
        column = QVBoxLayout(contents)
        column.setContentsMargins(16, 16, 16, 8)
        column.setSpacing(12)
        self.prompt_section = QWidget()
        heading = QHBoxLayout(self.prompt_section)
        heading.setContentsMargins(0, 0, 0, 0)
        heading.addWidget(SectionLabel(terms.PROMPT), 1)
        heading.addWidget(self.history)
        column.addWidget(self.checkpoint)
        column.addWidget(self.prompt_section)
        column.setSpacing(8)
        column.addWidget(self.unprompted)
        column.addWidget(self.prompt)
        column.addWidget(self.negative)
        column.addWidget(self.classes)
        self.add_buttons = AddButtons(
            (self.loras.add_button, self.init_image.choose_button, self.controlnets.add_button)
        )
        column.addWidget(self.add_buttons)
        column.addWidget(self.loras)
        column.addWidget(self.init_image)
        column.addWidget(self.controlnets)
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
        column.addWidget(self.hires_fix)
        column.addStretch(1)
        scroll = self._scroll = scroll_area(contents)
        foot = QVBoxLayout()
        foot.setContentsMargins(16, 8, 16, 16)
        foot.setSpacing(8)
        foot.addWidget(self.error_label)
        foot.addWidget(self.memory_label)
        foot.addWidget(self.button)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(0)
        whole.addWidget(scroll, 1)
        whole.addLayout(foot)
        self.classes.hide()
        self.unprompted.hide()


def _recommended_cfg_scale(checkpoint: Checkpoint, otherwise: float) -> float:
    """The CFG scale that the checkpoint's header recommends."""
    try:
        scale = float(checkpoint.json("guidance")["scale"])
    except (CheckpointDamaged, KeyError, TypeError, ValueError):
        return otherwise
    return scale if 0 <= scale <= 15 else otherwise


def _shortcut_text(keys: str) -> str:
    """The platform's notation for a shortcut: Ctrl+Enter, or ⌘↩ on a Mac."""
    text = QKeySequence(keys).toString(QKeySequence.SequenceFormat.NativeText)
    return text.replace("Return", "Enter")
