"""Cross-attention maps of U-Nets, from image tokens to text tokens (DAAM, Tang et al. 2022, arXiv 2210.04885)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from diffstudio.evaluation.attention.maps import attention_weights, of_words
from diffstudio.models.inspection.layers import MapKind, Reading

_CROSS_ATTENTION = "attn2"  # diffusers' name in its transformer blocks


@dataclass(frozen=True, slots=True)
class CrossAttentionLayer:
    """A diffusers Attention with text as `encoder_hidden_states`; its weights are recomputed for the maps."""

    name: str
    module: Any
    kind: MapKind = MapKind.WEIGHTS

    def attach(self, reading: Reading) -> list[RemovableHandle]:
        @torch.no_grad()
        def read(module: Any, args: tuple[Tensor, ...], named: Mapping[str, Any]) -> None:
            hidden_states = named["hidden_states"] if "hidden_states" in named else args[0]  # [B,N,D]
            text = named["encoder_hidden_states"]  # [B,T,D]
            for wanted in reading.wanted(len(hidden_states)):
                query = _heads(module.to_q(hidden_states[wanted.row]), module)
                key = _heads(module.to_k(text[wanted.row]), module)
                query = query if module.norm_q is None else module.norm_q(query)
                key = key if module.norm_k is None else module.norm_k(key)
                reading.found(wanted, of_words(attention_weights(query, key), wanted.words, mean=False))

        return [self.module.register_forward_pre_hook(read, with_kwargs=True)]


def cross_attention_layers(network: nn.Module) -> tuple[CrossAttentionLayer, ...]:
    """The cross-attention layers of a UNet2DConditionModel, in the order of its blocks: down, middle, up."""
    found = [
        (name.removesuffix(f".{_CROSS_ATTENTION}"), module)
        for name, module in network.named_modules()
        if name.endswith(f".{_CROSS_ATTENTION}")
    ]
    order = {"down_blocks": 0, "mid_block": 1, "up_blocks": 2}
    found.sort(key=lambda one: order.get(one[0].partition(".")[0], 3))  # stable
    return tuple(CrossAttentionLayer(_short(name), module) for name, module in found)


def _short(name: str) -> str:
    """`down_blocks.1.attentions.0.transformer_blocks.0` -> `down 1.0.0`."""
    place, *rest = name.split(".")
    numbers = [part for part in rest if part.isdigit()]
    return " ".join((place.removesuffix("_blocks").removesuffix("_block"), ".".join(numbers)))


def _heads(projected: Tensor, module: Any) -> Tensor:
    """[N,D] -> [heads,N,D/heads]."""
    heads: Tensor = projected.unflatten(-1, (int(module.heads), -1)).transpose(0, 1)
    return heads
