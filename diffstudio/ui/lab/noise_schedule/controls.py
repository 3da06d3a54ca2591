"""ScheduleControls: the model, the sampling and the comparison that a noise schedule is shown and tried with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QLineEdit, QVBoxLayout, QWidget

from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.families_table import is_trained_here
from diffstudio.models.fitted_steps.stored import fitted_steps
from diffstudio.models.recommended import recommended_for
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.curves.models import has_noise_schedule
from diffstudio.studio.metadata.sampler_names import SAMPLER_LABELS, SPACING_LABELS
from diffstudio.studio.prompts.prompt_hints import example_prompts
from diffstudio.studio.requests import SamplerName, SpacingName
from diffstudio.ui.widgets import terms
from diffstudio.ui.widgets.helpers import describe, label, takes_text_only
from diffstudio.ui.widgets.inputs.check_box import CheckBox
from diffstudio.ui.widgets.inputs.combo_box import LabelledComboBox
from diffstudio.ui.widgets.inputs.number_fields import IntegerField
from diffstudio.ui.widgets.inputs.sliders import LabelledSlider

MOST_STEPS = 50
_LARGEST_SEED = 2**31 - 1
_COMPUTED = [name for name in SpacingName if name not in (SpacingName.FITTED, SpacingName.CUSTOM)]
_SPACINGS = [(name.value, SPACING_LABELS[name]) for name in _COMPUTED]
FITTED = "Fitted"
_SHOWN = "The class of the images"


@dataclass(frozen=True, slots=True)
class Sampling:
    """How images are drawn with a schedule."""

    checkpoint: Checkpoint
    steps: int
    sampler: str
    guidance: float
    prompt: str
    seed: int
    compared: tuple[tuple[str, str | tuple[float, ...]], ...]  # name, and a spacing or fractions of t_max


class ScheduleControls(QWidget):
    """`model_chosen` comes before `changed` when another model is chosen."""

    model_chosen = Signal()
    changed = Signal()  # of Sampling
    drawing_changed = Signal(bool)  # whether images are drawn
    run_chosen = Signal(object)  # Path of a run, or None

    def __init__(self) -> None:
        super().__init__()
        self._checkpoints: dict[str, Checkpoint] = {}
        self._sampling: Sampling | None = None
        self._prompted: str | None = None  # the prompt that was proposed for the model
        self.model = LabelledComboBox(
            "Model", (), "The model whose noise levels are shown, and that generates the images"
        )
        self.steps = LabelledSlider(terms.STEPS, 1, MOST_STEPS, 10, tooltip="Steps of the sampler")
        self.sampler = LabelledComboBox(
            terms.SAMPLER, [(name.value, text) for name, text in SAMPLER_LABELS.items()], "The sampler for the images"
        )
        self.compared = LabelledComboBox(
            "Compare with", (), "Another scheduler to compare with: its steps and image are shown too"
        )
        self.kind = LabelledComboBox("Class", (), _SHOWN)
        self.prompt = QLineEdit()
        takes_text_only(self.prompt)
        self.prompt.setPlaceholderText(terms.PROMPT)
        describe(self.prompt, terms.PROMPT, _SHOWN)
        self.guidance = LabelledSlider(
            terms.CFG_SCALE, 0, 15, 3, step=0.1, decimals=1, tooltip="Guidance: how closely the prompt is followed"
        )
        self.seed = IntegerField()
        self.seed.setRange(0, _LARGEST_SEED)
        self.seed.setKeyboardTracking(False)
        describe(self.seed, terms.SEED, "The seed of the images")
        self.draw = CheckBox("Generate images", "Generate an image with this curve after each change")
        self.run = LabelledComboBox(
            "Loss by noise level of", (), "A training run whose held-out losses are shown below the curve"
        )
        self._lay_out()
        self._connect()

    def _lay_out(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(12)
        seed = QVBoxLayout()
        seed.setSpacing(4)
        seed_label = label(terms.SEED)
        seed_label.setBuddy(self.seed)
        seed.addWidget(seed_label)
        seed.addWidget(self.seed)
        for part in (self.model, self.steps, self.sampler, self.compared, self.draw, self.kind, self.prompt):
            column.addWidget(part)
        column.addLayout(seed)
        column.addWidget(self.guidance)
        column.addWidget(self.run)

    def _connect(self) -> None:
        self.model.value_changed.connect(lambda _: self._show_model())
        for control in (self.steps, self.sampler, self.compared, self.kind, self.guidance):
            control.value_changed.connect(lambda _: self._emit_changed())
        self.prompt.textChanged.connect(lambda _: self._emit_changed())
        self.seed.valueChanged.connect(lambda _: self._emit_changed())
        self.draw.toggled.connect(self.drawing_changed)
        self.run.value_changed.connect(self.run_chosen)

    def offer(self, checkpoints: Sequence[Checkpoint], chosen: str | None = None) -> bool:
        """Offer the models that are sampled step by step; whether there are any. `chosen` is the path of one of them."""
        self._checkpoints = {str(one.path): one for one in checkpoints if has_noise_schedule(one)}
        before = self.model.value()
        self.model.set_choices([(key, one.title or one.name) for key, one in self._checkpoints.items()])
        if chosen not in (None, before) and self.model.set_value(chosen):
            self._emit_changed()  # the same model, with another path
        elif before is None or self.model.value() != before:
            self._show_model()
        return bool(self._checkpoints)

    def offer_runs(self, runs: Sequence[Path]) -> None:
        before = self.run.value()
        self.run.set_choices([(None, "No run"), *((run, run.name) for run in runs)])
        self.run.set_value(before)

    def checkpoint(self) -> Checkpoint | None:
        return self._checkpoints.get(self.model.value())

    def sampling(self) -> Sampling | None:
        """None without a model."""
        return self._sampling

    def _read_sampling(self) -> Sampling | None:
        checkpoint = self.checkpoint()
        if checkpoint is None:
            return None
        sampler, steps = str(self.sampler.value()), int(self.steps.value())
        return Sampling(
            checkpoint,
            steps,
            sampler,
            float(self.guidance.value()),
            self._prompt(),
            self.seed.value(),
            tuple(self._comparisons(checkpoint, sampler, steps)),
        )

    def _comparisons(
        self, checkpoint: Checkpoint, sampler: str, steps: int
    ) -> list[tuple[str, str | tuple[float, ...]]]:
        """What is compared with, and the steps fitted to the checkpoint where there are some."""
        spacing = self.compared.value()
        found: list[tuple[str, str | tuple[float, ...]]] = []
        if spacing:
            found.append((self.compared.combo.currentText(), spacing))
        ladder = fitted_steps(checkpoint).of(sampler, steps)
        if ladder is not None:
            found.append((FITTED, ladder.times))
        return found

    def _prompt(self) -> str:
        checkpoint = self.checkpoint()
        match checkpoint.conditioning if checkpoint is not None else Conditioning.NONE:
            case Conditioning.CLASS:
                return self.kind.value() or ""
            case Conditioning.TEXT:
                return self.prompt.text()
        return ""

    def _show_model(self) -> None:
        """Show what the chosen model recommends."""
        checkpoint = self.checkpoint()
        if checkpoint is not None:
            self._show_recommended(checkpoint)
        kind = checkpoint.conditioning if checkpoint is not None else Conditioning.NONE
        classes = checkpoint.classes if checkpoint is not None and kind is Conditioning.CLASS else ()
        self.kind.set_choices([(name, name) for name in classes])
        self.kind.setVisible(bool(classes))
        self.prompt.setVisible(kind is Conditioning.TEXT)
        self.guidance.setVisible(kind is not Conditioning.NONE)
        self.model_chosen.emit()
        self._emit_changed()

    def _show_recommended(self, checkpoint: Checkpoint) -> None:
        usual = recommended_for(checkpoint)
        spacings = [one for one in _SPACINGS if one[0] != "align_your_steps" or (usual is not None and usual.aligned)]
        self.compared.set_choices([("", "Nothing"), *spacings])
        if usual is not None:
            self.steps.set_value(min(usual.steps, MOST_STEPS))
            self.sampler.set_value(SamplerName(usual.sampler).value)
            self.guidance.set_value(usual.guidance)
            if not self.compared.set_value(usual.spacing):
                self.compared.set_value("uniform")
        if self._prompted is None or self.prompt.text() == self._prompted:
            self._prompted = next(iter(example_prompts(checkpoint, 1)), "")
            self.prompt.blockSignals(True)
            self.prompt.setText(self._prompted)
            self.prompt.blockSignals(False)
        self.draw.setChecked(is_trained_here(checkpoint.family))  # others take long

    def _emit_changed(self) -> None:
        self._sampling = self._read_sampling()
        self.changed.emit()
