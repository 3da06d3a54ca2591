"""The model folders of other programs: where their models are, and which role each folder has. No torch.

AUTOMATIC1111's web UI and Forge have `models/Stable-diffusion`, `models/Lora` and `embeddings`; ComfyUI has
`models/checkpoints`, `models/loras`, and `extra_model_paths.yaml` for folders elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from diffstudio.errors import CheckpointDamaged, DiffstudioError
from diffstudio.models.adapters.adapter_config import ADAPTER_CONFIG
from diffstudio.models.detection.types import Role
from diffstudio.models.files.file_access import TOO_LARGE, first_line, regular_file_size
from diffstudio.models.files.formats import INDEX, SUFFIXES

# By a folder's name in lower case; used only for files that do not show their role themselves.
ROLES: Mapping[str, Role] = {
    "stable-diffusion": Role.CHECKPOINT,
    "checkpoints": Role.CHECKPOINT,
    "lora": Role.LORA,
    "loras": Role.LORA,
    "lycoris": Role.LORA,
    "vae": Role.VAE,
    "controlnet": Role.CONTROLNET,
    "esrgan": Role.UPSCALER,
    "realesrgan": Role.UPSCALER,
    "swinir": Role.UPSCALER,
    "dat": Role.UPSCALER,
    "upscale_models": Role.UPSCALER,
    "embeddings": Role.EMBEDDING,
    "diffusion_models": Role.NETWORK,
    "unet": Role.NETWORK,
    "text_encoders": Role.TEXT_ENCODER,
    "text_encoder": Role.TEXT_ENCODER,
    "clip": Role.TEXT_ENCODER,
}
_LARGEST_YAML_BYTES = 1 << 20
_SKIPPED = frozenset({"venv", "node_modules", "__pycache__", "site-packages"})


def detect_program(folder: Path) -> str:
    """The program that a root or models folder belongs to: `AUTOMATIC1111`, `ComfyUI`, or empty for any other folder."""
    for root in (folder, folder.parent):
        if (root / "models" / "Stable-diffusion").is_dir() and (root is folder or folder.name == "models"):
            return "AUTOMATIC1111"
        if (root / "models" / "checkpoints").is_dir() and (root is folder or folder.name == "models"):
            return "ComfyUI"
    return ""


def search_roots(folder: Path, problems: list[tuple[Path, DiffstudioError]]) -> tuple[Path, ...]:
    """The folders to search in a folder that the user added: of another program's only its model folders, with those it
    refers to.

    A configuration file that cannot be read is appended to `problems`, with its error.
    """
    program = detect_program(folder)
    if not program:
        return (folder,)
    root = folder if (folder / "models").is_dir() else folder.parent
    if program == "AUTOMATIC1111":
        return tuple(path for path in (root / "models", root / "embeddings") if path.is_dir())
    extra = root / "extra_model_paths.yaml"
    try:
        return (root / "models", *_extra_paths(extra))
    except CheckpointDamaged as error:
        problems.append((extra, error))
        return (root / "models",)


def _extra_paths(file: Path) -> tuple[Path, ...]:
    """The folders that ComfyUI's `extra_model_paths.yaml` names; none without the file. CheckpointDamaged."""
    import yaml  # type: ignore[import-untyped]

    try:
        if regular_file_size(file) > _LARGEST_YAML_BYTES:
            raise ValueError(TOO_LARGE)
        config: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise CheckpointDamaged(
            f"{file} cannot be read",
            f"the model folders that it names are missing here ({first_line(error)})",
            "Correct it, or remove it",
        ) from error
    found: dict[Path, None] = {}
    for section in config.values() if isinstance(config, dict) else ():
        if not isinstance(section, dict):
            continue
        base = file.parent / os.path.expanduser(str(section.get("base_path", "")))
        for kind, folders in section.items():
            if kind in ("base_path", "is_default", "custom_nodes") or not isinstance(folders, str):
                continue
            for folder in folders.splitlines():
                if folder.strip() and (path := base / os.path.expanduser(folder.strip())).is_dir():
                    found[path] = None
    return tuple(found)


def walk_models(root: Path, avoid: Path) -> Iterator[tuple[Path, Role]]:
    """Every weights file and diffusers folder below `root`, in order, with the role that its folder suggests.

    Links are followed, each folder once. Skips the contents of diffusers folders, hidden folders, unfinished ones
    (`.part`) and the folder `avoid`.
    """
    entered: set[tuple[int, int]] = set()
    waiting: list[tuple[str, Role]] = [(str(root), ROLES.get(root.name.lower(), Role.UNKNOWN))]
    while waiting:
        folder, role = waiting.pop()
        try:
            about = os.stat(folder)
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            continue  # deleted, or no permission to read
        if (about.st_dev, about.st_ino) in entered or folder == str(avoid):
            continue
        entered.add((about.st_dev, about.st_ino))
        if any(entry.name == INDEX for entry in entries):
            yield Path(folder), role
            continue
        below: list[tuple[str, Role]] = []
        names = {entry.name for entry in entries}
        for entry in entries:
            if entry.name == "adapter_model.bin" and {ADAPTER_CONFIG, "adapter_model.safetensors"} <= names:
                continue  # PEFT's adapter in its older format too
            if is_folder(entry):
                if not entry.name.startswith(".") and not entry.name.endswith(".part") and entry.name not in _SKIPPED:
                    below.append((entry.path, ROLES.get(entry.name.lower(), role)))
            elif entry.name.lower().endswith(SUFFIXES) and not entry.name.startswith("."):
                yield Path(entry.path), role
        waiting += reversed(below)


def is_folder(entry: os.DirEntry[str]) -> bool:
    """`entry.is_dir()`, but False for a link to itself, for which that raises OSError."""
    try:
        return entry.is_dir()
    except OSError:
        return False
