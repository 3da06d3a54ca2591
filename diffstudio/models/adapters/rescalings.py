"""Changes that multiply or replace a weight: (IA)^3, GLoRA, and whole weights as PEFT's `modules_to_save` stores them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from diffstudio.models.adapters.delta import Delta, RowRanges, as_matrix, per_input, select_rows


@dataclass(frozen=True, slots=True)
class Rescaling(Delta):
    """(IA)^3 (Liu et al. 2022, arXiv 2205.05638): each input or each output of a weight has a factor."""

    change: Tensor  # the factors minus 1: as many values as inputs (without the kernel) or outputs
    on_input: bool = False
    kind: str = "IA3"

    @property
    def factors(self) -> tuple[Tensor, ...]:
        return (self.change,)

    def fits(self, outs: int, ins: int, rows: RowRanges) -> bool:
        count = self.change.numel()
        return count > 0 and (ins % count == 0 if self.on_input else outs == count)

    def difference(self, weight: Tensor, rows: RowRanges | None) -> Tensor:
        change = self.change.to(weight.device, torch.float32).flatten()
        if self.on_input:
            return (per_input(weight, len(change)) * change[None, :, None]).reshape(weight.shape)
        return weight * select_rows(change[:, None], rows)


@dataclass(frozen=True, slots=True)
class GeneralizedLoRA(Delta):
    """GLoRA (Chavan et al. 2023, arXiv 2306.07967) as in LyCORIS: weight · A + B, both of low rank."""

    a: tuple[Tensor, Tensor]  # [in, r] and [r, in]
    b: tuple[Tensor, Tensor]  # [out, r] and [r, in * k]
    scale: float = 1.0  # alpha / rank
    core: Tensor | None = None  # of b: [r, r, k, k]
    kind: str = "GLoRA"

    @property
    def factors(self) -> tuple[Tensor, ...]:
        return self.a + self.b if self.core is None else (*self.a, *self.b, self.core)

    @property
    def is_zero(self) -> bool:
        return not any(all(bool(factor.any()) for factor in pair) for pair in (self.a, self.b))

    def fits(self, outs: int, ins: int, rows: RowRanges) -> bool:
        (a1, a2), (b1, b2) = self.a, self.b
        kernel = 1 if self.core is None else math.prod(self.core.shape[2:])
        channels = math.prod(a2.shape[1:])
        if (len(b1), math.prod(b2.shape[1:]) * kernel) != (outs, ins) or len(a1) != channels or not channels:
            return False
        ranks = (b1.shape[1], len(b2)) if self.core is None else (self.core.shape[:2], (b1.shape[1], len(b2)))
        return ins % channels == 0 and a1.shape[1] == len(a2) and ranks[0] == ranks[1]

    def difference(self, weight: Tensor, rows: RowRanges | None) -> Tensor:
        (a1, a2), (b1, b2) = ((as_matrix(factor, weight.device) for factor in pair) for pair in (self.a, self.b))
        product = torch.einsum("oik,ir,rj->ojk", per_input(weight, len(a1)), a1, a2).reshape(weight.shape)
        if self.core is None:
            added = b1 @ b2
        else:
            core = self.core.to(weight.device, torch.float32)
            added = torch.einsum("mnkl,om,ni->oikl", core, b1, b2).flatten(1)
        return self.scale * (product + select_rows(added, rows))


@dataclass(frozen=True, slots=True)
class Replacement(Delta):
    """A whole new weight, changed further by `then` if the file has both."""

    values: Tensor  # [out], or [out, in, k, k]
    then: Delta | None = None
    kind: str = "whole weights"

    @property
    def factors(self) -> tuple[Tensor, ...]:
        return (self.values,) if self.then is None else (self.values, *self.then.factors)

    @property
    def is_zero(self) -> bool:
        return False

    def fits(self, outs: int, ins: int, rows: RowRanges) -> bool:
        if self.values.ndim == 0 or (self.values.shape[0], math.prod(self.values.shape[1:])) != (outs, ins):
            return False
        return self.then is None or self.then.fits(outs, ins, rows)

    def difference(self, weight: Tensor, rows: RowRanges | None) -> Tensor:
        values = select_rows(as_matrix(self.values, weight.device), rows)
        return values - weight if self.then is None else values + self.then.difference(values, rows) - weight
