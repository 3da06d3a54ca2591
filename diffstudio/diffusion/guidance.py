"""Guidance: two predictions of a network made into one that follows its condition more closely.

It acts on what the network itself predicts, whichever of noise, v, velocity or clean image that is, and is itself a
network: a denoiser wrapper goes around it. Plain guidance is the same in every such space; rescaling is not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from diffstudio.diffusion.denoiser import Network

Both = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # like a Network; conditional and unconditional prediction


@dataclass(frozen=True)
class ClassifierFreeGuidance:
    """unconditional + scale * (conditional - unconditional): Ho & Salimans 2022, scale 1 being no guidance.

    `interval` is the part of the network's own time, in fractions of its `t_max` (1 for a flow, N for N training
    steps), in which it guides: Kynkäänniemi et al. 2024. Outside of it only the conditional half runs. `rescale` from
    0 to 1 brings the spread of each image back to that of its conditional prediction: Lin et al. 2023, eq. 15 and 16.
    `both` gives the two predictions in one batched call and then takes the place of `unconditional`.
    """

    conditional: Network
    unconditional: Network | None
    scale: float
    interval: tuple[float, float] | None = None
    rescale: float = 0.0
    t_max: float = 1.0
    both: Both | None = None

    def __post_init__(self) -> None:
        if (self.unconditional is None) == (self.both is None):
            raise ValueError("guidance takes either an unconditional network or one call for both halves")

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        inside = self._inside(t)  # [B]
        if self.scale == 1 or not bool(inside.any()):
            return self.conditional(x_t, t)
        conditional, unconditional = self._halves(x_t, t)
        guided = unconditional + self.scale * (conditional - unconditional)
        if self.rescale > 0:
            wanted, spread = _deviation(conditional), _deviation(guided)
            back = torch.where(spread > 0, wanted / spread, 1.0)  # [B,1,1,1]; what has no spread is left as it is
            guided = guided * (self.rescale * back + 1 - self.rescale)
        inside = inside.to(guided.device).view(-1, *(1,) * (guided.ndim - 1))
        return torch.where(inside, guided, conditional)

    def _inside(self, t: Tensor) -> Tensor:
        if self.interval is None:
            return torch.ones_like(t, dtype=torch.bool)
        fraction = t / self.t_max
        if bool((fraction > 1 + 1e-6).any()):
            raise ValueError(f"a time of {t.max():g} is beyond t_max = {self.t_max:g}: give that of the network")
        low, high = self.interval
        return (low <= fraction) & (fraction <= high)

    def _halves(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """In the dtype of x_t, since a large scale would magnify the rounding of half precision."""
        if self.both is not None:
            conditional, unconditional = self.both(x_t, t)
        else:
            assert self.unconditional is not None
            conditional, unconditional = self.conditional(x_t, t), self.unconditional(x_t, t)
        return conditional.to(x_t.dtype), unconditional.to(x_t.dtype)


def _deviation(prediction: Tensor) -> Tensor:
    """The standard deviation within each image: [B,C,H,W] -> [B,1,1,1]."""
    return prediction.std(dim=tuple(range(1, prediction.ndim)), keepdim=True)
