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
from diffstudio.studio.requests import MOST_AUTOGUIDANCE, MOST_CADS, GenerateRequest
from diffstudio.ui.widgets import terms
from diffstudio.ui.widgets.controls import SecondaryButton, SectionLabel
from diffstudio.ui.widgets.helpers import set_tooltip
from diffstudio.ui.widgets.inputs import CheckBox, LabelledComboBox, LabelledSlider

INTERVAL = (0.1, 0.8)  # offered first
_GAP = 0.01  # between the two ends of a range
_NONE = ("", "None")
_INTERVAL_TIP = (
    "Apply CFG only in the middle of the denoising, between these fractions of the noise: 1 is the start, 0 the finished "
    "image. Little guidance at the start keeps images varied, and none at the end avoids grain"
)
_AUTOGUIDANCE_TIP = (
    "Guide away from a weaker model: an earlier checkpoint of the same run, or another checkpoint of the same family. "
    "Sharper images without the loss of variety that a high CFG scale brings; set the CFG scale to 1 to use it alone. "
    "Each step takes one more call of the network, or two with CFG"
)
_CADS_TIP = (
    "CADS: noise on the prompt while the image is mostly noise, so that images of one prompt differ more. More is more "
    "varied, and follows the prompt less. 0.05 to 0.25 is usual"
)


class GuidanceSection(QWidget):
    """`failed` carries a warning. Hidden for checkpoints that support nothing of it."""

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
        self._elsewhere: Path | None = None  # a checkpoint outside the model folders that a request named
        self.open_button = SecondaryButton(
            terms.GUIDANCE,
            "sliders-horizontal",
            "Guidance interval, autoguidance and CADS: more varied or sharper images",
        )
        turn_off = "Turn off the guidance settings"
        self.heading = SectionLabel(terms.GUIDANCE)
        self.remove_button = SecondaryButton("", "x", turn_off, name=turn_off, role="dim")
        self.interval = CheckBox(terms.GUIDANCE_INTERVAL, _INTERVAL_TIP)
        self.interval_low = _fraction(
            "From", INTERVAL[0], "The noise below which CFG does not act: 0 is the finished image"
        )
        self.interval_high = _fraction("To", INTERVAL[1], "The noise above which CFG does not act: 1 is the start")
        self.autoguidance = LabelledComboBox(terms.AUTOGUIDANCE, [_NONE], _AUTOGUIDANCE_TIP)
        self.autoguidance_scale = LabelledSlider(
            "Autoguidance scale",
            1,
            MOST_AUTOGUIDANCE,
            usual.autoguidance_scale,
            step=0.1,
            decimals=1,
            tooltip="How far to move away from the weaker model. 1 is not at all; 1.5 to 2.5 is usual",
        )
        self.cads = LabelledSlider(
            terms.CADS, 0, MOST_CADS, usual.cads, step=0.01, decimals=2, zero="off", tooltip=_CADS_TIP
        )
        self.tau1 = _fraction("CADS tau 1", usual.cads_tau1, "The noise up to which the prompt is whole")
        self.tau2 = _fraction("CADS tau 2", usual.cads_tau2, "The noise from which the prompt is replaced by noise")
        self.mixing = _fraction(
            "CADS mixing",
            usual.cads_mixing,
            "How far the noisy prompt is given back its mean and standard deviation: 1 keeps images stable",
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
        """Offer those that fit the checkpoint as weaker models."""
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
        """The request without all of it where it is not available."""
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
        """The request with these settings while they are on, also with those that the checkpoint does not support."""
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
            _keep_order(low_end, high_end, low_end)  # two ends closer than the sliders' step
        if self._support.autoguidance and (weak := request.autoguidance):
            self.autoguidance.set_choices([_NONE, (weak, Path(weak).stem)])  # for the next checkpoint
        if not self.autoguidance.set_value(self._name_of(request.autoguidance)):
            self.autoguidance.set_value("")
            self.failed.emit(f"The checkpoint “{request.autoguidance}” for autoguidance is missing; it is off.")
        self._update_state()

    def reset(self) -> None:
        """All of it off."""
        self.load_from(GenerateRequest())

    def weak_model(self) -> Checkpoint | None:
        """The weaker model of the request, for its size: one of the same run has that of the checkpoint. None for none."""
        chosen = self.apply_to(GenerateRequest()).autoguidance
        if not chosen or self._checkpoint is None:
            return None
        return next((model for model in self._models if chosen == model.name), self._checkpoint)

    def is_enabled(self) -> bool:
        """Whether it is open, also where it is not available."""
        return self._enabled

    def is_available(self) -> bool:
        """Whether the checkpoint supports any of it."""
        support = self._support
        return self._checkpoint is not None and not (support.interval and support.autoguidance and support.cads)

    # Internal

    def _name_of(self, name: str) -> str:
        """The choice for a checkpoint that a request names in any case, or by its path; a file elsewhere is offered too."""
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
            return  # the chosen one is kept for the next checkpoint
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
            set_tooltip(control, f"{tip}. Not with this checkpoint: {why}" if why else tip)
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
    """Keep the first end below the second, moving the one that was not moved."""
    if low.value() < high.value():
        return
    if moved is low:
        low.set_value(min(low.value(), 1 - _GAP))
        high.set_value(low.value() + _GAP)
    else:
        high.set_value(max(high.value(), _GAP))
        low.set_value(high.value() - _GAP)
