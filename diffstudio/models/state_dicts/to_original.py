"""Convert state dicts of Stable Diffusion 1, 2 and XL from diffusers' keys to the original LDM and SGM keys that other
programs read.

The inverse of `to_diffusers`, which is diffusers' own (`loaders.single_file_utils`); tests check the round trip.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from diffstudio.models.state_dicts.prefixes import COMPONENT_PREFIXES

State = Mapping[str, Tensor]

RESNET_KEYS = {  # diffusers' names of a U-Net's layers, and LDM's
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
OUTER_KEYS = {  # of the layers that are in no block
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "time_embedding.cond_proj": "time_embed.cond_proj",
}
_VAE = {
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
    "conv_shortcut": "nin_shortcut",
    "conv_norm_out": "norm_out",
}
_OPEN_CLIP = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm.": "ln_final.",
    "encoder.layers.": "transformer.resblocks.",
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}


def unet_to_original(state: State, layers_per_block: int = 2) -> dict[str, Tensor]:
    """A UNet2DConditionModel's tensors by LDM's keys, without a prefix: `input_blocks.0.0.weight` …"""

    def original(name: str) -> str:
        outer, _, kind = name.rpartition(".")
        if outer in OUTER_KEYS:
            return f"{OUTER_KEYS[outer]}.{kind}"
        if found := re.match(r"mid_block\.(resnets|attentions)\.(\d)\.(.*)", name):
            place = 1 if found[1] == "attentions" else 2 * int(found[2])
            return f"middle_block.{place}.{_inner_key(found[1], found[3])}"
        found = re.match(r"(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)\.(.*)", name)
        assert found is not None, name
        level, index = int(found[2]), int(found[4])
        if found[1] == "down":
            if found[3] == "downsamplers":
                return f"input_blocks.{(layers_per_block + 1) * (level + 1)}.0.{found[5].replace('conv', 'op', 1)}"
            return f"input_blocks.{(layers_per_block + 1) * level + index + 1}.{_column(found[3])}.{_inner_key(found[3], found[5])}"
        if found[3] == "upsamplers":
            last = (layers_per_block + 1) * level + layers_per_block
            place = 2 if f"up_blocks.{level}.attentions.0.norm.weight" in state else 1
            return f"output_blocks.{last}.{place}.{found[5]}"
        return f"output_blocks.{(layers_per_block + 1) * level + index}.{_column(found[3])}.{_inner_key(found[3], found[5])}"

    return {original(name): value for name, value in state.items()}


def _column(kind: str) -> int:
    return 0 if kind == "resnets" else 1


def _inner_key(kind: str, rest: str) -> str:
    first = rest.split(".")[0]
    return rest.replace(first, RESNET_KEYS[first], 1) if kind == "resnets" else rest


def vae_to_original(state: State) -> dict[str, Tensor]:
    """An AutoencoderKL's tensors by LDM's keys, without a prefix; attention's linear layers become 1x1 convolutions."""
    levels = 1 + max(int(found[1]) for name in state if (found := re.match(r"decoder\.up_blocks\.(\d+)\.", name)))

    def original(name: str) -> str:
        name = re.sub(r"\.down_blocks\.(\d+)\.", r".down.\1.", name)
        name = re.sub(r"\.up_blocks\.(\d+)\.", lambda found: f".up.{levels - 1 - int(found[1])}.", name)
        name = re.sub(r"mid_block\.resnets\.(\d)", lambda found: f"mid.block_{int(found[1]) + 1}", name)
        name = name.replace("mid_block.attentions.0", "mid.attn_1").replace(".resnets.", ".block.")
        name = name.replace("downsamplers.0", "downsample").replace("upsamplers.0", "upsample")
        return _replaced(name, _VAE)

    attention = re.compile(r"\.(to_q|to_k|to_v|to_out\.0)\.weight$")
    return {
        original(name): value[:, :, None, None] if attention.search(name) and value.ndim == 2 else value
        for name, value in state.items()
    }


def open_clip_to_original(state: State) -> dict[str, Tensor]:
    """A CLIP text encoder's tensors by OpenCLIP's keys: query, key and value in one matrix."""
    found: dict[str, Tensor] = {}
    fused: dict[str, dict[str, Tensor]] = {}
    for name, value in state.items():
        name = name.removeprefix("text_model.")
        if name == "text_projection.weight":
            found["text_projection"] = value.T.contiguous()
        elif match := re.match(r"(encoder\.layers\.\d+)\.self_attn\.([qkv])_proj\.(weight|bias)", name):
            fused.setdefault(f"{_replaced(match[1] + '.', _OPEN_CLIP)}attn.in_proj_{match[3]}", {})[match[2]] = value
        else:
            found[_replaced(name, _OPEN_CLIP)] = value
    return found | {name: torch.cat([parts[one] for one in "qkv"]) for name, parts in fused.items()}


def clip_to_original(state: State) -> dict[str, Tensor]:
    """A CLIP text encoder's tensors by the keys that transformers had before version 5: below `text_model.`."""
    return {
        name if name.startswith(("text_model.", "text_projection")) else f"text_model.{name}": value
        for name, value in state.items()
    }


def _replaced(name: str, table: Mapping[str, str]) -> str:
    for diffusers, original in table.items():
        name = name.replace(diffusers, original)
    return name


_Convert = Callable[[State], dict[str, Tensor]]
TO_ORIGINAL: Mapping[str, Mapping[str, _Convert]] = {  # family -> component -> conversion of its keys
    "sd1": {"unet": unet_to_original, "vae": vae_to_original, "text_encoder": clip_to_original},
    "sd2": {"unet": unet_to_original, "vae": vae_to_original, "text_encoder": open_clip_to_original},
    "sdxl": {
        "unet": unet_to_original,
        "vae": vae_to_original,
        "text_encoder": clip_to_original,
        "text_encoder_2": open_clip_to_original,
    },
    "sdxl_refiner": {"unet": unet_to_original, "vae": vae_to_original, "text_encoder_2": open_clip_to_original},
}


def to_original(family: str, components: Mapping[str, State]) -> dict[str, Tensor]:
    """One file's tensors by original keys, from each component's. KeyError for families without `has_original_naming`."""
    return {
        f"{COMPONENT_PREFIXES[family][component][0]}{name}": value
        for component, convert in TO_ORIGINAL[family].items()
        if component in components
        for name, value in convert(components[component]).items()
    }


def has_original_naming(family: str) -> bool:
    """Whether `to_original` knows the original key naming of a family."""
    return family in TO_ORIGINAL
