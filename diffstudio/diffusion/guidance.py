"""Guidance: classifier-free guidance, autoguidance, and condition annealing (CADS).

Classifier-free guidance acts on the network's prediction (noise, v, velocity or the clean image), and the result is a
network that a denoiser wraps. Plain guidance is the same in all these parametrisations; rescaled guidance is not.
Autoguidance acts on denoisers, so its two models may have different parametrisations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from diffstudio.diffusion.denoiser import Denoiser, Network
from diffstudio.diffusion.schedule import NoiseSchedule

# A Network that returns a conditional and an unconditional prediction.
PairedNetwork = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class ClassifierFreeGuidance:
    """unconditional + scale * (conditional - unconditional): Ho & Salimans 2022 (arXiv 2207.12598), eq. 6.

    `scale` is their w + 1, and 1 is no guidance. `interval` limits guidance to times between two fractions of the
    network's own `t_max` (1 for a flow, N for N training steps): Kynkäänniemi et al. 2024 (arXiv 2404.07724). Outside
    it only the conditional network runs. `rescale` from 0 to 1 moves the standard deviation of each image towards that
    of its conditional prediction: Lin et al. 2023 (arXiv 2305.08891), eq. 15 and 16. `paired` computes both predictions
    in one batched call and replaces `unconditional`. ValueError unless exactly one of the two is given.
    """

    conditional: Network
    unconditional: Network | None
    scale: float
    interval: tuple[float, float] | None = None
    rescale: float = 0.0
    t_max: float = 1.0
    paired: PairedNetwork | None = None

    def __post_init__(self) -> None:
        if (self.unconditional is None) == (self.paired is None):
            raise ValueError("give either an unconditional or a paired network")

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        inside = self._inside(t)  # [B]
        if self.scale == 1 or not bool(inside.any()):
            return self.conditional(x_t, t)
        conditional, unconditional = self._predictions(x_t, t)
        guided = unconditional + self.scale * (conditional - unconditional)
        if self.rescale > 0:
            std_conditional, std_guided = _std(conditional), _std(guided)
            factor = torch.where(std_guided > 0, std_conditional / std_guided, 1.0)  # [B,1,1,1]
            guided = guided * (self.rescale * factor + 1 - self.rescale)
        inside = inside.to(guided.device).view(-1, *(1,) * (guided.ndim - 1))
        return torch.where(inside, guided, conditional)

    def _inside(self, t: Tensor) -> Tensor:
        if self.interval is None:
            return torch.ones_like(t, dtype=torch.bool)
        return inside_interval(t, self.interval, self.t_max)

    def _predictions(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Both predictions in the dtype of x_t, since a large scale would magnify the rounding of half precision."""
        if self.paired is not None:
            conditional, unconditional = self.paired(x_t, t)
        else:
            assert self.unconditional is not None
            conditional, unconditional = self.conditional(x_t, t), self.unconditional(x_t, t)
        return conditional.to(x_t.dtype), unconditional.to(x_t.dtype)


def inside_interval(t: Tensor, interval: tuple[float, float], t_max: float) -> Tensor:
    """Whether times t [B] lie between two fractions of `t_max`: [B] bool. ValueError for a time above `t_max`."""
    fraction = t / t_max
    if bool((fraction > 1 + 1e-6).any()):
        raise ValueError(f"the time {t.max():g} is greater than t_max = {t_max:g}, which must be the network's own")
    low, high = interval
    return (low <= fraction) & (fraction <= high)


@dataclass(frozen=True)
class Autoguidance:
    """guided + (scale - 1) * (conditional - weak): Karras et al. 2024 (arXiv 2406.02507), eq. 6, on estimates of x_0.

    `weak` is a worse version of the model behind `conditional`, with the same condition. Its errors are similar but
    larger, so extrapolation reduces them. `guided` may be the same denoiser with classifier-free guidance, whose effect is
    then added; if it is `conditional` itself, the result is weak + scale * (conditional - weak), as in the paper.
    `interval` limits autoguidance to times between two fractions of the schedule's `t_max`; outside it only `guided` runs.
    """

    guided: Denoiser
    conditional: Denoiser
    weak: Denoiser
    scale: float
    interval: tuple[float, float] | None = None
    t_max: float = 1.0

    @property
    def schedule(self) -> NoiseSchedule:
        return self.guided.schedule

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        guided = self.guided(x_t, t)
        if self.scale == 1:
            return guided
        inside = torch.ones_like(t, dtype=torch.bool)
        if self.interval is not None:
            inside = inside_interval(t.to(x_t), self.interval, self.t_max)
        if not bool(inside.any()):
            return guided
        conditional = guided if self.conditional is self.guided else self.conditional(x_t, t)
        moved = guided + (self.scale - 1) * (conditional - self.weak(x_t, t))
        return torch.where(inside.to(guided.device).view(-1, *(1,) * (guided.ndim - 1)), moved, guided)


@dataclass(frozen=True)
class ConditionAnnealing:
    """Condition-annealed sampling (CADS): noise added to the condition at high noise levels, for more diverse samples.

    Sadat et al. 2023 (arXiv 2310.17347), eq. 3 and 4. `scale` is their s; 0 turns it off. Below the time `tau1` (0 is the
    clean image, 1 is noise) the condition is unchanged; above `tau2` it is replaced by noise. `mixing` is their psi: 1
    restores the mean and standard deviation of the condition, 0 does not.
    """

    scale: float = 0.1
    tau1: float = 0.6
    tau2: float = 0.9
    mixing: float = 1.0

    def gamma(self, t: float) -> float:
        """gamma(t), the condition's share of the variance at time t in [0,1], where 1 is noise (eq. 4)."""
        if self.scale == 0 or t <= self.tau1:
            return 1.0
        return 0.0 if t >= self.tau2 else (self.tau2 - t) / (self.tau2 - self.tau1)

    def annealed(self, condition: Tensor, noise: Tensor, t: float) -> Tensor:
        """The annealed condition of one image at time t; `noise` is standard normal, of the condition's shape."""
        gamma = self.gamma(t)
        if gamma == 1:
            return condition
        y = condition.float()
        noisy = gamma**0.5 * y + self.scale * (1 - gamma) ** 0.5 * noise.to(y)
        std = noisy.std()
        factor = y.std() / std if float(std) > 0 else 1.0
        rescaled = (noisy - noisy.mean()) * factor + y.mean()
        mixed: Tensor = self.mixing * rescaled + (1 - self.mixing) * noisy
        return mixed.to(condition)


def _std(prediction: Tensor) -> Tensor:
    """The standard deviation within each image: [B,C,H,W] -> [B,1,1,1]."""
    return prediction.std(dim=tuple(range(1, prediction.ndim)), keepdim=True)
