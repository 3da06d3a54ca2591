"""The guidance section: guidance interval, autoguidance and CADS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QGridLayout, QHBoxLayout, QVBoxLayout, QWidget

from diffstudio.models.checkpoint import Checkpoint
from diffstudio.studio.guidance_support import (
    GuidanceSupport,
    earlier_checkpoints,
    fitting,
    guidance_support,
    suggested,
)
from diffstudio.studio.requests import GenerateRequest
from diffstudio.studio.requests.limits import MOST_AUTOGUIDANCE, MOST_CADS
from diffstudio.ui.widgets import terms
from diffstudio.ui.widgets.controls import SecondaryButton, SectionLabel
from diffstudio.ui.widgets.helpers import set_tooltip
from diffstudio.ui.widgets.inputs.check_box import CheckBox
from diffstudio.ui.widgets.inputs.combo_box import LabelledComboBox
from diffstudio.ui.widgets.inputs.sliders import LabelledSlider

INTERVAL = (0.1, 0.8)  # initial values
_GAP = 0.01  # smallest distance between the two ends of a range
_NONE = ("", "None")
_INTERVAL_TIP = (
    "Apply CFG only at middle noise levels, between these two: 1 is the start of denoising, 0 the finished image. No "
    "guidance at the start keeps images varied; none at the end avoids grain"
)
_AUTOGUIDANCE_TIP = (
    "Guide away from a weaker model: an earlier checkpoint of the same run, or another checkpoint of the same family. "
    "Gives sharper images without the loss of variety of a high CFG scale; set the CFG scale to 1 to use it alone. "
    "Each step takes one more network call, or two with CFG"
)
_CADS_TIP = (
    "CADS: adds noise to the prompt embeddings at high noise levels, so that images of one prompt differ more. Higher "
    "values give more variety, but follow the prompt less. Usual values are 0.05 to 0.25"
)


class GuidanceSection(QWidget):
    """Guidance interval, autoguidance and CADS; hidden for checkpoints that support none of them.

    `failed` carries a warning.
    """

    changed = Signal()
    opened = Signal()  # scroll the settings into view
    failed = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        usual = GenerateRequest()
        self._checkpoint: Checkpoint | None = None
        self._models: Sequence[Checkpoint] = ()
        self._support = GuidanceSupport()
        self._enabled = False
        self._elsewhere: Path | None = None  # a checkpoint of a request that is outside the model folders
        self.open_button = SecondaryButton(
            terms.GUIDANCE,
            "sliders-horizontal",
            "Guidance interval, autoguidance and CADS: more varied or sharper images",
        )
        turn_off = "Turn off the guidance settings"
        self.heading = SectionLabel(terms.GUIDANCE)
        self.remove_button = SecondaryButton("", "x", turn_off, name=turn_off, role="dim")
        self.interval = CheckBox(terms.GUIDANCE_INTERVAL, _INTERVAL_TIP)
        self.interval_low = _fraction("From", INTERVAL[0], "CFG is off below this noise level: 0 is the finished image")
        self.interval_high = _fraction("To", INTERVAL[1], "CFG is off above this noise level: 1 is the start")
        self.autoguidance = LabelledComboBox(terms.AUTOGUIDANCE, [_NONE], _AUTOGUIDANCE_TIP)
        self.autoguidance_scale = LabelledSlider(
            "Autoguidance scale",
            1,
            MOST_AUTOGUIDANCE,
            usual.autoguidance_scale,
            step=0.1,
            decimals=1,
            tooltip="How far to move away from the weaker model. 1 turns it off; usual values are 1.5 to 2.5",
        )
        self.cads = LabelledSlider(
            terms.CADS, 0, MOST_CADS, usual.cads, step=0.01, decimals=2, zero="off", tooltip=_CADS_TIP
        )
        self.tau1 = _fraction("CADS tau 1", usual.cads_tau1, "Below this noise level the prompt is unchanged")
        self.tau2 = _fraction("CADS tau 2", usual.cads_tau2, "Above this noise level the prompt is replaced by noise")
        self.mixing = _fraction(
            "CADS mixing",
            usual.cads_mixing,
            "How far the mean and standard deviation of the noisy embeddings are restored: 1 keeps images stable",
        )
        self._lay_out()
        self.open_button.clicked.connect(lambda: self._open(True))
        self.remove_button.clicked.connect(lambda: self._open(False))
        self.interval.toggled.connect(self._changed)
        for low, high in ((self.interval_low, self.interval_high), (self.tau1, self.tau2)):
            low.value_changed.connect(lambda _, low=low, high=high: _keep_order(low, high, low))
            high.value_changed.connect(lambda _, low=low, high=high: _keep_order(low, high, high))
        for slider in self._sliders():
            slider.value_changed.connect(self._changed)
        self.autoguidance.value_changed.connect(self._changed)
        self._update_state()

    def _sliders(self) -> tuple[LabelledSlider, ...]:
        ends = (self.interval_low, self.interval_high, self.tau1, self.tau2)
        return (*ends, self.autoguidance_scale, self.cads, self.mixing)

    # Inputs

    def set_models(self, models: Sequence[Checkpoint]) -> None:
        """Set the models; those that fit the checkpoint are offered as weaker models."""
        self._models = models
        self._update_weak_models()

    def set_checkpoint(self, checkpoint: Checkpoint | None) -> None:
        self._checkpoint = checkpoint
        self._support = guidance_support(checkpoint) if checkpoint is not None else GuidanceSupport()
        self._update_weak_models()
        self._update_state()

    # Request

    def apply_to(self, request: GenerateRequest) -> GenerateRequest:
        """The request with these settings, as far as the checkpoint supports them."""
        if not self._enabled or not self.is_available():
            return request
        support, typed = self._support, self.with_values(request)
        return replace(
            typed,
            guidance_interval=None if support.interval else typed.guidance_interval,
            autoguidance="" if support.autoguidance else typed.autoguidance,
            cads=0.0 if support.cads else typed.cads,
        )

    def without_hidden(self, request: GenerateRequest) -> GenerateRequest:
        """The request without guidance settings if they are not available."""
        if self.is_available():
            return request
        usual = GenerateRequest()
        return replace(
            request,
            guidance_interval=None,
            autoguidance="",
            autoguidance_scale=usual.autoguidance_scale,
            cads=usual.cads,
            cads_tau1=usual.cads_tau1,
            cads_tau2=usual.cads_tau2,
            cads_mixing=usual.cads_mixing,
        )

    def with_values(self, request: GenerateRequest) -> GenerateRequest:
        """The request with these settings if they are on, including those that the checkpoint does not support."""
        if not self._enabled:
            return request
        low, high = float(self.interval_low.value()), float(self.interval_high.value())
        return replace(
            request,
            guidance_interval=(low, high) if self.interval.isChecked() else None,
            autoguidance=self.autoguidance.value() or "",
            autoguidance_scale=float(self.autoguidance_scale.value()),
            cads=float(self.cads.value()),
            cads_tau1=float(self.tau1.value()),
            cads_tau2=float(self.tau2.value()),
            cads_mixing=float(self.mixing.value()),
        )

    def load_from(self, request: GenerateRequest) -> None:
        """Load the settings of a request; `failed` names a weaker checkpoint that is missing."""
        usual = GenerateRequest()
        self._enabled = _guidance_of(request) != _guidance_of(usual)
        self.interval.blockSignals(True)
        self.interval.setChecked(request.guidance_interval is not None)
        self.interval.blockSignals(False)
        low, high = request.guidance_interval or INTERVAL
        for slider, value in (
            (self.interval_low, low),
            (self.interval_high, high),
            (self.autoguidance_scale, request.autoguidance_scale),
            (self.cads, request.cads),
            (self.tau1, request.cads_tau1),
            (self.tau2, request.cads_tau2),
            (self.mixing, request.cads_mixing),
        ):
            slider.set_value(value)
        for low_end, high_end in ((self.interval_low, self.interval_high), (self.tau1, self.tau2)):
            _keep_order(low_end, high_end, low_end)  # the two ends are closer than the sliders' step
        if self._support.autoguidance and (weak := request.autoguidance):
            self.autoguidance.set_choices([_NONE, (weak, Path(weak).stem)])  # for the next checkpoint
        if not self.autoguidance.set_value(self._name_of(request.autoguidance)):
            self.autoguidance.set_value("")
            self.failed.emit(f"The checkpoint “{request.autoguidance}” for autoguidance is missing; it is off.")
        self._update_state()

    def reset(self) -> None:
        """Turn all guidance settings off."""
        self.load_from(GenerateRequest())

    def weak_model(self) -> Checkpoint | None:
        """The record of the chosen weaker model, for memory estimates; the checkpoint for one of its run. None if off."""
        chosen = self.apply_to(GenerateRequest()).autoguidance
        if not chosen or self._checkpoint is None:
            return None
        return next((model for model in self._models if chosen == model.name), self._checkpoint)

    def is_enabled(self) -> bool:
        """Whether the section is on, even if it is not available."""
        return self._enabled

    def is_available(self) -> bool:
        """Whether the checkpoint supports any of these settings."""
        support = self._support
        return self._checkpoint is not None and not (support.interval and support.autoguidance and support.cads)

    # Internal

    def _name_of(self, name: str) -> str:
        """The choice for a checkpoint named in a request, by name (in any case) or path; other files are added."""
        path = Path(name)
        for model in self._models:
            if name and (model.path == path or model.name.casefold() == name.casefold()):
                return model.name
        if path.is_absolute() and path.exists() and not self.autoguidance.set_value(name):
            self._elsewhere = path
            self._update_weak_models()
        return name

    def _update_weak_models(self) -> None:
        choices = [_NONE]
        checkpoint = self._checkpoint
        if checkpoint is not None and self._support.autoguidance:
            return  # keep the choice for the next checkpoint
        if checkpoint is not None:
            earlier = earlier_checkpoints(checkpoint)
            best = suggested(earlier, checkpoint)
            for one in sorted(earlier, key=lambda one: one is not best):  # the suggested one first
                note = " (suggested)" if one is best else ""
                choices.append((str(one.path), f"Step {one.step:,} of this run{note}"))
            choices += [(model.name, model.title) for model in fitting(checkpoint, self._models)]
            if self._elsewhere is not None and str(self._elsewhere) not in dict(choices):
                choices.append((str(self._elsewhere), self._elsewhere.name))
        self.autoguidance.set_choices(choices)

    def _open(self, enabled: bool) -> None:
        self._enabled = enabled
        self._update_state()
        (self.interval if enabled else self.open_button).setFocus()
        if enabled:
            self.opened.emit()
        self.changed.emit()

    def _changed(self, _: object = None) -> None:
        self._update_state()
        self.changed.emit()

    def _update_state(self) -> None:
        self.setVisible(self.is_available())
        self.open_button.setVisible(not self._enabled)
        self._settings.setVisible(self._enabled)
        for control, tip, why in (
            (self.interval, _INTERVAL_TIP, self._support.interval),
            (self.autoguidance, _AUTOGUIDANCE_TIP, self._support.autoguidance),
            (self.cads, _CADS_TIP, self._support.cads),
        ):
            control.setEnabled(not why)
            set_tooltip(control, f"{tip}. Not available for this checkpoint: {why}" if why else tip)
        self._interval_ends.setVisible(self.interval.isChecked() and not self._support.interval)
        self.autoguidance_scale.setVisible(bool(self.autoguidance.value()) and not self._support.autoguidance)
        self._cads_details.setVisible(self.cads.value() > 0 and not self._support.cads)

    def _lay_out(self) -> None:
        top = QHBoxLayout()
        top.setSpacing(8)
        top.addWidget(self.heading, 1)
        top.addWidget(self.remove_button)
        self._interval_ends = _side_by_side(self.interval_low, self.interval_high)
        self._cads_details = QWidget()
        details = QGridLayout(self._cads_details)
        details.setContentsMargins(0, 0, 0, 0)
        details.setHorizontalSpacing(14)
        details.setVerticalSpacing(8)
        details.addWidget(self.tau1, 0, 0)
        details.addWidget(self.tau2, 0, 1)
        details.addWidget(self.mixing, 1, 0, 1, 2)
        self._settings = QWidget()
        inner = QVBoxLayout(self._settings)
        inner.setContentsMargins(0, 4, 0, 0)
        inner.setSpacing(8)
        inner.addLayout(top)
        for part in (
            self.interval,
            self._interval_ends,
            self.autoguidance,
            self.autoguidance_scale,
            self.cads,
            self._cads_details,
        ):
            inner.addWidget(part)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.open_button)
        column.addWidget(self._settings)


def _guidance_of(request: GenerateRequest) -> tuple[object, ...]:
    cads = (request.cads, request.cads_tau1, request.cads_tau2, request.cads_mixing)
    return (request.guidance_interval, request.autoguidance, request.autoguidance_scale, *cads)


def _fraction(text: str, value: float, tooltip: str) -> LabelledSlider:
    return LabelledSlider(text, 0, 1, value, step=0.01, decimals=2, tooltip=tooltip)


def _side_by_side(*sliders: LabelledSlider) -> QWidget:
    pair = QWidget()
    row = QHBoxLayout(pair)
    row.setContentsMargins(0, 0, 0, 0)
    row.setSpacing(14)
    for slider in sliders:
        row.addWidget(slider, 1)
    return pair


def _keep_order(low: LabelledSlider, high: LabelledSlider, moved: LabelledSlider) -> None:
    """Keep the low end below the high end by moving the other slider."""
    if low.value() < high.value():
        return
    if moved is low:
        low.set_value(min(low.value(), 1 - _GAP))
        high.set_value(low.value() + _GAP)
    else:
        high.set_value(max(high.value(), _GAP))
        low.set_value(high.value() - _GAP)
