"""PEFT's `adapter_config.json`: the settings of an adapter, in a file next to its weights. No torch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from diffstudio.models.files.file_access import read_json_object
from diffstudio.models.files.formats import PICKLES, SAFETENSORS

ADAPTER_CONFIG = "adapter_config.json"
_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")  # as PEFT names them, the preferred one first


def adapter_weights(folder: Path) -> Path | None:
    """The weights in a folder that PEFT saved; None if it is not one."""
    if not (folder / ADAPTER_CONFIG).is_file():
        return None
    return next((folder / name for name in _WEIGHTS if (folder / name).is_file()), None)


def adapter_config_path(weights: Path) -> Path | None:
    """The config that belongs to a weights file: in its folder, if PEFT named the file or it is alone there."""
    config = weights.with_name(ADAPTER_CONFIG)
    if not config.is_file():
        return None
    if weights.name in _WEIGHTS:
        return config
    others = [name for name in os.listdir(weights.parent) if name.lower().endswith((*SAFETENSORS, *PICKLES))]
    return config if others == [weights.name] else None


def read_adapter_config(path: Path) -> dict[str, Any]:
    """The settings as they are stored. CheckpointDamaged for a file that cannot be read or is not a JSON object."""
    return read_json_object(path)
