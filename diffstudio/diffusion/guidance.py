"""Classifier-free guidance: a network's conditional and unconditional predictions combined by a CFG scale.

Guidance acts on the network's own prediction, be it noise, v, velocity or the clean image, and the result is a network
again: a denoiser wraps it. Plain guidance is the same in each of these spaces; rescaled guidance is not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from diffstudio.diffusion.denoiser import Network

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
        fraction = t / self.t_max
        if bool((fraction > 1 + 1e-6).any()):
            raise ValueError(
                f"the time {t.max():g} is greater than t_max = {self.t_max:g}, which must be the network's own"
            )
        low, high = self.interval
        return (low <= fraction) & (fraction <= high)

    def _predictions(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Both predictions in the dtype of x_t, since a large scale would magnify the rounding of half precision."""
        if self.paired is not None:
            conditional, unconditional = self.paired(x_t, t)
        else:
            assert self.unconditional is not None
            conditional, unconditional = self.conditional(x_t, t), self.unconditional(x_t, t)
        return conditional.to(x_t.dtype), unconditional.to(x_t.dtype)


def _std(prediction: Tensor) -> Tensor:
    """The standard deviation within each image: [B,C,H,W] -> [B,1,1,1]."""
    return prediction.std(dim=tuple(range(1, prediction.ndim)), keepdim=True)
