"""Small random models of every family whose attention is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from diffstudio.models.components.components import FolderComponents
from diffstudio.models.families import flux, pixel, qwen_image, sd3, stable_diffusion, stable_diffusion_xl, z_image
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.model import Model
from diffstudio.networks.conditioning import Conditioning
from tests.models import small, small_flow
from tests.models.tiny import write_tiny_checkpoint

FLOWS: dict[str, tuple[Callable[..., Any], Any]] = {
    "flux": (small_flow.small_flux, flux),
    "sd3": (small_flow.small_sd3, sd3),
    "qwen_image": (small_flow.small_qwen_image, qwen_image),
    "z_image": (small_flow.small_z_image, z_image),
    "sd1": (small.small_sd1, stable_diffusion),
    "sdxl": (small.small_sdxl, stable_diffusion_xl),
}
FAMILIES = ("pixel", *FLOWS)
WIDTH, HEIGHT = 96, 64  # px: not a square


def load(family: str, folder: Path) -> Model:
    if family == "pixel":
        path = folder / "tiny.safetensors"
        write_tiny_checkpoint(path, conditioning=Conditioning.TEXT)
        return pixel.load(read_checkpoint(path), torch.device("cpu"), torch.float32)
    build, module = FLOWS[family]
    build(folder)
    checkpoint = small_flow.checkpoint_of(folder, family)
    return module.load(checkpoint, FolderComponents(folder), torch.device("cpu"), torch.float32)  # type: ignore[no-any-return]


def size_of(family: str) -> tuple[int, int]:
    return (24, 16) if family == "pixel" else (WIDTH, HEIGHT)
