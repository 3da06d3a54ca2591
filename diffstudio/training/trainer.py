"""Trainer: a network, its optimisers and its EMA weights, and the training step. No files, no processes.

The network D(x_t, t) predicts the clean image; the loss is on the velocity that follows from it: JiT (Li & He 2025,
arXiv 2511.13720), table 1(b).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from diffstudio.diffusion.denoiser import CleanPrediction, Network
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


@dataclass(frozen=True, slots=True)
class FixedLosses:
    """Losses on the held-out images and on as many training images at a few times, with the same noise every time."""

    levels: tuple[float, ...]  # t, rising
    held_out: tuple[float, ...]  # mean at each
    training: tuple[float, ...]
    loss: float  # on the held-out images, over all levels

    @property
    def training_loss(self) -> float:
        return sum(self.training) / len(self.training)


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
        self.elapsed_seconds = 0.0  # of all processes of the run, without the time it was paused or waited
        self.progress = 0.0  # the share of the run that is done, where its length is a time
        self.rate_scale = 1.0  # factor of all learning rates, below 1 after a roll-back
        self.held_out_losses: list[tuple[int, float]] = []  # step and loss
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
        optimisers.set_learning_rate(self.optimisers, self._rate_multiplier() * self.rate_scale)
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

    def _rate_multiplier(self) -> float:
        """By the steps, or the time, since the run started or was last continued."""
        run = self.recipe.run
        step = self.step_number - run.first_step
        if run.schedule == "time":
            return optimisers.multiplier_by_time(self.recipe.optimiser, step, self.progress)
        return optimisers.learning_rate_multiplier(self.recipe.optimiser, step, run.steps - run.first_step)

    @torch.no_grad()
    def fixed_losses(self, batches: Batches) -> FixedLosses | None:
        """The EMA weights' losses at fixed times and noise; None without held-out images."""
        network = self.ema_network.eval()
        held_out, training = (
            [self._losses(network, batch, t) for batch, t in self.at_fixed_times(batch)]
            for batch in (batches.held_out(), batches.training_part())
        )
        if not held_out:
            return None
        means = [tuple(float(losses.mean()) for losses in part) for part in (held_out, training)]
        return FixedLosses(
            tuple(self._fixed_times().tolist()), means[0], means[1], loss=float(torch.cat(held_out).mean())
        )

    @torch.no_grad()
    def loss_without_network(self, predict: Network, batch: Batch) -> float:
        """The loss of another prediction of the clean image, x_t [B,C,S,S] and t [B], at the same times and noise."""
        denoiser = CleanPrediction(predict, self.schedule)
        losses = [
            training_loss(denoiser, at_t.images, t, self._noise(at_t), self._weighting, at_t.pixel_weights)
            for at_t, t in self.at_fixed_times(batch)
        ]
        return float(torch.cat(losses).mean())

    def state(self) -> dict[str, Any]:
        """The training state for `torch.save`. The keys are a file format."""
        return {
            "step": self.step_number,
            "elapsed_seconds": self.elapsed_seconds,
            "fingerprint": self.fingerprint,
            "progress": self.progress,
            "rate_scale": self.rate_scale,
            "held_out_losses": self.held_out_losses,
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
            # Only what was learned is restored: rates and the like are those of the recipe, which may have been changed.
            settings = [{name: group[name] for name in group if name != "params"} for group in optimiser.param_groups]
            optimiser.load_state_dict(stored)
            for group, values in zip(optimiser.param_groups, settings, strict=True):
                group.update(values)
        self.step_number, self.elapsed_seconds = step, float(elapsed_seconds)
        self.fingerprint = state["fingerprint"]
        self.progress, self.rate_scale = float(state.get("progress", 0.0)), float(state.get("rate_scale", 1.0))
        self.held_out_losses = [(int(at), float(loss)) for at, loss in state.get("held_out_losses", ())]

    def _losses(self, network: PixelTransformer, batch: Batch, t: Tensor) -> Tensor:
        def predict(x_t: Tensor, t: Tensor) -> Tensor:
            with torch.autocast(self.device.type, self._dtype, enabled=self._dtype is not torch.float32):
                predicted: Tensor = network(x_t, t, batch.condition)
            return predicted

        denoiser = CleanPrediction(predict, self.schedule)
        noise = self._noise(batch)
        return training_loss(denoiser, batch.images, t.to(self.device), noise, self._weighting, batch.pixel_weights)

    def _noise(self, batch: Batch) -> Tensor:
        return torch.randn(batch.images.shape, generator=batch.generator).to(self.device)

    def at_fixed_times(self, batch: Batch) -> list[tuple[Batch, Tensor]]:
        """The images once for each of the fixed times t [B], whose noise its generator draws one after the other."""
        if not len(batch.images):
            return []
        return [(batch.to(self.device), t.expand(len(batch.images))) for t in self._fixed_times()]

    def _fixed_times(self) -> Tensor:
        """HELD_OUT_TIMES quantiles of the noise levels, rising."""
        levels = self._noise_levels.sample(1024, self.schedule, torch.Generator().manual_seed(0)).sort().values
        return levels[torch.arange(HELD_OUT_TIMES) * 1024 // HELD_OUT_TIMES + 512 // HELD_OUT_TIMES]


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
