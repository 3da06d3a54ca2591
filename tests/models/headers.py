"""Headers of real checkpoints with the weights stripped: names and shapes, in full size, of published models.

diffusers' and transformers' own classes make them on the meta device from the published configurations; the names that
the original code uses come from renaming those, and a test has diffusers' own converters lead back from each. No
weights anywhere: files written here are holes of the right length.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Mapping
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import torch

Shapes = dict[str, tuple[int, ...]]
_BITS = {"F32": 32, "F16": 16, "BF16": 16, "F8_E4M3": 8}


def write_header(
    path: Path,
    shapes: Mapping[str, tuple[int, ...]],
    dtype: str = "F16",
    metadata: Mapping[str, str] | None = None,
    values: Mapping[str, bytes] | None = None,
) -> Path:
    """A safetensors file of these tensors; all zeros but for `values`, and on disk a hole."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + prod(shape) * _BITS[dtype] // 8
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    written = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(written)) + written)
        for name, value in (values or {}).items():
            file.seek(8 + len(written) + header[name]["data_offsets"][0])
            file.write(value)
        file.truncate(8 + len(written) + end)
    return path


def below(prefix: str, shapes: Mapping[str, tuple[int, ...]]) -> Shapes:
    return {prefix + name: shape for name, shape in shapes.items()}


def _built(kind: Callable[..., Any], *given: Any, **config: Any) -> Shapes:
    with torch.device("meta"):
        module = kind(*given, **config)
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


# ---- as diffusers names them -----------------------------------------------------------------------------------------

_XL: dict[str, Any] = {
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "sample_size": 128,
}
UNETS: dict[str, dict[str, Any]] = {
    "sd1": {"cross_attention_dim": 768, "attention_head_dim": 8, "sample_size": 64},
    "sd2": {
        "cross_attention_dim": 1024,
        "attention_head_dim": (5, 10, 20, 20),
        "use_linear_projection": True,
        "sample_size": 96,
    },
    "sdxl": _XL
    | {
        "cross_attention_dim": 2048,
        "attention_head_dim": (5, 10, 20),
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "projection_class_embeddings_input_dim": 2816,
    },
    "sdxl_refiner": _XL
    | {
        "cross_attention_dim": 1280,
        "attention_head_dim": (6, 12, 24, 24),
        "block_out_channels": (384, 768, 1536, 1536),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": 4,
        "projection_class_embeddings_input_dim": 2560,
    },
}


@cache
def unet(family: str, channels: int = 4) -> Shapes:
    from diffusers import UNet2DConditionModel

    return _built(UNet2DConditionModel, in_channels=channels, **UNETS[family])


@cache
def sd3(edition: str = "3 medium") -> Shapes:
    from diffusers import SD3Transformer2DModel

    config: dict[str, Any] = {
        "num_layers": 24,
        "num_attention_heads": 24,
        "caption_projection_dim": 1536,
        "pos_embed_max_size": 192,
    }
    if edition == "3.5 medium":
        config |= {"qk_norm": "rms_norm", "dual_attention_layers": tuple(range(13)), "pos_embed_max_size": 384}
    elif edition == "3.5 large":
        config = {
            "num_layers": 38,
            "num_attention_heads": 38,
            "caption_projection_dim": 2432,
            "qk_norm": "rms_norm",
            "pos_embed_max_size": 192,
        }
    return _built(SD3Transformer2DModel, sample_size=128, **config)


@cache
def flux(guidance: bool = True, channels: int = 64) -> Shapes:
    from diffusers import FluxTransformer2DModel

    return _built(FluxTransformer2DModel, guidance_embeds=guidance, in_channels=channels, out_channels=64)


@cache
def z_image() -> Shapes:
    from diffusers import ZImageTransformer2DModel

    return _built(ZImageTransformer2DModel)


@cache
def qwen_image() -> Shapes:
    from diffusers import QwenImageTransformer2DModel

    return _built(QwenImageTransformer2DModel)


@cache
def vae(channels: int = 4) -> Shapes:
    from diffusers import AutoencoderKL

    quantised = channels == 4
    return _built(
        AutoencoderKL,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        latent_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        use_quant_conv=quantised,
        use_post_quant_conv=quantised,
    )


@cache
def qwen_vae() -> Shapes:
    from diffusers import AutoencoderKLQwenImage

    return _built(AutoencoderKLQwenImage)


@cache
def controlnet(family: str) -> Shapes:
    from diffusers import ControlNetModel

    config = {key: value for key, value in UNETS[family].items() if key not in ("up_block_types", "sample_size")}
    return _built(ControlNetModel, **config)


@cache
def union_controlnet(control_types: int) -> Shapes:
    """Those of xinsir's controlnet-union-sdxl-1.0 (6), and of its ProMax edition (8)."""
    from diffusers import ControlNetUnionModel

    config = {key: value for key, value in UNETS["sdxl"].items() if key not in ("up_block_types", "sample_size")}
    return _built(ControlNetUnionModel, num_control_type=control_types, **config)


@cache
def clip(width: int = 768, layers: int = 12) -> Shapes:
    """As transformers has written it up to version 4, and everybody else still does."""
    from transformers import CLIPTextConfig, CLIPTextModel

    made = _built(
        CLIPTextModel,
        CLIPTextConfig(
            hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers, num_attention_heads=width // 64
        ),
    )
    return below("text_model.", {name.removeprefix("text_model."): shape for name, shape in made.items()})


@cache
def t5() -> Shapes:
    from transformers import T5Config, T5EncoderModel

    return _built(
        T5EncoderModel,
        T5Config(
            vocab_size=32128,
            d_model=4096,
            d_kv=64,
            d_ff=10240,
            num_layers=24,
            num_heads=64,
            feed_forward_proj="gated-gelu",
        ),
    )


# ---- in the original names       ---------------------------------------------------------------------------------------


def ldm_unet(family: str, channels: int = 4) -> Shapes:
    """`input_blocks`, `middle_block`, `output_blocks`: Rombach et al.'s own code."""
    return {
        _ldm_name(name, len(UNETS[family].get("block_out_channels", (1,) * 4))): shape
        for name, shape in unet(family, channels).items()
    }


_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_OUTSIDE = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}


def _ldm_name(name: str, levels: int) -> str:
    for ours, theirs in _OUTSIDE.items():
        if name.startswith(ours + "."):
            return name.replace(ours, theirs)
    if found := re.fullmatch(r"down_blocks\.(\d)\.downsamplers\.0\.conv\.(\w+)", name):
        return f"input_blocks.{3 * int(found[1]) + 3}.0.op.{found[2]}"
    if found := re.fullmatch(r"up_blocks\.(\d)\.upsamplers\.0\.conv\.(\w+)", name):
        attends = f"up_blocks.{found[1]}" in _attending(levels)
        return f"output_blocks.{3 * int(found[1]) + 2}.{2 if attends else 1}.conv.{found[2]}"
    found = re.fullmatch(r"(down|up|mid)_blocks?\.(?:(\d)\.)?(resnets|attentions)\.(\d)\.(.+)", name)
    assert found is not None, name
    side, level, kind, index, rest = found.groups()
    if side == "mid":
        block = f"middle_block.{1 if kind == 'attentions' else 2 * int(index)}"
    elif side == "down":
        block = f"input_blocks.{3 * int(level) + 1 + int(index)}.{int(kind == 'attentions')}"
    else:
        block = f"output_blocks.{3 * int(level) + int(index)}.{int(kind == 'attentions')}"
    if kind == "resnets":
        layer, _, rest = rest.rpartition(".")
        return f"{block}.{_RESNET[layer]}.{rest}"
    return f"{block}.{rest}"


def _attending(levels: int) -> tuple[str, ...]:
    """The levels on the way up that attend to words: all but the first of four, the first two of Stable Diffusion XL's
    three.

    The refiner's four have the middle two.
    """
    return ("up_blocks.0", "up_blocks.1") if levels == 3 else ("up_blocks.1", "up_blocks.2", "up_blocks.3")


_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def ldm_vae(channels: int = 4) -> Shapes:
    """Attention by 1x1 convolutions, levels on the way up counted from the last."""
    renamed: Shapes = {}
    for name, shape in vae(channels).items():
        if ".attentions.0." in name and len(shape) == 2:
            shape = (*shape, 1, 1)
        name = re.sub(r"encoder\.down_blocks\.(\d)\.", r"encoder.down.\1.", name)
        name = re.sub(r"decoder\.up_blocks\.(\d)\.", lambda found: f"decoder.up.{3 - int(found[1])}.", name)
        name = re.sub(r"(down|up)\.(\d)\.resnets\.", r"\1.\2.block.", name)
        name = name.replace("downsamplers.0", "downsample").replace("upsamplers.0", "upsample")
        name = name.replace("mid_block.resnets.0", "mid.block_1").replace("mid_block.resnets.1", "mid.block_2")
        name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        if "mid_block.attentions.0." in name:
            for ours, theirs in _ATTENTION.items():
                name = name.replace(f"attentions.0.{ours}.", f"attentions.0.{theirs}.")
            name = name.replace("mid_block.attentions.0", "mid.attn_1")
        renamed[name] = shape
    return renamed


def bfl_flux(guidance: bool = True, channels: int = 64) -> Shapes:
    """Black Forest Labs' own: 19 double and 38 single blocks of 3,072 numbers and 24 heads."""
    width, head = 3072, 128
    shapes: Shapes = {
        "img_in.weight": (width, channels),
        "img_in.bias": (width,),
        "txt_in.weight": (width, 4096),
        "txt_in.bias": (width,),
        "final_layer.linear.weight": (64, width),
        "final_layer.linear.bias": (64,),
    }

    def linear(name: str, outwards: int, inwards: int = width) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (outwards, inwards), (outwards,)

    linear("final_layer.adaLN_modulation.1", 2 * width)
    for name, inwards in (("time_in", 256), ("vector_in", 768), *((("guidance_in", 256),) if guidance else ())):
        linear(f"{name}.in_layer", width, inwards)
        linear(f"{name}.out_layer", width)
    for index in range(19):
        for side in ("img", "txt"):
            block = f"double_blocks.{index}.{side}_"
            linear(f"{block}mod.lin", 6 * width)
            linear(f"{block}attn.qkv", 3 * width)
            linear(f"{block}attn.proj", width)
            linear(f"{block}mlp.0", 4 * width)
            linear(f"{block}mlp.2", width, 4 * width)
            shapes |= {f"{block}attn.norm.{which}_norm.scale": (head,) for which in ("query", "key")}
    for index in range(38):
        block = f"single_blocks.{index}."
        linear(f"{block}linear1", 7 * width)
        linear(f"{block}linear2", width, 5 * width)
        linear(f"{block}modulation.lin", 3 * width)
        shapes |= {f"{block}norm.{which}_norm.scale": (head,) for which in ("query", "key")}
    return shapes


def mmdit_sd3(edition: str = "3 medium") -> Shapes:
    """Stability AI's own: `joint_blocks` of which the last lets the words go."""
    width, depth = (2432, 38) if edition == "3.5 large" else (1536, 24)
    table = 384 if edition == "3.5 medium" else 192
    shapes: Shapes = {
        "x_embedder.proj.weight": (width, 16, 2, 2),
        "x_embedder.proj.bias": (width,),
        "pos_embed": (1, table**2, width),
    }

    def linear(name: str, outwards: int, inwards: int = width) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (outwards, inwards), (outwards,)

    def attention(name: str, *, last: bool) -> None:
        linear(f"{name}.qkv", 3 * width)
        if not last:
            linear(f"{name}.proj", width)
        if edition != "3 medium":
            shapes.update({f"{name}.ln_{which}.weight": (64,) for which in "qk"})

    linear("context_embedder", width, 4096)
    linear("final_layer.linear", 64)
    linear("final_layer.adaLN_modulation.1", 2 * width)
    for name, inwards in (("t_embedder", 256), ("y_embedder", 2048)):
        linear(f"{name}.mlp.0", width, inwards)
        linear(f"{name}.mlp.2", width)
    for index in range(depth):
        for side in ("x", "context"):
            block, last = f"joint_blocks.{index}.{side}_block", index == depth - 1 and side == "context"
            dual = edition == "3.5 medium" and index < 13 and side == "x"
            linear(f"{block}.adaLN_modulation.1", (2 if last else 9 if dual else 6) * width)
            attention(f"{block}.attn", last=last)
            if dual:
                attention(f"{block}.attn2", last=False)
            if not last:
                linear(f"{block}.mlp.fc1", 4 * width)
                linear(f"{block}.mlp.fc2", width, 4 * width)
    return shapes


def comfy_z_image() -> Shapes:
    """As Tongyi's single file has it: queries, keys and values in one matrix."""
    shapes: Shapes = {}
    for name, shape in z_image().items():
        name = name.replace("all_final_layer.2-1.", "final_layer.").replace("all_x_embedder.2-1.", "x_embedder.")
        name = (
            name.replace(".attention.to_out.0.", ".attention.out.")
            .replace(".norm_q.", ".q_norm.")
            .replace(".norm_k.", ".k_norm.")
        )
        if ".attention.to_q." in name:
            shapes[name.replace("to_q", "qkv")] = (3 * shape[0], *shape[1:])
        elif not re.search(r"\.attention\.to_[kv]\.", name):
            shapes[name] = shape
    return shapes


def openclip(layers: int = 23, width: int = 1024) -> Shapes:
    shapes: Shapes = {
        "token_embedding.weight": (49408, width),
        "positional_embedding": (77, width),
        "text_projection": (width, width),
        "ln_final.weight": (width,),
        "ln_final.bias": (width,),
        "logit_scale": (),
    }
    for index in range(layers):
        block = f"transformer.resblocks.{index}"
        shapes |= {
            f"{block}.attn.in_proj_weight": (3 * width, width),
            f"{block}.attn.in_proj_bias": (3 * width,),
            f"{block}.attn.out_proj.weight": (width, width),
            f"{block}.attn.out_proj.bias": (width,),
            f"{block}.mlp.c_fc.weight": (4 * width, width),
            f"{block}.mlp.c_fc.bias": (4 * width,),
            f"{block}.mlp.c_proj.weight": (width, 4 * width),
            f"{block}.mlp.c_proj.bias": (width,),
        }
        shapes |= {f"{block}.ln_{which}.{part}": (width,) for which in (1, 2) for part in ("weight", "bias")}
    return shapes


def whole(family: str, channels: int = 4) -> Shapes:
    """A checkpoint as it was published: network, autoencoder and text encoders in one file."""
    shapes = below("model.diffusion_model.", ldm_unet(family, channels)) | below("first_stage_model.", ldm_vae())
    if family == "sd1":
        return shapes | below("cond_stage_model.transformer.", clip())
    if family == "sd2":
        return shapes | below("cond_stage_model.model.", openclip())
    big = openclip(32, 1280)
    if family == "sdxl_refiner":
        return shapes | below("conditioner.embedders.0.model.", big)
    return shapes | below("conditioner.embedders.0.transformer.", clip()) | below("conditioner.embedders.1.model.", big)


# ---- changes to them -------------------------------------------------------------------------------------------------


def lora(
    shapes: Mapping[str, tuple[int, ...]], name: Callable[[str], str], kind: str = "lora", rank: int = 8
) -> Shapes:
    """Of the matrices of a network: `name` is what the trainer calls a module, `kind` lora, peft, old, loha or lokr."""
    made: Shapes = {}
    for key, shape in shapes.items():
        if len(shape) != 2 or not key.endswith(".weight") or not re.search(r"attn|attention|mlp|linear[12]", key):
            continue
        outwards, inwards = shape
        module = name(key.removesuffix(".weight"))
        down, up = (rank, inwards), (outwards, rank)
        match kind:
            case "lora":
                made |= {f"{module}.lora_down.weight": down, f"{module}.lora_up.weight": up, f"{module}.alpha": ()}
            case "peft":
                made |= {f"{module}.lora_A.weight": down, f"{module}.lora_B.weight": up}
            case "old":
                made |= {f"{module}_lora.down.weight": down, f"{module}_lora.up.weight": up}
            case "loha":
                made |= {
                    f"{module}.hada_w1_a": up,
                    f"{module}.hada_w1_b": down,
                    f"{module}.hada_w2_a": up,
                    f"{module}.hada_w2_b": down,
                    f"{module}.alpha": (),
                }
            case "lokr":
                made |= {
                    f"{module}.lokr_w1": (outwards // 8, inwards // 8),
                    f"{module}.lokr_w2": (8, 8),
                    f"{module}.alpha": (),
                }
    return made


def kohya(prefix: str) -> Callable[[str], str]:
    return lambda module: prefix + module.replace(".", "_")


def dotted(prefix: str) -> Callable[[str], str]:
    return lambda module: prefix + module
