"""The latent space of a VAE or GAN that was trained here: reconstruction, principal directions, interpolation.

For example, a page with sliders, in a process or thread that may load torch:

    space = LatentSpace.load(checkpoint, device)
    latent = space.of_seed(7, "cat")                  # or space.of_image(image, "cat"), with a VAE
    moved = space.moved(latent, {0: 1.5, 3: -2.0})    # slider 0 at 1.5 standard deviations, slider 3 at -2
    image = space.images([moved], "cat")[0]           # a Pillow image

`space.directions` is the number of sliders; the range -3 to 3 covers the training images. A GAN has no sliders, because
it cannot encode images. `space.between(a, b, count)` interpolates between two latents, both ends included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from diffstudio.diffusion.noise import InterpolatedNoise, SeededNoise, spherical_interpolation
from diffstudio.errors import BadRequest, CheckpointDamaged, CheckpointUnknown, RunProblem
from diffstudio.models import loading
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.families.one_call import OneCallModel
from diffstudio.models.model import Model
from diffstudio.networks.autoencoder import Autoencoder
from diffstudio.networks.gan import Generator
from diffstudio.plurals import by_number, count_of
from diffstudio.training.data.preprocess import background_colour, resize_to
from diffstudio.training.recipe import DataRecipe, Recipe

_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class LatentSpace:
    """A VAE or GAN in memory. A latent is a float32 tensor [Z] on the CPU."""

    model: OneCallModel

    @classmethod
    def load(cls, checkpoint: Checkpoint, device: torch.device) -> LatentSpace:
        """Load a checkpoint. CheckpointUnknown as for `of_model`."""
        return cls.of_model(loading.load(checkpoint, device))

    @classmethod
    def of_model(cls, model: Model) -> LatentSpace:
        """The latent space of a model in memory. CheckpointUnknown for a diffusion model, which has none."""
        if not isinstance(model, OneCallModel):
            name = model.checkpoint.name if model.checkpoint is not None else "This model"
            raise CheckpointUnknown(
                f"{name} has no latent space", "it is not a VAE or GAN trained here", "Choose one of those"
            )
        return cls(model)

    @property
    def directions(self) -> int:
        """The number of principal directions of the training images, widest first; 0 for a GAN."""
        network = self.model.one_call_network
        return int((network.latent_deviations > 0).sum()) if isinstance(network, Autoencoder) else 0

    @property
    def encodes(self) -> bool:
        """Whether the model can encode images; only a VAE can."""
        return isinstance(self.model.one_call_network, Autoencoder)

    def of_seed(self, seed: int, prompt: str = "", truncation: float = 1.0) -> Tensor:
        """The latent of the image that Generate creates from this seed, prompt and truncation."""
        return self.of_noise(truncation * SeededNoise([seed]).start(self.noise_shape), [prompt])[0]

    def between_seeds(self, first: int, last: int, prompts: Sequence[str]) -> list[Tensor]:
        """Latents interpolated spherically between the noise of two seeds, one for each prompt, both ends included."""
        shares = torch.linspace(0, 1, len(prompts)).tolist()
        return self.of_noise(InterpolatedNoise(first, last, shares).start(self.noise_shape), prompts)

    @torch.no_grad()
    def of_noise(self, noise: Tensor, prompts: Sequence[str]) -> list[Tensor]:
        """The latent for each row of standard normal noise [B,...]: the noise itself for a GAN, the flow prior's for a VAE."""
        network = self.model.one_call_network
        noise = noise.to(self.model.device)
        if isinstance(network, Autoencoder):
            noise = network.sample_latents(noise, network.condition(self.model.condition(prompts), len(noise)))
        return list(noise.flatten(1).cpu())

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """The shape of the noise of one image."""
        return self.model.one_call_network.noise_shape

    @torch.no_grad()
    def of_image(self, image: Image.Image, prompt: str = "") -> Tensor:
        """The mean latent of an RGB or RGBA image of any size. BadRequest for a GAN, and for a model of arrays."""
        network = self._autoencoder()
        c = network.condition(self.model.condition([prompt]), 1)
        return network.encode(self._as_state(image), c)[0].flatten().cpu()

    def reconstruction(self, image: Image.Image, prompt: str = "") -> Image.Image:
        """The VAE's reconstruction of an image: encoded and decoded. BadRequest as for `of_image`."""
        return self.images([self.of_image(image, prompt)], prompt)[0]

    def moved(self, latent: Tensor, amounts: Mapping[int, float]) -> Tensor:
        """The latent moved along directions, by amounts in standard deviations of the training images.

        BadRequest for a direction that does not exist, and for a GAN.
        """
        network = self._autoencoder()
        for direction, amount in amounts.items():
            if not 0 <= direction < self.directions:
                raise BadRequest(
                    f"There is no latent direction {direction}",
                    f"this checkpoint has {self.directions}, counted from 0",
                )
            along = network.latent_directions[direction] * network.latent_deviations[direction]
            latent = latent + amount * along.cpu()
        return latent

    def between(self, first: Tensor, last: Tensor, count: int) -> list[Tensor]:
        """`count` latents from `first` to `last`: linear interpolation for a VAE, spherical (slerp) for a GAN's noise.

        A straight line between two noise vectors passes through norms that the generator never saw in training: White
        2016 (arXiv 1609.04468), section 2.1. BadRequest for fewer than two.
        """
        check_interpolation(count)
        shares = torch.linspace(0, 1, count)
        if self.encodes:
            return [torch.lerp(first, last, share) for share in shares]
        return list(spherical_interpolation(first, last, shares))

    @torch.no_grad()
    def images(self, latents: Sequence[Tensor], prompt: str | Sequence[str] = "") -> list[Image.Image]:
        """The RGB images of these latents, with one prompt for all or one for each. BadRequest for an unknown class name."""
        prompts = [prompt] * len(latents) if isinstance(prompt, str) else prompt
        shown: list[Image.Image] = []
        for first in range(0, len(latents), _AT_ONCE):
            batch = torch.stack(list(latents[first : first + _AT_ONCE])).to(self.model.device)
            decoded = self.model.decode(self._decoded(batch, prompts[first : first + _AT_ONCE]))
            decoded = decoded.float().cpu().clamp(-1, 1)
            pixels = ((decoded + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
            shown += [Image.fromarray(np.ascontiguousarray(image)) for image in pixels]
        return shown

    def _decoded(self, latents: Tensor, prompts: Sequence[str]) -> Tensor:
        """Images [B,C,S,S] of latents [B,Z]."""
        network = self.model.one_call_network
        condition = self.model.condition(prompts)
        latents = latents.reshape(len(latents), *network.noise_shape)
        if isinstance(network, Generator):
            return network.generate(latents, condition)
        return network.decode(latents, network.condition(condition, len(latents)))

    def _autoencoder(self) -> Autoencoder:
        network = self.model.one_call_network
        if not isinstance(network, Autoencoder):
            raise BadRequest(
                "A GAN cannot encode images",
                "it has a generator, but no encoder",
                "Interpolate between seeds, or choose a VAE",
            )
        return network

    def as_seen(self, image: Image.Image) -> Image.Image:
        """An RGB or RGBA image prepared as in training: at the model's size, cropped or padded, on its background."""
        data = self._data()
        return Image.fromarray(resize_to(image, self.model.default_size, background_colour(data), data.fit))

    def _as_state(self, image: Image.Image) -> Tensor:
        """The prepared image as a tensor [1,C,S,S] in [-1,1]."""
        rgb = np.asarray(self.as_seen(image)).astype(np.float32) / 127.5 - 1
        state = self.model.encode_rgb(torch.from_numpy(rgb).permute(2, 0, 1)[None])
        return state.to(self.model.device)

    def _data(self) -> DataRecipe:
        """The data section of the checkpoint's recipe; the default if it has none."""
        try:
            values = self.model.checkpoint.json("recipe") if self.model.checkpoint is not None else None
            return Recipe.from_run(values).data if values else DataRecipe()
        except (RunProblem, CheckpointDamaged):
            return DataRecipe()


def check_interpolation(count: int) -> None:
    """BadRequest for fewer than two images."""
    if count < 2:
        raise BadRequest(
            f"{count_of(count, 'image')} {by_number(count, 'is', 'are')} too few to interpolate",
            "both ends are included",
            "Choose at least 2",
        )
