"""AttentionLayer: a layer of a network from which attention maps are read while it runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

WEIGHTS, OUTPUTS = "weights", "outputs"


class MapKind(Enum):
    """The source of attention maps."""

    WEIGHTS = WEIGHTS  # attention weights from image tokens to text tokens: DAAM
    OUTPUTS = OUTPUTS  # similarity of the attention outputs of image and text tokens: ConceptAttention


@dataclass(frozen=True, slots=True)
class WantedRow:
    """One row of the batch of a network call that is conditioned on words."""

    row: int
    number: int  # of the subprompt
    words: tuple[tuple[int, ...], ...]  # the positions of the tokens of each word


@dataclass(frozen=True, slots=True)
class Reading:
    """The rows to read from a call of one layer, given its batch size, and a function that gets their maps [W,N]."""

    wanted: Callable[[int], Sequence[WantedRow]]
    found: Callable[[WantedRow, Tensor], None]


class AttentionLayer(Protocol):
    """A layer whose maps are computed in addition to its own attention, which is not changed."""

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> MapKind: ...

    def attach(self, reading: Reading) -> list[RemovableHandle]:
        """Read from every call until the handles are removed."""


@dataclass(frozen=True, slots=True)
class NetworkBlock:
    """A block whose output is used as features."""

    name: str
    module: nn.Module
    image_tokens: Callable[[Any, tuple[int, int]], Tensor]  # block output, size of the state -> [B,C,h,w] or [B,N,D]
