"""The VAE as an objective: its variance, free bits, warm-up, and what it learns of bars."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from diffstudio.networks.autoencoder import Autoencoder
from diffstudio.networks.conditioning import Conditioning
from diffstudio.training.data.batches import Batches
from diffstudio.training.objectives.autoencoder import AutoencoderObjective
from diffstudio.training.trainer import Trainer
from tests.training.objectives.small import CPU, dataset, recipe, trained


@pytest.fixture(scope="module")
def learnt() -> tuple[Trainer, Batches]:
    return trained(recipe("vae"), dataset(), 200)


def test_it_needs_fewer_bits_than_a_gaussian_model_and_says_so_in_each_measure(learnt: tuple[Trainer, Batches]) -> None:
    trainer, batches = learnt
    found, baseline = trainer.fixed_losses(batches), trainer.objective.baseline(batches)
    assert found is not None and baseline is not None
    assert found.loss < 0.95 * baseline and found.levels == () == found.held_out
    assert found == trainer.fixed_losses(batches)  # the same noise every time
    assert 0 < found.training_loss < 8
    diversity = trainer.objective.diversity(trainer.ema_network, batches)
    assert (
        diversity is not None and diversity.coverage > 0.5 and diversity.within is not None and diversity.within > 0.4
    )


def test_the_variance_is_that_of_the_errors_and_goes_with_the_ema_weights(learnt: tuple[Trainer, Batches]) -> None:
    trainer, batches = learnt
    network = trainer.ema_network
    assert isinstance(network, Autoencoder) and isinstance(trainer.network, Autoencoder)
    assert torch.equal(network.variance, trainer.network.variance)
    batch = batches.training_part()
    error = (network.eval()(batch.images, batch.condition) - batch.images).detach().square().mean()
    assert float(error) < float(network.variance) < 4 * float(error)  # that of sampled latents is larger


def test_checkpoints_have_the_directions_in_which_latents_vary(learnt: tuple[Trainer, Batches]) -> None:
    trainer, batches = learnt
    trainer.objective.prepare_checkpoint(trainer.ema_network, batches)
    network = trainer.ema_network
    assert isinstance(network, Autoencoder)
    deviations = network.latent_deviations
    assert bool((deviations[:-1] >= deviations[1:]).all()) and float(deviations[0]) > 0.3
    gram = network.latent_directions @ network.latent_directions.T
    torch.testing.assert_close(gram, torch.eye(len(gram)), rtol=0, atol=1e-4)


def test_free_bits_leave_cheap_latents_alone_and_the_warm_up_begins_without_the_kl() -> None:
    def gradient(share: float, **changes: float) -> float:
        """How hard the encoder's last layer is pushed by the KL divergence."""
        of = recipe("vae", **changes)
        torch.manual_seed(0)
        objective = AutoencoderObjective(of, classes=2, vocabulary=0, device=CPU)
        batch = Batches(dataset(), of, None).at(0)
        with torch.no_grad():  # a decoder that ignores the latents leaves the KL alone
            objective.network.decoder.conv_in.weight.zero_()
        _, loss = objective._losses(batch, share)
        torch.autograd.backward(loss)
        found = objective.network.encoder.conv_out.weight.grad
        assert found is not None
        return float(found.norm())

    assert gradient(1.0, free_bits=0.0) > 1e-4
    assert gradient(0.0, free_bits=0.0) == 0 == gradient(1.0, free_bits=50.0)
    assert gradient(0.0, free_bits=0.0, kl_warm_up=0.0) == gradient(1.0, free_bits=0.0)


def test_without_held_out_images_nothing_is_measured() -> None:
    of = recipe("vae", Conditioning.NONE)
    images = dataset(count=12, held_out=0, classes=1)
    trainer, batches = trained(of, images, 1)
    objective = trainer.objective
    assert objective.fixed_losses(trainer.ema_network, batches) is None is objective.baseline(batches)
    assert objective.diversity(trainer.ema_network, batches) is None


def test_a_run_that_is_continued_has_its_whole_kl_at_once() -> None:
    continued = replace(recipe("vae"), run=replace(recipe("vae").run, first_step=50, steps=100))
    trainer = Trainer(continued, classes=2, vocabulary=0, device=CPU)
    trainer.step_number = 50
    assert trainer._share() == 1
    fresh = Trainer(recipe("vae"), classes=2, vocabulary=0, device=CPU)
    fresh.step_number = 50
    assert fresh._share() == 0.25


def test_several_draws_are_the_mean_over_the_noise_levels_of_each_latent() -> None:
    def loss(draws: int, generator: torch.Generator) -> float:
        of = recipe("vae", prior_draws=draws)
        torch.manual_seed(0)
        objective = AutoencoderObjective(of, classes=2, vocabulary=0, device=CPU)
        batch = replace(Batches(dataset(), of, None).at(0), generator=generator)
        torch.manual_seed(1)
        z, c = torch.randn(len(batch.images), 16), torch.randn(len(batch.images), 16)
        return float(objective._prior_loss(z, c, batch).detach())

    same = torch.Generator().manual_seed(3)
    one_by_one = [loss(1, same) for _ in range(3)]
    assert loss(3, torch.Generator().manual_seed(3)) == pytest.approx(sum(one_by_one) / 3, rel=1e-5)
