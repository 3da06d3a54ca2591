"""Live tasks about latents: images of a VAE or GAN for sliders, and interpolation between two seeds of any model.

Torch is imported only when a task runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from diffstudio.errors import BadRequest

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from diffstudio.models.model import Model
    from diffstudio.studio.evaluations.latents.latent_space import LatentSpace

Pixels = NDArray[np.uint8]  # [H,W,3], RGB


@dataclass(frozen=True, slots=True)
class LatentPoint:
    """A point of the latent space, from a seed or, with a VAE, from an image."""

    seed: int = 0
    image: Path | None = None  # instead of the seed
    amounts: tuple[tuple[int, float], ...] = ()  # (direction, standard deviations) to move


@dataclass(frozen=True, slots=True)
class LatentImages:
    image: Pixels  # of the first point, after moving
    original: Pixels | None  # the given image, as the model sees it
    reconstruction: Pixels | None  # of the given image, without moving
    between: tuple[Pixels, ...]  # from the first point to the last
    directions: int


@dataclass(frozen=True, slots=True)
class ShowLatents:
    """A live task: the image of a point, and an interpolation to another point."""

    checkpoint: str
    prompt: str
    truncation: float
    first: LatentPoint
    last: LatentPoint | None = None
    count: int = 7  # images from one to the other

    def run(self, model: Model, check: Callable[[], None]) -> LatentImages:
        """Compute the images. BadRequest for what the model does not support; ImageProblem for an unreadable image."""
        from diffstudio.studio.evaluations.latents.latent_space import LatentSpace

        space = LatentSpace.of_model(model)
        check()
        original = _read(self.first.image, model) if self.first.image is not None else None
        start = self._latent(space, self.first, original)
        latents = [space.moved(start, dict(self.first.amounts)) if self.first.amounts else start]
        if original is not None:
            latents.append(start)
        if self.last is not None:
            end = self._latent(space, self.last, None)
            latents += space.between(latents[0], end, self.count)
        check()
        image, *others = [_pixels(image) for image in space.images(latents, self.prompt)]
        reconstruction = others.pop(0) if original is not None else None
        square = _pixels(space.as_seen(original)) if original is not None else None
        return LatentImages(image, square, reconstruction, tuple(others), space.directions)

    def _latent(self, space: LatentSpace, point: LatentPoint, image: Image | None) -> Tensor:
        if point.image is None:
            return space.of_seed(point.seed, self.prompt, self.truncation)
        return space.of_image(image if image is not None else _read(point.image, space.model), self.prompt)


@dataclass(frozen=True, slots=True)
class InterpolateSeeds:
    """A live task: spherical interpolation between the noise of two seeds. The prompt changes halfway."""

    checkpoint: str
    seeds: tuple[int, int]
    prompts: tuple[str, str] = ("", "")
    count: int = 9

    def run(self, model: Model, check: Callable[[], None]) -> tuple[Pixels, ...]:
        """Compute the images. BadRequest for a model that draws its noise inside a pipeline."""
        from diffstudio.models.families.one_call import OneCallModel
        from diffstudio.studio.evaluations.latents.latent_space import LatentSpace, check_interpolation

        check_interpolation(self.count)
        prompts = [self.prompts[2 * place >= self.count] for place in range(self.count)]
        check()
        if isinstance(model, OneCallModel):
            space = LatentSpace(model)
            return tuple(map(_pixels, space.images(space.between_seeds(*self.seeds, prompts), prompts)))
        return tuple(self._sampled(model, prompts, check))

    def _sampled(self, model: Model, prompts: Sequence[str], check: Callable[[], None]) -> list[Pixels]:
        import torch

        from diffstudio.diffusion.noise import InterpolatedNoise
        from diffstudio.models.conditioning.prompt_schedule import StepTexts
        from diffstudio.models.memory.oom_fallback import images_at_once
        from diffstudio.models.recommended import sampling_values
        from diffstudio.models.sampling import SampleOptions, sample
        from diffstudio.studio.evaluations.samples import CheckedDenoiser

        if model.own_sampler is not None or model.checkpoint is None:
            raise BadRequest(
                "Interpolation is not available for this checkpoint",
                "its diffusers pipeline draws the noise itself",
                "Choose a checkpoint that was trained here, or one of another family",
            )
        values = sampling_values(model.checkpoint)
        shares = [place / (self.count - 1) for place in range(self.count)]
        at_once = images_at_once(model, *model.default_size)
        found: list[Pixels] = []
        for first in range(0, self.count, at_once):
            part = slice(first, first + at_once)
            noise = InterpolatedNoise(*self.seeds, shares[part])
            options = SampleOptions([self.seeds[0]] * len(shares[part]), noise=noise, **values)
            encoded = model.prompt_encoder(None)(StepTexts.plain(prompts[part], [""] * len(shares[part])))
            with torch.no_grad():
                *_, last = sample(model, encoded, options, wrap=lambda denoiser: CheckedDenoiser(denoiser, check))
                images = model.decode(last.x).float().cpu().clamp(-1, 1)
            pixels = ((images + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
            found += [np.ascontiguousarray(image) for image in pixels]
        return found


def _read(path: Path, model: Model) -> Image:
    """Read an image, reduced as for training; it is kept while sliders move. ImageProblem if it cannot be read."""
    from diffstudio.training.data.preprocess import DECODED_TIMES

    try:
        changed = path.stat().st_mtime_ns
    except OSError:
        changed = 0  # reading it says why
    return _read_at(path, changed, DECODED_TIMES * max(model.default_size))


@lru_cache(maxsize=2)  # the ends of one interpolation
def _read_at(path: Path, changed: int, at_least: int) -> Image:
    from diffstudio.imaging.reader import read_image

    return read_image(path, at_least=at_least)[0]


def _pixels(image: Image) -> Pixels:
    return np.asarray(image.convert("RGB"))
