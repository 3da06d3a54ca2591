"""Key maps from the original naming of state dicts to diffusers'.

A key map lists, for each key of a module, the rows of the file's tensors that it is made of. The conversion itself is
diffusers' own (`loaders.single_file_utils`). Its converters split and swap matrices by rows
only, so they are run on row numbers instead of weights, and the result says where each row comes from. Weights are then
read one tensor at a time, however they are stored.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from diffstudio.models.state_dicts.infer_config import Shape, Shapes
from diffstudio.models.state_dicts.prefixes import COMPONENT_PREFIXES, ORIGINAL_NETWORK, VAE_PREFIXES

State = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class RowSlice:
    """The rows from `start` up to `stop` of the tensor `name`."""

    name: str
    start: int
    stop: int


KeyMap = Mapping[str, tuple[RowSlice, ...]]  # diffusers' key -> the rows that are concatenated for it
_Convert = Callable[[State, Mapping[str, Any]], State]


def key_map(component: str, shapes: Shapes, config: Mapping[str, Any]) -> KeyMap:
    """The key map of a component (`unet`, `vae`, `text_encoder_2` …) from its tensors' shapes, by keys without the
    prefix.

    The identity for keys in diffusers' naming. KeyError, IndexError, ValueError or RuntimeError where a tensor is
    missing.
    """
    kind = "text_encoder" if component.startswith("text_encoder") else component
    for required_keys, convert in _CONVERTERS.get(kind, ()):
        if all(key in shapes for key in required_keys):
            return _map_of_converter(convert, shapes, config)
    return {name: (RowSlice(name, 0, shape[0] if shape else 1),) for name, shape in shapes.items()}


def _map_of_converter(convert: _Convert, shapes: Shapes, config: Mapping[str, Any]) -> KeyMap:
    return _cached_map(convert, tuple(shapes.items()), json.dumps(dict(config), sort_keys=True))


@lru_cache(maxsize=16)  # a file's map is needed several times while it is opened, fused or merged
def _cached_map(convert: _Convert, shapes: tuple[tuple[str, Shape], ...], config: str) -> KeyMap:
    names = [name for name, _ in shapes]
    numbered = {name: _row_numbers(index, shape) for index, (name, shape) in enumerate(shapes)}
    converted = convert(numbered, json.loads(config))
    return MappingProxyType({name: _row_slices(numbers, names) for name, numbers in converted.items()})


def _row_numbers(index: int, shape: Shape) -> Tensor:
    """[rows,1,…] int64: the tensor's index in the upper 32 bits, the row's in the lower."""
    rows = torch.arange(shape[0] if shape else 1) + (index << 32)
    return rows.view(shape[0], *(1,) * (len(shape) - 1)) if shape else rows.view(())


def _row_slices(numbers: Tensor, names: list[str]) -> tuple[RowSlice, ...]:
    """The runs of consecutive rows in a converted tensor of row numbers."""
    flat = numbers.reshape(-1)
    starts = [0, *(torch.nonzero(flat.diff() != 1).flatten() + 1).tolist()]
    firsts = flat[starts].tolist()
    runs = []
    for first, start, stop in zip(firsts, starts, (*starts[1:], len(flat)), strict=True):
        row = first & 0xFFFFFFFF
        runs.append(RowSlice(names[first >> 32], row, row + stop - start))
    return tuple(runs)


# ---- networks --------------------------------------------------------------------------------------------------------


def _unet(state: State, config: Mapping[str, Any]) -> State:
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    converted: State = convert_ldm_unet_checkpoint(_add_prefix(ORIGINAL_NETWORK, state), config=dict(config))
    return converted


def _sd3(state: State, config: Mapping[str, Any]) -> State:
    from diffusers.loaders.single_file_utils import convert_sd3_transformer_checkpoint_to_diffusers

    converted: State = convert_sd3_transformer_checkpoint_to_diffusers(dict(state))
    return converted


def _z_image(state: State, config: Mapping[str, Any]) -> State:
    from diffusers.loaders.single_file_utils import convert_z_image_transformer_checkpoint_to_diffusers

    converted: State = convert_z_image_transformer_checkpoint_to_diffusers(dict(state))
    return converted


# Ours for FLUX.1, because diffusers' assumes a width of 3,072. A test checks that the two agree.
_FLUX = tuple(
    (re.compile(original), diffusers)
    for original, diffusers in (
        (r"time_in\.(in|out)_layer", "time_text_embed.timestep_embedder.linear_{}"),
        (r"vector_in\.(in|out)_layer", "time_text_embed.text_embedder.linear_{}"),
        (r"guidance_in\.(in|out)_layer", "time_text_embed.guidance_embedder.linear_{}"),
        (r"txt_in", "context_embedder"),
        (r"img_in", "x_embedder"),
        (r"final_layer\.linear", "proj_out"),
        (r"final_layer\.adaLN_modulation\.1", "norm_out.linear"),
        (r"double_blocks\.(\d+)\.img_mod\.lin", "transformer_blocks.{}.norm1.linear"),
        (r"double_blocks\.(\d+)\.txt_mod\.lin", "transformer_blocks.{}.norm1_context.linear"),
        (r"double_blocks\.(\d+)\.img_attn\.proj", "transformer_blocks.{}.attn.to_out.0"),
        (r"double_blocks\.(\d+)\.txt_attn\.proj", "transformer_blocks.{}.attn.to_add_out"),
        (r"double_blocks\.(\d+)\.img_attn\.norm\.(query|key)_norm", "transformer_blocks.{}.attn.norm_{}"),
        (r"double_blocks\.(\d+)\.txt_attn\.norm\.(query|key)_norm", "transformer_blocks.{}.attn.norm_added_{}"),
        (r"double_blocks\.(\d+)\.img_mlp\.(0|2)", "transformer_blocks.{}.ff.net.{}"),
        (r"double_blocks\.(\d+)\.txt_mlp\.(0|2)", "transformer_blocks.{}.ff_context.net.{}"),
        (r"single_blocks\.(\d+)\.modulation\.lin", "single_transformer_blocks.{}.norm.linear"),
        (r"single_blocks\.(\d+)\.norm\.(query|key)_norm", "single_transformer_blocks.{}.attn.norm_{}"),
        (r"single_blocks\.(\d+)\.linear2", "single_transformer_blocks.{}.proj_out"),
    )
)
_FLUX_FUSED = tuple(
    (re.compile(original), diffusers)
    for original, diffusers in (
        (
            r"double_blocks\.(\d+)\.img_attn\.qkv",
            ("transformer_blocks.{}.attn.to_q", "transformer_blocks.{}.attn.to_k", "transformer_blocks.{}.attn.to_v"),
        ),
        (
            r"double_blocks\.(\d+)\.txt_attn\.qkv",
            (
                "transformer_blocks.{}.attn.add_q_proj",
                "transformer_blocks.{}.attn.add_k_proj",
                "transformer_blocks.{}.attn.add_v_proj",
            ),
        ),
        (
            r"single_blocks\.(\d+)\.linear1",
            (
                "single_transformer_blocks.{}.attn.to_q",
                "single_transformer_blocks.{}.attn.to_k",
                "single_transformer_blocks.{}.attn.to_v",
                "single_transformer_blocks.{}.proj_mlp",
            ),
        ),
    )
)
_FLUX_NAMES = {"in": "1", "out": "2", "query": "q", "key": "k", "0": "0.proj"}
_FLUX_KINDS = {"weight": "weight", "bias": "bias", "scale": "weight"}


def _flux(state: State, config: Mapping[str, Any]) -> State:
    width = len(state["img_in.weight"])
    converted: State = {}
    for name, value in state.items():
        layer, _, kind = name.rpartition(".")
        for pattern, diffusers in _FLUX:
            if (found := pattern.fullmatch(layer)) is not None and kind in _FLUX_KINDS:
                first, *rest = found.groups() or ("",)
                names = (
                    _FLUX_NAMES.get(first, first) if "layer" in layer else first,
                    *(_FLUX_NAMES.get(one, one) for one in rest),
                )
                value = (
                    torch.cat(value.chunk(2)[::-1]) if diffusers == "norm_out.linear" else value
                )  # diffusers: scale, then shift
                converted[f"{diffusers.format(*names)}.{_FLUX_KINDS[kind]}"] = value
        for pattern, several in _FLUX_FUSED:
            if (found := pattern.fullmatch(layer)) is not None:
                chunks = value.split((width,) * 3 + ((len(value) - 3 * width,) if len(several) == 4 else ()))
                converted |= {
                    f"{diffusers.format(found[1])}.{kind}": chunk
                    for diffusers, chunk in zip(several, chunks, strict=True)
                }
    return converted


# ---- autoencoders and text encoders ----------------------------------------------------------------------------------


def _vae(state: State, config: Mapping[str, Any]) -> State:
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    converted: State = convert_ldm_vae_checkpoint(_add_prefix(VAE_PREFIXES[0], state), config=dict(config))
    return converted


def _wan_vae(state: State, config: Mapping[str, Any]) -> State:
    from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers

    converted: State = convert_wan_vae_to_diffusers(dict(state))
    return converted


def _open_clip(state: State, config: Mapping[str, Any]) -> State:
    """OpenCLIP, without the last layers where the configuration has fewer.

    Converted under Stable Diffusion XL's prefix: under 2's, diffusers drops layer 23, and XL's encoder has 32.
    """
    from diffusers.loaders.single_file_utils import convert_open_clip_checkpoint

    xl_prefix = COMPONENT_PREFIXES["sdxl"]["text_encoder_2"][0]
    width = len(state["transformer.resblocks.0.attn.in_proj_weight"]) // 3
    hidden = SimpleNamespace(config=SimpleNamespace(hidden_size=width))
    named = _add_prefix(xl_prefix, {name: value for name, value in state.items() if name != "text_projection"})
    converted: State = convert_open_clip_checkpoint(hidden, named, prefix=xl_prefix)
    kept = {name: value for name, value in converted.items() if not _is_layer_beyond(name, config["num_hidden_layers"])}
    if "text_projection" in state:
        # Stored transposed; components.module_weights and state_dicts.split transpose it when they read it.
        kept["text_projection.weight"] = state["text_projection"]
    return kept


def _is_layer_beyond(name: str, layers: int) -> bool:
    found = re.search(r"(?:^|\.)layers\.(\d+)\.", name)
    return found is not None and int(found[1]) >= layers


def _qwen_language(state: State, config: Mapping[str, Any]) -> State:
    """Qwen2.5-VL as published, before transformers nested its language and vision models; Qwen3 without its LM head."""
    has_vision = "text_config" in config

    def named(name: str) -> str:
        if not has_vision:
            return name.removeprefix("model.")
        if name.startswith("visual."):
            return f"model.{name}"
        if not name.startswith("model.") or name.startswith(("model.language_model.", "model.visual.")):
            return name
        return f"model.language_model.{name.removeprefix('model.')}"

    return {named(name): value for name, value in state.items()}


def _add_prefix(prefix: str, state: State) -> State:
    return {f"{prefix}{name}": value for name, value in state.items()}


# Component -> keys that only the original naming has, and its converter.
_CONVERTERS: Mapping[str, tuple[tuple[tuple[str, ...], _Convert], ...]] = {
    "unet": ((("input_blocks.0.0.weight",), _unet),),
    "transformer": (
        (("joint_blocks.0.context_block.attn.qkv.weight",), _sd3),
        (("double_blocks.0.img_attn.qkv.weight",), _flux),
        (("cap_embedder.0.weight", "x_embedder.weight"), _z_image),
    ),
    "vae": ((("encoder.norm_out.weight",), _vae), (("decoder.middle.0.residual.0.gamma",), _wan_vae)),
    "text_encoder": (
        (("transformer.resblocks.0.attn.in_proj_weight",), _open_clip),
        (("model.embed_tokens.weight",), _qwen_language),
    ),
}
