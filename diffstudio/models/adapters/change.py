"""Everything that an adapter changes in one layer, and its sum with a weight or a bias.

The weight of an adapter scales the difference that it makes: W + w (W' - W), where W' is the changed layer. 0 is off and
1 as trained for every kind, those that multiply or rotate the weight included; several adapters add up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from diffstudio.models.adapters.delta import Delta, RowRanges, as_matrix, per_input, select_rows
from diffstudio.models.adapters.low_rank import LowRank


@dataclass(frozen=True, slots=True)
class BiasChange:
    """The change of one bias [out]: plus `added`, times 1 + `scaled`, or `replaced`."""

    added: Tensor | None = None
    scaled: Tensor | None = None
    replaced: Tensor | None = None

    @property
    def values(self) -> tuple[Tensor, ...]:
        return tuple(one for one in (self.added, self.scaled, self.replaced) if one is not None)

    @property
    def needs_bias(self) -> bool:
        """Whether it cannot be applied to a layer without a bias."""
        return self.added is not None or self.replaced is not None

    @property
    def is_zero(self) -> bool:
        return self.replaced is None and not any(bool(one.any()) for one in self.values)

    def fits(self, outs: int) -> bool:
        return all(one.numel() == outs for one in self.values)

    def difference(self, bias: Tensor, rows: RowRanges | None) -> Tensor:
        """[out] in float32, for the rows of `bias` [out] in float32."""
        total = torch.zeros_like(bias)
        for factor, values in ((1.0, self.added), (bias, self.scaled)):
            if values is not None:
                total += factor * _vector(values, rows, bias)
        return total if self.replaced is None else total + _vector(self.replaced, rows, bias) - bias


def _vector(values: Tensor, rows: RowRanges | None, like: Tensor) -> Tensor:
    return select_rows(values.to(like.device, torch.float32).reshape(-1), rows).reshape(like.shape)


@dataclass(frozen=True, slots=True)
class Change:
    """Everything that one adapter changes in one layer."""

    delta: Delta | None = None  # of its weight
    magnitude: Tensor | None = None  # DoRA: [out, 1, …] or [1, in, …]
    bias: BiasChange | None = None

    @property
    def kind(self) -> str:
        return "DoRA" if self.magnitude is not None else self.delta.kind if self.delta is not None else "biases"

    @property
    def is_zero(self) -> bool:
        """Whether it has no effect at any factor. DoRA magnitudes alone count as a change."""
        zero_delta = self.delta is None or self.delta.is_zero
        return zero_delta and self.magnitude is None and (self.bias is None or self.bias.is_zero)

    def fits(self, outs: int, ins: int, rows: RowRanges) -> bool:
        """Whether it has the shape of a weight [outs, ins], ins = in * k; `rows` are those of each module of a fused one."""
        if self.delta is not None and not self.delta.fits(outs, ins, rows):
            return False
        if self.magnitude is not None and self.magnitude.shape[0] != outs:
            by_input = self.magnitude.shape[0] == 1 and ins % self.magnitude.numel() == 0
            if not by_input or rows != ((0, outs),):
                return False
        return self.bias is None or self.bias.fits(outs)


# The changes of one weight, each with its factor and rows.
WeightUpdates: TypeAlias = tuple[tuple[Change, float, RowRanges | None], ...]


def apply_changes(weight: Tensor, changes: Sequence[tuple[Change, float, RowRanges | None]]) -> Tensor:
    """A new tensor in the weight's dtype: `weight` plus all changes, each with its factor and the rows that apply here.

    Computed in float32, each change from the unchanged weight.
    """
    flat = weight.reshape(weight.shape[0], -1)
    if all(is_plain(change) for change, _, _ in changes) and changes:
        ups, downs = zip(
            *(_scaled_factors(change, factor, rows, weight.device) for change, factor, rows in changes), strict=True
        )
        up, down = torch.cat(ups, 1), torch.cat(downs)
        if weight.dtype is torch.float32:
            return torch.addmm(flat, up, down).view_as(weight)  # one pass over what may be gigabytes
        return (up @ down).add_(flat).to(weight.dtype).view_as(weight)
    exact = flat.float()
    total = exact.clone()
    for change, factor, rows in changes:
        total.add_(weight_difference(exact, change, rows, weight.shape), alpha=factor)
    return total.to(weight.dtype).view_as(weight)


def weight_difference(weight: Tensor, change: Change, rows: RowRanges | None, shape: torch.Size) -> Tensor:
    """What a change adds to `weight` [out, in * k] in float32 at a factor of 1; `shape` is that of the weight.

    DoRA (Liu et al. 2024, arXiv 2402.09353, eq. 5) goes from the weight to DoRA's result, as in AUTOMATIC1111 and
    ComfyUI.
    """
    assert change.delta is not None
    difference = change.delta.difference(weight, rows)
    if change.magnitude is None:
        return difference
    magnitude = change.magnitude if change.magnitude.shape[0] == 1 else select_rows(change.magnitude, rows)
    return _with_magnitude(weight + difference, magnitude, shape) - weight


def apply_bias_changes(bias: Tensor, changes: Sequence[tuple[Change, float, RowRanges | None]]) -> Tensor:
    """A new tensor in the bias' dtype: `bias` plus all changes, each with its factor and the rows that apply here."""
    exact = bias.float()
    total = exact.clone()
    for change, factor, rows in changes:
        if change.bias is not None:
            total.add_(change.bias.difference(exact, rows), alpha=factor)
    return total.to(bias.dtype)


def _with_magnitude(weight: Tensor, magnitude: Tensor, shape: torch.Size) -> Tensor:
    """`weight` [out, in * k] rescaled to the norms in `magnitude`, per output or per input."""
    lengths = magnitude.to(weight.device, torch.float32)
    if lengths.shape[0] == shape[0]:
        row_norms: Tensor = weight.norm(dim=1, keepdim=True)  # [out, 1]
        return weight * (lengths.reshape(-1, 1) / row_norms.clamp_min(1e-12))
    by_input = per_input(weight, shape[1])  # [out, in, k]
    column_norms: Tensor = by_input.norm(dim=(0, 2), keepdim=True)  # [1, in, 1]
    return (by_input * (lengths.reshape(1, -1, 1) / column_norms.clamp_min(1e-12))).flatten(1)


def is_plain(change: Change) -> bool:
    """Whether it is a LoRA of two matrices and nothing else, which needs no dense matrix."""
    return isinstance(change.delta, LowRank) and change.delta.core is None and change.magnitude is None


def _scaled_factors(
    change: Change, factor: float, rows: RowRanges | None, device: torch.device
) -> tuple[Tensor, Tensor]:
    delta = change.delta
    assert isinstance(delta, LowRank)
    up = select_rows(delta.up, rows)
    return as_matrix(up, device) * (factor * delta.scale), as_matrix(delta.down, device)
