"""Tiny VAE decoders (TAESD by Ollin Boer Bohan, https://github.com/madebyollin/taesd), which decode previews.

They were published for four latent spaces: `taesd` (Stable Diffusion 1 and 2), `taesdxl`, `taesd3` and `taef1` (FLUX.1,
whose VAE Z-Image shares); those of one width differ by name alone. A file has a decoder (`taesd_decoder.pth`, layers by
number), or encoder and decoder as diffusers' AutoencoderTiny.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from diffstudio.errors import CheckpointDamaged, DiffstudioError
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.detect import TINY_DECODER_PREFIXES, tiny_vae_edition
from diffstudio.models.detection.types import Role
from diffstudio.models.files.file_access import DOWNLOAD_AGAIN, first_line
from diffstudio.models.library.library import Library

if TYPE_CHECKING:
    import torch
    from torch import nn

_LATENT_SPACES = {"taesdxl": "sdxl", "taesd3": "sd3", "taef1": "flux", "taesd": "sd1"}  # by name, longer ones first
_SHARED_LATENT_SPACES = {"sd2": "sd1", "sdxl_refiner": "sdxl", "z_image": "flux"}  # families with the VAE of another
_WIDTH = 64
_BLOCKS = (3, 3, 3, 1)


def latent_space_of(checkpoint: Checkpoint) -> str:
    """The family whose latents a TAESD decodes, by its name or its folder's; empty where neither tells."""
    names = (
        re.sub(r"[^a-z0-9]", "", name.lower())
        for name in (checkpoint.path.stem, checkpoint.name, checkpoint.path.parent.name)
    )
    return next((space for name in names for known, space in _LATENT_SPACES.items() if known in name), "")


def find_tiny_decoder(family: str, channels: int, library: Library) -> Checkpoint | None:
    """The TAESD in the model folders for this family's latents; None without one."""
    space = _SHARED_LATENT_SPACES.get(family, family)
    fitting = (
        model
        for model in library.scan()
        if model.role is Role.VAE and model.edition == tiny_vae_edition(channels) and latent_space_of(model) == space
    )
    return min(fitting, key=lambda model: str(model.path), default=None)


def load_tiny_decoder(checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """A module from scaled latents [B,C,h,w] to images [B,3,8h,8w], about [-1,1].

    CheckpointMissing, CheckpointDamaged, CheckpointDangerous.
    """
    from diffusers.models.autoencoders.vae import DecoderTiny

    from diffstudio.models.files.weights_reader import load_weights

    weights = load_weights(checkpoint.path, checkpoint.header)
    prefix = next((one for one in TINY_DECODER_PREFIXES if f"{one}19.weight" in weights), None)
    state = {}
    for name, value in weights.items():
        if prefix is None and name.startswith("decoder.layers."):
            state[name.removeprefix("decoder.")] = value
        elif prefix is not None and (found := re.fullmatch(re.escape(prefix) + r"(\d+)\.(.+)", name)) is not None:
            state[f"layers.{int(found[1]) - 1}.{found[2]}"] = value  # layer 0 limits the latents
    try:
        channels = state["layers.0.weight"].shape[1]
        decoder = DecoderTiny(channels, 3, _BLOCKS, (_WIDTH,) * len(_BLOCKS), 2, "relu", "nearest")
        decoder.load_state_dict(state)
    except (KeyError, IndexError, RuntimeError) as error:
        raise CheckpointDamaged(
            f"{checkpoint.path.name} is an incomplete or damaged TAESD", first_line(error), DOWNLOAD_AGAIN
        ) from error
    module: nn.Module = decoder.to(device, dtype).eval().requires_grad_(False)
    return module


def find_preview_decoder(
    family: str, channels: int, library: Library | None, device: torch.device, dtype: torch.dtype
) -> tuple[nn.Module | None, str]:
    """The TAESD that decodes previews, and a sentence about it; None and an empty text without one."""
    if library is None:
        return None, ""
    try:
        found = find_tiny_decoder(family, channels, library)
        if found is None:
            return None, ""
        return load_tiny_decoder(found, device, dtype), f"Previews are decoded by {found.path.name}."
    except DiffstudioError as error:
        return None, f"Previews are approximate. {error}"
