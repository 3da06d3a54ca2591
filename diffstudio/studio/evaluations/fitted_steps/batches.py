"""Batches of noises and prompts with which a checkpoint's steps are fitted and judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffstudio.diffusion.denoiser import Denoiser
from diffstudio.diffusion.noise import SeededNoise
from diffstudio.diffusion.schedule import NoiseSchedule
from diffstudio.diffusion.step_fitting import Runs
from diffstudio.evaluation.even_spacing import evenly_spaced
from diffstudio.models.conditioning.prompt_schedule import StepTexts
from diffstudio.models.memory.oom_fallback import images_at_once
from diffstudio.models.model import Model

OnCall = Callable[[int], None]  # before a network call, with the number of its images


@dataclass(frozen=True, slots=True)
class Batch:
    """Noises, prompts and a CFG scale; `on_call` may raise to stop."""

    model: Model
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    guidance: float
    on_call: OnCall

    @classmethod
    def of(
        cls, model: Model, prompts: Sequence[str], count: int, first_seed: int, guidance: float, on_call: OnCall
    ) -> Batch:
        """As many images; the prompts are used in turn."""
        texts = tuple(prompts[index % len(prompts)] for index in range(count))
        return cls(model, texts, tuple(range(first_seed, first_seed + count)), guidance, on_call)

    def part(self, count: int) -> Batch:
        """At most as many of its images, evenly spaced."""
        chosen = evenly_spaced(len(self.seeds), count).tolist()
        prompts, seeds = (tuple(values[index] for index in chosen) for values in (self.prompts, self.seeds))
        return Batch(self.model, prompts, seeds, self.guidance, self.on_call)

    def runs(self, sampler: str) -> Runs:
        """A sampler along ladders for these images, with the model's rule for the last call."""
        model = self.model
        unguided = self.guidance > model.unguided_scale and not model.guides_last_call
        return Runs(
            sampler,
            model.sampler(sampler),
            self._denoiser(self.guidance),
            self._noise(),
            last=self._denoiser(model.unguided_scale) if unguided else None,
            finish=_clamped if not model.family.latent else _as_it_is,
        )

    def images(self, states: Tensor) -> Tensor:
        """Last states [B,C,h,w] as images [B,3,H,W], 0 to 1."""
        parts = states.split(images_at_once(self.model, *self.model.network_size))
        return torch.cat([(self.model.decode(part).float().clamp(-1, 1) + 1) / 2 for part in parts])

    def _noise(self) -> Tensor:
        schedule = self.model.schedule
        x = SeededNoise(self.seeds).start(self.model.state_shape(*self.model.network_size)).to(self.model.device)
        return x * float(schedule.sigma(torch.tensor(schedule.t_max, dtype=torch.float64)))

    def _denoiser(self, guidance: float) -> Denoiser:
        at_once = images_at_once(self.model, *self.model.network_size)
        parts = []
        for first in range(0, len(self.prompts), at_once):
            prompts = self.prompts[first : first + at_once]
            encoded = self.model.prompt_encoder(None)(StepTexts.plain(prompts, [""] * len(prompts)))
            parts.append(self.model.sampling_denoiser(encoded, guidance))
        return _InParts(parts, at_once, self.on_call)


@dataclass(frozen=True, slots=True)
class _InParts:
    """A denoiser of many images that calls the network with as many as fit into memory."""

    parts: Sequence[Denoiser]
    at_once: int
    on_call: OnCall

    @property
    def schedule(self) -> NoiseSchedule:
        return self.parts[0].schedule

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        estimates = []
        for number, part in enumerate(self.parts):
            rows = slice(number * self.at_once, (number + 1) * self.at_once)
            self.on_call(len(x_t[rows]))
            estimates.append(part(x_t[rows], t[rows]))
        return torch.cat(estimates)


def _clamped(x: Tensor) -> Tensor:
    """Pixels as they are saved; their distance is that of the images."""
    return x.clamp(-1, 1)


def _as_it_is(x: Tensor) -> Tensor:
    return x
