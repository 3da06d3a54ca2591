"""Noise schedules: how much of the image and how much noise a state holds at each time.

    x_t = alpha(t) * x_0 + sigma(t) * eps,    eps ~ N(0, 1)

Time runs from 0 (the clean image) to `t_max` (noise, or nearly). Sampling uses float64 times on the CPU, training
float32 times on any device; every method returns a tensor of its argument's shape, dtype and device.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, Protocol

import torch
from torch import Tensor

from diffstudio.diffusion.tables import SMALLEST_FLOW_TIME


class NoiseSchedule(Protocol):
    """What samplers and losses need of a schedule: x_t = alpha(t) * x_0 + sigma(t) * eps."""

    def alpha(self, t: Tensor) -> Tensor: ...

    def sigma(self, t: Tensor) -> Tensor: ...


class Schedule(ABC):
    """A noise schedule with its end points, inverse functions and JSON form, for spacings, training and storage."""

    @property
    @abstractmethod
    def t_max(self) -> float:
        """The time of the most noise, where sampling starts."""

    @property
    @abstractmethod
    def t_min(self) -> float:
        """The smallest time at which a network is evaluated."""

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """The scale of the clean image in x_t."""

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """The standard deviation of the noise in x_t."""

    @abstractmethod
    def t_from_log_snr(self, log_snr: Tensor) -> Tensor:
        """The inverse of `log_snr`, clamped to [0, t_max]."""

    @abstractmethod
    def scheduler_sigma(self, t: Tensor) -> Tensor:
        """What the schedulers of diffusers, k-diffusion and ComfyUI call sigma: sigma / alpha, or t for a flow.

        With this variable the probability flow ODE has straight solutions where the estimate of x_0 is constant: Karras
        et al. 2022 (arXiv 2206.00364), section 3.
        """

    @abstractmethod
    def t_from_scheduler_sigma(self, scheduler_sigma: Tensor) -> Tensor:
        """The inverse of `scheduler_sigma`."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """The keys and values from which `schedule_from_json` rebuilds this schedule."""

    def log_snr(self, t: Tensor) -> Tensor:
        """log(alpha^2 / sigma^2), twice the lambda of DPM-Solver (Lu et al. 2022, arXiv 2206.00927).

        Decreasing in t; +inf where sigma = 0, -inf where alpha = 0.
        """
        return 2 * (self.alpha(t).log() - self.sigma(t).log())


class BetaCurve(StrEnum):
    """The betas of a variance-preserving model: diffusers' `beta_schedule`."""

    LINEAR = "linear"  # Ho et al. 2020 (arXiv 2006.11239), section 4
    SCALED_LINEAR = "scaled_linear"  # linear in sqrt(beta): Stable Diffusion, Rombach et al. 2021 (arXiv 2112.10752)
    COSINE = "cosine"  # Nichol & Dhariwal 2021 (arXiv 2102.09672), eq. 17; diffusers' squaredcos_cap_v2
    SIGMOID = "sigmoid"  # GeoDiff, Xu et al. 2022 (arXiv 2203.02923)


@dataclass(frozen=True)
class VariancePreserving(Schedule):
    """alpha^2 + sigma^2 = 1, from the betas of N training steps: Ho et al. 2020 (arXiv 2006.11239), eq. 4.

    t = 0 is the clean image and t = k the k-th training step, which is timestep k - 1 to the network. Between training
    steps sigma / alpha is interpolated linearly in t. ValueError for fewer than one step, and for betas outside (0, 1).
    """

    curve: BetaCurve = BetaCurve.SCALED_LINEAR
    steps: int = 1000
    beta_first: float = 0.00085  # the cosine curve uses neither beta_first nor beta_last
    beta_last: float = 0.012
    zero_terminal_snr: bool = False
    _sigma_over_alpha: Tensor = field(init=False, repr=False, compare=False)  # [N + 1] float64, increasing from 0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"a noise schedule needs at least one step, not {self.steps}")
        betas = self.betas()
        if not bool(((betas > 0) & (betas < 1)).all()):
            raise ValueError(f"betas must be between 0 and 1, not from {betas.min():g} to {betas.max():g}")
        alpha_bar = torch.cumprod(1 - betas, dim=0)  # [N]
        if self.zero_terminal_snr:
            alpha_bar = _with_zero_terminal_snr(alpha_bar)
        sigma_over_alpha = ((1 - alpha_bar) / alpha_bar).sqrt()
        object.__setattr__(self, "_sigma_over_alpha", torch.cat([sigma_over_alpha.new_zeros(1), sigma_over_alpha]))

    @classmethod
    def linear(cls, steps: int = 1000, beta_first: float = 1e-4, beta_last: float = 0.02) -> VariancePreserving:
        return cls(BetaCurve.LINEAR, steps, beta_first, beta_last)

    @classmethod
    def scaled_linear(
        cls, steps: int = 1000, beta_first: float = 8.5e-4, beta_last: float = 0.012
    ) -> VariancePreserving:
        return cls(BetaCurve.SCALED_LINEAR, steps, beta_first, beta_last)

    @classmethod
    def cosine(cls, steps: int = 1000) -> VariancePreserving:
        return cls(BetaCurve.COSINE, steps, 0.0, 0.0)

    @classmethod
    def sigmoid(cls, steps: int = 1000, beta_first: float = 1e-4, beta_last: float = 0.02) -> VariancePreserving:
        return cls(BetaCurve.SIGMOID, steps, beta_first, beta_last)

    def with_zero_terminal_snr(self) -> VariancePreserving:
        """The same betas rescaled so that the last step is pure noise: Lin et al. 2023 (arXiv 2305.08891), Algorithm 1."""
        return replace(self, zero_terminal_snr=True)

    def betas(self) -> Tensor:
        """The variance that each training step adds, [N] float64, before any rescaling to zero terminal SNR."""
        first, last, steps = self.beta_first, self.beta_last, self.steps
        match self.curve:
            case BetaCurve.LINEAR:
                return torch.linspace(first, last, steps, dtype=torch.float64)
            case BetaCurve.SCALED_LINEAR:
                return torch.linspace(first**0.5, last**0.5, steps, dtype=torch.float64) ** 2
            case BetaCurve.SIGMOID:
                return first + (last - first) * torch.linspace(-6, 6, steps, dtype=torch.float64).sigmoid()
        # BetaCurve.COSINE: Nichol & Dhariwal 2021 (arXiv 2102.09672), eq. 17, with betas of at most 0.999
        fraction = torch.arange(steps + 1, dtype=torch.float64) / steps
        alpha_bar = torch.cos((fraction + 0.008) / 1.008 * math.pi / 2) ** 2
        return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=0.999)

    @property
    def t_max(self) -> float:
        return float(self.steps)

    @property
    def t_min(self) -> float:
        return 1.0

    def alpha(self, t: Tensor) -> Tensor:
        return (1 + self.scheduler_sigma(t) ** 2).rsqrt()

    def sigma(self, t: Tensor) -> Tensor:
        sigma_over_alpha = self.scheduler_sigma(t)
        return sigma_over_alpha * (1 + sigma_over_alpha**2).rsqrt()

    def t_from_log_snr(self, log_snr: Tensor) -> Tensor:
        return self.t_from_scheduler_sigma((-log_snr / 2).exp())

    def scheduler_sigma(self, t: Tensor) -> Tensor:
        """sigma / alpha, for t of a floating-point or an integer dtype."""
        t = t if t.is_floating_point() else t.double()
        table = self._sigma_over_alpha.to(t)
        below = t.floor().long().clamp(0, self.steps - 1)
        return torch.lerp(table[below], table[below + 1], (t - below).clamp(0, 1))

    def t_from_scheduler_sigma(self, scheduler_sigma: Tensor) -> Tensor:
        """The inverse of `scheduler_sigma`, clamped to [0, t_max]."""
        table = self._sigma_over_alpha.to(scheduler_sigma)
        above = torch.searchsorted(table, scheduler_sigma.contiguous()).clamp(1, self.steps)
        low, high = table[above - 1], table[above]
        return above - 1 + ((scheduler_sigma - low) / (high - low)).clamp(0, 1)

    def to_json(self) -> dict[str, Any]:
        return {"kind": "variance_preserving"} | {
            name: value for name, value in vars(self).items() if not name.startswith("_")
        }


def _with_zero_terminal_snr(alpha_bar: Tensor) -> Tensor:
    """Lin et al. 2023 (arXiv 2305.08891), Algorithm 1, with 2**-24 for the last alpha_bar to keep sigma / alpha finite.

    diffusers' EulerDiscreteScheduler uses the same value.
    """
    alpha = alpha_bar.sqrt()
    alpha = (alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1])
    return (alpha**2).clamp(min=2**-24)


@dataclass(frozen=True)
class VarianceExploding(Schedule):
    """alpha = 1, sigma = t: Karras et al. 2022 (arXiv 2206.00364), Table 1."""

    sigma_min: float = 0.002
    sigma_max: float = 80.0

    @property
    def t_max(self) -> float:
        return self.sigma_max

    @property
    def t_min(self) -> float:
        return self.sigma_min

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        return t

    def t_from_log_snr(self, log_snr: Tensor) -> Tensor:
        return (-log_snr / 2).exp().clamp(max=self.sigma_max)

    def scheduler_sigma(self, t: Tensor) -> Tensor:
        """sigma / alpha, which is t."""
        return t

    def t_from_scheduler_sigma(self, scheduler_sigma: Tensor) -> Tensor:
        return scheduler_sigma

    def to_json(self) -> dict[str, Any]:
        return {"kind": "variance_exploding"} | asdict(self)


@dataclass(frozen=True)
class RectifiedFlow(Schedule):
    """alpha = 1 - t, sigma = t: Liu et al. 2022 (arXiv 2209.03003), Lipman et al. 2022 (arXiv 2210.02747).

    `shift` moves the sampling times of every spacing towards noise, which larger images need: Esser et al. 2024 (arXiv
    2403.03206), eq. 23. alpha and sigma do not depend on it. ValueError unless it is positive and finite.
    """

    shift: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.shift < math.inf:
            raise ValueError(f"shift must be positive and finite, not {self.shift}")

    @property
    def t_max(self) -> float:
        return 1.0

    @property
    def t_min(self) -> float:
        return self.shift * SMALLEST_FLOW_TIME / (1 + (self.shift - 1) * SMALLEST_FLOW_TIME)

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - t

    def sigma(self, t: Tensor) -> Tensor:
        return t

    def shifted(self, t: Tensor) -> Tensor:
        """t moved towards noise: Esser et al. 2024 (arXiv 2403.03206), eq. 23, with `shift` for sqrt(m / n)."""
        return self.shift * t / (1 + (self.shift - 1) * t)

    def t_from_log_snr(self, log_snr: Tensor) -> Tensor:
        return torch.sigmoid(-log_snr / 2)  # sigma / alpha = t / (1 - t)

    def scheduler_sigma(self, t: Tensor) -> Tensor:
        """t, since sigma / alpha is infinite at t = 1."""
        return t

    def t_from_scheduler_sigma(self, scheduler_sigma: Tensor) -> Tensor:
        return scheduler_sigma

    def to_json(self) -> dict[str, Any]:
        return {"kind": "rectified_flow"} | asdict(self)


def schedule_from_json(values: Mapping[str, Any]) -> Schedule:
    """The schedule that `to_json` described. ValueError for an unknown kind and for unknown or invalid keys and values."""
    values = dict(values)
    kind = values.pop("kind", None)
    try:
        values = {name: float(one) if type(one) is int and name != "steps" else one for name, one in values.items()}
        match kind:
            case "variance_preserving":
                return VariancePreserving(**values | {"curve": BetaCurve(values["curve"])})
            case "variance_exploding":
                return VarianceExploding(**values)
            case "rectified_flow":
                return RectifiedFlow(**values)
    except (
        TypeError,
        KeyError,
        OverflowError,
        RuntimeError,
    ) as error:  # torch's error for too many steps is a RuntimeError
        raise ValueError(f"invalid {kind} schedule: {error}") from error
    raise ValueError(f"unknown kind of schedule: {kind!r}")
