"""Detect LoRAs and their variants (LoHa, LoKr, DoRA, OFT, …) and the family they fit, by the names of their tensors.

The names are those of kohya, LyCORIS, PEFT, diffusers, OneTrainer, XLabs and cloneofsimo. No torch is imported here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from diffstudio.models.detection.adapter_families import Evidence, adapter_family
from diffstudio.models.detection.families_table import UNKNOWN
from diffstudio.models.detection.types import NOT_SUPPORTED, Detection, Layout, Role, Shapes, TensorNames

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


def detect_adapter(names: TensorNames, metadata: Mapping[str, str]) -> Detection | None:
    """Detect a LoRA or one of its variants; None for another file."""
    if _is_list(names.shapes):
        made_for = adapter_family(names, metadata)
        family = made_for.model.family if made_for is not None else UNKNOWN
        return Detection(Role.LORA, family, reason="A list of up and down matrices: a LoRA of the first format.")
    if not any(substring in names.joined for substring in _SUBSTRINGS):
        return None  # a quick check that excludes nearly all checkpoints
    if reason := control_lora(names.shapes):
        return Detection(Role.UNKNOWN, "flux", reason=f"{reason[0].upper()}{reason[1:]}.")
    if _MARK.search(names.joined) is None or names.joined.count("\n") > 100 and len(_MARK.findall(names.joined)) < 4:
        return None  # a complete checkpoint with a stray name
    kind = next((title for substring, title in _KINDS if substring in names.joined), "changes to a checkpoint")
    made_for = adapter_family(names, metadata)
    diffusers = ".lora_A" in names.joined or "_lora.down" in names.joined or "lora_linear_layer" in names.joined
    supported = made_for is None or made_for.model.family != UNKNOWN
    return Detection(
        Role.LORA,
        made_for.model.family if made_for is not None else UNKNOWN,
        layout=Layout.DIFFUSERS if diffusers else Layout.ORIGINAL,
        reason=f"The tensor names of {kind} {_whose(made_for)}.",
        edition=made_for.model.title if made_for is not None and not supported else "",
        supported=supported,
    )


def _whose(made_for: Evidence | None) -> str:
    if made_for is None:
        return "for an unknown model"
    unsupported = NOT_SUPPORTED if made_for.model.family == UNKNOWN else ""
    return f"for {made_for.model.title}{unsupported}, by {made_for.why}"


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
