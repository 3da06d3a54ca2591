"""diffusers' names of Stable Diffusion's tensors turned back into those of its makers, which AUTOMATIC1111 and others read.

The way there is diffusers' own (`loaders.single_file_utils`); the two are held against each other in the tests.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

State = Mapping[str, Tensor]

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_OUTER = {
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


def unet_names(state: State, layers_per_block: int = 2) -> dict[str, Tensor]:
    """A UNet2DConditionModel's tensors, without a prefix: `input_blocks.0.0.weight` and so on."""

    def makers(name: str) -> str:
        outer, _, kind = name.rpartition(".")
        if outer in _OUTER:
            return f"{_OUTER[outer]}.{kind}"
        if found := re.match(r"mid_block\.(resnets|attentions)\.(\d)\.(.*)", name):
            place = 1 if found[1] == "attentions" else 2 * int(found[2])
            return f"middle_block.{place}.{_inside(found[1], found[3])}"
        found = re.match(r"(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)\.(.*)", name)
        assert found is not None, name
        level, index = int(found[2]), int(found[4])
        if found[1] == "down":
            if found[3] == "downsamplers":
                return f"input_blocks.{(layers_per_block + 1) * (level + 1)}.0.{found[5].replace('conv', 'op', 1)}"
            return f"input_blocks.{(layers_per_block + 1) * level + index + 1}.{_place(found[3])}.{_inside(found[3], found[5])}"
        if found[3] == "upsamplers":
            last = (layers_per_block + 1) * level + layers_per_block
            place = 2 if f"up_blocks.{level}.attentions.0.norm.weight" in state else 1
            return f"output_blocks.{last}.{place}.{found[5]}"
        return (
            f"output_blocks.{(layers_per_block + 1) * level + index}.{_place(found[3])}.{_inside(found[3], found[5])}"
        )

    return {makers(name): value for name, value in state.items()}


def _place(kind: str) -> int:
    return 0 if kind == "resnets" else 1


def _inside(kind: str, rest: str) -> str:
    first = rest.split(".")[0]
    return rest.replace(first, _RESNET[first], 1) if kind == "resnets" else rest


def vae_names(state: State) -> dict[str, Tensor]:
    """An AutoencoderKL's tensors, without a prefix. Attention's matrices become convolutions of one pixel, as they were."""
    levels = 1 + max(int(found[1]) for name in state if (found := re.match(r"decoder\.up_blocks\.(\d+)\.", name)))

    def makers(name: str) -> str:
        name = re.sub(r"\.down_blocks\.(\d+)\.", r".down.\1.", name)
        name = re.sub(r"\.up_blocks\.(\d+)\.", lambda found: f".up.{levels - 1 - int(found[1])}.", name)
        name = re.sub(r"mid_block\.resnets\.(\d)", lambda found: f"mid.block_{int(found[1]) + 1}", name)
        name = name.replace("mid_block.attentions.0", "mid.attn_1").replace(".resnets.", ".block.")
        name = name.replace("downsamplers.0", "downsample").replace("upsamplers.0", "upsample")
        return _replaced(name, _VAE)

    attention = re.compile(r"\.(to_q|to_k|to_v|to_out\.0)\.weight$")
    return {
        makers(name): value[:, :, None, None] if attention.search(name) and value.ndim == 2 else value
        for name, value in state.items()
    }


def open_clip_names(state: State) -> dict[str, Tensor]:
    """A text encoder's tensors as OpenCLIP has them: queries, keys and values in one matrix."""
    found: dict[str, Tensor] = {}
    together: dict[str, dict[str, Tensor]] = {}
    for name, value in state.items():
        name = name.removeprefix("text_model.")
        if name == "text_projection.weight":
            found["text_projection"] = value.T.contiguous()
        elif part := re.match(r"(encoder\.layers\.\d+)\.self_attn\.([qkv])_proj\.(weight|bias)", name):
            together.setdefault(f"{_replaced(part[1] + '.', _OPEN_CLIP)}attn.in_proj_{part[3]}", {})[part[2]] = value
        else:
            found[_replaced(name, _OPEN_CLIP)] = value
    return found | {name: torch.cat([parts[one] for one in "qkv"]) for name, parts in together.items()}


def clip_names(state: State) -> dict[str, Tensor]:
    """A text encoder's tensors as transformers had them when the first files were made."""
    return {
        name if name.startswith(("text_model.", "text_projection")) else f"text_model.{name}": value
        for name, value in state.items()
    }


def _replaced(name: str, table: Mapping[str, str]) -> str:
    for ours, theirs in table.items():
        name = name.replace(ours, theirs)
    return name


_Names = Callable[[State], dict[str, Tensor]]
PARTS: Mapping[str, Mapping[str, tuple[str, _Names]]] = {  # family -> part -> prefix, names
    "sd1": {
        "unet": ("model.diffusion_model.", unet_names),
        "vae": ("first_stage_model.", vae_names),
        "text_encoder": ("cond_stage_model.transformer.", clip_names),
    },
    "sd2": {
        "unet": ("model.diffusion_model.", unet_names),
        "vae": ("first_stage_model.", vae_names),
        "text_encoder": ("cond_stage_model.model.", open_clip_names),
    },
    "sdxl": {
        "unet": ("model.diffusion_model.", unet_names),
        "vae": ("first_stage_model.", vae_names),
        "text_encoder": ("conditioner.embedders.0.transformer.", clip_names),
        "text_encoder_2": ("conditioner.embedders.1.model.", open_clip_names),
    },
    "sdxl_refiner": {
        "unet": ("model.diffusion_model.", unet_names),
        "vae": ("first_stage_model.", vae_names),
        "text_encoder_2": ("conditioner.embedders.0.model.", open_clip_names),
    },
}


def original_names(family: str, parts: Mapping[str, State]) -> dict[str, Tensor]:
    """One file's tensors, from each part's. KeyError for a family whose makers' names are not known here."""
    return {
        f"{prefix}{name}": value
        for part, (prefix, names) in PARTS[family].items()
        if part in parts
        for name, value in names(parts[part]).items()
    }
