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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Protocol

import torch
from torch import Tensor

from diffstudio.errors import BadRequest


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


_FINEST = 0.001  # the smallest time of a flow before its shift, as flow models are trained in thousandths


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
        return self.shift * _FINEST / (1 + (self.shift - 1) * _FINEST)

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


# ---- ladders ---------------------------------------------------------------------------------------------------------

Spacing = Callable[[Schedule, int], Tensor]  # schedule, steps -> the times of the steps, falling, without the final 0


def ladder(schedule: Schedule, steps: int, spacing: str | Spacing, *, strength: float = 1.0) -> Tensor:
    """The times a sampler walks down: float64 [steps + 1], falling, the last is 0.

    `spacing` is a name in `SPACINGS`, or such a function. With `strength` below 1 only the last round(strength * steps)
    steps are kept, at least one: the sampler then starts from a given picture with so much noise. BadRequest for what
    cannot be laid.
    """
    if isinstance(spacing, str) and spacing not in SPACINGS:
        raise BadRequest(f"There is no spacing called {spacing!r}", "", f"Choose one of {', '.join(SPACINGS)}")
    if steps < 1:
        raise BadRequest(f"A picture cannot be made in {steps} steps", "", "Ask for one or more")
    if not 0 <= strength <= 1:
        raise BadRequest(f"A strength of {strength} means nothing", "0 nearly keeps the given picture, 1 replaces it",
                         "Choose one between them")  # fmt: skip
    lay = SPACINGS[spacing] if isinstance(spacing, str) else spacing
    times = torch.cat([lay(schedule, steps), torch.zeros(1, dtype=torch.float64)])
    if not bool((times.diff() < 0).all()):
        raise BadRequest(f"This model has no {steps} different times of that spacing", "", "Ask for fewer steps")
    return times[-1 - max(1, round(strength * steps)) :]


def uniform(schedule: Schedule, steps: int) -> Tensor:
    """Even in t from t_max to t_min; a flow has no smallest time, and all its steps are alike."""
    if isinstance(schedule, RectifiedFlow):
        return trailing(schedule, steps)
    return _evenly(schedule.t_max, schedule.t_min, steps)


def trailing(schedule: Schedule, steps: int) -> Tensor:
    """Even in t from t_max to 0: Lin et al. 2023, Table 2."""
    times = _evenly(schedule.t_max, 0, steps + 1)[:-1]
    match schedule:
        case VariancePreserving():
            return times.round()
        case RectifiedFlow():
            return schedule.shifted(times)
    return times


def leading(schedule: Schedule, steps: int, offset: int = 0) -> Tensor:
    """Even in t from t_min up, never reaching t_max: Lin et al. 2023, Table 2. `offset` is in training steps."""
    countdown = torch.arange(steps - 1, -1, -1, dtype=torch.float64)
    match schedule:
        case VariancePreserving(steps=trained):
            return 1 + offset + countdown * (trained // steps)
        case RectifiedFlow():
            return schedule.shifted(_FINEST + countdown * (1 - _FINEST) / steps)
    return schedule.t_min + countdown * (schedule.t_max - schedule.t_min) / steps


def karras(schedule: Schedule, steps: int, rho: float = 7.0) -> Tensor:
    """Even in the rho-th root of the schedule's coordinate: Karras et al. 2022, eq. 5."""
    first, last = schedule.heun_coordinate(_ends(schedule)).tolist()
    return schedule.t_from_heun_coordinate(_evenly(first ** (1 / rho), last ** (1 / rho), steps) ** rho)


def exponential(schedule: Schedule, steps: int) -> Tensor:
    """Even in the logarithm of the schedule's coordinate."""
    first, last = schedule.heun_coordinate(_ends(schedule)).log().tolist()
    return schedule.t_from_heun_coordinate(_evenly(first, last, steps).exp())


def log_snr(schedule: Schedule, steps: int) -> Tensor:
    """Even in log SNR: Lu et al. 2022. Where it starts from minus infinity, even but for that first step."""
    first, last = schedule.log_snr(_ends(schedule)).tolist()
    if math.isfinite(first):
        return schedule.t_from_log_snr(_evenly(first, last, steps))
    start = torch.tensor([schedule.t_max], dtype=torch.float64)
    return torch.cat([start, schedule.t_from_log_snr(_evenly(-last, last, steps - 1))])


# Sabour et al. 2024, appendix, as published for ten steps: sigma / alpha, the last one standing for the clean image.
ALIGNED_SD15 = (14.6146412293, 6.4745760956, 3.8636745985, 2.6946151520, 1.8841921177, 1.3943805092, 0.9642583904,
                0.6523686016, 0.3977456272, 0.1515232662, 0.0291671582)  # fmt: skip
ALIGNED_SDXL = (14.6146412293, 6.3184485287, 3.7681790315, 2.1811480769, 1.3405244945, 0.8620721141, 0.5550693289,
                0.3798540708, 0.2332364134, 0.1114188177, 0.0291671582)  # fmt: skip
ALIGNED_SVD = (700.00, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.002)


def align_your_steps(schedule: Schedule, steps: int, table: Sequence[float] | None = None) -> Tensor:
    """Align Your Steps, Sabour et al. 2024: tables found by optimisation, log-linear between their entries.

    Without a `table`, that of Stable Diffusion 1.5 for variance-preserving models and that of Stable Video Diffusion
    for variance-exploding ones. Its noisy end becomes the schedule's own, so that other models too start from noise.
    """
    if table is None:
        match schedule:
            case VariancePreserving():
                table = ALIGNED_SD15
            case VarianceExploding():
                table = ALIGNED_SVD
            case _:
                raise BadRequest("Align Your Steps has no times for this model", "none are published for flow models",
                                 "Choose another spacing")  # fmt: skip
    log_first = -schedule.log_snr(_ends(schedule))[0].item() / 2
    log_rest = [math.log(sigma) for sigma in table[1:]]
    log_sigma = torch.tensor([log_first, *(rung for rung in log_rest if rung < log_first)], dtype=torch.float64)
    place = _evenly(0, len(log_sigma) - 1, steps + 1)[:-1]
    below = place.floor().long()
    return schedule.t_from_log_snr(-2 * torch.lerp(log_sigma[below], log_sigma[below + 1], place - below))


SPACINGS: Mapping[str, Spacing] = MappingProxyType({
    "uniform": uniform,
    "trailing": trailing,
    "leading": leading,
    "karras": karras,
    "exponential": exponential,
    "log_snr": log_snr,
    "align_your_steps": align_your_steps,
})  # fmt: skip


def _evenly(first: float, last: float, count: int) -> Tensor:
    return torch.linspace(first, last, count, dtype=torch.float64)


def _ends(schedule: Schedule) -> Tensor:
    return torch.tensor([schedule.t_max, schedule.t_min], dtype=torch.float64)
