"""PEFT's `adapter_config.json`: the settings of an adapter, in a file next to its weights. No torch."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from diffstudio.errors import NOT_A_JSON_OBJECT, CheckpointDamaged
from diffstudio.models.files.file_access import DOWNLOAD_AGAIN, TOO_LARGE, regular_file_size
from diffstudio.models.files.formats import PICKLES, SAFETENSORS

ADAPTER_CONFIG = "adapter_config.json"
_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")  # as PEFT names them, the preferred one first
_LARGEST_BYTES = 4 << 20


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
    try:
        if regular_file_size(path) > _LARGEST_BYTES:
            raise ValueError(TOO_LARGE)
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointDamaged(f"{path} cannot be read", str(error)[:200], DOWNLOAD_AGAIN) from error
    if not isinstance(config, dict):
        raise CheckpointDamaged(f"{path} cannot be read", NOT_A_JSON_OBJECT, DOWNLOAD_AGAIN)
    return config
