"""What every kind of adapter has in common: the difference that it makes to one weight.

Shapes: `out` and `in` are those of the weight, `r` is the rank, `k` the sides of a convolution's kernel (none for a
linear layer).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TypeAlias

import torch
from torch import Tensor

RowRanges: TypeAlias = tuple[tuple[int, int], ...]  # ranges of a matrix's rows, (start, stop), in order


class Delta(ABC):
    """The change of one weight, stored as its factors."""

    __slots__ = ()

    kind: str  # its name as shown to the user

    @property
    @abstractmethod
    def factors(self) -> tuple[Tensor, ...]:
        """The stored tensors."""

    @property
    def is_zero(self) -> bool:
        """Whether it leaves every weight as it is: additive changes do when one of their factors is zero."""
        return not all(bool(factor.any()) for factor in self.factors)

    @abstractmethod
    def fits(self, outs: int, ins: int, rows: RowRanges) -> bool:
        """Whether it can be applied to a weight [outs, ins], ins = in * k, of which each module has a part of `rows`."""

    @abstractmethod
    def difference(self, weight: Tensor, rows: RowRanges | None) -> Tensor:
        """The changed weight minus `weight` [out, in * k], in float32.

        `weight` holds the `rows` of a fused matrix, in this order, or all rows for None.
        """


class AdditiveDelta(Delta):
    """A change that does not depend on the weight."""

    __slots__ = ()

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """[out, in * k]."""

    @abstractmethod
    def dense(self, device: torch.device) -> Tensor:
        """[out, in * k], float32, scaled by alpha / rank."""

    def fits(self, outs: int, ins: int, rows: RowRanges) -> bool:
        return self.shape == (outs, ins)

    def difference(self, weight: Tensor, rows: RowRanges | None) -> Tensor:
        return select_rows(self.dense(weight.device), rows)


def select_rows(matrix: Tensor, rows: RowRanges | None) -> Tensor:
    """The rows in these ranges, in order; all of them for None."""
    return matrix if rows is None else torch.cat([matrix[start:stop] for start, stop in rows])


def as_matrix(factor: Tensor, device: torch.device) -> Tensor:
    """[out, in * k] in float32 on the device; a vector as one column."""
    return factor.to(device, torch.float32).flatten(1) if factor.ndim > 1 else factor.to(device, torch.float32)[:, None]


def per_input(weight: Tensor, ins: int) -> Tensor:
    """[out, in * k] as [out, in, k]."""
    return weight.reshape(weight.shape[0], ins, -1)
