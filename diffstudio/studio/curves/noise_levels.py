"""The training noise level distributions of `diffusion.losses` as densities for plots. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from diffstudio.diffusion.curve_points import NoiseCurve
from diffstudio.errors import BadRequest
from diffstudio.studio.curves.curve import Array, curve_log_snr, curve_time
from diffstudio.studio.curves.schedules import ScheduleArrays

UNIFORM, LOG_NORMAL, LOGIT_NORMAL, COSINE, CURVE = "uniform", "log_normal", "logit_normal", "cosine", "curve"


@dataclass(frozen=True, slots=True)
class TrainingLevels:
    """A distribution named as in recipes; `mean` and `deviation` apply to the two normal ones."""

    kind: str = UNIFORM
    mean: float = 0.0
    deviation: float = 1.0
    curve: NoiseCurve | None = None  # of CURVE

    @classmethod
    def from_recipe(cls, recipe: object) -> TrainingLevels | None:
        """The distribution of the untrusted recipe in a checkpoint's header; None if it cannot be read."""
        objective = recipe.get("objective") if isinstance(recipe, Mapping) else None
        match objective:
            case {"noise_levels": "curve", "noise_curve": [*numbers]}:
                try:
                    return cls(CURVE, curve=NoiseCurve.from_pairs(numbers))
                except (BadRequest, TypeError, ValueError, OverflowError):
                    return None
            case {
                "noise_levels": str(kind),
                "mean": int() | float() as mean,
                "deviation": int() | float() as deviation,
            } if kind in (UNIFORM, LOG_NORMAL, LOGIT_NORMAL, COSINE) and deviation > 0:
                try:
                    return cls(kind, float(mean), float(deviation))
                except OverflowError:
                    return None
        return None

    def less_noise(self, schedule: ScheduleArrays, log_snr: Array) -> Array:
        """The probability of less noise than at each log-SNR; it rises from 0 to 1 as log-SNR falls."""
        match self.kind:
            case "log_normal":
                return _normal_cdf((-log_snr / 2 - self.mean) / self.deviation)
            case "logit_normal":
                t = schedule.t_from_log_snr(log_snr) / schedule.t_max
                with np.errstate(divide="ignore"):
                    return _normal_cdf((np.log(t) - np.log1p(-t) - self.mean) / self.deviation)
            case "cosine":
                with np.errstate(over="ignore"):
                    return np.arctan(np.exp(-log_snr / 2)) * 2 / math.pi
            case "curve" if self.curve is not None:
                return curve_time(self.curve, log_snr)
        return schedule.t_from_log_snr(log_snr) / schedule.t_max


def density_over_time(levels: TrainingLevels, schedule: ScheduleArrays, curve: NoiseCurve, edges: Array) -> Array:
    """The training density over a curve's time u: mean densities [N] between `edges` [N + 1].

    It is 1 everywhere for the distribution of the curve itself, and integrates to less than 1 if the distribution extends
    beyond the curve.
    """
    return np.diff(levels.less_noise(schedule, curve_log_snr(curve, edges))) / np.diff(edges)


def _normal_cdf(z: Array) -> Array:
    return np.array([0.5 * math.erfc(-one / math.sqrt(2)) for one in z.tolist()])


def described(levels: TrainingLevels) -> str:
    """A description such as `logit-normal, mean 0.6, deviation 0.9`."""
    name = levels.kind.replace("_", "-")
    if levels.kind in (LOG_NORMAL, LOGIT_NORMAL):
        return f"{name}, mean {levels.mean:g}, deviation {levels.deviation:g}"
    return "a drawn curve" if levels.kind == CURVE else name
