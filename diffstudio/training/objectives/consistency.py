"""The few-steps objective: a network that was trained to denoise learns where the paths of its own sampler end.

A copy of the network, the teacher, solves paths of the probability flow with its CFG scale, and the network learns the end
of a path from each state on it: diffusion.distillation.consistency. It learns the guided estimate from the condition alone,
so that it needs one call per step and no negative prompt: guidance distillation, Meng et al. 2022 (arXiv 2210.03142).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from diffstudio.diffusion.denoiser import Denoiser, denoiser_for
from diffstudio.diffusion.distillation.consistency import SolvedPath, path_losses, segment_ends, solve_path
from diffstudio.diffusion.samplers import dpmpp_2m
from diffstudio.evaluation.even_spacing import evenly_spaced
from diffstudio.models.conditioning.composition import Composition
from diffstudio.models.families.pixel import PixelModel, PixelPrompt
from diffstudio.models.sampling import LastCallUnguided
from diffstudio.networks.caption_tokenizer import CaptionTokenizer
from diffstudio.networks.conditioning import Conditioning
from diffstudio.networks.transformer import Condition
from diffstudio.training.data.batches import Batch, Batches
from diffstudio.training.objectives.diffusion import DiffusionObjective
from diffstudio.training.objectives.objective import TEACHER, FixedLosses, Update, gradient_norm
from diffstudio.training.objectives.unet import seeded_dropout
from diffstudio.training.recipe import Recipe

_MEASURED = 64  # held-out images whose paths are solved, and as many training images
_FROM_BETWEEN = 0.25  # share of the paths that begin below the highest noise level of a segment
_LEVELS = 4  # noise levels of the held-out measure, at most


class ConsistencyObjective(DiffusionObjective):
    """Distils the network to few steps. Its loss does not fall far, because it starts from the teacher's weights."""

    loss_falls = False

    def __init__(self, recipe: Recipe, *, classes: int, vocabulary: int, device: torch.device) -> None:
        super().__init__(recipe, classes=classes, vocabulary=vocabulary, device=device)
        self._teacher = copy.deepcopy(self.network).eval().requires_grad_(False)
        self._classes = classes
        self._segments = segment_ends(recipe.few_steps.segments, self.schedule.t_max)
        self._measured: tuple[_Measured, _Measured] | None = None

    @property
    def others(self) -> Mapping[str, nn.Module]:
        return {TEACHER: self._teacher}

    def update(self, batch: Batch, share: float) -> Update:
        self.network.train()
        batch = batch.to(self.device)
        segment = int(torch.randint(len(self._segments), (), generator=batch.generator))
        start, end = self._segments[segment]
        if bool(
            torch.rand((), generator=batch.generator) < _FROM_BETWEEN
        ):  # otherwise from the level at which sampling begins
            start = end + (start - end) * float(
                torch.rand((), generator=batch.generator, dtype=torch.float64).clamp(0.05)
            )
        path = self.solve(batch, start, end)
        points = list(zip(path.times, path.states, path.targets(self.schedule), strict=True))
        others = (torch.randperm(len(points) - 1, generator=batch.generator) + 1).tolist()
        chosen = [0, *others[: self.recipe.few_steps.points - 1]]  # the first state takes longest to learn
        learned = [points[index] for index in chosen]
        with seeded_dropout(self.recipe.network, batch, self.device):
            losses = [self._learn_level(batch, t, state, target, 1 / len(learned)) for t, state, target in learned]
        norm = gradient_norm(self._parameters, self.recipe.optimiser.clip_norm, self.team)
        if math.isfinite(norm):
            for optimiser in self.optimisers:
                optimiser.step()
        self.network.zero_grad(set_to_none=True)
        return Update(sum(losses), norm)

    def _learn_level(self, batch: Batch, t: float, state: Tensor, target: Tensor, weight: float) -> float:
        """Add the gradients of one level, one after the other to save memory; returns its weighted loss."""
        losses = path_losses(self._estimate(self._trained, batch, state, t), target, batch.pixel_weights)
        loss = self.team.mean(losses.mean(), batch.portion) * weight
        torch.autograd.backward(loss)
        return float(loss.detach())

    @torch.no_grad()
    def solve(self, batch: Batch, start: float, end: float) -> SolvedPath:
        """The teacher's paths from the batch's images, noised to `start` by its generator, to `end`."""
        calls = self.recipe.few_steps.teacher_calls
        noise = batch.noise(self.device)
        at = torch.tensor(start, dtype=torch.float64)
        x = float(self.schedule.alpha(at)) * batch.images + float(self.schedule.sigma(at)) * noise
        times = torch.linspace(start, end, calls + 1, dtype=torch.float64)
        return solve_path(self._sampled(batch.condition, calls, to_image=end == 0), dpmpp_2m, x, times)

    def _sampled(self, condition: Condition, calls: int, *, to_image: bool) -> Denoiser:
        """Calls the teacher as `models.sampling` does: on a path to the image, the last call has no guidance."""
        guided = self.teacher(condition)
        plain = self.teacher(condition, guidance=1.0)
        return LastCallUnguided(guided, plain, calls) if to_image else guided

    def teacher(self, condition: Condition, guidance: float | None = None) -> Denoiser:
        """The teacher's estimate for these conditions [B], with the CFG scale that is built in by default."""
        distillation = self.recipe.few_steps
        model = PixelModel(
            None,
            self._teacher,
            None,
            parameterisation=self._parameterisation,
            guidance={"interval": distillation.guidance_interval},
            min_timestep=distillation.min_timestep,
            device=self.device,
            dtype=self._dtype,
        )
        null = self._without_prompt(condition)
        count = next((len(value) for value in condition if value is not None), 1)
        prompt = PixelPrompt(Composition((condition,), ((1.0,) * count,)), null, null)
        return model.sampling_denoiser(prompt, distillation.guidance if guidance is None else guidance)

    def _without_prompt(self, condition: Condition) -> Condition:
        match self.recipe.network.conditioning:
            case Conditioning.TEXT:
                assert condition.token_ids is not None
                return condition._replace(token_ids=torch.zeros_like(condition.token_ids))
            case Conditioning.CLASS:
                assert condition.class_labels is not None
                return condition._replace(class_labels=torch.full_like(condition.class_labels, self._classes))
            case _:
                return condition

    def model(self, network: nn.Module, tokenizer: CaptionTokenizer | None, classes: Sequence[str]) -> PixelModel:
        model = super().model(network, tokenizer, classes)
        model.built_in_guidance, model.unguided_scale = self.recipe.few_steps.guidance, math.inf
        return model

    def _estimate(self, network: nn.Module, batch: Batch, state: Tensor, t: float) -> Tensor:
        def predict(x_t: Tensor, t: Tensor) -> Tensor:
            with torch.autocast(self.device.type, self._dtype, enabled=self._dtype is not torch.float32):
                predicted: Tensor = network(x_t, t, batch.condition)
            return predicted

        denoiser = denoiser_for(self._parameterisation, predict, self.schedule)
        return denoiser(state, torch.full((len(state),), t, device=self.device))

    @torch.no_grad()
    def fixed_losses(self, network: nn.Module, batches: Batches) -> FixedLosses | None:
        """The losses on paths from held-out and training images with fixed noise, from the top of each segment."""
        network.eval()
        if self._measured is None:
            held_out = _first(batches.held_out(), _MEASURED)
            if not len(held_out.images):
                return None
            training = batches.training_batch(len(held_out.images))
            self._measured = self._solved(held_out.to(self.device)), self._solved(training.to(self.device))
        on_held_out, on_training = (self._losses_on(network, measured) for measured in self._measured)
        levels = tuple(t for t, _, _ in self._measured[0].points)
        return FixedLosses(levels, on_held_out, on_training, loss=sum(on_held_out) / len(on_held_out))

    def _solved(self, batch: Batch) -> _Measured:
        paths = [self.solve(batch, start, end) for start, end in self._segments]
        points = [
            point for path in paths for point in zip(path.times, path.states, path.targets(self.schedule), strict=True)
        ]
        chosen = [points[index] for index in evenly_spaced(len(points), _LEVELS)]
        return _Measured(batch, tuple(reversed(chosen)))

    def _losses_on(self, network: nn.Module, measured: _Measured) -> tuple[float, ...]:
        batch = measured.batch
        return tuple(
            float(path_losses(self._estimate(network, batch, state, t), target, batch.pixel_weights).mean())
            for t, state, target in measured.points
        )

    def baseline(self, batches: Batches) -> float | None:
        """None: a Gaussian model of the images says nothing about the teacher's paths."""
        return None


@dataclass(frozen=True, slots=True)
class _Measured:
    """Images, and the targets of the network for them."""

    batch: Batch
    points: tuple[tuple[float, Tensor, Tensor], ...]  # time, rising, with state and target [B,C,H,W]


def _first(batch: Batch, most: int) -> Batch:
    condition = Condition(*(value if value is None else value[:most] for value in batch.condition))
    weights = None if batch.pixel_weights is None else batch.pixel_weights[:most]
    return Batch(batch.images[:most], condition, batch.generator, weights)
