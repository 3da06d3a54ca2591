"""The change that an adapter makes to one weight: LoRA, LoCon, LoHa, LoKr, full differences, and DoRA on top of each.

Shapes: `out` and `in` are those of the weight, `r` is the rank, `k` the sides of a convolution's kernel (none for a
linear layer).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

RowRanges: TypeAlias = tuple[tuple[int, int], ...]  # ranges of a matrix's rows, (start, stop), in order


class Delta(Protocol):
    """An additive change of one weight, stored as its factors."""

    @property
    def kind(self) -> str:
        """Its name as shown to the user."""

    @property
    def shape(self) -> tuple[int, int]:
        """[out, in * k]."""

    @property
    def factors(self) -> tuple[Tensor, ...]:
        """The stored tensors; if one of them is zero, so is the change."""

    def dense(self, device: torch.device) -> Tensor:
        """[out, in * k], float32, scaled by alpha / rank."""


@dataclass(frozen=True, slots=True)
class LowRank:
    """LoRA (Hu et al. 2021, arXiv 2106.09685): up · down; for convolutions (LoCon) with an optional Tucker core."""

    up: Tensor  # [out, r], or [out, r, 1, 1]
    down: Tensor  # [r, in], or [r, in, k, k]; with a core [s, in, 1, 1]
    alpha: float | None = None
    core: Tensor | None = None  # [r, s, k, k]
    kind: str = "LoRA"

    @property
    def shape(self) -> tuple[int, int]:
        kernel = math.prod(self.core.shape[2:]) if self.core is not None else 1
        return self.up.shape[0], math.prod(self.down.shape[1:]) * kernel

    @property
    def factors(self) -> tuple[Tensor, ...]:
        return (self.up, self.down) if self.core is None else (self.up, self.down, self.core)

    @property
    def scale(self) -> float:
        return _scale(self.alpha, self.down.shape[0])

    def dense(self, device: torch.device) -> Tensor:
        up, down = (_matrix(factor, device) for factor in (self.up, self.down))
        if self.core is None:
            return self.scale * (up @ down)
        core = self.core.to(device, torch.float32)
        return self.scale * torch.einsum("or,rskl,si->oikl", up, core, down).flatten(1)


@dataclass(frozen=True, slots=True)
class Hadamard:
    """LoHa: (a1 · b1) ∘ (a2 · b2); with Tucker cores by Proposition 2.

    FedPara, Hyeon-Woo et al. 2021, arXiv 2108.06098.
    """

    a1: Tensor  # [out, r]; with cores [r, out]
    b1: Tensor  # [r, in * k]; with cores [r, in]
    a2: Tensor
    b2: Tensor
    alpha: float | None = None
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
            _tucker(core, a, b, device) if core is not None else _matrix(a, device) @ _matrix(b, device)
            for a, b, core in ((self.a1, self.b1, self.core1), (self.a2, self.b2, self.core2))
        ]
        return _scale(self.alpha, self.b1.shape[0]) * (halves[0] * halves[1]).flatten(1)


@dataclass(frozen=True, slots=True)
class Kronecker:
    """LoKr (Yeh et al. 2023, LyCORIS, arXiv 2309.14859): the Kronecker product of two small matrices, full or factored."""

    left: tuple[Tensor, ...]  # w1 [p, q], or its factors [p, r] and [r, q]
    right: tuple[Tensor, ...]  # w2 [out / p, in / q, k, k], or factors as above, or a Tucker core and its factors
    alpha: float | None = None
    kind: str = "LoKr"

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
        # LyCORIS scales by alpha / rank only where there is a rank: two whole factors count as they are.
        rank = self.right[-1].shape[0] if len(self.right) > 1 else self.left[-1].shape[0] if len(self.left) > 1 else 0
        return (_scale(self.alpha, rank) if rank else 1.0) * torch.kron(left, right.contiguous()).flatten(1)


@dataclass(frozen=True, slots=True)
class FullDifference:
    """A full difference, as in LyCORIS' `full` and norm layers."""

    difference: Tensor  # [out], or [out, in, k, k]
    kind: str = "full differences"

    @property
    def shape(self) -> tuple[int, int]:
        return self.difference.shape[0], math.prod(self.difference.shape[1:])

    @property
    def factors(self) -> tuple[Tensor, ...]:
        return (self.difference,)

    def dense(self, device: torch.device) -> Tensor:
        return _matrix(self.difference.reshape(self.shape), device)


@dataclass(frozen=True, slots=True)
class Change:
    """Everything that one adapter changes in one layer."""

    delta: Delta | None = None  # of its weight
    magnitude: Tensor | None = None  # DoRA: [out, 1, …] or [1, in, …]
    bias: Tensor | None = None  # [out], added to its bias

    @property
    def kind(self) -> str:
        return "DoRA" if self.magnitude is not None else self.delta.kind if self.delta is not None else "biases"

    @property
    def rank(self) -> int:
        return self.delta.down.shape[0] if isinstance(self.delta, LowRank) else 0

    @property
    def is_zero(self) -> bool:
        """Whether it has no effect at any factor. DoRA magnitudes alone count as a change."""
        zero_delta = self.delta is None or not all(bool(factor.any()) for factor in self.delta.factors)
        return zero_delta and self.magnitude is None and (self.bias is None or not bool(self.bias.any()))


def apply_changes(weight: Tensor, changes: Sequence[tuple[Change, float, RowRanges | None]]) -> Tensor:
    """A new tensor in the weight's dtype: `weight` plus all changes, each with its factor and the rows that apply here.

    Computed in float32. DoRA (Liu et al. 2024, arXiv 2402.09353, eq. 5) is applied to the unchanged weight, and its
    factor interpolates between the weight (0) and DoRA's result (1), as in AUTOMATIC1111 and ComfyUI.
    """
    flat = weight.reshape(weight.shape[0], -1)
    if all(_is_plain(change) for change, _, _ in changes) and changes:
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
        if change.delta is None:
            continue
        delta = change.delta.dense(weight.device)
        delta = delta if rows is None else _select_rows(delta, rows)
        if change.magnitude is not None:
            magnitude = change.magnitude if rows is None else _select_rows(change.magnitude, rows)
            delta = _with_magnitude(exact + delta, magnitude, weight.shape) - exact
        total.add_(delta, alpha=factor)
    return total.to(weight.dtype).view_as(weight)


def _with_magnitude(weight: Tensor, magnitude: Tensor, shape: torch.Size) -> Tensor:
    """`weight` [out, in * k] rescaled to the norms in `magnitude`, per output or per input."""
    lengths = magnitude.to(weight.device, torch.float32)
    if lengths.shape[0] == shape[0]:
        row_norms: Tensor = weight.norm(dim=1, keepdim=True)  # [out, 1]
        return weight * (lengths.reshape(-1, 1) / row_norms.clamp_min(1e-12))
    by_input = weight.reshape(shape[0], shape[1], -1)  # [out, in, k]
    column_norms: Tensor = by_input.norm(dim=(0, 2), keepdim=True)  # [1, in, 1]
    return (by_input * (lengths.reshape(1, -1, 1) / column_norms.clamp_min(1e-12))).flatten(1)


def _is_plain(change: Change) -> bool:
    return isinstance(change.delta, LowRank) and change.delta.core is None and change.magnitude is None


def _scaled_factors(
    change: Change, factor: float, rows: RowRanges | None, device: torch.device
) -> tuple[Tensor, Tensor]:
    delta = change.delta
    assert isinstance(delta, LowRank)
    up = delta.up if rows is None else _select_rows(delta.up, rows)
    return _matrix(up, device) * (factor * delta.scale), _matrix(delta.down, device)


def _select_rows(matrix: Tensor, rows: RowRanges) -> Tensor:
    return torch.cat([matrix[start:stop] for start, stop in rows])


def _scale(alpha: float | None, rank: int) -> float:
    return 1.0 if alpha is None or rank == 0 else alpha / rank


def _matrix(factor: Tensor, device: torch.device) -> Tensor:
    return factor.to(device, torch.float32).flatten(1) if factor.ndim > 1 else factor.to(device, torch.float32)[:, None]


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
        return _matrix(factors[0], device) @ factors[1].to(device, torch.float32).flatten(1)
    return factors[0].to(device, torch.float32)


_HADA = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
_MISSING_MATRIX = "one of its two matrices is missing"
_MISMATCHED_SHAPES = "the shapes of its matrices do not match"


def parse_change(tensors: Mapping[str, Tensor], alpha: float | None) -> Change | str:
    """The change that the tensors of one layer describe, or the reason why it cannot be used.

    The keys are their roles in `adapter_file`.
    """
    bias = tensors.get("diff_b")
    bias = tensors.get("up_bias") if bias is None else bias
    delta: Delta | None = None
    if "up" in tensors or "down" in tensors:
        if not ("up" in tensors and "down" in tensors):
            return _MISSING_MATRIX
        up, down, core = tensors["up"], tensors["down"], tensors.get("mid")
        ranks = (up.shape[1:2], down.shape[:1]) if core is None else (up.shape[1:2] + down.shape[:1], core.shape[:2])
        if ranks[0] != ranks[1] or up.ndim < 2 or down.ndim < 2:
            return _MISMATCHED_SHAPES
        if bias is not None and "up_bias" in tensors:
            bias = bias * _scale(alpha, down.shape[0])
        delta = LowRank(
            up, down, alpha, core, "LoCon" if down.ndim == 4 and (core is not None or down.shape[-1] > 1) else "LoRA"
        )
    elif any(name in tensors for name in _HADA):
        if not all(name in tensors for name in _HADA):
            return _MISSING_MATRIX
        a1, b1, a2, b2 = (tensors[name] for name in _HADA)
        delta = Hadamard(a1, b1, a2, b2, alpha, tensors.get("hada_t1"), tensors.get("hada_t2"))
    elif any(name.startswith("lokr_") for name in tensors):
        left, right = (_kronecker_factors(tensors, side) for side in ("1", "2"))
        if not left or not right:
            return _MISSING_MATRIX
        delta = Kronecker(left, right, alpha)
    elif "diff" in tensors and tensors["diff"].ndim:
        delta = FullDifference(tensors["diff"])
    if delta is None and bias is None:
        return "its kind is not supported"
    if isinstance(delta, (Hadamard, Kronecker)) and not _has_matching_shapes(delta):
        return _MISMATCHED_SHAPES
    magnitude = tensors.get("dora_scale")  # [out, 1, …] or [1, in, …]
    if "magnitude" in tensors:
        magnitude = tensors["magnitude"].reshape(-1, 1)  # PEFT's is per output: [out] or [1, out, 1, 1]
    return Change(delta, magnitude, bias)


def _has_matching_shapes(delta: Delta) -> bool:
    """Whether its factors can be multiplied; tried on the meta device."""
    try:
        return delta.dense(torch.device("meta")).shape == delta.shape
    except (RuntimeError, IndexError, ValueError):
        return False


def _kronecker_factors(tensors: Mapping[str, Tensor], side: str) -> tuple[Tensor, ...]:
    if f"lokr_w{side}" in tensors:
        return (tensors[f"lokr_w{side}"],)
    if f"lokr_w{side}_a" not in tensors or f"lokr_w{side}_b" not in tensors:
        return ()
    factors = (tensors[f"lokr_w{side}_a"], tensors[f"lokr_w{side}_b"])
    core = tensors.get(f"lokr_t{side}")
    return factors if core is None else (core, *factors)
