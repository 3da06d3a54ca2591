"""Detect LoRAs and their variants (LoHa, LoKr, DoRA, OFT, …) and the family they fit, by the names of their tensors.

The names are those of kohya, LyCORIS, PEFT, diffusers, OneTrainer, XLabs and cloneofsimo. No torch is imported here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from diffstudio.models.detection.families_table import FAMILIES
from diffstudio.models.detection.types import (
    FAMILY_BY_CONTEXT_WIDTH,
    Detection,
    Layout,
    Role,
    Shapes,
    TensorNames,
    family_from_text,
)

_MARK = re.compile(
    r"\.lora_(?:down|up|A|B|mid|embedding_A|magnitude_vector)\b|[._]lora[12]?\.(?:down|up)\.weight$"
    r"|\.lora_linear_layer\.|\.(?:hada_w|lokr_w)\d|\.dora_scale$|\.b?oft_(?:blocks|diag|R)\b|\.diff(?:_b)?$"
    r"|\.w_norm$|\.ia3_l\b|\.on_input$|\.a1\.weight$|^(?:unet|text_encoder):\d+:(?:up|down)$",
    re.M,
)
_SUBSTRINGS = (
    "lora",
    "hada_w",
    "lokr_w",
    "dora_scale",
    "oft_",
    ".diff",
    ".w_norm",
    ".ia3_l",
    ".on_input",
    ".a1.weight",
    ":0:up",
)
_KINDS = (
    (".hada_w", "a LoHa"),
    (".lokr_w", "a LoKr"),
    (".boft_", "a BOFT"),
    (".oft_", "an OFT"),
    (".ia3_l", "an IA3"),
    (".on_input", "an IA3"),
    (".a1.weight", "a GLoRA"),
    (":0:up", "a LoRA of the first format"),
    (".dora_scale", "a DoRA"),
    ("lora_magnitude_vector", "a DoRA"),
    ("lora", "a LoRA"),
    (".diff", "weight differences"),
)

# Patterns for names with underscores for dots, the most specific first. A pattern is searched only if one of its
# substrings occurs, which takes a tenth of the time.
_NAMED = tuple(
    (substrings, re.compile(pattern, re.M), family)
    for substrings, pattern, family in (
        (
            ("double_stream_modulation", "to_qkv_mlp_proj"),
            r"double_stream_modulation|to_qkv_mlp_proj",
            "unknown",
        ),  # FLUX.2
        (
            ("double_blocks", "single_transformer_blocks", "single_blocks"),
            r"(?:^|_)(?:double_blocks|single_transformer_blocks|single_blocks)_\d",
            "flux",
        ),
        (("joint_blocks",), r"(?:^|_)joint_blocks_\d", "sd3"),
        (("_img_m", "_txt_m"), r"(?:^|_)transformer_blocks_\d+_(?:img|txt)_(?:mlp|mod)_", "qwen_image"),
        (
            ("_refiner_", "_attention_", "_feed_forward_", "_adaLN_modulation_"),
            r"(?:^|_)(?:noise_refiner|context_refiner)_\d|(?:^|_)layers_\d+_(?:attention|feed_forward|adaLN_modulation)_",
            "z_image",
        ),
        (
            ("lora_te2_", "text_encoder_2_", *(f"_transformer_blocks_{number}" for number in range(1, 10))),
            r"^lora_te2_|^text_encoder_2_|(?:input_blocks_\d+_1|attentions_\d)_transformer_blocks_[1-9]",
            "sdxl",
        ),
    )
)


def detect_adapter(names: TensorNames, metadata: Mapping[str, str]) -> Detection | None:
    """Detect a LoRA or one of its variants; None for another file."""
    if _is_list(names.shapes):
        return Detection(
            Role.LORA, _family(names, metadata)[0], reason="A list of up and down matrices: a LoRA of the first format."
        )
    if not any(substring in names.joined for substring in _SUBSTRINGS):
        return None  # a quick check that excludes nearly all checkpoints
    if reason := control_lora(names.shapes):
        return Detection(Role.UNKNOWN, "flux", reason=f"{reason[0].upper()}{reason[1:]}.")
    if _MARK.search(names.joined) is None or names.joined.count("\n") > 100 and len(_MARK.findall(names.joined)) < 4:
        return None  # a complete checkpoint with a stray name
    kind = next((title for substring, title in _KINDS if substring in names.joined), "changes to a checkpoint")
    family, why = _family(names, metadata)
    diffusers = ".lora_A" in names.joined or "_lora.down" in names.joined or "lora_linear_layer" in names.joined
    whose = f"for {FAMILIES[family].title}, by {why}" if family in FAMILIES else "for an unknown model"
    return Detection(
        Role.LORA,
        family,
        layout=Layout.DIFFUSERS if diffusers else Layout.ORIGINAL,
        reason=f"The tensor names of {kind} {whose}.",
    )


_WIDENED = re.compile(r"(?:^|[._])(?:img_in|x_embedder)\.(?:lora_A|lora_down)(?:\.\w+)??\.weight$")
_TEXT_IN = re.compile(r"(?:^|[._])(?:txt_in|context_embedder)\.(?:lora_A|lora_down)(?:\.\w+)??\.weight$")
_FLUX_2 = ("double_stream_modulation", "single_stream_modulation", "to_qkv_mlp_proj")


def control_lora(shapes: Shapes) -> str:
    """Why a file is a Control LoRA of FLUX.1, as a clause; empty for all others.

    It widens the first layer from 64 inputs to 128, for the latents of a control image. FLUX.2's has 128 by itself.
    """
    wide = [name for name, shape in shapes.items() if shape[1:] == (128,) and "lora" in name and _WIDENED.search(name)]
    if not wide or any(mark in name for name in shapes for mark in _FLUX_2):
        return ""
    for name, shape in shapes.items():
        if _TEXT_IN.search(name) and shape[1:] != (4096,):
            return ""
        if "linear1.lora_A." in name and shapes.get(name.replace("lora_A", "lora_B"), ())[:1] != (7 * shape[-1],):
            return ""  # q, k, v and four times the width in FLUX.1, six times in FLUX.2
    return "it is a Control LoRA of FLUX.1 (Canny, Depth), which takes a control image, and is not supported"


def _is_list(shapes: Shapes) -> bool:
    """Whether a pickle is a list of up and down matrices in turn, as cloneofsimo's trainer saved it."""
    if len(shapes) < 8 or len(shapes) % 2 or not all(name.isdecimal() for name in shapes):
        return False
    matrices = list(shapes.values())
    return all(
        len(up) >= 2 <= len(down) and up[1] == down[0] for up, down in zip(matrices[::2], matrices[1::2], strict=True)
    )


def _family(names: TensorNames, metadata: Mapping[str, str]) -> tuple[str, str]:
    """The family, and the evidence for it as a clause for the user."""
    plain = names.joined.replace(".", "_")
    for substrings, pattern, family in _NAMED:
        if any(substring in plain for substring in substrings) and pattern.search(plain):
            return family, "the names of its blocks"
    for attended in ("attn2_to_k", "attn2_to_v"):
        if (width := _input_width(names, attended)) in FAMILY_BY_CONTEXT_WIDTH:
            return FAMILY_BY_CONTEXT_WIDTH[width], f"cross-attention width {width:,}"
    width = (
        _input_width(names, "attn_to_q")
        or _input_width(names, "attn_add_q_proj")
        or _input_width(names, "attn_to_out_0")
    )
    if width:  # joint attention has the same names in three families of diffusers
        blocks = [int(found) for found in re.findall(r"(?:^|_)transformer_blocks_(\d+)_attn", plain, re.M)]
        if width == 3072 and blocks:
            return ("qwen_image" if max(blocks) >= 19 else "flux"), f"{max(blocks) + 1} blocks of width 3,072"
        if width in (1536, 2432):
            return "sd3", f"blocks of width {width:,}"
    for key in ("ss_base_model_version", "modelspec.architecture", "base_model"):
        if (family := family_from_text(metadata.get(key, ""))) != "unknown":
            return family, "its metadata"
    for name, shape in names.shapes.items():  # of the first format: the inputs of cross-attention
        of_attention = name.startswith("unet:") and name.endswith(":down") and shape[1:] in ((768,), (1024,))
        if of_attention and names.shape(f"{name[:-4]}up")[:1] == (320,):
            return FAMILY_BY_CONTEXT_WIDTH[shape[1]], f"cross-attention width {shape[1]:,}"
    if (width := _input_width(names, "self_attn_q_proj")) in (768, 1024):
        return FAMILY_BY_CONTEXT_WIDTH[width], f"text encoder width {width:,}"
    return "unknown", ""


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


def _input_width(names: TensorNames, module: str) -> int:
    """The input width of the first module with this in its name; 0 if unknown."""
    for name, shape in names.shapes.items():
        if module not in (plain := name.replace(".", "_")) and module.replace("_to_", "_processor_to_") not in plain:
            continue
        if len(shape) >= 2 and name.endswith(_INPUT_SIDE):
            return shape[1]
        if name.endswith((".lokr_w1", ".lokr_w1_b")):
            base = name[: name.index(".lokr_w1")]
            right = names.shape(f"{base}.lokr_w2") or names.shape(f"{base}.lokr_w2_b")
            if len(shape) >= 2 and len(right) >= 2:
                return shape[1] * right[1]
    return 0
