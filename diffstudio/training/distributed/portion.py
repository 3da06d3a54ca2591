"""Portion: which images of a global batch one process has. No torch is imported here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Portion:
    """Images `first` to `first + count - 1` of the `total` of a global batch.

    Random numbers are drawn for all of them by every process, which keeps its own: so they do not depend on how many
    processes there are.
    """

    first: int
    count: int
    total: int

    @classmethod
    def whole(cls, total: int) -> Portion:
        return cls(0, total, total)

    @classmethod
    def of(cls, total: int, rank: int, world: int) -> Portion:
        """That of process `rank` (0-based) of `world`: they differ by one image at most."""
        first, end = total * rank // world, total * (rank + 1) // world
        return cls(first, end - first, total)

    @property
    def share(self) -> float:
        """Of the global batch: the weight of a mean over these images in the mean over all."""
        return self.count / self.total

    def cut(self, drawn: Tensor, dim: int = 0) -> Tensor:
        """Of what was drawn for every image of the global batch, along `dim`, that of these images."""
        return drawn if self.count == self.total else drawn.narrow(dim, self.first, self.count)
