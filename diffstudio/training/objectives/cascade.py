"""The upper level of a cascade: a denoiser of larger images that reads the same images at the base's size.

Cascaded diffusion models: Ho et al. 2021 (arXiv 2106.15282). Half of the time the smaller image is noised by a random amount,
on which the network is conditioned (section 4.2), because generated images are not quite like downscaled photographs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from diffstudio.diffusion.denoiser import CleanPrediction
from diffstudio.diffusion.losses import LogitNormalTimes, Weighting, training_loss
from diffstudio.diffusion.schedule import RectifiedFlow
from diffstudio.networks.cascade import CascadedTransformer, UpperConfig, noised
from diffstudio.networks.conditioning import Conditioning
from diffstudio.networks.transformer import Condition, PixelTransformer
from diffstudio.networks.transformer_config import TransformerConfig
from diffstudio.training.data.augmentation import Augmentation
from diffstudio.training.data.batches import Batch, Batches
from diffstudio.training.recipe import Recipe, UpperRecipe

HELD_OUT_TIMES = (0.2, 0.4, 0.6, 0.8)  # noise levels t at which the held-out loss is measured

Predict = Callable[[nn.Module, Tensor, Tensor, Condition], Tensor]


def with_upper(config: TransformerConfig, recipe: Recipe) -> PixelTransformer:
    """A new network for the recipe: of both levels if it has an upper one. The weights are drawn from the global generator."""
    upper = upper_config(recipe)
    return PixelTransformer(config) if upper is None else CascadedTransformer(config, upper)


def upper_config(recipe: Recipe) -> UpperConfig | None:
    """The upper level of a recipe; None without one. ValueError for sizes that do not divide."""
    upper = recipe.upper
    if not upper.factor:
        return None
    network = TransformerConfig(
        image_size=recipe.prepared.size,
        patch_size=upper.patch,
        patch_margin=upper.margin,
        bottleneck_dim=upper.bottleneck,
        hidden_size=upper.width,
        depth=upper.depth,
        num_heads=upper.heads,
        cond_dim=upper.condition_width,
        conditioning=Conditioning.NONE,
        augment_dim=Augmentation.label_dim if recipe.data.augment_labels else 0,
        in_channels=recipe.data.form.channels,
        low_channels=recipe.data.form.channels,
    )
    return UpperConfig(network, upper.noise, upper.sample_noise, upper.sample_steps)


@dataclass(frozen=True, slots=True)
class UpperLoss:
    """The losses of the upper level. `predict` calls a network in the run's data type."""

    recipe: UpperRecipe
    schedule: RectifiedFlow
    weighting: Weighting
    predict: Predict
    device: torch.device

    def losses(self, network: nn.Module, batch: Batch) -> Tensor:
        """The loss of each image [B] of a training batch that has its images at both sizes."""
        levels = LogitNormalTimes(self.recipe.mean, self.recipe.deviation)
        portion, generator = batch.portion, batch.generator
        t = portion.cut(levels.sample(portion.total, self.schedule, generator))
        drawn = 2 * torch.rand(portion.total, generator=generator) - 1  # half of the images are not noised
        level = portion.cut(self.recipe.noise * drawn.clamp(min=0))
        return self._losses(network, batch, t, level)

    @torch.no_grad()
    def held_out_loss(self, network: nn.Module, batches: Batches) -> float | None:
        """The mean loss on the held-out images at fixed times, with fixed noise; None without any."""
        batch = batches.held_out().to(self.device)
        count = len(batch.images)
        if not count:
            return None
        level = torch.full((count,), self.recipe.sample_noise)
        losses = [self._losses(network, batch, torch.full((count,), t), level) for t in HELD_OUT_TIMES]
        return float(torch.cat(losses).mean())

    def _losses(self, network: nn.Module, batch: Batch, t: Tensor, level: Tensor) -> Tensor:
        larger = batch.larger
        assert larger is not None
        level = level.to(self.device)
        low = noised(batch.images, level, batch.noise(self.device))
        condition = Condition(augment_labels=batch.condition.augment_labels, low=low, low_noise=level)
        denoiser = CleanPrediction(lambda x_t, t: self.predict(network, x_t, t, condition), self.schedule)
        noise = larger.noise(self.device)
        return training_loss(denoiser, larger.images, t.to(self.device), noise, self.weighting, larger.pixel_weights)
