"""The record of a checkpoint before its kind is detected: its name, its size, how many parameters it has of each dtype."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import prod
from pathlib import Path

from diffstudio.models.adapters.adapter_config import ADAPTER_CONFIG
from diffstudio.models.checkpoint import Checkpoint, Origin
from diffstudio.models.detection.families_table import UNKNOWN
from diffstudio.models.detection.types import Layout, Role
from diffstudio.models.files.file_access import FileStamp
from diffstudio.models.files.header import Header
from diffstudio.models.files.pickle_scan import PickleScan
from diffstudio.models.files.safetensors_header import SafetensorsHeader
from diffstudio.models.state_dicts.prefixes import COMPONENTS
from diffstudio.networks.conditioning import Conditioning

_GENERIC_NAME = re.compile(
    r"(diffusion_pytorch_model|pytorch_model|model|adapter_model)([.-](fp16|fp32|bf16|non_ema))*"
)
_CONFIGS = ("config.json", ADAPTER_CONFIG)  # that diffusers, transformers and peft save with them


def blank_record(path: Path, layout: Layout, stamp: FileStamp, headers: tuple[Header, ...]) -> Checkpoint:
    name = path.name if layout is Layout.FOLDER else _default_name(path)
    return Checkpoint(
        path=path,
        name=name,
        title=name,
        family=UNKNOWN,
        conditioning=Conditioning.NONE,
        classes=(),
        width=0,
        height=0,
        parameters=0,
        dtype="",
        size_bytes=stamp.size_bytes,
        origin=Origin.IMPORTED,
        modified=stamp.modified_ns / 1e9,
        role=Role.UNKNOWN,
        layout=layout,
        headers=headers,
    )


def _default_name(path: Path) -> str:
    """The file's name, or its folder's where the file has a generic one
    (`control_canny/diffusion_pytorch_model.safetensors`).
    """
    stem = path.name.removesuffix(path.suffix)
    generic = _GENERIC_NAME.fullmatch(stem) is not None and any(path.with_name(name).is_file() for name in _CONFIGS)
    if not generic:
        return stem
    folder = path.absolute().parent
    of_component = folder.name in COMPONENTS and stem.startswith("adapter_model")  # PEFT's example saves one for each
    return f"{folder_title(folder.parent)}-{folder.name}" if of_component else folder_title(folder)


def folder_title(folder: Path) -> str:
    """The folder's name. In the cache of the Hugging Face hub that is a revision; the model's name is two levels up."""
    above = folder.parent.parent.name
    return (
        above.rpartition("--")[2] if folder.parent.name == "snapshots" and above.startswith("models--") else folder.name
    )


def count_by_dtype(header: Header) -> dict[str, int]:
    """How many parameters a file stores in each dtype."""
    counts: dict[str, int] = {}
    if isinstance(header.content, PickleScan | SafetensorsHeader):
        for tensor in header.content.tensors.values():
            counts[tensor.dtype] = counts.get(tensor.dtype, 0) + prod(tensor.shape)
    return counts


def most_frequent(counts: Mapping[str, int]) -> str:
    """The dtype with the highest count; empty where there are none."""
    return max(counts, key=lambda dtype: counts[dtype], default="")
