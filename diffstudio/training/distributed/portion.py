"""Portion: the images of a global batch that one process has. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Portion:
    """Images `first` to `first + count - 1` of the `total` images of a global batch.

    Every process draws random numbers for all images and keeps those of its own, so they do not depend on the number of
    processes.
    """

    first: int
    count: int
    total: int

    @classmethod
    def whole(cls, total: int) -> Portion:
        return cls(0, total, total)

    @classmethod
    def of(cls, total: int, rank: int, world: int) -> Portion:
        """The portion of process `rank` (from 0) of `world`; sizes differ by at most one image."""
        first, end = total * rank // world, total * (rank + 1) // world
        return cls(first, end - first, total)

    @property
    def share(self) -> float:
        """The share of the global batch, which is the weight of this portion's mean in the mean over all images."""
        return self.count / self.total

    def cut(self, drawn: Tensor, dim: int = 0) -> Tensor:
        """The part for these images of a tensor that was drawn for the global batch along `dim`."""
        return drawn if self.count == self.total else drawn.narrow(dim, self.first, self.count)
