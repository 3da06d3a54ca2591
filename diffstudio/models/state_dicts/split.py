"""Split one file's tensors into components with diffusers' keys, and join components into one file again.

The keys are mapped by `to_diffusers`, and back by `to_original`; the round trip is exact. Works on lazy tensors: no
weight is read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from diffstudio.models.state_dicts.prefixes import COMPONENTS, FP8_SCALES, NOT_WEIGHTS, find_prefix
from diffstudio.models.state_dicts.to_diffusers import RowSlice, key_map
from diffstudio.models.state_dicts.to_original import State, clip_to_original

_CONVOLVED = re.compile(r"attentions\.\d+\.(?:to_q|to_k|to_v|to_out\.0)\.weight$")  # convolutions in the original VAE


def split_components(
    tensors: State, family: str, config_of: Callable[[str], Mapping[str, Any]]
) -> dict[str, dict[str, Tensor]]:
    """Each component's tensors by diffusers' keys; `config_of` returns a component's configuration.

    Tensors of no component (EMA copies, optimiser states) are dropped.
    """
    found: dict[str, dict[str, Tensor]] = {}
    for component in COMPONENTS:
        prefix = find_prefix(family, component, tensors)
        if prefix is not None:
            own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
            config = config_of(component)
            named = _to_diffusers(component, dequantized(own), config)
            if config.get("architectures") == ["CLIPTextModel"]:  # has no projection, but Stable Diffusion 2's files do
                named.pop("text_projection.weight", None)
            found[component] = (
                clip_to_original(named)
                if any(name.endswith("embeddings.token_embedding.weight") for name in named)
                else named
            )
    return found


def join_components(components: Mapping[str, State]) -> dict[str, Tensor]:
    """One file's tensors by diffusers' keys, each below the name of its component: `vae.encoder.conv_in.weight`."""
    return {f"{component}.{name}": tensor for component, state in components.items() for name, tensor in state.items()}


def dequantized(tensors: State) -> dict[str, Tensor]:
    """The weights alone: fp8 weights multiplied by their scales, and scales and other non-weights dropped."""
    kept = {name: tensor for name, tensor in tensors.items() if not name.endswith((*NOT_WEIGHTS, *FP8_SCALES))}
    for name, scale in tensors.items():
        weight = next((f"{name.removesuffix(suffix)}.weight" for suffix in FP8_SCALES if name.endswith(suffix)), "")
        if weight in kept:
            sides = (1,) * (kept[weight].ndim - 1)
            kept[weight] = kept[weight].float() * scale.float().reshape(-1, *sides)
    return kept


def _to_diffusers(component: str, own: State, config: Mapping[str, Any]) -> dict[str, Tensor]:
    rows = key_map(component, {name: tuple(tensor.shape) for name, tensor in own.items()}, config)
    return {
        name: _reshaped(component, name, _concatenated([_slice(own[run.name], run) for run in runs]))
        for name, runs in rows.items()
    }


def _slice(tensor: Tensor, run: RowSlice) -> Tensor:
    if tensor.ndim == 0 or (run.start, run.stop) == (0, tensor.shape[0]):
        return tensor.T if run.name == "text_projection" else tensor  # stored transposed by OpenCLIP
    return tensor[run.start : run.stop]


def _concatenated(tensors: list[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors)


def _reshaped(component: str, name: str, tensor: Tensor) -> Tensor:
    """The original VAE stores attention's linear layers as 1x1 convolutions."""
    return tensor[:, :, 0, 0] if component == "vae" and tensor.ndim == 4 and _CONVOLVED.search(name) else tensor
