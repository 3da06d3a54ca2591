"""What a diffusers scheduler's configuration says of a network: how it was trained, and at which times it wants to be
asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from diffstudio.diffusion.denoiser import CleanPrediction, Denoiser, EpsPrediction, Network, VPrediction
from diffstudio.diffusion.schedule import BetaCurve, Schedule, VariancePreserving
from diffstudio.diffusion.spacing import (
    ALIGNED_SDXL,
    Spacing,
    align_your_steps,
    leading,
    sampling_times,
    too_many_steps,
)
from diffstudio.errors import CheckpointMissing, CheckpointUnknown
from diffstudio.models.components.components import Components
from diffstudio.models.detection.prediction_type import DIFFUSERS_PREDICTIONS

_CURVES = {
    "linear": BetaCurve.LINEAR,
    "scaled_linear": BetaCurve.SCALED_LINEAR,
    "squaredcos_cap_v2": BetaCurve.COSINE,
    "sigmoid": BetaCurve.SIGMOID,
}
_WRAPPERS: Mapping[str, Callable[[Network, Schedule], Denoiser]] = {
    "eps": EpsPrediction,
    "v": VPrediction,
    "x0": CleanPrediction,
}
_MOST_TRAINED = 100_000  # steps of a schedule that is believed; published ones have 1,000


@dataclass(frozen=True, slots=True)
class Scheduling:
    """A variance-preserving network's schedule, what it predicts, and how its configuration changes the spacings."""

    schedule: VariancePreserving
    prediction: str  # "eps", "v" or "x0"
    offset: int = 0  # training steps, of the spacing `leading`
    distilled_steps: int = 0  # how many times a consistency model was distilled at; 0 for every other
    aligned_xl: bool = False  # whose `align_your_steps` times

    def wrap(self, network: Network) -> Denoiser:
        return _WRAPPERS[self.prediction](network, self.schedule)

    def times(self, steps: int, spacing: str, strength: float) -> Tensor:
        """The falling times [steps + 1], as `sampling_times`, with the spacings that this network defines itself."""
        lay: str | Spacing = spacing
        if spacing == "leading":
            lay = partial(leading, offset=self.offset)
        elif spacing == "trailing" and self.distilled_steps:
            lay = partial(_distilled, count=self.distilled_steps)
        elif spacing == "align_your_steps" and self.aligned_xl:
            lay = partial(align_your_steps, table=ALIGNED_SDXL)
        return sampling_times(self.schedule, steps, lay, strength=strength)


def scheduling_of(
    parts: Components, name: str, prediction: str = "", *, distilled: bool = False, aligned_xl: bool = False
) -> Scheduling:
    """From the checkpoint's `scheduler`; Stable Diffusion's own where it has none. `prediction`, if any, overrules it.

    `name` is the checkpoint's. CheckpointUnknown for a schedule that cannot be walked here.
    """
    try:
        config = parts.config("scheduler")
    except CheckpointMissing:
        config = {}
    kind = str(config.get("_class_name", ""))
    if kind.startswith(("EDM", "FlowMatch")) or config.get("trained_betas") is not None:
        raise _unknown(name, f"its scheduler is {kind}" if kind else "its betas are its own")
    if distilled or kind == "LCMScheduler":
        distilled_steps = int(config.get("original_inference_steps") or 50)
    else:
        distilled_steps = 0
    return Scheduling(
        _schedule(config, name),
        prediction or _prediction(config, name),
        int(config.get("steps_offset") or 0),
        distilled_steps,
        aligned_xl,
    )


def _schedule(config: Mapping[str, Any], name: str) -> VariancePreserving:
    curve = _CURVES.get(config.get("beta_schedule", "scaled_linear"))
    if curve is None:
        raise _unknown(name, f"its beta_schedule is {config['beta_schedule']!r}")
    try:
        trained = int(config.get("num_train_timesteps", 1000))
        if not 1 < trained <= _MOST_TRAINED:
            raise _unknown(name, f"it has {trained:,} steps")
        return VariancePreserving(
            curve,
            trained,
            float(config.get("beta_start", 0.00085)),
            float(config.get("beta_end", 0.012)),
            bool(config.get("rescale_betas_zero_snr", False)),
        )
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise _unknown(name, str(error)[:200]) from error


def _prediction(config: Mapping[str, Any], name: str) -> str:
    told = config.get("prediction_type", "epsilon")
    if told not in DIFFUSERS_PREDICTIONS:
        raise _unknown(name, f"its network predicts {told!r}")
    return DIFFUSERS_PREDICTIONS[told]


def _unknown(name: str, why: str) -> CheckpointUnknown:
    return CheckpointUnknown(
        f"{name} was trained on a noise schedule that cannot be used here", why, "Choose another checkpoint"
    )


def _distilled(schedule: Schedule, steps: int, count: int) -> Tensor:
    """Spread over the `count` times of the distillation, from the last one down: as diffusers' LCMScheduler.

    BadRequest for more steps than there are times.
    """
    if steps > count:
        raise too_many_steps(steps, f"it was distilled at {count} timesteps", "Use fewer steps; 4 to 8 are enough")
    apart = int(schedule.t_max) // count
    return (count - (torch.arange(steps, dtype=torch.float64) * count / steps).floor()) * apart
