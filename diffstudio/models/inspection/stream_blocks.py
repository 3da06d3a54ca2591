"""The blocks of transformers with separate image and text streams."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from diffstudio.models.inspection.layers import NetworkBlock


def stream_blocks(network: Any, *lists: str) -> tuple[NetworkBlock, ...]:
    """All blocks in these module lists of a network; each returns text states, then image states."""
    return tuple(_blocks(network, lists))


def _blocks(network: Any, lists: Iterable[str]) -> Iterable[NetworkBlock]:
    for name in lists:
        kind = "single" if name.startswith("single") else "block"
        for number, block in enumerate(getattr(network, name)):
            yield NetworkBlock(f"{kind} {number}", block, _image)


def _image(output: Any, size: tuple[int, int]) -> Tensor:
    """[B,N,D]."""
    image: Tensor = output[1]
    return image
