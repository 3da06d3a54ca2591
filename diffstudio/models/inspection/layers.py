"""AttentionLayer: one layer of a network from which maps of words are read, while it runs as always."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

WEIGHTS, OUTPUTS = "weights", "outputs"


class MapKind(Enum):
    """What maps are made from."""

    WEIGHTS = WEIGHTS  # of attention from image tokens to text tokens: DAAM
    OUTPUTS = OUTPUTS  # how alike the attention outputs of image and text tokens are: ConceptAttention


@dataclass(frozen=True, slots=True)
class WantedRow:
    """One row of the batch of a network call that is conditioned on words."""

    row: int
    number: int  # of the subprompt
    words: tuple[tuple[int, ...], ...]  # the positions of the tokens of each word


@dataclass(frozen=True, slots=True)
class Reading:
    """What is read from one layer: the rows that are wanted of a call of so many, and what to do with their maps [W,N]."""

    wanted: Callable[[int], Sequence[WantedRow]]
    found: Callable[[WantedRow, Tensor], None]


class AttentionLayer(Protocol):
    """Maps are computed beside the layer's own attention, which is neither replaced nor changed."""

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> MapKind: ...

    def attach(self, reading: Reading) -> list[RemovableHandle]:
        """Read from every call until the handles are removed."""


@dataclass(frozen=True, slots=True)
class NetworkBlock:
    """A block whose output is read as features."""

    name: str
    module: nn.Module
    image_tokens: Callable[[Any, tuple[int, int]], Tensor]  # its output and the state's size -> [B,C,h,w] or [B,N,D]
