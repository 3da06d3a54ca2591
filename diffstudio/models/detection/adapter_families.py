"""The model that a LoRA was made for: by its metadata, and by names and widths that only that model has. No torch.

Many models have FLUX.1's, Z-Image's or Stable Diffusion's names for their blocks. What tells them apart are their
widths, their number of blocks and the layers that one of them alone has; where all are equal, only metadata tells.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from diffstudio.models.detection.architecture_names import Architecture, architecture, architecture_from_text
from diffstudio.models.detection.families_table import UNKNOWN
from diffstudio.models.detection.types import FAMILY_BY_CONTEXT_WIDTH, TensorNames

_METADATA_KEYS = ("ss_base_model_version", "modelspec.architecture", "base_model", "ss_network_module")


@dataclass(frozen=True, slots=True)
class Evidence:
    """What an adapter was made for, and the reason as a clause for the user."""

    model: Architecture
    why: str
    certain: bool = True  # no other model has it


def adapter_family(names: TensorNames, metadata: Mapping[str, str]) -> Evidence | None:
    """What an adapter was made for; None if nothing says so.

    Metadata comes first, unless the tensors cannot be of the model that it names.
    """
    said, shown = _by_metadata(metadata), _by_tensors(names)
    if said is None or shown is None:
        return said or shown
    return shown if _contradicts(shown, said) else said


def _contradicts(shown: Evidence, said: Evidence) -> bool:
    if shown.why == _TEXT_ENCODER:
        return False
    if shown.model.u_net != said.model.u_net:
        return True
    if shown.model.family == said.model.family:
        return False
    if said.model.family == UNKNOWN and shown.model.u_net:
        return shown.model.family != "sdxl"  # the width of Kolors' cross-attention
    return shown.certain and said.model.family != UNKNOWN


def _by_metadata(metadata: Mapping[str, str]) -> Evidence | None:
    for key in _METADATA_KEYS:
        if (model := architecture_from_text(metadata.get(key, ""))) is not None:
            return Evidence(model, "its metadata")
    if metadata.get("ss_v2") == "True":  # of sd-scripts before it wrote a version
        return Evidence(architecture("sd2"), "its metadata")
    return None


# Patterns for names with underscores for dots that only one model has. A pattern is searched only if one of its
# substrings occurs, which takes a tenth of the time.
_NO_OTHER_BLOCK = r"(?:^|(?<!up)(?<!down)(?<!transformer)(?<!input)(?<!output)_)blocks_\d+_"
_NAMED = tuple(
    (substrings, re.compile(pattern, re.M), architecture(family, title))
    for substrings, pattern, family, title in (
        (
            ("_stream_modulation", "to_qkv_mlp_proj", "_linear_in"),
            r"(?:double|single)_stream_modulation|to_qkv_mlp_proj|_ff(?:_context)?_linear_in",
            "",
            "FLUX.2",
        ),
        (("distilled_guidance_layer",), r"distilled_guidance_layer", "", "Chroma"),
        (
            ("token_refiner", "_modulation_linear", "_mod_linear", "_mlp_fc"),
            r"(?:individual|context_embedder)_token_refiner|single_blocks_\d+_modulation_linear"
            r"|double_blocks_\d+_(?:img|txt)_(?:mod_linear|mlp_fc[12])",
            "",
            "HunyuanVideo",
        ),
        (
            ("joint_transformer_blocks", "_layers_"),
            r"joint_transformer_blocks_\d|(?:double|single)_layers_\d",
            "",
            "AuraFlow",
        ),
        (("_stream_blocks_",), r"(?:double|single)_stream_blocks_\d", "", "HiDream"),
        (
            ("llm_adapter", "_attn_q_proj", "_attn_k_proj", "_attn_v_proj", "adaln_modulation_"),
            rf"llm_adapter_|{_NO_OTHER_BLOCK}(?:(?:self|cross)_attn_(?:[qkv]|output)_proj|adaln_modulation_\w+attn)",
            "",
            "Anima",
        ),
        (("_self_attn_", "_cross_attn_"), rf"{_NO_OTHER_BLOCK}(?:self|cross)_attn_[qkvo](?:_|$)", "", "Wan"),
        (
            ("patchify_proj", "adaln_single", "caption_projection"),
            r"patchify_proj|adaln_single|caption_projection",
            "",
            "LTX-Video, PixArt or Sana",
        ),
        (
            ("motion_modules", "temporal_", "temp_attentions", "temp_convs"),
            r"motion_modules_|temporal_|temp_(?:attentions|convs)_",
            "",
            "AnimateDiff",
        ),
        (("clip_text_pooled_proj",), r"clip_text_pooled_proj", "", "NewBie"),
        (("addition_t_embedding",), r"addition_t_embedding", "", "Qwen-Image-Layered"),
        (
            ("_encoder_proj", "_experts"),
            r"transformer_blocks_\d+_(?:encoder_proj|img_mlp_experts)",
            "",
            "Nucleus-Image",
        ),
        (("joint_blocks",), r"(?:^|_)joint_blocks_\d", "sd3", ""),
        (("_img_m", "_txt_m"), r"(?:^|_)transformer_blocks_\d+_(?:img|txt)_(?:mlp|mod)_", "qwen_image", ""),
        (
            ("_attn_to_", "_feed_forward_linear_"),
            r"(?:^|_)(?:layers|(?:noise|context)_refiner)_\d+_(?:attn_to_|feed_forward_linear_)",
            "",
            "Lumina 2",
        ),
        (
            tuple(f"_transformer_blocks_{number}" for number in range(1, 10)),
            r"(?:input_blocks_\d+_1|attentions_\d)_transformer_blocks_[1-9]",
            "sdxl",
            "",
        ),
    )
)
_WAN_IN_DIFFUSERS = re.compile(r"(?:^|\.)blocks\.\d+\.attn[12]\.to_", re.M)  # with underscores it may be anything
_HUNYUAN_IN_COMFYUI = re.compile(r"double_blocks\.\d+\.(?:img|txt)_attn_")  # FLUX.1 has `img_attn.qkv`
_BLOCK_NAMES, _TEXT_ENCODER = "the names of its blocks", "the width of its text encoder"
_NUMBER_OF_BLOCKS = "its number of blocks"
_U_NET = re.compile(r"(?:^|_)(?:(?:down|up|input|output)_blocks_\d|mid(?:dle)?_block_)", re.M)
_LIKE_FLUX = re.compile(r"(?:^|_)(?:(double)_blocks|(single)(?:_transformer)?_blocks|transformer_blocks)_(\d+)_", re.M)
_LIKE_Z_IMAGE = re.compile(
    r"(?:^|_)(?:(?:noise|context)_refiner_\d|layers_\d+_(?:attention|feed_forward|adaLN_modulation)_)", re.M
)
_JOINT_ATTENTION = re.compile(r"(?:^|_)transformer_blocks_(\d+)_attn_", re.M)
# the width of cross-attention in transformers with Stable Diffusion's name for it
_BY_ATTN2_WIDTH = {2048: "LTX-Video", 4096: "LTX-2", 1152: "PixArt", 2240: "Sana", 1120: "Sana"}
_BY_DOUBLE_WIDTH = {6144: "FLUX.2", 4096: "FLUX.2", 3584: "HunyuanImage", 2048: "HunyuanVideo"}
_DOUBLE_BLOCKS, _SINGLE_BLOCKS = 19, 38  # of FLUX.1
_LAST_OF_KLEIN = (4, 19)  # the last double and single block of FLUX.2 klein 4B


def _by_tensors(names: TensorNames) -> Evidence | None:
    plain = names.joined.replace(".", "_")
    if "blocks." in names.joined and _WAN_IN_DIFFUSERS.search(names.joined):
        return Evidence(architecture("", "Wan"), _BLOCK_NAMES)
    if "_attn_" in names.joined and _HUNYUAN_IN_COMFYUI.search(names.joined):
        return Evidence(architecture("", "HunyuanVideo"), _BLOCK_NAMES)
    for substrings, pattern, model in _NAMED:
        if any(substring in plain for substring in substrings) and pattern.search(plain):
            return Evidence(model, _BLOCK_NAMES)
    if _U_NET.search(plain):
        width = input_width(names, r"attn2_(?:processor_)?to_[kv]")
        family = FAMILY_BY_CONTEXT_WIDTH.get(width)
        return Evidence(architecture(family), f"cross-attention width {width:,}") if family else None
    return _like_z_image(names, plain) or _like_flux(names, plain) or _by_width(names, plain) or _first_format(names)


def _like_z_image(names: TensorNames, plain: str) -> Evidence | None:
    if _LIKE_Z_IMAGE.search(plain) is None:
        return None
    width = input_width(names, r"layers_\d+_(?:attention_(?:qkv|to_[qkv]|out|to_out)|feed_forward_w[13])")
    if width == 2304 or re.search(r"layers_\d+_adaLN_modulation_1", plain):
        return Evidence(architecture("", "Lumina 2"), _widths(width) if width else _BLOCK_NAMES)
    if width not in (0, 3840):
        return Evidence(architecture("", "a model with other widths than Z-Image"), _widths(width))
    return Evidence(architecture("z_image"), _BLOCK_NAMES, certain=width != 0)


def _like_flux(names: TensorNames, plain: str) -> Evidence | None:
    """FLUX.1, or another model with its double and single blocks."""
    last = {"double": -1, "single": -1, "": -1}
    for double, single, index in _LIKE_FLUX.findall(plain):
        last[double or single] = max(last[double or single], int(index))
    doubles, singles = max(last["double"], last[""]), last["single"]
    if last["double"] < 0 and singles < 0:
        return None
    width = input_width(names, r"double_blocks_\d+_(?:img|txt)_(?:attn_(?:qkv|proj)|mlp_0)|single_blocks_\d+_linear1")
    width = width or input_width(names, r"transformer_blocks_\d+_attn_(?:to_[qkv]|add_[qkv]_proj)")
    if width not in (0, 3072):
        return Evidence(architecture("", _BY_DOUBLE_WIDTH.get(width, "a model wider than FLUX.1")), _widths(width))
    gated = _output_width(names, r"single_blocks_\d+_linear1") == 9 * 3072
    if gated or _output_width(names, r"double_blocks_\d+_(?:img|txt)_mlp_0") == 6 * 3072:
        return Evidence(architecture("", "FLUX.2"), "the width of its feed-forward layers")
    text = input_width(names, r"(?:^|_)(?:txt_in|context_embedder)(?:$|_)")
    if text not in (0, 4096):
        return Evidence(architecture("", _by_text_width(text)), f"text features of width {text:,}")
    if doubles >= _DOUBLE_BLOCKS or singles >= _SINGLE_BLOCKS:
        return Evidence(architecture("", "HunyuanVideo"), _NUMBER_OF_BLOCKS)
    if (doubles, singles) == _LAST_OF_KLEIN:
        return Evidence(architecture("", "FLUX.2"), _NUMBER_OF_BLOCKS)
    return Evidence(architecture("flux"), _BLOCK_NAMES, certain=False)


def _by_text_width(width: int) -> str:
    return "FLUX.2" if width in (15360, 12288, 7680) else "a model with another text encoder than FLUX.1"


def _by_width(names: TensorNames, plain: str) -> Evidence | None:
    """By widths of attention, whose names several models share."""
    if title := _BY_ATTN2_WIDTH.get(input_width(names, r"transformer_blocks_\d+_attn2_to_k")):
        return Evidence(architecture("", title), _BLOCK_NAMES)
    blocks = [int(found) for found in _JOINT_ATTENTION.findall(plain)]
    width = input_width(names, r"transformer_blocks_\d+_attn_(?:to_[qkv]|add_[qkv]_proj|to_out_0)") if blocks else 0
    if width == 3072:
        last = max(blocks)
        models = architecture("qwen_image"), architecture("", "HunyuanVideo"), architecture("flux")
        model = models[0 if last > _DOUBLE_BLOCKS else 1 if last == _DOUBLE_BLOCKS else 2]
        return Evidence(model, f"{last + 1} blocks of width 3,072", certain=False)
    if width in (1536, 2432):
        return Evidence(architecture("sd3"), _widths(width), certain=False)
    text = input_width(names, r"(?:^|_)encoder_layers_\d+_self_attn_q_proj")
    if text in (768, 1024) and not re.search(r"^lora_te1_", plain, re.M):
        return Evidence(architecture(FAMILY_BY_CONTEXT_WIDTH[text]), _TEXT_ENCODER, certain=False)
    if re.search(r"^(?:lora_te2|text_encoder_2)_text_model_", plain, re.M) and "lora_te3_" not in plain:
        return Evidence(architecture("sdxl"), _TEXT_ENCODER, certain=False)
    return None


def _first_format(names: TensorNames) -> Evidence | None:
    """Of the first format, which has no names of layers: by the inputs of cross-attention."""
    for name, shape in names.shapes.items():
        of_attention = name.startswith("unet:") and name.endswith(":down") and shape[1:] in ((768,), (1024,))
        if of_attention and names.shape(f"{name[:-4]}up")[:1] == (320,):
            return Evidence(architecture(FAMILY_BY_CONTEXT_WIDTH[shape[1]]), f"cross-attention width {shape[1]:,}")
    return None


def _widths(width: int) -> str:
    return f"blocks of width {width:,}"


_INPUT_SIDE = (
    ".lora_down.weight",
    ".lora_A.weight",
    ".lora_A.default.weight",
    ".lora.down.weight",
    "_lora.down.weight",
    ".lora_linear_layer.down.weight",
    ".hada_w1_b",
    ".diff",
    ".lora.A.weight",
    ".a2.weight",
)
_OUTPUT_SIDE = (".lora_up.weight", ".lora_B.weight", ".lora_B.default.weight", ".lora.up.weight", ".hada_w1_a", ".diff")


def input_width(names: TensorNames, module: str) -> int:
    """The input width of the first module whose name, with underscores for dots, has this pattern; 0 if unknown."""
    pattern = re.compile(module)
    for name, shape in names.shapes.items():
        if len(shape) < 2 or pattern.search(name.replace(".", "_")) is None:
            continue
        if name.endswith(_INPUT_SIDE):
            return shape[1]
        if name.endswith((".lokr_w1", ".lokr_w1_b")):
            base = name[: name.index(".lokr_w1")]
            right = names.shape(f"{base}.lokr_w2") or names.shape(f"{base}.lokr_w2_b")
            if len(right) >= 2:
                return shape[1] * right[1]
    return 0


def _output_width(names: TensorNames, module: str) -> int:
    """The same of the outputs."""
    pattern = re.compile(module)
    for name, shape in names.shapes.items():
        if name.endswith(_OUTPUT_SIDE) and len(shape) >= 2 and pattern.search(name.replace(".", "_")):
            return shape[0]
    return 0
