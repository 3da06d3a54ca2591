"""Samples of a checkpoint that was trained here, and its denoising losses on single images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffstudio.diffusion.denoiser import Denoiser
from diffstudio.diffusion.losses import VelocityWeighting, training_loss
from diffstudio.diffusion.schedule import NoiseSchedule
from diffstudio.errors import CheckpointDamaged
from diffstudio.models import loading
from diffstudio.models.conditioning.prompt_schedule import StepTexts
from diffstudio.models.guidance_options import GuidanceOptions
from diffstudio.models.memory.oom_fallback import images_at_once
from diffstudio.models.model import EncodedPrompt, Model
from diffstudio.models.recommended import min_timestep_of, recommended_values
from diffstudio.models.sampling import SampleOptions, sample
from diffstudio.networks.cascade import reduced
from diffstudio.studio.evaluations.subjects import CheckpointSubject

NOISE_LEVELS = tuple(level / 10 for level in range(1, 10))  # times, with 1 = pure noise, at which losses are compared
_LOSS_BATCH = 64


@dataclass(frozen=True, slots=True)
class CheckpointSamples:
    """A checkpoint in memory, and how images are drawn with it: by its recommended settings and its EMA weights."""

    subject: CheckpointSubject
    model: Model
    settings: dict[str, object]  # steps, sampler, spacing, guidance, and min_timestep if there is one
    check: Callable[[], None]

    @classmethod
    def load(cls, subject: CheckpointSubject, device: torch.device, check: Callable[[], None]) -> CheckpointSamples:
        model = loading.load(subject.checkpoint, device)
        settings = recommended_values(subject.checkpoint)
        if minimum := min_timestep_of(subject.checkpoint):
            settings["min_timestep"] = minimum
        return cls(subject, model, settings, check)

    @property
    def has_denoising_losses(self) -> bool:
        """Whether it estimates expected images: VAEs, GANs and distilled models have no `losses`."""
        return self.model.own_sampler is None and self.model.built_in_guidance is None

    def batches(
        self,
        prompts: Sequence[str],
        seed: int,
        size: tuple[int, int],
        *,
        seeds: Sequence[int] = (),
        guidance: Callable[[Sequence[str]], GuidanceOptions] = lambda prompts: GuidanceOptions(),
    ) -> Iterator[NDArray[Any]]:
        """An image for each prompt, image i of seed + i, in 8 or 16 bits as it would be saved: [B,H,W,C].

        `size` is the width and height for a checkpoint that was trained with aspect buckets. `seeds`: one for each image,
        instead of consecutive ones from `seed`. `guidance` returns the guidance options for these prompts.
        """
        each = list(seeds) or [seed + index for index in range(len(prompts))]
        width, height = size if self.subject.recipe.data.bucket_sizes else self.model.default_size
        options = dict(self.settings)
        at_once = images_at_once(self.model, width, height)
        for first in range(0, len(prompts), at_once):
            part = prompts[first : first + at_once]
            state = None
            chosen = SampleOptions(
                width=width,
                height=height,
                seeds=each[first : first + len(part)],
                steps=int(str(options["steps"])),
                sampler=str(options["sampler"]),
                spacing=str(options["spacing"]),
                guidance=float(str(options["guidance"])),
                guidance_options=guidance(part),
            )
            for step in sample(self.model, self._encoded(part), chosen, wrap=self._checked):
                state = step.x
            assert state is not None
            images = state  # of a pixel model, with all channels: `decode` would make it a colour image
            if bad := int((~torch.isfinite(images)).flatten(1).any(dim=1).sum()):
                raise CheckpointDamaged(
                    f"{self.subject.name} cannot be measured",
                    f"{bad:,} of {len(part):,} of its images have NaN or infinite values",
                    "Evaluate another checkpoint of its run",
                )
            yield as_pixels(images, self.subject.recipe.data.form.bits)

    def losses(self, images: Tensor, prompts: Sequence[str], first: int, sigma_floor: float) -> NDArray[np.float64]:
        """The loss [B,L] that training minimises, of each image [B,C,S,S] at each of NOISE_LEVELS: of the base's.

        Image `first` + i has noise of its own, the same in every call: other images are met by the same noise.
        """
        if self.model.upper is not None:
            images = reduced(images, self.model.upper.factor)
        noise = torch.stack(
            [
                torch.randn(images.shape[1:], generator=torch.Generator().manual_seed(first + i))
                for i in range(len(images))
            ]
        )
        denoiser = self.model.denoiser(self._encoded(prompts), 1.0)
        columns = []
        for level in NOISE_LEVELS:
            self.check()
            t = torch.full((len(images),), level, device=self.model.device)
            moved = images.to(self.model.device), noise.to(self.model.device)
            losses = training_loss(denoiser, moved[0], t, moved[1], VelocityWeighting(sigma_floor))
            columns.append(losses.double().cpu().numpy())
        return np.stack(columns, axis=1)

    def _encoded(self, prompts: Sequence[str]) -> EncodedPrompt:
        """Captions as they are: the grammar of prompts does not apply to them."""
        return self.model.prompt_encoder(None)(StepTexts.plain(prompts, [""] * len(prompts)))

    def _checked(self, denoiser: Denoiser) -> Denoiser:
        return CheckedDenoiser(denoiser, self.check)


@dataclass(frozen=True, slots=True)
class CheckedDenoiser:
    """A denoiser that calls `check` before each network call."""

    denoiser: Denoiser
    check: Callable[[], None]

    @property
    def schedule(self) -> NoiseSchedule:
        return self.denoiser.schedule

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        self.check()
        return self.denoiser(x_t, t)


def losses_of_part(
    samples: CheckpointSamples,
    batch: Callable[[NDArray[np.int64]], Tensor],
    indices: NDArray[np.int64],
    prompts: Sequence[str],
) -> NDArray[np.float64]:
    """The losses [N,L] of the images with these indices, each with its own caption or class."""
    floor = samples.subject.recipe.objective.sigma_floor
    parts = [slice(first, first + _LOSS_BATCH) for first in range(0, len(indices), _LOSS_BATCH)]
    return np.concatenate([samples.losses(batch(indices[part]), prompts[part], part.start, floor) for part in parts])


def as_pixels(images: Tensor, bits: int) -> NDArray[Any]:
    """Images [B,C,H,W] in [-1,1] as uint8 or uint16 [B,H,W,C]."""
    kind = np.uint8 if bits == 8 else np.uint16
    values = (images.double().cpu().clamp(-1, 1) + 1) * (np.iinfo(kind).max / 2)
    return np.ascontiguousarray(values.round().permute(0, 2, 3, 1).numpy().astype(kind))


def as_tensor(pixels: NDArray[Any]) -> Tensor:
    """What `as_pixels` gave as float32 [B,C,H,W] in [-1,1]."""
    largest = np.iinfo(pixels.dtype).max
    return torch.from_numpy(pixels.astype(np.float32) / (largest / 2) - 1).permute(0, 3, 1, 2).contiguous()
