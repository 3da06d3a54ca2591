from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from diffstudio.diffusion.losses import EDMWeighting, MinSNR, VelocityWeighting, VWeighting
from diffstudio.diffusion.objectives.parameterisation import Prediction
from diffstudio.models.families.pixel import PixelModel
from diffstudio.models.sampling import SampleOptions, sample
from diffstudio.networks.conditioning import Conditioning
from diffstudio.training.data.batches import Batches
from diffstudio.training.objectives.diffusion import DiffusionObjective, weighting
from diffstudio.training.recipe import ObjectiveRecipe, Recipe
from diffstudio.training.recipe.objective_recipe import NoiseLevelsName, WeightingName
from diffstudio.training.trainer import Trainer
from tests.training.objectives.small import CPU, dataset, recipe, trained

IMAGES = dataset()
PREDICTIONS = pytest.mark.parametrize("prediction", Prediction)


def small(steps: int = 40, **objective: object) -> Recipe:
    of = recipe("diffusion", Conditioning.NONE, steps, **objective)
    return replace(of, network=replace(of.network, heads=2, margin=0, bottleneck=16, width=32))


def diffusion(trainer: Trainer) -> DiffusionObjective:
    assert isinstance(trainer.objective, DiffusionObjective)
    return trainer.objective


@PREDICTIONS
@pytest.mark.parametrize("learned_variance", [False, True])
def test_every_objective_learns_and_generates(prediction: Prediction, learned_variance: bool) -> None:
    """The held-out loss is that of the velocity for all, so that they can be compared.

    A clean image from noise is an eps prediction's error multiplied by sigma / alpha, which takes longest to learn.
    """
    trainer, batches = trained(small(60, prediction=prediction, learned_variance=learned_variance), IMAGES, 0)
    losses = trainer.objective.fixed_losses(trainer.network, batches)
    assert losses is not None
    before = losses.loss
    for step in range(60):
        trainer.step(batches.at(step))
    losses = trainer.objective.fixed_losses(trainer.network, batches)
    assert losses is not None and losses.loss < 0.7 * before and losses.loss < 0.9
    assert len(losses.learned) == len(losses.learned_levels) == 31 * learned_variance
    model = trainer.objective.model(trainer.network, None, ())
    assert isinstance(model, PixelModel) and model.parameterisation.prediction is prediction
    for sampler in ("heun", "dpmpp_2m"):
        options = SampleOptions(width=8, height=8, seeds=[0, 1], steps=6, sampler=sampler, guidance=1.0)
        last = list(sample(model, model.encode_prompt("", count=2), options))[-1].x
        assert bool(torch.isfinite(last).all()) and float(last.abs().max()) < (
            30 if prediction is Prediction.EPS else 3
        )


def test_the_learned_variance_follows_the_loss_of_training() -> None:
    """Its loss at each level, of the velocity like the others, agrees with the measured one within a third."""
    trainer, batches = trained(small(steps=150, prediction=Prediction.V, learned_variance=True), IMAGES, 150)
    losses = trainer.objective.fixed_losses(trainer.network, batches)
    assert losses is not None
    for level, measured in zip(losses.levels, losses.training, strict=True):
        learned = min(zip(losses.learned_levels, losses.learned, strict=True), key=lambda one: abs(one[0] - level))[1]
        assert 0.66 * measured < learned < 1.5 * measured


@pytest.mark.parametrize("kind", ["x0", "edm", "adaptive"])
def test_resumes_to_the_bit(kind: str) -> None:
    """Adaptive noise levels begin after a tenth of the run: all steps but the first draw from what they have seen."""
    values = small(6).to_json()
    values["objective"] = {"noise_levels": "adaptive"} if kind == "adaptive" else {"kind": kind}
    of = Recipe.from_json(values)
    straight, batches = trained(of, IMAGES, 6)
    first, _ = trained(of, IMAGES, 3)
    assert ("others" in first.state()) is (kind != "x0")
    resumed = Trainer(of, classes=2, vocabulary=0, device=CPU)
    resumed.restore(first.state())
    for step in range(3, 6):
        resumed.step(batches.at(step))
    for mine, theirs in zip(
        [*straight.network.parameters(), *(p for one in straight.objective.others.values() for p in one.parameters())],
        [*resumed.network.parameters(), *(p for one in resumed.objective.others.values() for p in one.parameters())],
        strict=True,
    ):
        assert torch.equal(mine, theirs)


def test_a_bad_batch_is_skipped() -> None:
    trainer, batches = trained(small(learned_variance=True), IMAGES, 2)
    before = [parameter.clone() for parameter in trainer.network.parameters()]
    batch = batches.at(2)
    update = trainer.objective.update(replace(batch, images=batch.images * float("nan")), 0.0)
    assert not torch.isfinite(torch.tensor(update.gradient_norm))
    assert all(torch.equal(one, other) for one, other in zip(before, trainer.network.parameters(), strict=True))


def test_the_usual_weighting_of_each_prediction() -> None:
    floor = ObjectiveRecipe().sigma_floor
    assert {prediction: weighting(ObjectiveRecipe(prediction=prediction)) for prediction in Prediction} == {
        Prediction.X0: VelocityWeighting(floor),
        Prediction.VELOCITY: VelocityWeighting(floor),
        Prediction.EPS: MinSNR(float("inf")),
        Prediction.V: VWeighting(floor),
        Prediction.EDM: EDMWeighting(0.5),
    }


@pytest.mark.parametrize("name", WeightingName)
def test_every_weighting_trains(name: WeightingName) -> None:
    trainer, batches = trained(small(weighting=name), IMAGES, 0)
    t = torch.tensor([0.2, 0.6])
    weights = weighting(trainer.recipe.objective)(diffusion(trainer).schedule, t)
    assert bool((weights > 0).all())
    losses = [trainer.step(batches.at(step)).loss for step in range(40)]
    assert sum(losses[-5:]) < sum(losses[:5])


def test_the_default_is_the_loss_of_the_velocity_of_a_clean_image() -> None:
    """And nothing is learned beside the network, so that a state has the same entries as before."""
    of = small()
    trainer = Trainer(of, classes=2, vocabulary=0, device=CPU)
    batch = Batches(IMAGES, of, None).at(0)
    generator = torch.Generator().set_state(batch.generator.get_state())
    t = (0.6 + 0.9 * torch.randn(32, generator=generator)).sigmoid()[:, None, None, None]
    x_t = (1 - t) * batch.images + t * torch.randn(batch.images.shape, generator=generator)
    with torch.no_grad():
        error = trainer.network(x_t, t.flatten(), batch.condition) - batch.images
        expected = (error / t.clamp(min=0.05)).square().mean()
    assert trainer.step(batch).loss == pytest.approx(float(expected), rel=1e-5)
    assert "others" not in trainer.state() and len(trainer.objective.optimisers) == 1


def test_adaptive_noise_levels_are_measured_where_the_fixed_ones_are() -> None:
    """So that the held-out losses of both can be compared; until they adapt, both runs are the same to the bit."""
    of = small(60, noise_levels=NoiseLevelsName.ADAPTIVE)
    fixed, batches = trained(small(60), IMAGES, 5)
    adaptive, _ = trained(of, IMAGES, 5)
    losses = [one.objective.fixed_losses(one.network, batches) for one in (fixed, adaptive)]
    assert losses[0] is not None and losses[1] is not None
    assert losses[0].levels == losses[1].levels and losses[0].held_out == losses[1].held_out
    assert losses[1].drawn == () and len(losses[1].learned) == len(losses[1].learned_levels) > 10
    for step in range(5, 60):
        adaptive.step(batches.at(step))
    after = adaptive.objective.fixed_losses(adaptive.network, batches)
    assert after is not None and after.loss < 0.7 * losses[1].loss
    assert len(after.drawn) == len(after.learned_levels) > 20


def test_dropout_is_of_training_alone_and_repeats() -> None:
    """A resumed run draws the same; checkpoints, losses and images are of the whole network."""
    of = small(6)
    dropped = replace(of, network=replace(of.network, dropout=0.3))
    straight, batches = trained(dropped, IMAGES, 6)
    first, _ = trained(dropped, IMAGES, 3)
    plain, _ = trained(of, IMAGES, 6)
    resumed = Trainer(dropped, classes=2, vocabulary=0, device=CPU)
    resumed.restore(first.state())
    for step in range(3, 6):
        resumed.step(batches.at(step))
    weights = [list(one.network.parameters()) for one in (straight, resumed, plain)]
    assert all(torch.equal(one, other) for one, other in zip(weights[0], weights[1], strict=True))
    assert not all(torch.equal(one, other) for one, other in zip(weights[0], weights[2], strict=True))
    losses = [straight.objective.fixed_losses(straight.network, batches) for _ in range(2)]
    assert losses[0] == losses[1]
    without = Trainer(of, classes=2, vocabulary=0, device=CPU)
    without.restore(straight.state())
    assert without.objective.fixed_losses(without.network, batches) == losses[0]
