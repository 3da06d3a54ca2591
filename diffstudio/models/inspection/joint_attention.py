"""Attention outputs of transformers with joint attention (ConceptAttention, Helbling et al. 2025, arXiv 2502.04320).

A word acts where the attention outputs of its text tokens are similar to those of the image tokens. Nothing is
recomputed: the outputs are the inputs of the layers' own projections.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from diffstudio.evaluation.attention.maps import of_words, output_similarity
from diffstudio.models.inspection.layers import MapKind, Reading


@dataclass(frozen=True, slots=True)
class TwoStreamLayer:
    """A layer with separate projections for image and text tokens (MMDiT, arXiv 2403.03206), whose inputs are read."""

    name: str
    image: nn.Module  # [B,N,D] -> any
    text: nn.Module  # [B,T,D] -> any
    kind: MapKind = MapKind.OUTPUTS

    def attach(self, reading: Reading) -> list[RemovableHandle]:
        halves: dict[str, Tensor] = {}  # of the current call, in the family's order

        def reader(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
            def read(module: nn.Module, args: tuple[Tensor, ...]) -> None:
                halves[name] = args[0]
                if len(halves) == 2:
                    _read(halves["image"], halves["text"], reading)
                    halves.clear()

            return read

        return [
            self.image.register_forward_pre_hook(reader("image")),
            self.text.register_forward_pre_hook(reader("text")),
        ]


@dataclass(frozen=True, slots=True)
class OneStreamLayer:
    """A layer with image and text tokens in one sequence. `split` splits attention outputs [B,M,D] into image and text."""

    name: str
    module: nn.Module
    split: Callable[[Tensor], tuple[Tensor, Tensor]]
    of_output: bool = False  # read the module's output instead of its input
    kind: MapKind = MapKind.OUTPUTS

    def attach(self, reading: Reading) -> list[RemovableHandle]:
        def read_input(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            _read(*self.split(args[0]), reading)

        def read_output(module: nn.Module, args: Any, output: Tensor) -> None:
            _read(*self.split(output), reading)

        if self.of_output:
            return [self.module.register_forward_hook(read_output)]
        return [self.module.register_forward_pre_hook(read_input)]


def two_stream_layers(blocks: Iterable[Any], kind: str) -> tuple[TwoStreamLayer, ...]:
    """The layers of diffusers blocks with an `attn` for both streams; in some families the last one has no text output."""
    return tuple(
        TwoStreamLayer(f"{kind} {number}", block.attn.to_out[0], block.attn.to_add_out)
        for number, block in enumerate(blocks)
        if not block.attn.context_pre_only
    )


@torch.no_grad()
def _read(image: Tensor, text: Tensor, reading: Reading) -> None:
    for wanted in reading.wanted(len(image)):
        tokens = sorted({token for word in wanted.words for token in word})
        places = {token: place for place, token in enumerate(tokens)}
        scores = output_similarity(image[wanted.row], text[wanted.row][tokens])  # [N, tokens of words]
        words = [[places[token] for token in word] for word in wanted.words]
        reading.found(wanted, of_words(scores, words, mean=True))
