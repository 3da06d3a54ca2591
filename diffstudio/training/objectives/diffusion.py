"""The diffusion objective: the network D(x_t, t) predicts the clean image (x-prediction) and is trained with a v-loss.

JiT (Li & He 2025, arXiv 2511.13720), table 1(b).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from diffstudio.diffusion.curve_points import NoiseCurve
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
from diffstudio.diffusion.noise_curve import CurveLevels
from diffstudio.diffusion.schedule import RectifiedFlow
from diffstudio.models.families.pixel import PixelModel
from diffstudio.networks.caption_tokenizer import CaptionTokenizer
from diffstudio.networks.transformer import PixelTransformer, TransformerConfig
from diffstudio.training import optimisers
from diffstudio.training.data.augmentation import Augmentation
from diffstudio.training.data.batches import Batch, Batches
from diffstudio.training.distributed.team import ALONE, Team
from diffstudio.training.objectives.gaussian_baseline import gaussian_loss
from diffstudio.training.objectives.objective import Diversity, FixedLosses, Update, gradient_norm
from diffstudio.training.recipe import NoiseLevelsName, ObjectiveName, ObjectiveRecipe, Recipe

HELD_OUT_TIMES = 4  # noise levels at which the held-out loss is measured
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}  # by `recipe.run.dtype`


class DiffusionObjective:
    """Trains a PixelTransformer to denoise."""

    kind = ObjectiveName.DIFFUSION
    loss_falls = True

    def __init__(self, recipe: Recipe, *, classes: int, vocabulary: int, device: torch.device) -> None:
        """The initial weights are drawn from torch's global generator. `recipe.run.dtype` must not be `auto`."""
        self.recipe, self.device = recipe, device
        self.team: Team = ALONE
        self.schedule = RectifiedFlow()
        self.network = PixelTransformer(network_config(recipe, classes, vocabulary)).to(device)
        self.rebuild_optimisers()
        self._noise_levels = noise_levels(recipe.objective)
        self._weighting = VelocityWeighting(recipe.objective.sigma_floor)
        self._dtype = DTYPES[recipe.run.dtype]

    @property
    def others(self) -> Mapping[str, nn.Module]:
        return {}

    def rebuild_optimisers(self) -> None:
        self.optimisers = optimisers.build_optimisers(self.recipe.optimiser, self.network)
        self._parameters = optimisers.parameters_in_order(self.network)

    def update(self, batch: Batch, share: float) -> Update:
        self.network.train()
        batch = batch.to(self.device)
        t = batch.portion.cut(self._noise_levels.sample(batch.portion.total, self.schedule, batch.generator))
        loss = self.team.mean(self._losses(self.network, batch, t).mean(), batch.portion)
        torch.autograd.backward(loss)
        norm = gradient_norm(self._parameters, self.recipe.optimiser.clip_norm, self.team)
        if math.isfinite(norm):  # skip a bad batch; DivergenceMonitor stops the run after many
            for optimiser in self.optimisers:
                optimiser.step()
        self.network.zero_grad(set_to_none=True)
        return Update(float(loss.detach()), norm)

    @torch.no_grad()
    def fixed_losses(self, network: nn.Module, batches: Batches) -> FixedLosses | None:
        """The losses at fixed times with fixed noise."""
        network.eval()
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
        """The loss of any other prediction of the clean image from x_t [B,C,S,S] and t [B], at the same times and noise."""
        denoiser = CleanPrediction(predict, self.schedule)
        losses = [
            training_loss(denoiser, at_t.images, t, self._noise(at_t), self._weighting, at_t.pixel_weights)
            for at_t, t in self.at_fixed_times(batch)
        ]
        return float(torch.cat(losses).mean())

    def baseline(self, batches: Batches) -> float | None:
        return gaussian_loss(self, batches)

    def diversity(self, network: nn.Module, batches: Batches) -> Diversity | None:
        return None

    def prepare_checkpoint(self, network: nn.Module, batches: Batches) -> None:
        """Nothing to do: a PixelTransformer stores only its weights."""

    def model(self, network: nn.Module, tokenizer: CaptionTokenizer | None, classes: Sequence[str]) -> PixelModel:
        assert isinstance(network, PixelTransformer)
        return PixelModel(
            None,
            network.eval(),
            tokenizer,
            classes,
            output=self.recipe.data.output,
            device=self.device,
            dtype=self._dtype,
        )

    def _losses(self, network: nn.Module, batch: Batch, t: Tensor) -> Tensor:
        def predict(x_t: Tensor, t: Tensor) -> Tensor:
            with torch.autocast(self.device.type, self._dtype, enabled=self._dtype is not torch.float32):
                predicted: Tensor = network(x_t, t, batch.condition)
            return predicted

        denoiser = CleanPrediction(predict, self.schedule)
        noise = self._noise(batch)
        return training_loss(denoiser, batch.images, t.to(self.device), noise, self._weighting, batch.pixel_weights)

    def _noise(self, batch: Batch) -> Tensor:
        portion = batch.portion
        drawn = torch.randn((portion.total, *batch.images.shape[1:]), generator=batch.generator)
        return portion.cut(drawn).to(self.device)

    def at_fixed_times(self, batch: Batch) -> list[tuple[Batch, Tensor]]:
        """The batch and the times t [B] for each fixed time; its generator draws their noise in this order."""
        if not len(batch.images):
            return []
        return [(batch.to(self.device), t.expand(len(batch.images))) for t in self._fixed_times()]

    def _fixed_times(self) -> Tensor:
        """HELD_OUT_TIMES quantiles of the noise levels, in increasing order."""
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
        case NoiseLevelsName.CURVE:
            return CurveLevels(NoiseCurve.from_pairs(objective.noise_curve))
