"""What the families that work in a VAE's latent space have in common."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffstudio.diffusion.samplers import SAMPLERS
from diffstudio.diffusion.schedule import Schedule
from diffstudio.diffusion.spacing import sampling_times
from diffstudio.errors import BadRequest
from diffstudio.models.adapters.adapters import Adapters
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.families_table import FAMILIES, Family
from diffstudio.models.model import Model

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_LARGEST_TIMES_TRAINED = 4  # the largest side, over the trained one


class LatentModel(Model):
    """The part of a Model that depends on the VAE alone. Subclasses encode prompts and call the network.

    `text_encoders` and `tokenizers` are given by diffusers' names (`text_encoder`, `tokenizer_2`). All modules are
    those of diffusers and transformers.
    """

    vae: nn.Module
    is_latent = True
    guides_last_call = True  # as diffusers' pipelines do

    def __init__(
        self,
        checkpoint: Checkpoint | None,
        schedule: Schedule,
        network: nn.Module,
        vae: nn.Module,
        family: str,
        *,
        text_encoders: Mapping[str, nn.Module],
        tokenizers: Mapping[str, PreTrainedTokenizerBase],
        side: int,
        device: torch.device,
        dtype: torch.dtype,
        sha256: str = "",
    ) -> None:
        self.checkpoint, self.schedule, self.sha256 = checkpoint, schedule, sha256
        self.network, self.vae = network, vae
        self.text_encoders, self.tokenizers = text_encoders, tokenizers
        self._family = FAMILIES[family]
        self.device, self.dtype = device, dtype
        self.guidance = self._family.guidance
        self._side = side
        self._read_vae_config(vae.config)

    def _read_vae_config(self, config: Any) -> None:
        """The latent space, by the VAE's config."""
        self._scaling: float | Tensor = float(config.scaling_factor)  # one number, or one for each channel
        self._shift: float | Tensor = float(getattr(config, "shift_factor", None) or 0.0)
        self.channels = int(config.latent_channels)
        self.vae_scale_factor = 2 ** (len(config.block_out_channels) - 1)

    @property
    def family(self) -> Family:
        return self._family

    @cached_property
    def adapters(self) -> Adapters:
        return Adapters(self.network, self.text_encoders)

    @property
    def offloadable(self) -> tuple[nn.Module, ...]:
        return (*self.text_encoders.values(), self.network, self.vae)

    @property
    def default_size(self) -> tuple[int, int]:
        return self._side, self._side

    @property
    def multiple(self) -> int:
        return max(self.family.multiple, self.vae_scale_factor)

    @property
    def samplers(self) -> tuple[str, ...]:
        return tuple(SAMPLERS)

    @property
    def largest_side(self) -> int:
        """In px."""
        return _LARGEST_TIMES_TRAINED * self._side

    def check_size(self, width: int, height: int) -> None:
        multiple, largest = self.multiple, self.largest_side
        if width % multiple == 0 == height % multiple and max(width, height) <= largest:
            return
        near = " × ".join(
            str(min(largest, max(multiple, round(side / multiple) * multiple))) for side in (width, height)
        )
        raise BadRequest(
            f"This checkpoint cannot make images of {width} × {height}",
            f"its sides must be multiples of {multiple} px, and at most {largest}",
            f"Try {near}",
        )

    def state_shape(self, width: int, height: int) -> tuple[int, int, int]:
        return self.channels, height // self.vae_scale_factor, width // self.vae_scale_factor

    def times(self, steps: int, spacing: str, strength: float, width: int, height: int) -> Tensor:
        return sampling_times(self.schedule, steps, spacing, strength=strength)

    @torch.no_grad()
    def encode_image(self, image: Tensor) -> Tensor:
        """The mode of the encoder's distribution, so that one image always gives one state."""
        return (self._encode(image.to(self.device)).float() - self._shift) * self._scaling

    @torch.no_grad()
    def decode(self, state: Tensor) -> Tensor:
        return self._decode(state / self._scaling + self._shift).float()

    def _encode(self, image: Tensor) -> Tensor:
        """image [B,3,H,W] -> the VAE's unscaled latents [B,C,h,w]."""
        vae: Any = self.vae
        latents: Tensor = vae.encode(image.to(vae.dtype)).latent_dist.mode()
        return latents

    def _decode(self, latents: Tensor) -> Tensor:
        """The VAE's unscaled latents [B,C,h,w] -> image [B,3,H,W]."""
        vae: Any = self.vae
        image: Tensor = vae.decode(latents.to(vae.dtype), return_dict=False)[0]
        return image

    def latents_to_rgb(self, state: Tensor) -> Tensor:
        """A linear map from channels to colours: the published one of this latent space, else one fitted with its own
        encoder.
        """
        weights, bias = (part.to(state) for part in self._colours)
        return torch.einsum("bchw,cr->brhw", state, weights) + bias.view(1, 3, 1, 1)

    @cached_property
    def _colours(self) -> tuple[Tensor, Tensor]:
        """Channels to red, green and blue: weights [C,3] and bias [3]."""
        weights, bias = RGB_FACTORS.get(self.latent_space, ((), ()))
        if len(weights) == self.channels:
            return torch.tensor(weights), torch.tensor(bias)
        palette = _palette(self.vae_scale_factor)
        return fitted_colours(self.encode_image(palette.to(self.device)).cpu(), palette)

    @property
    def latent_space(self) -> str:
        """Whose autoencoder it is: a key of RGB_FACTORS."""
        return self.family.name


# ---- previews --------------------------------------------------------------------------------------------------------

_PALETTE_SIDE = 16  # px of the latent


def _palette(vae_scale_factor: int) -> Tensor:
    """[1,3,H,W] in [-1,1]: above, colours side by side in patches; below, flowing into each other.

    Many in one picture, because an encoder takes the mean out of what it sees.
    """
    levels = torch.linspace(-1, 1, 4)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))[:32]
    patches = torch.cartesian_prod(levels, levels, levels)[order].T.reshape(1, 3, 4, 8)
    width = _PALETTE_SIDE * vae_scale_factor
    y, x = torch.meshgrid(torch.linspace(0, 0.5, width // 2), torch.linspace(0, 1, width), indexing="ij")
    turns = torch.stack((x + 0.25, 1.5 * y + 0.5 * x, x - 2 * y))  # each colour in a direction of its own
    return torch.cat((F.interpolate(patches, (width // 2, width)), torch.cos(2 * torch.pi * turns)[None]), dim=2)


def fitted_colours(latents: Tensor, picture: Tensor) -> tuple[Tensor, Tensor]:
    """weights [C,3] and bias [3] that come nearest to picture [B,3,H,W] from latents [B,C,h,w], by least squares."""
    colours = F.interpolate(picture, latents.shape[-2:], mode="area").permute(0, 2, 3, 1).reshape(-1, 3).double()
    told = latents.permute(0, 2, 3, 1).reshape(len(colours), -1).double()
    found = torch.linalg.lstsq(F.pad(told, (0, 1), value=1.0), colours, driver="gelsd").solution  # [C + 1,3]
    return found[:-1].float(), found[-1].float()


_STABLE_DIFFUSION_1 = (
    ((0.298, 0.207, 0.208), (0.187, 0.286, 0.173), (-0.158, 0.189, 0.264), (-0.184, -0.271, -0.473)),
    (0.0, 0.0, 0.0),
)
_STABLE_DIFFUSION_XL = (
    tuple(
        tuple(level / 127.5 for level in channel)
        for channel in ((60, 60, 60), (-60, -5, 10), (25, 15, -5), (-70, -50, -35))
    ),
    (150 / 127.5 - 1, 140 / 127.5 - 1, 130 / 127.5 - 1),
)

# Channels to red, green and blue in [-1,1]: ([C,3], bias [3]). They are facts about published autoencoders, found by
# others by
# regression on decoded pictures. Stable Diffusion 1 and 2, which share theirs: keturn in "Decoding latents to RGB
# without
# upscaling", discuss.huggingface.co/t/23204, 2022. XL: T. A. Vass, "Explaining the SDXL latent space", 2023, given
# there in
# levels of 0 .. 255.
RGB_FACTORS: dict[str, tuple[tuple[tuple[float, ...], ...], tuple[float, float, float]]] = {
    "sd1": _STABLE_DIFFUSION_1,
    "sd2": _STABLE_DIFFUSION_1,
    "sdxl": _STABLE_DIFFUSION_XL,
    "sdxl_refiner": _STABLE_DIFFUSION_XL,
}
