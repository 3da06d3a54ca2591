"""Name the ways to quantize weights that are not supported, by the tensors and metadata that they add. No torch.

Packed matrices have other shapes than the weights they stand for, and Nunchaku's files hold low-rank matrices that look
like a LoRA's; so this is asked before anything else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from diffstudio.models.detection.types import NOT_SUPPORTED, Detection, Role, TensorNames
from diffstudio.models.files.safetensors_header import TensorEntry
from diffstudio.models.state_dicts.prefixes import QUANTIZATION_FORMAT, TEXT_ENCODER_ROOTS, VAE_PREFIXES

COMFY_FORMATS = "comfy_quant"  # the key under which `comfy_formats` passes what it read to `detect`
_LARGEST_FORMAT_BYTES = 4096
_MOST_FORMATS = 8  # that are read of one file
_FLOAT8 = ("float8_e4m3fn", "float8_e5m2")

_BY_COMFY_FORMAT = {
    "nvfp4": "NVFP4",
    "mxfp8": "MXFP8",
    "mxfp4": "MXFP4",
    "int8_tensorwise": "int8",
    "int8_blockwise": "int8",
    "asym_w4a8_int8": "W4A8",
    "convrot_w4a4": "ConvRot int4",
}

# A pattern is searched only if its substring occurs in the names.
_BY_NAMES = tuple(
    (substring, re.compile(pattern, re.M), title)
    for substring, pattern, title in (
        ("bitsandbytes__nf4", r"\.quant_state\.bitsandbytes__nf4$", "NF4 (bitsandbytes)"),
        ("bitsandbytes__fp4", r"\.quant_state\.bitsandbytes__fp4$", "FP4 (bitsandbytes)"),
        (".SCB", r"\.SCB$", "int8 (bitsandbytes)"),
        (".wscales", r"\.wscales$", "Nunchaku (SVDQuant)"),
        (".qzeros", r"\.qzeros$", "GPTQ or AWQ"),
        (".weight_scale_2", r"\.weight_scale_2$", "NVFP4"),
        (".svd_up", r"\.svd_up$", "SDNQ"),
        (".zero_point", r"\.zero_point$", "SDNQ"),
        ("._data", r"\.weight\._data$", "quanto"),
        (".W_q", r"\.W_q$", "HQQ"),
        (".weight_packed", r"\.weight_packed$", "compressed-tensors"),
    )
)
_BY_METHOD = {
    "sdnq": "SDNQ",
    "quanto": "quanto",
    "torchao": "torchao",
    "gptq": "GPTQ",
    "awq": "AWQ",
    "hqq": "HQQ",
    "modelopt": "NVIDIA ModelOpt",
    "compressed-tensors": "compressed-tensors",
    "svdquant": "Nunchaku (SVDQuant)",
    "nunchaku": "Nunchaku (SVDQuant)",
}
_NETWORK = re.compile(
    r"(?:^|\.)(?:(?:double|single|joint|input|output|down|up)_blocks|(?:single_)?transformer_blocks"
    r"|(?:noise|context)_refiner)\.\d",
    re.M,
)


def detect_quantized(names: TensorNames, metadata: Mapping[str, str]) -> Detection | None:
    """A file whose weights are quantized in a way that is not supported; None for all others."""
    title = _title(names, metadata)
    if not title:
        return None
    encoders = any(name.startswith(TEXT_ENCODER_ROOTS) for name in names.shapes)
    if _NETWORK.search(names.joined):
        whole = encoders or any(name.startswith(VAE_PREFIXES) for name in names.shapes)
        role, whose = (Role.CHECKPOINT if whole else Role.NETWORK), "a network"
    else:
        role, whose = Role.TEXT_ENCODER, "a text encoder"
    reason = f"The weights of {whose}, quantized to {title}{NOT_SUPPORTED}."
    return Detection(role, reason=reason, supported=False)


def quantization_of_config(config: Mapping[str, object]) -> str:
    """What the `config.json` of a component says that its weights are quantized to; empty for plain weights."""
    match config.get("quantization_config"):
        case {"quant_method": "bitsandbytes" | "bitsandbytes_4bit" | "bitsandbytes_8bit", **more}:
            four = "NF4" if more.get("bnb_4bit_quant_type") == "nf4" else "FP4"
            return f"{four if more.get('load_in_4bit') else 'int8'} (bitsandbytes)"
        case {"quant_method": str(method)}:
            return _BY_METHOD.get(method.lower(), method[:40])
        case dict():
            return "a format that it does not name"
    return ""


def comfy_formats(path: Path, tensors: Mapping[str, TensorEntry], data_start: int) -> dict[str, str]:
    """The quantization formats that ComfyUI wrote beside weights, for the metadata of `detect`; empty without any.

    Reads one of each length, a few dozen bytes each. The offsets of the entries are relative to `data_start`.
    """
    lengths = {entry.end - entry.start: entry for name, entry in tensors.items() if name.endswith(QUANTIZATION_FORMAT)}
    read: list[object] = []
    try:
        with path.open("rb") as file:
            for length, entry in sorted(lengths.items())[:_MOST_FORMATS]:
                file.seek(data_start + entry.start)
                read.append(json.loads(file.read(min(length, _LARGEST_FORMAT_BYTES))))
    except (OSError, ValueError, RecursionError):
        pass  # what is damaged is said when the weights are loaded
    return {COMFY_FORMATS: json.dumps(read)} if read else {}


def _title(names: TensorNames, metadata: Mapping[str, str]) -> str:
    joined = names.joined
    for substring, pattern, title in _BY_NAMES:
        if substring in joined and pattern.search(joined):
            return title
    if metadata.get("model_class", "").startswith("Nunchaku"):
        return "Nunchaku (SVDQuant)"
    if title := quantization_of_config({"quantization_config": _json(metadata.get("quantization_config", ""))}):
        return title
    layers = _json(metadata.get("_quantization_metadata", ""))
    formats = layers.get("layers") if isinstance(layers, dict) else None
    listed = list(formats.values()) if isinstance(formats, dict) else []
    beside = _json(metadata.get(COMFY_FORMATS, ""))
    for one in (*listed, *(beside if isinstance(beside, list) else ())):
        if title := _of_comfy_format(one):
            return title
    scaled = [name for name in names.shapes if name.endswith(".scale") and f"{name[:-6]}.weight" in names.shapes]
    return "SDNQ" if len(scaled) >= 4 else ""


def _of_comfy_format(one: object) -> str:
    match one:
        case {"format": str(name), **more} if name not in _FLOAT8:
            title = _BY_COMFY_FORMAT.get(name, name[:40])
            return f"ConvRot {title}" if more.get("convrot") and "ConvRot" not in title else title
    return ""


def _json(text: str) -> object:
    try:
        return json.loads(text) if text else None
    except (ValueError, RecursionError):
        return None
