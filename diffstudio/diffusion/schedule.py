"""Noise schedules, and how the times of the steps are laid on them.

    x_t = alpha(t) * x_0 + sigma(t) * eps,    eps ~ N(0, 1)

A schedule gives alpha and sigma for any time t from 0 (the clean image) to `t_max` (noise, or nearly). A ladder is the
falling row of times that a sampler walks down; a spacing is a rule that lays one.

Times are float64 tensors on the CPU while sampling and float32 ones on any device while training: every method answers
in the dtype and on the device it is asked in. `log_snr` is log(alpha^2 / sigma^2), twice the lambda of DPM-Solver.
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


class NoiseSchedule(Protocol):
    """All that mathematics needs: x_t = alpha(t) * x_0 + sigma(t) * eps. Answers are shaped like t."""

    def alpha(self, t: Tensor) -> Tensor: ...

    def sigma(self, t: Tensor) -> Tensor: ...


class Schedule(ABC):
    """A noise schedule with ends, inverses and a name: what ladders, training and storage need besides."""

    @property
    @abstractmethod
    def t_max(self) -> float:
        """Where sampling starts."""

    @property
    @abstractmethod
    def t_min(self) -> float:
        """The smallest time worth asking a network about; below it only the clean image at 0."""

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor: ...

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor: ...

    @abstractmethod
    def t_from_log_snr(self, log_snr: Tensor) -> Tensor:
        """The inverse of `log_snr`, clamped to [0, t_max]."""

    @abstractmethod
    def heun_coordinate(self, t: Tensor) -> Tensor:
        """The coordinate in which this schedule's probability flow is stepped: straight for a constant estimate."""

    @abstractmethod
    def t_from_heun_coordinate(self, coordinate: Tensor) -> Tensor: ...

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """What `schedule_from_json` makes the same schedule from."""

    def log_snr(self, t: Tensor) -> Tensor:
        """log(alpha^2 / sigma^2): falling in t, +inf where sigma = 0, -inf where alpha = 0."""
        return 2 * (self.alpha(t).log() - self.sigma(t).log())


class BetaCurve(StrEnum):
    """How much noise each training step of a variance-preserving model adds."""

    LINEAR = "linear"  # Ho et al. 2020
    SCALED_LINEAR = "scaled_linear"  # linear in the root: Rombach et al. 2022 (Stable Diffusion)
    COSINE = "cosine"  # Nichol & Dhariwal 2021, eq. 17
    SIGMOID = "sigmoid"  # Xu et al. 2022 (GeoDiff)


@dataclass(frozen=True)
class VariancePreserving(Schedule):
    """alpha^2 + sigma^2 = 1, from the betas of N training steps: Ho et al. 2020, eq. 4.

    t = 0 is the clean image and t = k the k-th training step, which the network knows as index k - 1. Between steps
    sigma / alpha is linear in t.
    """

    curve: BetaCurve = BetaCurve.SCALED_LINEAR
    steps: int = 1000
    beta_first: float = 0.00085  # neither is read by the cosine curve
    beta_last: float = 0.012
    zero_terminal_snr: bool = False
    _sigma_over_alpha: Tensor = field(init=False, repr=False, compare=False)  # [N + 1] float64, rising from 0

    def __post_init__(self) -> None:
        alpha_bar = torch.cumprod(1 - self.betas(), dim=0)  # [N]
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
        """The same curve, scaled so that the last step is noise alone: Lin et al. 2023, Algorithm 1."""
        return replace(self, zero_terminal_snr=True)

    def betas(self) -> Tensor:
        """[N] float64: the variance that each training step adds, before any scaling to zero terminal SNR."""
        first, last, steps = self.beta_first, self.beta_last, self.steps
        match self.curve:
            case BetaCurve.LINEAR:
                return torch.linspace(first, last, steps, dtype=torch.float64)
            case BetaCurve.SCALED_LINEAR:
                return torch.linspace(first**0.5, last**0.5, steps, dtype=torch.float64) ** 2
            case BetaCurve.SIGMOID:
                return first + (last - first) * torch.linspace(-6, 6, steps, dtype=torch.float64).sigmoid()
            case BetaCurve.COSINE:
                done = torch.arange(steps + 1, dtype=torch.float64) / steps
                alpha_bar = torch.cos((done + 0.008) / 1.008 * math.pi / 2) ** 2
                return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=0.999)

    @property
    def t_max(self) -> float:
        return float(self.steps)

    @property
    def t_min(self) -> float:
        return 1.0

    def alpha(self, t: Tensor) -> Tensor:
        return (1 + self.heun_coordinate(t) ** 2).rsqrt()

    def sigma(self, t: Tensor) -> Tensor:
        sigma_over_alpha = self.heun_coordinate(t)
        return sigma_over_alpha * (1 + sigma_over_alpha**2).rsqrt()

    def t_from_log_snr(self, log_snr: Tensor) -> Tensor:
        return self.t_from_heun_coordinate((-log_snr / 2).exp())

    def heun_coordinate(self, t: Tensor) -> Tensor:
        """sigma / alpha. Whole numbers, the training steps, may be of an integer dtype."""
        t = t if t.is_floating_point() else t.double()
        table = self._sigma_over_alpha.to(t)
        below = t.floor().long().clamp(0, self.steps - 1)
        return torch.lerp(table[below], table[below + 1], (t - below).clamp(0, 1))

    def t_from_heun_coordinate(self, coordinate: Tensor) -> Tensor:
        table = self._sigma_over_alpha.to(coordinate)
        above = torch.searchsorted(table, coordinate.contiguous()).clamp(1, self.steps)
        low, high = table[above - 1], table[above]
        return above - 1 + ((coordinate - low) / (high - low)).clamp(0, 1)

    def to_json(self) -> dict[str, Any]:
        return {"kind": "variance_preserving"} | {
            name: value for name, value in vars(self).items() if not name.startswith("_")
        }


def _with_zero_terminal_snr(alpha_bar: Tensor) -> Tensor:
    """Lin et al. 2023, Algorithm 1; the last alpha_bar is 2**-24 instead of 0, so that sigma / alpha stays finite."""
    alpha = alpha_bar.sqrt()
    alpha = (alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1])
    return (alpha**2).clamp(min=2**-24)


@dataclass(frozen=True)
class VarianceExploding(Schedule):
    """alpha = 1, sigma = t: Karras et al. 2022."""

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

    def heun_coordinate(self, t: Tensor) -> Tensor:
        """sigma / alpha, which is t."""
        return t

    def t_from_heun_coordinate(self, coordinate: Tensor) -> Tensor:
        return coordinate

    def to_json(self) -> dict[str, Any]:
        return {"kind": "variance_exploding"} | asdict(self)


SMALLEST_FLOW_TIME = 0.001  # the smallest time of a flow before its shift, as flow models are trained in thousandths


@dataclass(frozen=True)
class RectifiedFlow(Schedule):
    """alpha = 1 - t, sigma = t: Liu et al. 2022, Lipman et al. 2022.

    `shift` moves the times of ladders towards the noise, as larger images want: Esser et al. 2024, eq. 23. It leaves
    alpha and sigma alone.
    """

    shift: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.shift < math.inf:
            raise ValueError(f"a shift of {self.shift} moves no times")

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
        return self.shift * t / (1 + (self.shift - 1) * t)

    def t_from_log_snr(self, log_snr: Tensor) -> Tensor:
        return torch.sigmoid(-log_snr / 2)  # sigma / alpha = t / (1 - t)

    def heun_coordinate(self, t: Tensor) -> Tensor:
        """t: here sigma / alpha would be infinite at the start."""
        return t

    def t_from_heun_coordinate(self, coordinate: Tensor) -> Tensor:
        return coordinate

    def to_json(self) -> dict[str, Any]:
        return {"kind": "rectified_flow"} | asdict(self)


def schedule_from_json(values: Mapping[str, Any]) -> Schedule:
    """The schedule that `to_json` described. ValueError for a kind, a name or a value that is not known."""
    values = dict(values)
    kind = values.pop("kind", None)
    try:
        match kind:
            case "variance_preserving":
                return VariancePreserving(**values | {"curve": BetaCurve(values["curve"])})
            case "variance_exploding":
                return VarianceExploding(**values)
            case "rectified_flow":
                return RectifiedFlow(**values)
    except (TypeError, KeyError) as error:
        raise ValueError(f"not a {kind} schedule: {error}") from error
    raise ValueError(f"not a kind of schedule: {kind!r}")
