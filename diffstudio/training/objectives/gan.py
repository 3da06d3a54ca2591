"""The GAN objective: R3GAN (Huang et al. 2024, arXiv 2501.05441), or the non-saturating GAN of 2014, which collapses.

A GAN has no held-out loss. Its held-out measure is the energy distance between generated and held-out images, in the
features of a network with random weights, which is cheap and the same in every run. It compares sets, not single images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffstudio.evaluation.energy_distance import energy_distance
from diffstudio.evaluation.features.random_network import random_network
from diffstudio.models.families.one_call import OneCallModel
from diffstudio.networks.caption_tokenizer import CaptionTokenizer
from diffstudio.networks.gan import Discriminator, GanConfig, Generator
from diffstudio.training import optimisers
from diffstudio.training.data.augmentation import Augmentation
from diffstudio.training.data.batches import Batch, Batches
from diffstudio.training.distributed.portion import Portion
from diffstudio.training.distributed.team import ALONE, Team
from diffstudio.training.objectives.diff_augment import diff_augment
from diffstudio.training.objectives.diversity import features_of, generated, measure_diversity
from diffstudio.training.objectives.gaussian_baseline import gaussian_samples
from diffstudio.training.objectives.objective import Diversity, FixedLosses, Update, gradient_norm
from diffstudio.training.recipe import Recipe
from diffstudio.training.recipe.objective_recipe import GanLossName, ObjectiveName

_SAMPLES = 256  # to compare with the held-out images
_MOST_GAUSSIAN = 512  # training images used for the Gaussian model


class GanObjective:
    """Trains a Generator against a Discriminator, with one update of each per step."""

    kind = ObjectiveName.GAN
    loss_falls = False

    def __init__(self, recipe: Recipe, *, classes: int, vocabulary: int, device: torch.device) -> None:
        """The initial weights are drawn from torch's global generator."""
        self.recipe, self.device = recipe, device
        self.team: Team = ALONE
        config = gan_config(recipe, classes, vocabulary)
        self.network = Generator(config).to(device)
        self.discriminator = Discriminator(config).to(device)
        self.rebuild_optimisers()
        self._relativistic = recipe.objective.gan_loss is GanLossName.R3GAN
        self._augments = recipe.objective.diff_augment != "off"
        self._features = random_network(recipe.data.form.channels)

    @property
    def others(self) -> Mapping[str, nn.Module]:
        return {"discriminator": self.discriminator}

    def rebuild_optimisers(self) -> None:
        self._of_generator = optimisers.build_optimisers(self.recipe.optimiser, self.network)
        self._of_discriminator = optimisers.build_optimisers(self.recipe.optimiser, self.discriminator)
        self.optimisers = [*self._of_generator, *self._of_discriminator]

    def update(self, batch: Batch, share: float) -> Update:
        """Update the discriminator, then the generator, with the same real images."""
        batch = batch.to(self.device)
        self.network.train()
        self.discriminator.train()
        loss, norm = self._update_discriminator(batch, self._penalty_weight(batch, share))
        generator_loss, generator_norm = self._update_generator(batch)
        return Update(loss, math.hypot(norm, generator_norm), generator_loss)

    def gamma(self, share: float) -> float:
        """The weight of the gradient penalties, with a cosine schedule as in the paper; 0 without penalties."""
        objective = self.recipe.objective
        if not self._relativistic:
            return 0.0
        cosine = 0.5 + 0.5 * math.cos(math.pi * min(1.0, share))
        return objective.gamma_end + (objective.gamma - objective.gamma_end) * cosine

    def _penalty_weight(self, batch: Batch, share: float) -> float:
        """Gamma in this step: 0 in most steps of a recipe whose penalties are lazy (Karras et al. 2020, arXiv 1912.04958, 2.2).

        The steps are drawn at random, from the batch's numbers, so that a resumed run draws the same.
        """
        gamma, every = self.gamma(share), self.recipe.objective.penalty_every
        if gamma <= 0 or every == 1:
            return gamma
        return 0.0 if int(torch.randint(every, (), generator=batch.generator)) else gamma * every

    def _update_discriminator(self, batch: Batch, gamma: float) -> tuple[float, float]:
        with torch.no_grad():
            fake = self._generated(batch)
        real = batch.images.detach().requires_grad_(gamma > 0)
        fake = fake.requires_grad_(gamma > 0)
        real_scores, fake_scores = self._scores(real, batch), self._scores(fake, batch)
        loss = self._discriminator_loss(real_scores, fake_scores)
        penalty = loss.new_zeros(())
        if gamma > 0:  # R1 and R2, zero-centred penalties on real and generated images: eq. 3 of the paper
            penalty = gamma / 2 * (_squared_gradient(real_scores, real) + _squared_gradient(fake_scores, fake))
        return self._step(self._of_discriminator, self.discriminator, loss, penalty, batch.portion)

    def _update_generator(self, batch: Batch) -> tuple[float, float]:
        self.discriminator.requires_grad_(False)
        fake_scores = self._scores(self._generated(batch), batch)
        real_scores = self._scores(batch.images, batch) if self._relativistic else None
        loss = F.softplus((real_scores if real_scores is not None else 0) - fake_scores).mean()
        result = self._step(self._of_generator, self.network, loss, loss.new_zeros(()), batch.portion)
        self.discriminator.requires_grad_(True)
        return result

    def _discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """The relativistic pairing loss (Jolicoeur-Martineau 2018, arXiv 1807.00734), or arXiv 1406.2661, eq. 1."""
        if self._relativistic:
            return F.softplus(fake - real).mean()
        return F.softplus(-real).mean() + F.softplus(fake).mean()

    def _step(
        self, of_network: optimisers.Optimisers, network: nn.Module, loss: Tensor, penalty: Tensor, portion: Portion
    ) -> tuple[float, float]:
        """`loss` and `penalty` are means over the images of `portion`."""
        loss = self.team.mean(loss, portion)
        torch.autograd.backward(loss + self.team.mean(penalty, portion))
        norm = gradient_norm(network.parameters(), self.recipe.optimiser.clip_norm, self.team)
        if math.isfinite(norm):
            for optimiser in of_network:
                optimiser.step()
        network.zero_grad(set_to_none=True)
        return float(loss.detach()), norm

    def _generated(self, batch: Batch) -> Tensor:
        return self.network.generate(batch.noise(self.device, self.network.noise_shape), batch.condition)

    def _scores(self, images: Tensor, batch: Batch) -> Tensor:
        if self._augments:
            images = diff_augment(images, batch.generator, batch.portion)
        scores: Tensor = self.discriminator(images, batch.condition)
        return scores

    def fixed_losses(self, network: nn.Module, batches: Batches) -> FixedLosses | None:
        assert isinstance(network, Generator)
        held_out, training = batches.held_out(), batches.training_part()
        if len(held_out.images) < 2:
            return None
        samples = generated(network.eval(), held_out, _SAMPLES, self.device)
        distances = [self._distance(batch.images, samples) for batch in (held_out, training)]
        return FixedLosses((), (), (distances[1],), distances[0])

    def _distance(self, real: Tensor, samples: Tensor) -> float:
        """The energy distance; NaN if samples are not finite or there is only one real image."""
        if not bool(torch.isfinite(samples).all()) or len(real) < 2:
            return math.nan
        return energy_distance(features_of(self._features, real), features_of(self._features, samples))

    def baseline(self, batches: Batches) -> float | None:
        held_out = batches.held_out()
        if len(held_out.images) < 2:
            return None
        training = batches.training_images(_MOST_GAUSSIAN)
        return self._distance(held_out.images, gaussian_samples(training, _SAMPLES, held_out.generator))

    def diversity(self, network: nn.Module, batches: Batches) -> Diversity | None:
        assert isinstance(network, Generator)
        return measure_diversity(network.eval(), batches, self._features, self.device)

    def prepare_checkpoint(self, network: nn.Module, batches: Batches) -> None:
        """Nothing to do: a Generator stores only its weights."""

    def model(self, network: nn.Module, tokenizer: CaptionTokenizer | None, classes: Sequence[str]) -> OneCallModel:
        assert isinstance(network, Generator)
        return OneCallModel(
            None, network.eval(), tokenizer, classes, output=self.recipe.data.output, device=self.device
        )


def _squared_gradient(scores: Tensor, images: Tensor) -> Tensor:
    """E |grad_x D(x)|^2, differentiable."""
    (gradients,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
    return gradients.square().flatten(1).sum(dim=1).mean()


def gan_config(recipe: Recipe, classes: int, vocabulary: int) -> GanConfig:
    network = recipe.network
    return GanConfig(
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
        latent_size=network.latent,
    )
