"""The diffusion objective: the network learns to remove noise, along a rectified flow from image to noise.

By default it predicts the clean image and the loss is that of the velocity: JiT (Li & He 2025, arXiv 2511.13720), table
1(b). A recipe can choose another prediction, another weighting, and learn the variance of the loss.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from diffstudio.diffusion.curve_points import NoiseCurve
from diffstudio.diffusion.denoiser import CleanPrediction, Network, denoiser_for
from diffstudio.diffusion.losses import (
    CosineTimes,
    EDMWeighting,
    LikelihoodWeighting,
    LogitNormalTimes,
    LogNormalSigma,
    MinSNR,
    NoiseLevels,
    UniformTimes,
    UniformWeighting,
    VelocityWeighting,
    VWeighting,
    Weighting,
    estimated,
    training_loss,
    weighted_error,
)
from diffstudio.diffusion.noise_curve import CurveLevels
from diffstudio.diffusion.objectives.adaptive_levels import AdaptiveLevels
from diffstudio.diffusion.objectives.parameterisation import Prediction
from diffstudio.diffusion.schedule import RectifiedFlow
from diffstudio.errors import RunProblem
from diffstudio.models.families.pixel import PixelModel
from diffstudio.networks.caption_tokenizer import CaptionTokenizer
from diffstudio.networks.cascade import CascadedTransformer
from diffstudio.networks.log_variance import LogVariance
from diffstudio.networks.transformer import Condition
from diffstudio.networks.transformer_config import TransformerConfig
from diffstudio.networks.transformer_layers import Block
from diffstudio.networks.unet import PixelNetwork, PixelUNet
from diffstudio.training import optimisers
from diffstudio.training.data.augmentation import Augmentation
from diffstudio.training.data.batches import Batch, Batches
from diffstudio.training.distributed.team import ALONE, Team
from diffstudio.training.objectives.cascade import UpperLoss, with_upper
from diffstudio.training.objectives.gaussian_baseline import gaussian_loss
from diffstudio.training.objectives.objective import Diversity, FixedLosses, Update, gradient_norm
from diffstudio.training.objectives.perceptual import CHANNELS, PerceptualLoss
from diffstudio.training.objectives.unet import seeded_dropout, unet_config
from diffstudio.training.recipe import ObjectiveRecipe, Recipe
from diffstudio.training.recipe.network_recipe import NetworkName
from diffstudio.training.recipe.objective_recipe import NoiseLevelsName, ObjectiveName, WeightingName

HELD_OUT_TIMES = 4  # noise levels at which the held-out loss is measured
_LEARNED_LEVELS = tuple(step / 32 for step in range(1, 32))
_WARM_UP = 0.1  # share of the run before noise levels adapt
_LOG_VARIANCE_RATE = 3e-3  # learning rate of the learned variance
_LOG_VARIANCE_CLIP = 10.0
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}  # by `recipe.run.dtype`


class DiffusionObjective:
    """Trains a PixelTransformer or PixelUNet to denoise."""

    kind = ObjectiveName.DIFFUSION
    loss_falls = True

    def __init__(self, recipe: Recipe, *, classes: int, vocabulary: int, device: torch.device) -> None:
        """The initial weights are drawn from torch's global generator. `recipe.run.dtype` must not be `auto`."""
        self.recipe, self.device = recipe, device
        self.team: Team = ALONE
        self.schedule = RectifiedFlow()
        self.network = build_network(recipe, classes, vocabulary).to(device)
        compiled = recipe.run.compile and device.type == "cuda"
        # Only for updates: samples and held-out losses have other batch sizes, for which it would recompile.
        self._trained = cast(nn.Module, torch.compile(self.network)) if compiled else self.network
        self._log_variance = LogVariance().to(device) if recipe.objective.learned_variance else None
        self.rebuild_optimisers()
        self._noise_levels = noise_levels(recipe.objective)
        adapts = recipe.objective.noise_levels is NoiseLevelsName.ADAPTIVE
        self._adaptive = AdaptiveLevels(self._noise_levels.sample, self.schedule) if adapts else None
        self._parameterisation = recipe.objective.parameterisation
        self._weighting = weighting(recipe.objective)
        self._measure = VelocityWeighting(recipe.objective.sigma_floor)
        self._dtype = DTYPES[recipe.run.dtype]
        self._perceptual = perceptual_loss(recipe, device)
        self._upper = UpperLoss(recipe.upper, self.schedule, self._measure, self._predict, device)

    @property
    def others(self) -> Mapping[str, nn.Module]:
        networks = {"log_variance": self._log_variance, "noise_levels": self._adaptive}
        return {name: network for name, network in networks.items() if network is not None}

    def rebuild_optimisers(self) -> None:
        self.optimisers = optimisers.build_optimisers(self.recipe.optimiser, self.network)
        upper = list(self.network.upper.parameters()) if isinstance(self.network, CascadedTransformer) else []
        others = {id(parameter) for parameter in upper}
        own = [one for one in optimisers.parameters_in_order(self.network) if id(one) not in others]
        self._parameters, self._upper_parameters = own, upper
        if self._log_variance is not None:
            groups = [{"params": list(self._log_variance.parameters()), "initial_lr": _LOG_VARIANCE_RATE}]
            self.optimisers.append(torch.optim.Adam(groups, lr=_LOG_VARIANCE_RATE, betas=(0.9, 0.99)))

    def update(self, batch: Batch, share: float) -> Update:
        self.network.train()
        batch = batch.to(self.device)
        t = batch.portion.cut(self._times(batch.portion.total, batch.generator))
        with seeded_dropout(self.recipe.network, batch, self.device):
            estimate, losses = self._estimated(self._trained, batch, t, self._weighting)
            loss = self.team.mean(losses.mean(), batch.portion)
            learned = loss if self._log_variance is None else self._divided(losses, t, batch)
            if self._perceptual is not None:
                distance = self._perceptual(estimate, batch.images, t, batch.pixel_weights).mean()
                learned = learned + self.recipe.objective.perceptual * self.team.mean(distance, batch.portion)
            torch.autograd.backward(learned)
        norm = gradient_norm(self._parameters, self.recipe.optimiser.clip_norm, self.team)
        if self._log_variance is not None:
            norm_of_u = gradient_norm(self._log_variance.parameters(), _LOG_VARIANCE_CLIP, self.team)
            norm = norm if math.isfinite(norm_of_u) else norm_of_u
        with seeded_dropout(self.recipe.network, batch, self.device):
            upper_loss, upper_norm = self._update_upper(batch) if self._upper_parameters else (None, 0.0)
        if math.isfinite(norm + upper_norm):  # skip a bad batch; DivergenceMonitor stops the run after many
            for optimiser in self.optimisers:
                optimiser.step()
        for network in (self.network, *self.others.values()):
            network.zero_grad(set_to_none=True)
        self._adapt(t, losses, batch, share)
        return Update(float(loss.detach()), norm, upper_loss=upper_loss)

    def _update_upper(self, batch: Batch) -> tuple[float, float]:
        """The loss of the upper level and the norm of its gradients, which are clipped apart from the base's."""
        loss = self.team.mean(self._upper.losses(self._trained, batch).mean(), batch.portion)
        torch.autograd.backward(loss)
        return float(loss.detach()), gradient_norm(self._upper_parameters, self.recipe.optimiser.clip_norm, self.team)

    def _times(self, count: int, generator: torch.Generator) -> Tensor:
        if self._adaptive is not None:
            return self._adaptive.sample(count, generator)
        return self._noise_levels.sample(count, self.schedule, generator)

    def _adapt(self, t: Tensor, losses: Tensor, batch: Batch, share: float) -> None:
        """Tell the adaptive noise levels the errors of the global batch, which follow from its losses [B]."""
        if self._adaptive is None:
            return
        errors = losses.detach() / self._weighting(self.schedule, t.to(losses))
        sums, portion = self._adaptive.sums(t, errors), batch.portion
        if self.team.world > 1:  # the mean over the global batch, times its size
            sums = self.team.mean((sums / max(1, portion.count)).to(self.device), portion).cpu() * portion.total
        self._adaptive.update(sums, begin=share >= _WARM_UP)

    def _divided(self, losses: Tensor, t: Tensor, batch: Batch) -> Tensor:
        """losses [B] / e^u(t) + u(t), averaged: Karras et al. 2023 (arXiv 2312.02696), eq. 14."""
        assert self._log_variance is not None
        u = self._log_variance(t.to(self.device))
        return self.team.mean((losses * (-u).exp() + u).mean(), batch.portion)

    @torch.no_grad()
    def fixed_losses(self, network: nn.Module, batches: Batches) -> FixedLosses | None:
        """The losses of the velocity at fixed times with fixed noise, whatever the loss of training is."""
        network.eval()
        held_out, training = (
            [self._losses(network, batch, t, self._measure) for batch, t in self.at_fixed_times(batch)]
            for batch in (batches.held_out(), batches.training_part())
        )
        if not held_out:
            return None
        means = [tuple(float(losses.mean()) for losses in part) for part in (held_out, training)]
        levels, loss = tuple(self._fixed_times().tolist()), float(torch.cat(held_out).mean())
        upper = self._upper.held_out_loss(network, batches) if self._upper_parameters else None
        of_images = tuple(torch.stack(held_out).mean(dim=0).tolist())
        return FixedLosses(levels, means[0], means[1], loss, *self._followed(), upper=upper, of_images=of_images)

    def _followed(self) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
        """Noise levels t, the loss of training batches there, of the velocity, and the density of adaptive levels."""
        t = torch.tensor(_LEARNED_LEVELS)
        drawn = torch.zeros(0)
        if self._log_variance is not None:
            on_device = t.to(self.device)
            of_measure = self._measure(self.schedule, on_device) / self._weighting(self.schedule, on_device)
            losses = self._log_variance(on_device).exp() * of_measure
        elif self._adaptive is not None:
            t = t[self._adaptive.errors_at(t).isfinite()]
            losses = self._adaptive.errors_at(t) * self._measure(self.schedule, t)
        else:
            return (), (), ()
        if self._adaptive is not None and self._adaptive.begun:
            drawn = self._adaptive.density(t)
        return tuple(t.tolist()), tuple(losses.tolist()), tuple(drawn.tolist())

    @torch.no_grad()
    def loss_without_network(self, predict: Network, batch: Batch) -> float:
        """The loss of any other prediction of the clean image from x_t [B,C,S,S] and t [B], at the same times and noise."""
        denoiser = CleanPrediction(predict, self.schedule)
        losses = [
            training_loss(denoiser, at_t.images, t, at_t.noise(self.device), self._measure, at_t.pixel_weights)
            for at_t, t in self.at_fixed_times(batch)
        ]
        return float(torch.cat(losses).mean())

    def baseline(self, batches: Batches) -> float | None:
        return gaussian_loss(self, batches)

    def diversity(self, network: nn.Module, batches: Batches) -> Diversity | None:
        return None

    def prepare_checkpoint(self, network: nn.Module, batches: Batches) -> None:
        """Nothing to do: these networks store only their weights."""

    def model(self, network: nn.Module, tokenizer: CaptionTokenizer | None, classes: Sequence[str]) -> PixelModel:
        assert isinstance(network, PixelNetwork)
        return PixelModel(
            None,
            network.eval(),
            tokenizer,
            classes,
            parameterisation=self._parameterisation,
            min_timestep=self.recipe.min_timestep,
            output=self.recipe.data.output,
            device=self.device,
            dtype=self._dtype,
        )

    def _losses(self, network: nn.Module, batch: Batch, t: Tensor, weighting: Weighting) -> Tensor:
        return self._estimated(network, batch, t, weighting)[1]

    def _estimated(self, network: nn.Module, batch: Batch, t: Tensor, weighting: Weighting) -> tuple[Tensor, Tensor]:
        """The estimates of the clean images, float32 [B,C,S,S], and the loss of each [B]."""

        def predict(x_t: Tensor, t: Tensor) -> Tensor:
            return self._predict(network, x_t, t, batch.condition)

        denoiser = denoiser_for(self._parameterisation, predict, self.schedule)
        images, t = batch.images, t.to(self.device)
        estimate = estimated(denoiser, images, t, batch.noise(self.device))
        return estimate, weighted_error(self.schedule, estimate, images, t, weighting, batch.pixel_weights)

    def _predict(self, network: nn.Module, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        with torch.autocast(self.device.type, self._dtype, enabled=self._dtype is not torch.float32):
            predicted: Tensor = network(x_t, t, condition)
        return predicted

    def at_fixed_times(self, batch: Batch) -> list[tuple[Batch, Tensor]]:
        """The batch and the times t [B] for each fixed time; its generator draws their noise in this order."""
        if not len(batch.images):
            return []
        return [(batch.to(self.device), t.expand(len(batch.images))) for t in self._fixed_times()]

    def _fixed_times(self) -> Tensor:
        """HELD_OUT_TIMES quantiles of the noise levels, in increasing order."""
        levels = self._noise_levels.sample(1024, self.schedule, torch.Generator().manual_seed(0)).sort().values
        return levels[torch.arange(HELD_OUT_TIMES) * 1024 // HELD_OUT_TIMES + 512 // HELD_OUT_TIMES]


def perceptual_loss(recipe: Recipe, device: torch.device) -> PerceptualLoss | None:
    """The recipe's, if it has one; distillation has none. RunProblem for images it cannot see. CheckpointMissing."""
    weight, channels = recipe.objective.perceptual, recipe.data.form.channels
    if not weight or recipe.few_steps.enabled:
        return None
    if channels not in CHANNELS:
        raise RunProblem(
            f"recipe.objective.perceptual is {weight:g}",
            f"the images have {channels} channels, and only grey and colour images can be compared so",
            "Set it to 0",
        )
    return PerceptualLoss(device)


def build_network(recipe: Recipe, classes: int, vocabulary: int) -> PixelNetwork:
    """The recipe's network, initialised from torch's global generator. ValueError for sizes that do not divide."""
    if recipe.network.kind is NetworkName.UNET:
        if recipe.upper.factor:
            raise ValueError("no upper level can be built on a U-Net")
        return PixelUNet(unet_config(recipe, classes, vocabulary))
    network = with_upper(network_config(recipe, classes, vocabulary), recipe)
    for module in network.modules():
        if isinstance(module, Block):
            module.dropout = recipe.network.dropout
    return network


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
    """The fixed distribution of noise levels: for adaptive ones, the base that they begin with and are measured at."""
    match objective.noise_levels:
        case NoiseLevelsName.UNIFORM:
            return UniformTimes()
        case NoiseLevelsName.LOG_NORMAL:
            return LogNormalSigma(objective.mean, objective.deviation)
        case NoiseLevelsName.LOGIT_NORMAL | NoiseLevelsName.ADAPTIVE:
            return LogitNormalTimes(objective.mean, objective.deviation)
        case NoiseLevelsName.COSINE:
            return CosineTimes()
        case NoiseLevelsName.CURVE:
            return CurveLevels(NoiseCurve.from_pairs(objective.noise_curve))


def weighting(objective: ObjectiveRecipe) -> Weighting:
    """The weights of the squared error of the clean image that training minimises."""
    name, floor = objective.weighting, objective.sigma_floor
    if name is WeightingName.AUTO:
        name = _OF_PREDICTION[objective.prediction]
    match name:
        case WeightingName.EPS:
            return MinSNR(math.inf)
        case WeightingName.V:
            return VWeighting(floor)
        case WeightingName.UNIFORM:
            return UniformWeighting()
        case WeightingName.MIN_SNR:
            return MinSNR(objective.min_snr_gamma)
        case WeightingName.EDM:
            return EDMWeighting(objective.sigma_data)
        case WeightingName.LIKELIHOOD:
            return LikelihoodWeighting(floor)
        case _:
            return VelocityWeighting(floor)


_OF_PREDICTION = {
    Prediction.X0: WeightingName.VELOCITY,
    Prediction.VELOCITY: WeightingName.VELOCITY,
    Prediction.EPS: WeightingName.EPS,
    Prediction.V: WeightingName.V,
    Prediction.EDM: WeightingName.EDM,
}
