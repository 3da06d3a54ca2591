"""Changes that are added to a weight: LoRA, LoCon, LoHa, LoKr, full differences.

Shapes: `out` and `in` are those of the weight, `r` is the rank, `k` the sides of a convolution's kernel (none for a
linear layer).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from diffstudio.models.adapters.delta import AdditiveDelta, as_matrix


@dataclass(frozen=True, slots=True)
class LowRank(AdditiveDelta):
    """LoRA (Hu et al. 2021, arXiv 2106.09685): up · down; for convolutions (LoCon) with an optional Tucker core."""

    up: Tensor  # [out, r], or [out, r, 1, 1]
    down: Tensor  # [r, in], or [r, in, k, k]; with a core [s, in, 1, 1]
    scale: float = 1.0  # alpha / rank
    core: Tensor | None = None  # [r, s, k, k]
    kind: str = "LoRA"

    @property
    def shape(self) -> tuple[int, int]:
        kernel = math.prod(self.core.shape[2:]) if self.core is not None else 1
        return self.up.shape[0], math.prod(self.down.shape[1:]) * kernel

    @property
    def factors(self) -> tuple[Tensor, ...]:
        return (self.up, self.down) if self.core is None else (self.up, self.down, self.core)

    def dense(self, device: torch.device) -> Tensor:
        up, down = (as_matrix(factor, device) for factor in (self.up, self.down))
        if self.core is None:
            return self.scale * (up @ down)
        core = self.core.to(device, torch.float32)
        return self.scale * torch.einsum("or,rskl,si->oikl", up, core, down).flatten(1)


@dataclass(frozen=True, slots=True)
class Hadamard(AdditiveDelta):
    """LoHa: (a1 · b1) ∘ (a2 · b2); with Tucker cores by Proposition 2.

    FedPara, Hyeon-Woo et al. 2021, arXiv 2108.06098.
    """

    a1: Tensor  # [out, r]; with cores [r, out]
    b1: Tensor  # [r, in * k]; with cores [r, in]
    a2: Tensor
    b2: Tensor
    scale: float = 1.0  # alpha / rank
    core1: Tensor | None = None  # [r, r, k, k]
    core2: Tensor | None = None
    kind: str = "LoHa"

    @property
    def shape(self) -> tuple[int, int]:
        if self.core1 is None:
            return self.a1.shape[0], self.b1.shape[1]
        return self.a1.shape[1], self.b1.shape[1] * math.prod(self.core1.shape[2:])

    @property
    def factors(self) -> tuple[Tensor, ...]:
        return tuple(
            factor for factor in (self.a1, self.b1, self.a2, self.b2, self.core1, self.core2) if factor is not None
        )

    def dense(self, device: torch.device) -> Tensor:
        halves = [
            _tucker(core, a, b, device) if core is not None else as_matrix(a, device) @ as_matrix(b, device)
            for a, b, core in ((self.a1, self.b1, self.core1), (self.a2, self.b2, self.core2))
        ]
        return self.scale * (halves[0] * halves[1]).flatten(1)


@dataclass(frozen=True, slots=True)
class Kronecker(AdditiveDelta):
    """LoKr (Yeh et al. 2023, LyCORIS, arXiv 2309.14859): the Kronecker product of two small matrices, full or factored."""

    left: tuple[Tensor, ...]  # w1 [p, q], or its factors [p, r] and [r, q]
    right: tuple[Tensor, ...]  # w2 [out / p, in / q, k, k], or factors as above, or a Tucker core and its factors
    scale: float = 1.0  # alpha / rank
    kind: str = "LoKr"

    @property
    def rank(self) -> int:
        """The rank of the factored matrix, of the second if both are factored; 0 for two whole matrices."""
        return next((len(factors[-1]) for factors in (self.right, self.left) if len(factors) > 1), 0)

    @property
    def shape(self) -> tuple[int, int]:
        (a, b), (c, d) = (_product_shape(factors) for factors in (self.left, self.right))
        return a * c, b * d

    @property
    def factors(self) -> tuple[Tensor, ...]:
        return self.left + self.right

    def dense(self, device: torch.device) -> Tensor:
        left, right = _product(self.left, device), _product(self.right, device)
        left = left.reshape(*left.shape, *[1] * (right.ndim - 2))
        return self.scale * torch.kron(left, right.contiguous()).flatten(1)


@dataclass(frozen=True, slots=True)
class FullDifference(AdditiveDelta):
    """A full difference, as in LyCORIS' `full` and norm layers."""

    values: Tensor  # [out], or [out, in, k, k]
    kind: str = "full differences"

    @property
    def shape(self) -> tuple[int, int]:
        return self.values.shape[0], math.prod(self.values.shape[1:])

    @property
    def factors(self) -> tuple[Tensor, ...]:
        return (self.values,)

    def dense(self, device: torch.device) -> Tensor:
        return as_matrix(self.values.reshape(self.shape), device)


def _tucker(core: Tensor, a: Tensor, b: Tensor, device: torch.device) -> Tensor:
    """core [i,j,k,l], a [i,out], b [j,in] -> [out, in, k, l]."""
    return torch.einsum("ijkl,io,jn->onkl", *(factor.to(device, torch.float32) for factor in (core, a, b)))


def _product_shape(factors: tuple[Tensor, ...]) -> tuple[int, int]:
    if len(factors) == 3:
        core, a, b = factors
        return a.shape[1], b.shape[1] * math.prod(core.shape[2:])
    return factors[0].shape[0], math.prod(factors[-1].shape[1:])


def _product(factors: tuple[Tensor, ...], device: torch.device) -> Tensor:
    if len(factors) == 3:
        return _tucker(*factors, device)
    if len(factors) == 2:
        return as_matrix(factors[0], device) @ factors[1].to(device, torch.float32).flatten(1)
    return factors[0].to(device, torch.float32)
