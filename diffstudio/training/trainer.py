"""Trainer: a network, its optimisers and its EMA weights, and the training step. No files, no processes.

The network D(x_t, t) predicts the clean image; the loss is on the velocity that follows from it: JiT (Li & He 2025,
arXiv 2511.13720), table 1(b).
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
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
from diffstudio.networks.state_dict_keys import with_current_keys
from diffstudio.networks.transformer import PixelTransformer, TransformerConfig
from diffstudio.training import optimisers
from diffstudio.training.data.augmentation import Augmentation
from diffstudio.training.data.batches import Batch, Batches, derived_seed
from diffstudio.training.ema import ema_model
from diffstudio.training.recipe import NoiseLevelsName, ObjectiveRecipe, Recipe

HELD_OUT_TIMES = 4  # noise levels at which the held-out loss is measured
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}  # by `recipe.run.dtype`


@dataclass(frozen=True, slots=True)
class StepResult:
    loss: float
    gradient_norm: float
    learning_rate: float  # of the first optimiser


class Trainer:
    """`step(batch)` makes one update; `state()` and `restore()` cover everything that the next update depends on."""

    def __init__(self, recipe: Recipe, *, classes: int, vocabulary: int, device: torch.device) -> None:
        """Weights initialised from the recipe's seed. `recipe.run.dtype` must be resolved: not `auto`."""
        self.recipe, self.device = recipe, device
        self.schedule = RectifiedFlow()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derived_seed(recipe.run.seed, "weights", 0))
            self.network = PixelTransformer(network_config(recipe, classes, vocabulary)).to(device)
        self.optimisers = optimisers.build_optimisers(recipe.optimiser, self.network)
        self._parameters = optimisers.parameters_in_order(self.network)
        self.average = ema_model(self.network, recipe.optimiser.ema)
        self.step_number = 0  # number of steps done
        self.elapsed_seconds = 0.0  # of training, summed over all processes of the run
        self.fingerprint: str | None = None  # of the dataset that the run started with
        self._noise_levels = noise_levels(recipe.objective)
        self._weighting = VelocityWeighting(recipe.objective.sigma_floor)
        self._dtype = DTYPES[recipe.run.dtype]

    @property
    def ema_network(self) -> PixelTransformer:
        """The network with the averaged weights."""
        return cast(PixelTransformer, self.average.module)

    def step(self, batch: Batch) -> StepResult:
        """One update. The loss is the mean over the batch, before the update."""
        multiplier = optimisers.learning_rate_multiplier(self.recipe.optimiser, self.step_number, self.recipe.run.steps)
        optimisers.set_learning_rate(self.optimisers, multiplier)
        self.network.train()
        batch = batch.to(self.device)
        t = self._noise_levels.sample(len(batch.images), self.schedule, batch.generator)
        loss = self._losses(self.network, batch, t).mean()
        torch.autograd.backward(loss)
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, self.recipe.optimiser.clip_norm)
        if math.isfinite(float(norm)):  # skip a bad batch; DivergenceMonitor ends a run of many
            for optimiser in self.optimisers:
                optimiser.step()
        self.network.zero_grad(set_to_none=True)
        self.average.update_parameters(self.network)
        self.step_number += 1
        return StepResult(float(loss.detach()), float(norm), self.optimisers[0].param_groups[0]["lr"])

    @torch.no_grad()
    def held_out_loss(self, batches: Batches) -> float | None:
        """The EMA weights' loss on the held-out images, at fixed times and noise; None when there are none."""
        network = self.ema_network.eval()
        losses = [self._losses(network, batch, t) for batch, t in self._held_out(batches)]
        return float(torch.cat(losses).mean()) if losses else None

    @torch.no_grad()
    def mean_image_loss(self, batches: Batches) -> float:
        """The loss of always predicting the mean image, on the held-out images or, without any, on the first batch.

        The baseline that a run's loss is compared with: a network that ignores its input cannot do better.
        """
        mean = batches.mean_image().to(self.device)

        def network(x_t: Tensor, t: Tensor) -> Tensor:
            if mean.shape[-2:] != x_t.shape[-2:]:  # of another aspect bucket
                return F.interpolate(mean[None], x_t.shape[-2:], mode="bilinear").expand_as(x_t)
            return mean.expand_as(x_t)

        denoiser = CleanPrediction(network, self.schedule)
        measured = self._held_out(batches)
        if not measured:
            first = batches.at(0).to(self.device)
            times = self._noise_levels.sample(len(first.images), self.schedule, first.generator)
            measured = [(first, times.to(self.device))]
        losses = [
            training_loss(denoiser, batch.images, t, self._noise(batch), self._weighting) for batch, t in measured
        ]
        return float(torch.cat(losses).mean())

    def state(self) -> dict[str, Any]:
        """The training state for `torch.save`. The keys are a file format."""
        return {
            "step": self.step_number,
            "elapsed_seconds": self.elapsed_seconds,
            "fingerprint": self.fingerprint,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Load what `state()` returned. KeyError, ValueError, RuntimeError when it does not fit this network."""
        step, elapsed_seconds = state["step"], state["elapsed_seconds"]
        if type(step) is not int or step < 0 or not isinstance(elapsed_seconds, (int, float)):
            raise ValueError("its step or elapsed time is missing")
        self.network.load_state_dict(with_current_keys(state["network"]))
        self.average.load_state_dict(with_current_keys(state["average"]))
        for optimiser, stored in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(stored)
        self.step_number, self.elapsed_seconds = step, float(elapsed_seconds)
        self.fingerprint = state["fingerprint"]

    def _losses(self, network: PixelTransformer, batch: Batch, t: Tensor) -> Tensor:
        def predict(x_t: Tensor, t: Tensor) -> Tensor:
            with torch.autocast(self.device.type, self._dtype, enabled=self._dtype is not torch.float32):
                predicted: Tensor = network(x_t, t, batch.condition)
            return predicted

        denoiser = CleanPrediction(predict, self.schedule)
        return training_loss(denoiser, batch.images, t.to(self.device), self._noise(batch), self._weighting)

    def _noise(self, batch: Batch) -> Tensor:
        return torch.randn(batch.images.shape, generator=batch.generator).to(self.device)

    def _held_out(self, batches: Batches) -> list[tuple[Batch, Tensor]]:
        """The held-out images once for each of HELD_OUT_TIMES quantiles of the noise levels."""
        batch = batches.held_out()
        if not len(batch.images):
            return []
        levels = self._noise_levels.sample(1024, self.schedule, torch.Generator().manual_seed(0)).sort().values
        chosen = levels[torch.arange(HELD_OUT_TIMES) * 1024 // HELD_OUT_TIMES + 512 // HELD_OUT_TIMES]
        return [(batch.to(self.device), t.expand(len(batch.images))) for t in chosen]


def network_config(recipe: Recipe, classes: int, vocabulary: int) -> TransformerConfig:
    network = recipe.network
    return TransformerConfig(
        image_size=recipe.data.size,
        patch_size=network.patch,
        patch_margin=network.margin,
        bottleneck_dim=network.bottleneck,
        hidden_size=network.width,
        depth=network.depth,
        num_heads=network.heads,
        cond_dim=network.condition_width,
        conditioning=network.conditioning,
        num_classes=classes,
        vocab_size=vocabulary,
        text_tokens=network.text_tokens,
        augment_dim=Augmentation.label_dim if recipe.data.augment_labels else 0,
        in_channels=recipe.data.form.channels,
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
    """The time of one step on this machine in seconds, measured on a copy of the trainer.

    `check()` runs before each and may raise.
    """
    copied = copy.deepcopy(trainer)
    for step in range(2):
        check()
        copied.step(batches.at(step))
    started = time.perf_counter()
    for step in range(steps):
        check()
        copied.step(batches.at(step))
    return (time.perf_counter() - started) / steps
