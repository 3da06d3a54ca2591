"""The GAN as an objective: its losses and penalties in closed form, and what it learns of bars."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffstudio.networks.conditioning import Conditioning
from diffstudio.networks.transformer import Condition
from diffstudio.training.data.batches import Batches
from diffstudio.training.objectives.gan import GanObjective
from diffstudio.training.recipe.objective_recipe import GanLossName
from tests.training.objectives.small import CPU, dataset, recipe, trained


class Plane(nn.Module):
    """D(x) = w . x, whose gradient is w everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.linspace(-1, 1, 64))

    def forward(self, images: Tensor, condition: Condition) -> Tensor:
        return images.flatten(1) @ self.w


def with_plane(loss: GanLossName, **changes: object) -> tuple[GanObjective, Batches]:
    of = recipe("gan", gan_loss=loss, diff_augment="off", **changes)
    torch.manual_seed(0)
    objective = GanObjective(of, classes=2, vocabulary=0, device=CPU)
    objective.discriminator = Plane()  # type: ignore[assignment]
    objective._of_discriminator = []
    return objective, Batches(dataset(), of, None)


@pytest.mark.parametrize("loss", list(GanLossName))
def test_losses_and_penalties_in_closed_form(loss: GanLossName) -> None:
    objective, batches = with_plane(loss, gamma=3.0)
    batch, plane = batches.at(0), objective.discriminator
    with torch.no_grad():
        fake = plane(objective._generated(batches.at(0)), Condition())
        real = plane(batch.images, Condition())
    relativistic = loss is GanLossName.R3GAN
    gamma = objective.gamma(0.0)
    assert gamma == (3.0 if relativistic else 0.0)
    gradients = list[Tensor]()
    plane.w.register_hook(gradients.append)  # type: ignore[union-attr,operator]
    found, _ = objective._update_discriminator(batch, gamma)
    expected = F.softplus(fake - real).mean() if relativistic else F.softplus(-real).mean() + F.softplus(fake).mean()
    assert found == pytest.approx(float(expected), rel=1e-5)
    # d/dw of gamma / 2 (|w|^2 + |w|^2) is 2 gamma w, beside that of the loss
    again, batches = with_plane(loss, gamma=3.0)
    without = list[Tensor]()
    again.discriminator.w.register_hook(without.append)  # type: ignore[union-attr,operator]
    again._update_discriminator(batches.at(0), 0.0)
    torch.testing.assert_close(
        sum(gradients) - sum(without), 2 * gamma * torch.linspace(-1, 1, 64), rtol=1e-4, atol=1e-5
    )
    generator_loss, norm = objective._update_generator(batches.at(1))
    assert math.isfinite(generator_loss) and norm > 0


def test_gamma_falls_along_a_cosine() -> None:
    objective, _ = with_plane(GanLossName.R3GAN, gamma=2.0, gamma_end=0.5)
    assert [round(objective.gamma(share), 6) for share in (0, 0.5, 1, 1.5)] == [2.0, 1.25, 0.5, 0.5]


def test_it_comes_close_to_the_images_and_covers_them() -> None:
    trainer, batches = trained(recipe("gan", gamma=0.5, diff_augment="off"), dataset(), 200)
    found, baseline = trainer.fixed_losses(batches), trainer.objective.baseline(batches)
    assert found is not None and baseline is not None and found == trainer.fixed_losses(batches)
    begun, _ = trained(recipe("gan"), dataset(), 0)
    first = begun.fixed_losses(batches)
    assert first is not None and found.loss < 0.5 * first.loss
    diversity = trainer.objective.diversity(trainer.ema_network, batches)
    assert diversity is not None and diversity.within is not None and diversity.within > 0.3
    update = trainer.step(batches.at(200))
    assert update.generator_loss is not None and math.isfinite(update.generator_loss)


def test_augmented_images_are_what_the_discriminator_sees() -> None:
    of = recipe("gan", diff_augment="on")
    torch.manual_seed(0)
    objective = GanObjective(of, classes=2, vocabulary=0, device=CPU)
    seen = list[Tensor]()

    def discriminator(images: Tensor, condition: Condition) -> Tensor:
        seen.append(images)
        return images.flatten(1).mean(dim=1)

    objective.discriminator.forward = discriminator  # type: ignore[method-assign]
    batch = Batches(dataset(), of, None).at(0)
    objective._scores(batch.images, batch)
    assert seen[0].shape == batch.images.shape and not torch.equal(seen[0], batch.images)


def test_without_held_out_images_and_with_broken_weights_nothing_is_measured() -> None:
    trainer, batches = trained(recipe("gan", Conditioning.NONE), dataset(count=12, held_out=0, classes=1), 1)
    assert trainer.fixed_losses(batches) is None is trainer.objective.baseline(batches)
    trainer, batches = trained(recipe("gan", Conditioning.NONE), dataset(count=60, held_out=30, classes=1), 1)
    with torch.no_grad():
        trainer.average.module.basis.fill_(math.inf)
    found = trainer.fixed_losses(batches)
    assert found is not None and math.isnan(found.loss)
    assert trainer.objective.diversity(trainer.ema_network, batches) is None


def test_lazy_penalties_come_in_one_of_so_many_steps_with_as_much_weight() -> None:
    objective, batches = with_plane(GanLossName.R3GAN, gamma=2.0, penalty_every=4)
    weights = [objective._penalty_weight(batches.at(step), 0.0) for step in range(400)]
    assert set(weights) == {0.0, 8.0} and sum(weights) / len(weights) == pytest.approx(2.0, rel=0.3)
    assert weights == [objective._penalty_weight(batches.at(step), 0.0) for step in range(400)]  # as after a resume
    usual, batches = with_plane(GanLossName.R3GAN, gamma=2.0)
    batch = batches.at(0)
    assert usual._penalty_weight(batch, 0.0) == 2.0
    assert torch.equal(batch.generator.get_state(), batches.at(0).generator.get_state())  # draws nothing: as before
