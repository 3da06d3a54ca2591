"""LatentModel: the base class of the families that sample in a VAE's latent space."""

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
from diffstudio.models.adapters.adapters import Adapters
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.families_table import FAMILIES, Family
from diffstudio.models.model import Model, multiples_of, unsupported_size

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_LARGEST_TIMES_TRAINED = 4  # the largest side of an image, as a multiple of the training size


class LatentModel(Model):
    """A Model that samples latents. Subclasses encode the prompts and call the network.

    `text_encoders` and `tokenizers` are keyed by diffusers' names (`text_encoder`, `tokenizer_2`). All modules are
    classes of diffusers and transformers.
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
    ) -> None:
        self.checkpoint, self.schedule = checkpoint, schedule
        self.network, self.vae = network, vae
        self.text_encoders, self.tokenizers = text_encoders, tokenizers
        self._family = FAMILIES[family]
        self.device, self.dtype = device, dtype
        self.guidance = self._family.guidance
        self._side = side
        self._read_vae_config(vae.config)

    def _read_vae_config(self, config: Any) -> None:
        """Read scaling, shift, channels and scale factor of the latents from the VAE's config."""
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
        """The largest width or height of an image, in px."""
        return _LARGEST_TIMES_TRAINED * self._side

    def check_size(self, width: int, height: int) -> None:
        multiple, largest = self.multiple, self.largest_side
        if width % multiple == 0 == height % multiple and max(width, height) <= largest:
            return
        near = " × ".join(
            str(min(largest, max(multiple, round(side / multiple) * multiple))) for side in (width, height)
        )
        raise unsupported_size(width, height, multiples_of(multiple, largest), near)

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
        """A linear map from channels to RGB: factors published for this latent space, else fitted to its encoder."""
        weights, bias = (factors.to(state) for factors in self._rgb_factors)
        return torch.einsum("bchw,cr->brhw", state, weights) + bias.view(1, 3, 1, 1)

    @cached_property
    def _rgb_factors(self) -> tuple[Tensor, Tensor]:
        """Weights [C,3] and bias [3] that map latent channels to RGB."""
        weights, bias = RGB_FACTORS.get(self.latent_space, ((), ()))
        if len(weights) == self.channels:
            return torch.tensor(weights), torch.tensor(bias)
        palette = _palette(self.vae_scale_factor)
        return fit_rgb_factors(self.encode_image(palette.to(self.device)).cpu(), palette)

    @property
    def latent_space(self) -> str:
        """The latent space of its VAE: a key of RGB_FACTORS, if there are published factors."""
        return self.family.name


# ---- previews --------------------------------------------------------------------------------------------------------

_PALETTE_SIDE = 16  # px of the latent


def _palette(vae_scale_factor: int) -> Tensor:
    """A test image [1,3,H,W] in [-1,1]: patches of colour in the upper half, gradients in the lower half.

    Many colours in one image, because VAE encoders normalise over the image and so lose its mean.
    """
    levels = torch.linspace(-1, 1, 4)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))[:32]
    patches = torch.cartesian_prod(levels, levels, levels)[order].T.reshape(1, 3, 4, 8)
    width = _PALETTE_SIDE * vae_scale_factor
    y, x = torch.meshgrid(torch.linspace(0, 0.5, width // 2), torch.linspace(0, 1, width), indexing="ij")
    turns = torch.stack((x + 0.25, 1.5 * y + 0.5 * x, x - 2 * y))  # each channel varies in another direction
    return torch.cat((F.interpolate(patches, (width // 2, width)), torch.cos(2 * torch.pi * turns)[None]), dim=2)


def fit_rgb_factors(latents: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
    """Least-squares fit of weights [C,3] and bias [3] that map latents [B,C,h,w] to image [B,3,H,W]."""
    colours = F.interpolate(image, latents.shape[-2:], mode="area").permute(0, 2, 3, 1).reshape(-1, 3).double()
    channels = latents.permute(0, 2, 3, 1).reshape(len(colours), -1).double()
    factors = torch.linalg.lstsq(F.pad(channels, (0, 1), value=1.0), colours, driver="gelsd").solution  # [C + 1,3]
    return factors[:-1].float(), factors[-1].float()


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

# From latent channels to RGB in [-1,1]: weights [C,3] and bias [3], published regressions on decoded images.
# Stable Diffusion 1 and 2, which share a VAE: keturn, "Decoding latents to RGB without upscaling",
# discuss.huggingface.co/t/23204, 2022. XL: T. A. Vass, "Explaining the SDXL latent space", 2023, in levels 0 .. 255.
RGB_FACTORS: dict[str, tuple[tuple[tuple[float, ...], ...], tuple[float, float, float]]] = {
    "sd1": _STABLE_DIFFUSION_1,
    "sd2": _STABLE_DIFFUSION_1,
    "sdxl": _STABLE_DIFFUSION_XL,
    "sdxl_refiner": _STABLE_DIFFUSION_XL,
}
