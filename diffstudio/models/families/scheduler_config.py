"""Read a diffusers scheduler config: the noise schedule and prediction type of a network, and its own timesteps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from diffstudio.diffusion.denoiser import CleanPrediction, Denoiser, EpsPrediction, Network, VPrediction
from diffstudio.diffusion.schedule import BetaCurve, Schedule, VariancePreserving
from diffstudio.diffusion.spacing import Spacing, align_your_steps, leading, sampling_times
from diffstudio.diffusion.spacing_problems import too_many_steps
from diffstudio.diffusion.tables import ALIGNED_SDXL
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
Betas = tuple[str, float, float]  # beta_schedule, beta_start, beta_end
_STABLE_DIFFUSION: Betas = ("scaled_linear", 0.00085, 0.012)
DDPM_BETAS: Betas = ("linear", 0.0001, 0.02)  # the defaults of diffusers' schedulers
_MOST_TRAINED = 100_000  # steps accepted in a config; published schedules have 1,000


@dataclass(frozen=True, slots=True)
class Scheduling:
    """Noise schedule, prediction type and special spacings of a variance-preserving network."""

    schedule: VariancePreserving
    prediction: str  # "eps", "v" or "x0"
    offset: int = 0  # in training steps, of the spacing `leading`
    distilled_steps: int = 0  # timesteps that a consistency model was distilled at; 0 for other models
    aligned_xl: bool = False  # `align_your_steps` uses the table for SDXL

    def wrap(self, network: Network) -> Denoiser:
        return _WRAPPERS[self.prediction](network, self.schedule)

    def times(self, steps: int, spacing: str, strength: float) -> Tensor:
        """Decreasing timesteps [steps + 1] as in `sampling_times`, with the spacings that this network defines."""
        space: str | Spacing = spacing
        if spacing == "leading":
            space = partial(leading, offset=self.offset)
        elif spacing == "trailing" and self.distilled_steps:
            space = partial(_distilled, count=self.distilled_steps)
        elif spacing == "align_your_steps" and self.aligned_xl:
            space = partial(align_your_steps, table=ALIGNED_SDXL)
        return sampling_times(self.schedule, steps, space, strength=strength)


def scheduling_of(
    components: Components,
    name: str,
    prediction: str = "",
    *,
    distilled: bool = False,
    aligned_xl: bool = False,
    betas: Betas = _STABLE_DIFFUSION,
) -> Scheduling:
    """Read the checkpoint's `scheduler` config; without one, Stable Diffusion's defaults. `prediction` overrides it.

    `name` is the checkpoint's; `betas` are those of a config that has none. CheckpointUnknown for an unsupported noise schedule.
    """
    try:
        config = components.config("scheduler")
    except CheckpointMissing:
        config = {}
    kind = str(config.get("_class_name", ""))
    if kind.startswith(("EDM", "FlowMatch")):
        raise unsupported_schedule(name, f"its scheduler is {kind}")
    if config.get("trained_betas") is not None:
        raise unsupported_schedule(name, "it has custom betas")
    distilled = distilled or kind == "LCMScheduler"
    return Scheduling(
        _schedule(config, name, betas),
        prediction or _prediction(config, name),
        _whole_number(config, "steps_offset", 0, name),
        _whole_number(config, "original_inference_steps", 50, name) if distilled else 0,
        aligned_xl,
    )


def _schedule(config: Mapping[str, Any], name: str, usual: Betas) -> VariancePreserving:
    curve = _CURVES.get(str(config.get("beta_schedule", usual[0])))
    if curve is None:
        raise unsupported_schedule(name, f"its beta_schedule is {config['beta_schedule']!r}")
    try:
        trained = int(config.get("num_train_timesteps", 1000))
        if not 1 < trained <= _MOST_TRAINED:
            raise unsupported_schedule(name, f"it has {trained:,} steps")
        return VariancePreserving(
            curve,
            trained,
            float(config.get("beta_start", usual[1])),
            float(config.get("beta_end", usual[2])),
            bool(config.get("rescale_betas_zero_snr", False)),
        )
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise unsupported_schedule(name, str(error)[:200]) from error


def _whole_number(config: Mapping[str, Any], key: str, default: int, name: str) -> int:
    """A value of 0 or more; `default` where it is missing, null or 0."""
    value = config.get(key) or default
    if type(value) is not int or value < 0:
        raise unsupported_schedule(name, f"its {key} is {value!r}")
    return value


def _prediction(config: Mapping[str, Any], name: str) -> str:
    prediction = config.get("prediction_type", "epsilon")
    if not isinstance(prediction, str) or prediction not in DIFFUSERS_PREDICTIONS:
        raise unsupported_schedule(name, f"its prediction_type is {prediction!r}")
    return DIFFUSERS_PREDICTIONS[prediction]


def unsupported_schedule(name: str, why: str) -> CheckpointUnknown:
    return CheckpointUnknown(
        f"{name} was trained on a noise schedule that is not supported", why, "Choose another checkpoint"
    )


def _distilled(schedule: Schedule, steps: int, count: int) -> Tensor:
    """Evenly spaced among the `count` timesteps of the distillation, from the last one down, as in LCMScheduler.

    BadRequest for more steps than there are timesteps.
    """
    if steps > count:
        raise too_many_steps(steps, f"it was distilled at {count} timesteps", "Use fewer steps; 4 to 8 are enough")
    stride = int(schedule.t_max) // count
    return (count - (torch.arange(steps, dtype=torch.float64) * count / steps).floor()) * stride
