"""Trainer: a network and its optimisers taking steps. It knows nothing of files, processes or people.

network D(x_t, t) -> the clean image; the loss is on the velocity it implies: JiT (arXiv 2511.13720), table 1(b)
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diffstudio.diffusion.denoiser import CleanPrediction
from diffstudio.diffusion.losses import (
    CosineTimes,
    LogitNormalTimes,
    LogNormalSigma,
    NoiseLevels,
    UniformTimes,
    VelocityWeighting,
    training_loss,
)
from diffstudio.diffusion.schedule import RectifiedFlow
from diffstudio.networks.transformer import PixelTransformer, TransformerConfig
from diffstudio.training import optimisers
from diffstudio.training.data.augmentation import Augmentation
from diffstudio.training.data.batches import Batch, Batches, derived_seed
from diffstudio.training.recipe import NoiseLevelsName, ObjectiveRecipe, Recipe

HELD_OUT_TIMES = 4  # noise levels at which each held-out picture is judged


@dataclass(frozen=True, slots=True)
class StepResult:
    loss: float
    gradient_norm: float
    learning_rate: float  # of the first optimiser


class Trainer:
    """`step(batch)` makes one update; `state()` and `restore()` carry everything that the next update depends on."""

    def __init__(self, recipe: Recipe, *, classes: int, vocabulary: int, device: torch.device) -> None:
        """`recipe.run` must be resolved: no `auto` among dtype and device. The weights are drawn from its seed."""
        self.recipe, self.device = recipe, device
        self.schedule = RectifiedFlow()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derived_seed(recipe.run.seed, "weights", 0))
            self.network = PixelTransformer(network_config(recipe, classes, vocabulary)).to(device)
        self.optimisers = optimisers.build(recipe.optimiser, self.network)
        self.average = optimisers.averaged(self.network, recipe.optimiser.ema)
        self.step_number = 0  # steps done
        self.elapsed_seconds = 0.0  # of stepping, over all processes that worked on the run
        self.fingerprint: str | None = None  # of the pictures it began with
        self._noise_levels = noise_levels(recipe.objective)
        self._weighting = VelocityWeighting(recipe.objective.sigma_floor)
        self._dtype = getattr(torch, recipe.run.dtype)

    def step(self, batch: Batch) -> StepResult:
        """One update. The loss is the mean over the batch, before the update."""
        share = optimisers.learning_rate_multiplier(self.recipe.optimiser, self.step_number, self.recipe.run.steps)
        optimisers.set_learning_rate(self.optimisers, share)
        self.network.train()
        batch = batch.to(self.device)
        t = self._noise_levels.sample(len(batch.images), self.schedule, batch.generator)
        loss = self._losses(self.network, batch, t).mean()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.optimiser.clip_norm)
        if math.isfinite(float(norm)):  # one bad batch must not undo the run; a run of them stops it
            for optimiser in self.optimisers:
                optimiser.step()
        self.network.zero_grad(set_to_none=True)
        self.average.update_parameters(self.network)
        self.step_number += 1
        return StepResult(float(loss.detach()), float(norm), self.optimisers[0].param_groups[0]["lr"])

    @torch.no_grad()
    def held_out_loss(self, batches: Batches) -> float | None:
        """The averaged weights' loss on the held-out pictures, at fixed times and noise; None when there are none."""
        network = self.average.module.eval()
        losses = [self._losses(network, part, t) for part, t in self._held_out(batches)]
        return float(torch.cat(losses).mean()) if losses else None

    @torch.no_grad()
    def mean_image_loss(self, batches: Batches) -> float:
        """What knowing nothing scores: the loss of answering always with the mean picture, on the held-out pictures or,
        without any, on the first batch."""
        mean = batches.mean_image().to(self.device)

        def network(x_t: Tensor, t: Tensor) -> Tensor:
            return mean.expand_as(x_t)

        denoiser = CleanPrediction(network, self.schedule)
        asked = self._held_out(batches)
        if not asked:
            first = batches.at(0).to(self.device)
            asked = [
                (first, self._noise_levels.sample(len(first.images), self.schedule, first.generator).to(self.device))
            ]
        return float(
            torch.cat(
                [training_loss(denoiser, part.images, t, self._noise(part), self._weighting) for part, t in asked]
            ).mean()
        )

    def state(self) -> dict[str, Any]:
        return {
            "step": self.step_number,
            "elapsed_seconds": self.elapsed_seconds,
            "fingerprint": self.fingerprint,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        step, elapsed_seconds = state["step"], state["elapsed_seconds"]
        if type(step) is not int or step < 0 or not isinstance(elapsed_seconds, (int, float)):
            raise ValueError("it does not say how far the run has come")
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        for optimiser, stored in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(stored)
        self.step_number, self.elapsed_seconds = step, float(elapsed_seconds)
        self.fingerprint = state["fingerprint"]

    def _losses(self, network: torch.nn.Module, batch: Batch, t: Tensor) -> Tensor:
        def predict(x_t: Tensor, t: Tensor) -> Tensor:
            with torch.autocast(self.device.type, self._dtype, enabled=self._dtype is not torch.float32):
                predicted: Tensor = network(x_t, t, batch.condition)
            return predicted

        denoiser = CleanPrediction(predict, self.schedule)
        return training_loss(denoiser, batch.images, t.to(self.device), self._noise(batch), self._weighting)

    def _noise(self, batch: Batch) -> Tensor:
        return torch.randn(batch.images.shape, generator=batch.generator).to(self.device)

    def _held_out(self, batches: Batches) -> list[tuple[Batch, Tensor]]:
        whole = batches.held_out()
        if not len(whole.images):
            return []
        levels = self._noise_levels.sample(1024, self.schedule, torch.Generator().manual_seed(0)).sort().values
        chosen = levels[torch.arange(HELD_OUT_TIMES) * 1024 // HELD_OUT_TIMES + 512 // HELD_OUT_TIMES]
        return [(whole.to(self.device), t.expand(len(whole.images))) for t in chosen]


def network_config(recipe: Recipe, classes: int, vocabulary: int) -> TransformerConfig:
    network = recipe.network
    return TransformerConfig(
        size=recipe.data.size,
        patch=network.patch,
        margin=network.margin,
        bottleneck=network.bottleneck,
        width=network.width,
        depth=network.depth,
        heads=network.heads,
        condition_width=network.condition_width,
        conditioning=network.conditioning,
        classes=classes,
        vocabulary=vocabulary,
        text_tokens=network.text_tokens,
        told_width=Augmentation.told_width if recipe.data.tell_augmentation else 0,
    )


def noise_levels(objective: ObjectiveRecipe) -> NoiseLevels:
    match objective.noise_levels:
        case NoiseLevelsName.UNIFORM:
            return UniformTimes()
        case NoiseLevelsName.LOG_NORMAL:
            return LogNormalSigma(objective.mean, objective.deviation)
        case NoiseLevelsName.LOGIT_NORMAL:
            return LogitNormalTimes(objective.mean, objective.deviation)
        case NoiseLevelsName.COSINE:
            return CosineTimes()


def seconds_per_step(trainer: Trainer, batches: Batches, check: Callable[[], None], steps: int = 4) -> float:
    """How long a step takes here, measured on a copy: the trainer is left as it was. `check()` before each may raise."""
    copied = copy.deepcopy(trainer)
    for step in range(2):
        check()
        copied.step(batches.at(step))
    started = time.perf_counter()
    for step in range(steps):
        check()
        copied.step(batches.at(step))
    return (time.perf_counter() - started) / steps
