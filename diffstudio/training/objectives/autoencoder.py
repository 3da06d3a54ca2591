"""The VAE objective: trains `networks.autoencoder`. The held-out measure is the ELBO in bits per dimension."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from diffstudio.diffusion.gaussians import kl_from_standard_normal
from diffstudio.diffusion.losses import LogitNormalTimes
from diffstudio.diffusion.schedule import RectifiedFlow
from diffstudio.evaluation.features.random_network import random_network
from diffstudio.models.families.one_call import OneCallModel
from diffstudio.networks.autoencoder import Autoencoder, AutoencoderConfig
from diffstudio.networks.caption_tokenizer import CaptionTokenizer
from diffstudio.training import optimisers
from diffstudio.training.data.augmentation import Augmentation
from diffstudio.training.data.batches import Batch, Batches
from diffstudio.training.distributed.team import ALONE, Team
from diffstudio.training.objectives.bounds import elbo, in_bits
from diffstudio.training.objectives.diversity import measure_diversity
from diffstudio.training.objectives.gaussian_baseline import gaussian_bits
from diffstudio.training.objectives.objective import Diversity, FixedLosses, Update, gradient_norm
from diffstudio.training.recipe import Recipe
from diffstudio.training.recipe.objective_recipe import ObjectiveName

_VARIANCE_DECAY = 0.98  # of the moving average of the decoder's squared error
_MOST_LATENTS = 1024  # images from whose latents the stored directions are computed
_AT_ONCE = 64


class AutoencoderObjective:
    """Trains an Autoencoder by maximising the ELBO, and its flow prior by flow matching on the latents."""

    kind = ObjectiveName.VAE
    loss_falls = True

    def __init__(self, recipe: Recipe, *, classes: int, vocabulary: int, device: torch.device) -> None:
        """The initial weights are drawn from torch's global generator."""
        self.recipe, self.device = recipe, device
        self.team: Team = ALONE
        self.network = Autoencoder(autoencoder_config(recipe, classes, vocabulary)).to(device)
        self.rebuild_optimisers()
        self._flow = RectifiedFlow()
        self.levels = recipe.data.form.largest + 1
        # The variance of rounding errors: images hold no information below it.
        self._least_variance = (2 / (self.levels - 1)) ** 2 / 12
        self._features = random_network(recipe.data.form.channels)

    @property
    def others(self) -> Mapping[str, nn.Module]:
        return {}

    def rebuild_optimisers(self) -> None:
        self.optimisers = optimisers.build_optimisers(self.recipe.optimiser, self.network)
        self._parameters = optimisers.parameters_in_order(self.network)

    def update(self, batch: Batch, share: float) -> Update:
        """One update. The reported loss is the negative ELBO in bits per dimension, with the decoder's Gaussian density."""
        self.network.train()
        batch = batch.to(self.device)
        bound, trained = self._losses(batch, share)
        torch.autograd.backward(trained)
        norm = gradient_norm(self._parameters, self.recipe.optimiser.clip_norm, self.team)
        if math.isfinite(norm):
            for optimiser in self.optimisers:
                optimiser.step()
        self.network.zero_grad(set_to_none=True)
        return Update(float(bound.detach()), norm)

    def _losses(self, batch: Batch, share: float) -> tuple[Tensor, Tensor]:
        """The negative ELBO in bits per dimension, and the loss to minimise: nats per dimension plus the prior's loss."""
        network, images, objective, portion = self.network, batch.images, self.recipe.objective, batch.portion
        values = images[0].numel()
        c = network.condition(batch.condition, len(images))
        mean, log_variance = network.encode(images, c)
        z = mean + (log_variance / 2).exp() * batch.noise(self.device, mean.shape[1:])
        errors = (network.decode(z, c) - images).square()
        if batch.pixel_weights is not None:  # masked training, as in diffusion.losses
            errors = errors * batch.pixel_weights
        squared_error = self.team.mean(errors.mean(), portion)
        # The optimal variance is the squared error itself, so its logarithm is the loss: sigma-VAE, eq. 4 and 5.
        variance = squared_error.clamp(min=self._least_variance)
        self._follow(variance.detach())
        nats = 0.5 * (math.log(2 * math.pi) + variance.log() + squared_error / variance)  # per dimension
        kl = self.team.mean(kl_from_standard_normal(mean, log_variance).mean(dim=0), portion)  # [L,G,G]
        weight = min(1.0, share / objective.kl_warm_up) if objective.kl_warm_up else 1.0
        # Free bits: KL divergences below this are not reduced further. Kingma et al. 2016 (arXiv 1606.04934), eq. 15.
        trained = nats + weight * kl.clamp(min=objective.free_bits).sum() / values
        bound = (nats + kl.sum() / values) / math.log(2) + math.log2((self.levels - 1) / 2)
        return bound, trained + self._prior_loss(z.detach().flatten(1), c.detach(), batch)

    def _prior_loss(self, z: Tensor, c: Tensor, batch: Batch) -> Tensor:
        """Flow matching (arXiv 2209.03003, eq. 1) on the latents z [B,Z]; no gradients reach the encoder."""
        draws, times, noises = self.recipe.objective.prior_draws, [], []
        for _ in range(draws):
            t = LogitNormalTimes().sample(batch.portion.total, self._flow, batch.generator)
            times.append(batch.portion.cut(t).to(self.device))
            noises.append(batch.noise(self.device, z.shape[1:]))
        t, eps = torch.cat(times), torch.cat(noises)
        z, c = z.repeat(draws, 1), c.repeat(draws, 1)
        z_t = (1 - t)[:, None] * z + t[:, None] * eps
        predicted: Tensor = self.network.prior(z_t, t, c)
        return self.team.mean((predicted - (eps - z)).square().mean(), batch.portion)

    @torch.no_grad()
    def _follow(self, variance: Tensor) -> None:
        """Update the decoder's stored variance, a moving average of the log-variance."""
        stored = self.network.variance
        if float(stored) == 1.0:  # the first update
            stored.copy_(variance)
        stored.copy_((_VARIANCE_DECAY * stored.log() + (1 - _VARIANCE_DECAY) * variance.log()).exp())

    def fixed_losses(self, network: nn.Module, batches: Batches) -> FixedLosses | None:
        """The negative ELBO in bits per dimension."""
        held_out, training = (
            [float(self.bits(network, batch)) for batch in parts if len(batch.images)]
            for parts in ((batches.held_out(),), (batches.training_part(),))
        )
        return FixedLosses((), (), tuple(training), held_out[0]) if held_out else None

    def bits(self, network: nn.Module, batch: Batch) -> Tensor:
        """The mean over a batch of the negative ELBO in bits per dimension."""
        assert isinstance(network, Autoencoder)
        batch, network = batch.to(self.device), network.eval()
        return in_bits(
            elbo(network, batch.images, batch.condition, batch.generator, levels=self.levels), batch.images
        ).mean()

    def baseline(self, batches: Batches) -> float | None:
        return gaussian_bits(batches, self.levels, self._least_variance)

    def diversity(self, network: nn.Module, batches: Batches) -> Diversity | None:
        assert isinstance(network, Autoencoder)
        return measure_diversity(network.eval(), batches, self._features, self.device)

    @torch.no_grad()
    def prepare_checkpoint(self, network: nn.Module, batches: Batches) -> None:
        """Store the principal directions of the training images' latents in the network."""
        assert isinstance(network, Autoencoder)
        network.eval()
        batch = batches.training_batch(_MOST_LATENTS).to(self.device)
        latents = []
        for first in range(0, len(batch.images), _AT_ONCE):
            rows = slice(first, first + _AT_ONCE)
            part = batch.to(self.device).condition
            c = network.condition(
                part._replace(
                    token_ids=None if part.token_ids is None else part.token_ids[rows],
                    class_labels=None if part.class_labels is None else part.class_labels[rows],
                ),
                len(batch.images[rows]),
            )
            latents.append(network.encode(batch.images[rows], c)[0].flatten(1))
        network.set_directions(torch.cat(latents))

    def model(self, network: nn.Module, tokenizer: CaptionTokenizer | None, classes: Sequence[str]) -> OneCallModel:
        assert isinstance(network, Autoencoder)
        return OneCallModel(
            None, network.eval(), tokenizer, classes, output=self.recipe.data.output, device=self.device
        )


def autoencoder_config(recipe: Recipe, classes: int, vocabulary: int) -> AutoencoderConfig:
    network = recipe.network
    return AutoencoderConfig(
        image_size=recipe.data.size,
        patch_size=network.patch,
        stem_size=network.stem,
        hidden_size=network.width,
        depth=network.depth,
        cond_dim=network.condition_width,
        conditioning=network.conditioning,
        num_classes=classes,
        vocab_size=vocabulary,
        text_tokens=network.text_tokens,
        augment_dim=Augmentation.label_dim if recipe.data.augment_labels else 0,
        in_channels=recipe.data.form.channels,
        latent_channels=network.latent,
        latent_grid=network.latent_grid,
        prior_width=network.prior_width,
        prior_depth=network.prior_depth,
    )
