"""Guidance besides the CFG scale: the guidance interval, autoguidance with a weaker model, and CADS."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffstudio.diffusion.denoiser import Denoiser
from diffstudio.diffusion.guidance import ConditionAnnealing
from diffstudio.errors import BadRequest
from diffstudio.models.model import EncodedPrompt, Model


@dataclass(frozen=True, slots=True)
class WeakModel:
    """The weaker model that autoguidance guides away from, with its own encodings of the prompts."""

    model: Model
    prompt: EncodedPrompt
    scale: float  # 1 turns autoguidance off


@dataclass(frozen=True, slots=True)
class GuidanceOptions:
    """The guidance options of a batch, all off by default."""

    interval: tuple[float, float] | None = (
        None  # CFG is on between these fractions of `t_max`; None: the model's default
    )
    weak: WeakModel | None = None
    annealing: ConditionAnnealing | None = None

    @property
    def is_default(self) -> bool:
        return self == GuidanceOptions()


class AnnealedDenoiser:
    """A denoiser that adds noise to its condition at high noise levels (CADS).

    The noise for step k of an image depends only on its seed and k, so it is the same in any batch, for every call of the
    step, and after a restart from any step. The initial noise of the image does not change.
    """

    def __init__(
        self,
        model: Model,
        prompt: EncodedPrompt,
        denoiser_of: Callable[[EncodedPrompt], Denoiser],
        annealing: ConditionAnnealing,
        seeds: Sequence[int],
        step: Callable[[], int],
    ) -> None:
        self._model, self._prompt, self._denoiser_of = model, prompt, denoiser_of
        self._annealing, self._seeds, self._step = annealing, seeds, step
        self._whole = denoiser_of(prompt)
        self.schedule = self._whole.schedule

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        share = float(t.flatten()[0]) / self._model.schedule.t_max
        if self._annealing.gamma(share) == 1:
            return self._whole(x_t, t)
        generators = [_generator(seed, self._step()) for seed in self._seeds]

        def anneal(rows: Sequence[Tensor]) -> list[Tensor]:
            return [
                self._annealing.annealed(row, torch.randn(row.shape, generator=generator), share)
                for row, generator in zip(rows, generators, strict=True)
            ]

        return self._denoiser_of(self._model.annealed(self._prompt, anneal))(x_t, t)


def _generator(seed: int, step: int) -> torch.Generator:
    digest = hashlib.sha256(f"cads {seed} {step}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def check_weak_model(model: Model, weak: Model, width: int, height: int) -> None:
    """BadRequest unless both models have states of the same shape at width × height px and the same noise schedule."""
    times = torch.linspace(0, 1, 5, dtype=torch.float64) * model.schedule.t_max
    same_noise = weak.schedule.t_max == model.schedule.t_max and all(
        torch.allclose(of(times), other(times))
        for of, other in ((model.schedule.alpha, weak.schedule.alpha), (model.schedule.sigma, weak.schedule.sigma))
    )
    why = ""
    if weak.own_sampler is not None:
        why = "it has its own sampler"
    elif not same_noise:
        why = "it was trained with another noise schedule"
    elif weak.state_shape(width, height) != model.state_shape(width, height) or weak.output != model.output:
        why = "its images or latents have another shape"
    if why:
        name = weak.checkpoint.name if weak.checkpoint is not None else "The weaker model"
        raise BadRequest(f"{name} cannot be used for autoguidance", why, "Choose an earlier checkpoint of the same run")
    weak.check_size(width, height)
