"""The left column: every setting of a GenerateRequest."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtWidgets import QWidget

from diffstudio.errors import BadRequest
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.conditioning.token_count import supports_prompt_weights
from diffstudio.models.detection.families_table import family_of
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.jobs.memory_forecast import MemoryForecast, MemoryQuery
from diffstudio.studio.prompts.prompt_hints import prompt_hint
from diffstudio.studio.prompts.token_count import PromptTokenCount
from diffstudio.studio.prompts.wildcards import escaped
from diffstudio.studio.requests import GenerateRequest
from diffstudio.studio.requests.limits import LONGEST_PROMPT
from diffstudio.ui.generate import labels
from diffstudio.ui.generate.panel_layout import PanelLayout
from diffstudio.ui.generate.sections.init_image_section import DROP_INIT
from diffstudio.ui.generate.sections.loaded_settings import Loaded
from diffstudio.ui.generate.sections.prompt import below
from diffstudio.ui.generate.sections.size import limits_of
from diffstudio.ui.widgets import actions, shortcuts, terms
from diffstudio.ui.widgets.helpers import describe, set_style_property, set_tooltip
from diffstudio.ui.widgets.images.drag_and_drop import takes_image
from diffstudio.ui.widgets.inputs.check_box import CheckBox
from diffstudio.ui.widgets.inputs.combo_box import LabelledComboBox
from diffstudio.ui.widgets.inputs.sliders import LabelledSlider

MEMORY_FORECAST_DELAY_MS = 150  # after the last change
PROMPT_HINT_DELAY_MS = 600  # after the last key: half a word is not an unknown one


class Panel(PanelLayout):
    """`generate_requested` carries the request when the button or Ctrl+Enter is pressed."""

    generate_requested = Signal(object)  # GenerateRequest
    edit_saved = Signal(object)  # GenerateRequest, while a waiting job is edited
    edit_cancelled = Signal()
    changed = Signal()  # a setting, by the user or the program
    checkpoints_listed = Signal()  # after a scan of the model folders
    token_count_requested = Signal(object, object)  # Checkpoint, prompt; answer with show_token_count
    models_room_requested = Signal()
    rescan_requested = Signal()  # of the model folders
    memory_forecast_requested = Signal(object)  # MemoryQuery; answer with show_memory_forecast
    message = Signal(str)  # a warning for the room
    background_work_requested = Signal(object, object)  # a function for another thread, and a callback for its result

    def __init__(self) -> None:
        super().__init__()
        self._hint_timer = QTimer(self, singleShot=True, interval=PROMPT_HINT_DELAY_MS)
        self._memory_timer = QTimer(self, singleShot=True, interval=MEMORY_FORECAST_DELAY_MS)
        self._opened: QWidget = self.hires_fix
        self._scroll_timer = QTimer(self, singleShot=True, interval=0)  # once what was opened has its place
        self._busy = self._editing = False
        self._scanned = self._submit_after_scan = False  # the latter: submit() was called before the first scan
        self._after_scan: list[Callable[[], object]] = []
        self.size_control.set_limits(None)
        self._connect()
        self.check()

    # Choices

    def when_scanned(self, do: Callable[[], object]) -> bool:
        """Do what needs the list of models: at once, or else (False) when the first scan has ended."""
        if self._scanned:
            do()
            return True
        self._after_scan.append(do)
        return False

    def set_checkpoints(self, checkpoints: Sequence[Checkpoint], problems: int = 0) -> None:
        """Offer the models that can generate images."""
        self.checkpoint.set_checkpoints([checkpoint for checkpoint in checkpoints if checkpoint.can_generate], problems)
        for section in (self.sampling, self.guidance, self.loras, self.controlnets, self.hires_fix):
            section.set_models(checkpoints)
        self.show_checkpoint(self.checkpoint.current())
        self._scanned = True
        self.checkpoints_listed.emit()
        waiting, self._after_scan = self._after_scan, []
        for do in waiting:
            do()
        if self._submit_after_scan:
            self._submit_after_scan = False
            self.submit()

    def choose(self, checkpoint: Checkpoint) -> None:
        """Choose a checkpoint as if from the list; nothing happens when it is not listed."""
        if self.checkpoint.choose(str(checkpoint.path)):
            self.show_checkpoint(self.checkpoint.current())

    def use_lora(self, model: Checkpoint) -> None:
        """Add a LoRA or an embedding to the prompt, as if it had been chosen from the list."""
        self.loras.add(model)

    def add_trigger_words(self, words: str) -> None:
        """Append trigger words to the prompt, unless it contains them between commas."""
        text = self.prompt.text().rstrip().rstrip(",")
        if words.casefold() not in (piece.strip().casefold() for piece in text.split(",")):
            self.prompt.change_to(f"{text}, {words}" if text else words)

    def use_example(self, text: str) -> None:
        """Replace the prompt by an example, as plain text."""
        self.prompt.set_text(escaped(text))
        self.prompt.setFocus()

    def set_history(self, prompts: Sequence[str]) -> None:
        self.prompt.set_history(prompts)

    def set_busy(self, busy: bool) -> None:
        """While a job runs, further requests are queued, and the button says so."""
        self._busy = busy
        self._show_button()

    def set_editing(self, title: str) -> None:
        """Show that the settings are those of a waiting job, until they are saved; an empty title ends it."""
        self._editing = bool(title)
        self.edit_label.setText(
            f"Editing the waiting job “{title[:59]}{'…' if len(title) > 59 else ''}”" if title else ""
        )
        for part in (self.edit_label, self.cancel_edit):
            part.setVisible(self._editing)
        self._show_button()

    def _show_button(self) -> None:
        text = actions.SAVE_TO_QUEUE if self._editing else "Add to queue" if self._busy else "Generate"
        self.button.setText(text)
        set_tooltip(self.button, f"{text} ({shortcuts.GENERATE.text()})")

    # The request

    def request(self) -> GenerateRequest:
        """The request as the panel describes it. BadRequest when it is impossible."""
        checkpoint = self.checkpoint.current()
        if checkpoint is None:
            raise BadRequest(labels.NO_CHECKPOINT, remedy="Train one, or add a model folder in Settings")
        count = int(self.count.value())
        if problem := self.seed.problem(count):
            raise BadRequest(problem.rstrip("."))
        width, height = self.size_control.requested_size()
        prompt, negative = self._prompts(checkpoint)
        request = GenerateRequest(
            prompt=prompt,
            negative=negative,
            checkpoint=checkpoint.name,
            seed=self.seed.value(),
            width=width,
            height=height,
            count=count,
        )
        for section in (self.sampling, self.guidance, self.init_image, self.controlnets, self.hires_fix):
            request = section.apply_to(request)
        return request

    def reset_to_recommended(self) -> None:
        """The sampling settings and the size that the checkpoint recommends, also in place of those set by hand."""
        self.sampling.reset()
        self.guidance.reset()
        self.size_control.reset()
        self.refresh()

    def refresh(self) -> None:
        """Settings were set by the program: update what depends on them."""
        self.controlnets.schedule_preview()
        self.hires_fix.update_size()
        self.check()

    def show_token_count(self, checkpoint: Checkpoint, text: str, counted: PromptTokenCount) -> None:
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
            width, height = self.size_to_make()
            request = replace(self.request(), width=width, height=height)
            controls, weak = self.controlnets.networks(), self.guidance.weak_model()
            self.memory_forecast_requested.emit(MemoryQuery(request, checkpoint, controls, weak))

    def show_memory_forecast(self, job: MemoryQuery, forecast: MemoryForecast | None) -> None:
        """Show a forecast; None where it is unknown."""
        text = (
            "" if forecast is None or job.checkpoint != self.checkpoint.current() else labels.memory_forecast(forecast)
        )
        self.memory_label.setText(text)
        self.memory_label.setVisible(bool(text))
        if forecast is not None:
            set_style_property(self.memory_label, "tone", "dim" if forecast.fits else "warn")
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
        self.show_loaded(Loaded())
        self._show_hint()  # of this prompt, however soon after the last key
        (self.edit_saved if self._editing else self.generate_requested).emit(request)

    def _prompts(self, checkpoint: Checkpoint) -> tuple[str, str]:
        match checkpoint.conditioning:
            case Conditioning.TEXT:
                negative = "" if _makes_one_call(checkpoint) else self.negative.text().strip()
                return self.prompt.text().strip(), negative
            case Conditioning.CLASS:
                return str(self.classes.value() or ""), ""
            case _:
                return "", ""

    # Updates

    def show_checkpoint(self, checkpoint: Checkpoint | None, *, load_recommended: bool = True) -> None:
        conditioning = checkpoint.conditioning if checkpoint else Conditioning.TEXT
        for part in (self.prompt_section, self.prompt):
            part.setVisible(conditioning is Conditioning.TEXT)
        self.negative.setVisible(conditioning is Conditioning.TEXT and not _makes_one_call(checkpoint))
        self.unprompted.setVisible(conditioning is Conditioning.NONE)
        self.classes.setVisible(conditioning is Conditioning.CLASS)
        if checkpoint is not None and conditioning is Conditioning.CLASS:
            self.classes.set_choices([(name, name) for name in checkpoint.classes])
        self.edition_question.set_checkpoint(checkpoint)
        self.size_control.set_limits(None if checkpoint is None else limits_of(checkpoint))
        self.init_image.set_checkpoint(checkpoint)
        self.show_fit()
        self.loras.set_checkpoint(checkpoint)
        self.controlnets.set_checkpoint(checkpoint)
        self.hires_fix.set_checkpoint(checkpoint)
        self.sampling.set_checkpoint(checkpoint, load_recommended=load_recommended)
        self.guidance.set_checkpoint(checkpoint)
        for edit in (self.prompt, self.negative):
            edit.set_weighting_enabled(checkpoint is not None and supports_prompt_weights(checkpoint))
            edit.recount_tokens()
        self._show_hint()
        self.check()

    def _init_image_changed(self) -> None:
        self.hires_fix.set_inpainting(self.init_image.has_mask())
        self.size_control.follow(self.init_image.used_size())
        self.show_fit()
        self.controlnets.schedule_preview()

    def show_fit(self) -> None:
        """Show how the init image is fitted to the size."""
        size = self.size_control.generated_size()  # None without a checkpoint: nothing is known to be cropped then
        if size is None and (init := self.init_image.used_size()) is not None:
            size = init.width, init.height
        self.init_image.show_fit(
            size or self.size_to_make(), self.size_control.pastes(), by_hand=self.size_control.is_by_hand()
        )

    def check(self) -> None:
        self._memory_timer.start()
        self.changed.emit()
        problem = self.seed.problem(int(self.count.value()))
        for name, edit in (("prompt", self.prompt), ("negative prompt", self.negative)):
            if (length := len(edit.text())) > LONGEST_PROMPT:
                problem = f"The {name} has {length:,} characters. The maximum is {LONGEST_PROMPT:,}."
        self.button.setEnabled(not problem and self.checkpoint.current() is not None)
        self._show_error(problem)

    def _show_hint(self) -> None:
        """Say below the prompt what the checkpoint cannot make of it."""
        checkpoint = self.checkpoint.current()
        hint = prompt_hint([self.prompt.text()], checkpoint) if checkpoint is not None else ""
        self.prompt_hint.setText(hint)
        self.prompt_hint.setVisible(bool(hint))

    def _scroll_to(self, opened: QWidget) -> None:
        self._opened = opened
        self._scroll_timer.start()

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

    def _connect(self) -> None:
        self.checkpoint.chosen.connect(self.show_checkpoint)
        self.checkpoint.models_room_requested.connect(self.models_room_requested)
        self.edition_question.answered.connect(self.rescan_requested)
        self.edition_question.failed.connect(self.message)
        for edit in (self.prompt, self.negative):
            edit.too_long.connect(self.check)
            edit.submitted.connect(self.submit)
            edit.token_count_requested.connect(self._request_token_count)
        self.seed.changed.connect(self.check)
        self.count.value_changed.connect(self.check)
        self.history.clicked.connect(self._open_history)
        self.button.clicked.connect(self.submit)
        takes_image(self, DROP_INIT, self.init_image.set_image, self.init_image.failed.emit, own_only=True)
        self.cancel_edit.clicked.connect(self.edit_cancelled)
        self.controlnets.models_room_requested.connect(self.models_room_requested)
        self.sampling.failed.connect(self.message)
        self.guidance.failed.connect(self.message)
        self.controlnets.background_work_requested.connect(self.background_work_requested)
        self.size_control.changed.connect(self.controlnets.schedule_preview)
        self.size_control.changed.connect(self.hires_fix.update_size)
        self.size_control.changed.connect(self.show_fit)
        self.init_image.changed.connect(self._init_image_changed)
        for changed in (
            self.size_control.changed,
            self.controlnets.changed,
            self.init_image.changed,
            self.hires_fix.changed,
            self.guidance.changed,
        ):
            changed.connect(self.check)
        for slider in self.findChildren(LabelledSlider):
            slider.value_changed.connect(self.changed)
        for combo in self.findChildren(LabelledComboBox):
            combo.value_changed.connect(self.changed)
        for box in self.findChildren(CheckBox):
            box.toggled.connect(self.changed)
        for edit in (self.prompt, self.negative):
            edit.textChanged.connect(self.changed)
        self.size_control.marked.connect(
            lambda why: self._size_heading.set_text(f"{terms.SIZE} •" if why else terms.SIZE)
        )
        self._memory_timer.timeout.connect(self.request_memory_forecast)
        self.prompt.textChanged.connect(self._hint_timer.start)
        self._hint_timer.timeout.connect(self._show_hint)
        self.hires_fix.opened.connect(lambda: self._scroll_to(self.hires_fix))
        self.guidance.opened.connect(lambda: self._scroll_to(self.guidance))
        self.init_image.opened.connect(lambda: self._scroll_to(self.init_image))
        self.controlnets.opened.connect(self._scroll_to)
        self._scroll_timer.timeout.connect(lambda: self._scroll.ensureWidgetVisible(self._opened, 0, 8))


def _makes_one_call(checkpoint: Checkpoint | None) -> bool:
    """Whether a checkpoint is a VAE or GAN, which has no negative prompt."""
    family = family_of(checkpoint.family) if checkpoint is not None else None
    return family is not None and family.one_call
