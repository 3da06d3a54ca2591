"""Attention maps of the pixel transformer, whose context tokens and patches are one sequence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from diffstudio.evaluation.attention.maps import attention_weights, of_words
from diffstudio.models.inspection.joint_attention import OneStreamLayer
from diffstudio.models.inspection.layers import AttentionLayer, MapKind, NetworkBlock, Reading
from diffstudio.networks.transformer import PixelTransformer
from diffstudio.networks.transformer_layers import Attention, apply_rotary


@dataclass(frozen=True, slots=True)
class SelfAttentionLayer:
    """The attention weights from patches to context tokens, recomputed for the maps."""

    name: str
    module: Attention
    context: int  # the number of context tokens, which come first
    kind: MapKind = MapKind.WEIGHTS

    def attach(self, reading: Reading) -> list[RemovableHandle]:
        @torch.no_grad()
        def read(module: Attention, args: tuple[Tensor, Tensor]) -> None:
            x, rotation = args  # [B,T+N,D]
            for wanted in reading.wanted(len(x)):
                q, k, _ = module.qkv(x[wanted.row]).view(1, x.shape[1], 3, module.num_heads, -1).unbind(2)
                q, k = apply_rotary(module.q_norm(q), rotation)[0], apply_rotary(module.k_norm(k), rotation)[0]
                weights = attention_weights(q[self.context :].transpose(0, 1), k.transpose(0, 1))  # [N,T+N]
                reading.found(wanted, of_words(weights, wanted.words, mean=False))

        return [self.module.register_forward_pre_hook(read)]


def own_attention_layers(network: PixelTransformer) -> tuple[AttentionLayer, ...]:
    """Two layers for each block: its attention weights and its attention outputs."""
    return tuple(_layers(network))


def _layers(network: PixelTransformer) -> Iterator[AttentionLayer]:
    context = network.context_tokens

    def split(x: Tensor) -> tuple[Tensor, Tensor]:
        return x[:, context:], x[:, :context]

    for number, block in enumerate(network.blocks):
        assert isinstance(block.attn, Attention)
        yield SelfAttentionLayer(f"block {number}", block.attn, context)
        yield OneStreamLayer(f"block {number}", block.attn.proj, split)


def own_blocks(network: PixelTransformer) -> tuple[NetworkBlock, ...]:
    """The blocks of a pixel transformer, with patches as image tokens."""
    context = network.context_tokens
    return tuple(
        NetworkBlock(f"block {number}", block, lambda output, size: output[:, context:])
        for number, block in enumerate(network.blocks)
    )
