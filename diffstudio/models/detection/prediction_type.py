"""Find out whether a U-Net predicts eps or v if neither tensor names nor metadata say so. No torch is imported here."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from pathlib import Path
from statistics import pstdev

from diffstudio.models.files.safetensors_header import TensorEntry
from diffstudio.models.state_dicts.prefixes import NETWORK_PREFIXES

DIFFUSERS_PREDICTIONS = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}  # `prediction_type` of its schedulers
_LARGEST_CONFIG_BYTES = 64 << 10
_LARGEST_TENSOR_BYTES = 64 << 10
_V_SPREAD = 0.09  # standard deviation of the bias below: smaller in Stable Diffusion 2 for eps, larger for v
_LAST_NORM = tuple(
    prefix + key
    for prefix in NETWORK_PREFIXES
    for key in (
        "output_blocks.11.1.transformer_blocks.0.norm1.bias",
        "up_blocks.3.attentions.2.transformer_blocks.0.norm1.bias",
    )
)


def prediction_from_yaml(path: Path) -> tuple[str, str]:
    """From the `.yaml` config with the same name next to a checkpoint: (eps or v, why); both empty without one."""
    config = path.with_suffix(".yaml")
    try:
        with config.open("rb") as file:
            text = file.read(_LARGEST_CONFIG_BYTES).decode("utf-8", "replace")
    except OSError:
        return "", ""
    if re.search(r"""parameterization\s*:\s*["']?v\b""", text):
        return "v", f"{config.name} next to it says v-prediction"
    return ("eps", f"{config.name} next to it does not mention v-prediction") if "unet_config" in text else ("", "")


def prediction_from_weights(path: Path, tensors: Mapping[str, TensorEntry], data_start: int) -> tuple[str, str]:
    """From the spread of the last normalization's bias in Stable Diffusion 2, as ComfyUI does: (eps or v, why).

    Reads 1.3 kB. The offsets of the entries are relative to `data_start`. Both are empty without such a tensor.
    """
    entry = next((tensors[name] for name in _LAST_NORM if name in tensors), None)
    if entry is None or entry.end - entry.start > _LARGEST_TENSOR_BYTES:
        return "", ""
    try:
        with path.open("rb") as file:
            file.seek(data_start + entry.start)
            values = _numbers(file.read(entry.end - entry.start), entry.dtype)
    except (OSError, struct.error):
        return "", ""
    if not values:
        return "", ""
    prediction = "v" if pstdev(values) > _V_SPREAD else "eps"
    return prediction, f"the spread of one of its biases suggests {prediction}-prediction"


def _numbers(data: bytes, dtype: str) -> tuple[float, ...]:
    match dtype:
        case "F32":
            return struct.unpack(f"<{len(data) // 4}f", data)
        case "F16":
            return struct.unpack(f"<{len(data) // 2}e", data)
        case "BF16":  # the upper half of a float32
            wide = b"".join(b"\0\0" + data[index : index + 2] for index in range(0, len(data), 2))
            return struct.unpack(f"<{len(wide) // 4}f", wide)
        case _:
            return ()
