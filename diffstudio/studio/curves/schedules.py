"""The noise schedules of `diffusion.schedule` in NumPy: the same values without torch, for interactive plots.

`schedule_arrays` takes the output of their `to_json`, as in the header of a checkpoint. Every method takes and returns
float64 arrays of one shape. `diffusion.schedule` has the sources of the formulas; a test checks that both agree to 1e-6.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffstudio.diffusion.tables import SMALLEST_FLOW_TIME
from diffstudio.errors import BadRequest, UnexpectedValue, why_unreadable

Array = NDArray[np.float64]

MOST_STEPS = 100_000
_LARGEST = 1e6  # of a shift and its inverse: larger ones make the times NaN
RECTIFIED_FLOW: Mapping[str, Any] = {"kind": "rectified_flow", "shift": 1.0}
STABLE_DIFFUSION: dict[str, Any] = {
    "kind": "variance_preserving",
    "curve": "scaled_linear",
    "steps": 1000,
    "beta_first": 0.00085,
    "beta_last": 0.012,
    "zero_terminal_snr": False,
}
DDPM_LINEAR: Mapping[str, Any] = STABLE_DIFFUSION | {"curve": "linear", "beta_first": 0.0001, "beta_last": 0.02}


class ScheduleArrays(ABC):
    """x_t = alpha(t) * x_0 + sigma(t) * eps, from t = 0 (the clean image) to `t_max`."""

    @property
    @abstractmethod
    def t_max(self) -> float: ...

    @property
    @abstractmethod
    def t_min(self) -> float:
        """The smallest time at which a network is evaluated."""

    @abstractmethod
    def alpha(self, t: Array) -> Array: ...

    @abstractmethod
    def sigma(self, t: Array) -> Array: ...

    @abstractmethod
    def t_from_log_snr(self, log_snr: Array) -> Array:
        """The inverse of `log_snr`, clamped to [0, t_max]."""

    @abstractmethod
    def scheduler_sigma(self, t: Array) -> Array:
        """sigma / alpha, or t for a flow: what schedulers call sigma."""

    @abstractmethod
    def t_from_scheduler_sigma(self, scheduler_sigma: Array) -> Array: ...

    def log_snr(self, t: Array) -> Array:
        """log(alpha^2 / sigma^2); +inf where sigma = 0, -inf where alpha = 0."""
        with np.errstate(divide="ignore"):
            return 2 * (np.log(self.alpha(t)) - np.log(self.sigma(t)))

    @property
    def log_snr_range(self) -> tuple[float, float]:
        """The log-SNR at t_max, which may be -inf, and at t_min."""
        lowest, highest = self.log_snr(np.array([self.t_max, self.t_min])).tolist()
        return lowest, highest


@dataclass(frozen=True)
class VariancePreserving(ScheduleArrays):
    curve: str = "scaled_linear"
    steps: int = 1000
    beta_first: float = 0.00085
    beta_last: float = 0.012
    zero_terminal_snr: bool = False
    _table: Array = field(init=False, repr=False, compare=False)  # sigma / alpha [steps + 1], from 0

    def __post_init__(self) -> None:
        betas = self.betas()
        if not ((betas > 0) & (betas < 1)).all():
            raise UnexpectedValue("betas must be between 0 and 1")
        alpha_bar = np.cumprod(1 - betas)
        if self.zero_terminal_snr:
            alpha = np.sqrt(alpha_bar)
            alpha_bar = np.maximum(((alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1])) ** 2, 2.0**-24)
        object.__setattr__(self, "_table", np.concatenate([[0.0], np.sqrt((1 - alpha_bar) / alpha_bar)]))

    def betas(self) -> Array:
        """The variance that each training step adds, [steps]."""
        first, last, steps = float(self.beta_first), float(self.beta_last), self.steps
        if type(steps) is not int or not 1 <= steps <= MOST_STEPS:
            raise UnexpectedValue(f"the number of steps is {steps!r}")
        match self.curve:
            case "linear":
                return np.linspace(first, last, steps)
            case "scaled_linear":
                return np.linspace(math.sqrt(first), math.sqrt(last), steps) ** 2
            case "sigmoid":
                return first + (last - first) / (1 + np.exp(-np.linspace(-6, 6, steps)))
            case "cosine":
                alpha_bar = np.cos((np.arange(steps + 1) / steps + 0.008) / 1.008 * math.pi / 2) ** 2
                betas: Array = np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], 0.999)
                return betas
        raise UnexpectedValue(f"the betas are {self.curve!r}")

    @property
    def t_max(self) -> float:
        return float(self.steps)

    @property
    def t_min(self) -> float:
        return 1.0

    def alpha(self, t: Array) -> Array:
        return 1 / np.sqrt(1 + self.scheduler_sigma(t) ** 2)

    def sigma(self, t: Array) -> Array:
        ratio = self.scheduler_sigma(t)
        return ratio / np.sqrt(1 + ratio**2)

    def t_from_log_snr(self, log_snr: Array) -> Array:
        with np.errstate(over="ignore"):
            return self.t_from_scheduler_sigma(np.exp(-log_snr / 2))

    def scheduler_sigma(self, t: Array) -> Array:
        return np.interp(t, np.arange(self.steps + 1), self._table)

    def t_from_scheduler_sigma(self, scheduler_sigma: Array) -> Array:
        return np.interp(scheduler_sigma, self._table, np.arange(self.steps + 1))


@dataclass(frozen=True)
class VarianceExploding(ScheduleArrays):
    sigma_min: float = 0.002
    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max < math.inf:
            raise UnexpectedValue(f"sigma goes from {self.sigma_min!r} to {self.sigma_max!r}")

    @property
    def t_max(self) -> float:
        return self.sigma_max

    @property
    def t_min(self) -> float:
        return self.sigma_min

    def alpha(self, t: Array) -> Array:
        return np.ones_like(t)

    def sigma(self, t: Array) -> Array:
        return t

    def t_from_log_snr(self, log_snr: Array) -> Array:
        with np.errstate(over="ignore"):
            return np.minimum(np.exp(-log_snr / 2), self.sigma_max)

    def scheduler_sigma(self, t: Array) -> Array:
        return t

    def t_from_scheduler_sigma(self, scheduler_sigma: Array) -> Array:
        return scheduler_sigma


@dataclass(frozen=True)
class RectifiedFlow(ScheduleArrays):
    shift: float = 1.0

    def __post_init__(self) -> None:
        if not 1 / _LARGEST <= self.shift <= _LARGEST:
            raise UnexpectedValue(f"the shift is {self.shift!r}")

    @property
    def t_max(self) -> float:
        return 1.0

    @property
    def t_min(self) -> float:
        return float(self.shifted(np.array(SMALLEST_FLOW_TIME)))

    def alpha(self, t: Array) -> Array:
        return 1 - t

    def sigma(self, t: Array) -> Array:
        return t

    def shifted(self, t: Array) -> Array:
        return self.shift * t / (1 + (self.shift - 1) * t)

    def t_from_log_snr(self, log_snr: Array) -> Array:
        return (1 + np.tanh(-log_snr / 4)) / 2  # the sigmoid of -log_snr / 2, without overflow

    def scheduler_sigma(self, t: Array) -> Array:
        return t

    def t_from_scheduler_sigma(self, scheduler_sigma: Array) -> Array:
        return scheduler_sigma


_KINDS: Mapping[str, type[ScheduleArrays]] = {
    "variance_preserving": VariancePreserving,
    "variance_exploding": VarianceExploding,
    "rectified_flow": RectifiedFlow,
}


def schedule_arrays(values: Mapping[str, Any]) -> ScheduleArrays:
    """The schedule from the output of `diffusion.schedule.Schedule.to_json`. BadRequest if it cannot be read."""
    try:
        return _made(tuple(sorted(values.items())))
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise not_shown(why_unreadable(error)) from error


def not_shown(why: str) -> BadRequest:
    """The error for a model whose noise schedule cannot be read."""
    return BadRequest("The noise schedule of this model cannot be shown", why, "Choose another model")


@lru_cache(maxsize=16)
def _made(items: tuple[tuple[str, Any], ...]) -> ScheduleArrays:
    values = {name: float(value) if type(value) is int and name != "steps" else value for name, value in items}
    kind: Any = values.pop("kind")
    return _KINDS[kind](**values)
