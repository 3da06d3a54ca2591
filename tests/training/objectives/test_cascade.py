"""Both levels are trained in one run: the upper one by what it reads, and the base as it would be alone."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from diffstudio.errors import RunProblem
from diffstudio.networks.cascade import CascadedTransformer, reduced
from diffstudio.networks.conditioning import Conditioning
from diffstudio.networks.transformer import Condition
from diffstudio.training.data.batches import Batches
from diffstudio.training.data.dataset import ImageDataset
from diffstudio.training.distributed.team import Processes
from diffstudio.training.network_sizes.recipe_size import memory_bytes, parameter_count, size_problem
from diffstudio.training.objectives.cascade import UpperLoss, upper_config
from diffstudio.training.objectives.diffusion import DiffusionObjective
from diffstudio.training.recipe import DataRecipe, NetworkRecipe, OptimiserRecipe, Recipe, RunRecipe, UpperRecipe
from diffstudio.training.recipe.optimiser_recipe import OptimiserName
from diffstudio.training.trainer import Trainer
from tests.training.distributed.threads import together

CPU = torch.device("cpu")
SIZES = {"patch": 4, "margin": 2, "bottleneck": 16, "width": 32, "depth": 2, "heads": 2, "condition_width": 32}


def bars(count: int = 96, held_out: int = 32, side: int = 16) -> ImageDataset:
    """Grey images of a bright bar at a place, with an angle: sharp at 16 px, not at 8."""
    rng = np.random.default_rng(0)
    across, down = np.meshgrid(np.arange(side), np.arange(side))
    pixels = np.empty((count, side, side, 1))
    for image in pixels:
        angle, place = rng.uniform(0, np.pi), rng.uniform(-4, 4)
        distance = np.cos(angle) * (across - side / 2) + np.sin(angle) * (down - side / 2) - place
        image[..., 0] = np.where(np.abs(distance) < 1.5, 230, 30)
    return ImageDataset(
        pixels.astype(np.uint8),
        ("",) * count,
        ("",),
        np.zeros(count, dtype=np.int64),
        np.arange(count) < held_out,
        tuple(Path(f"{index}.png") for index in range(count)),
        (),
        Path("none"),
        np.full((count, 2), side),
    )


def recipe(factor: int = 2, **run: object) -> Recipe:
    return Recipe(
        data=DataRecipe(size=8, channels=1, bits=8, fit="crop", flips=0.0, augment_labels=False),
        network=NetworkRecipe(conditioning=Conditioning.NONE, **SIZES | {"patch": 2, "margin": 1}),  # type: ignore[arg-type]
        upper=UpperRecipe(factor=factor, **SIZES),  # type: ignore[arg-type]
        optimiser=OptimiserRecipe(
            warm_up_steps=5, ema=0.95, muon_dtype="float32", muon_learning_rate=0.02, learning_rate=3e-3
        ),
        run=RunRecipe(**{"batch": 16, "steps": 120, "dtype": "float32", "device": "cpu", "threads": 1} | run),  # type: ignore[arg-type]
    )


def trainer_of(recipe: Recipe) -> tuple[Trainer, Batches]:
    return Trainer(recipe, classes=0, vocabulary=0, device=CPU), Batches(bars(), recipe, None)


def weights(trainer: Trainer) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in trainer.network.state_dict().items()}


def test_the_base_learns_what_it_would_learn_alone() -> None:
    """To the bit, and no other random numbers are drawn for it."""
    both, batches = trainer_of(recipe())
    alone, _ = trainer_of(recipe(factor=0))
    for step in range(3):
        of_both = both.step(batches.at(step))
        of_base = alone.step(replace(batches.at(step), larger=None))
        assert (of_both.loss, of_both.gradient_norm) == (of_base.loss, of_base.gradient_norm)
        assert of_both.upper_loss is not None and of_base.upper_loss is None
    assert all(torch.equal(weights(both)[name], value) for name, value in weights(alone).items())
    assert any(name.startswith("upper.") for name in weights(both))


def test_a_batch_has_its_images_at_both_sizes() -> None:
    _, batches = trainer_of(recipe())
    for batch in (batches.at(0), batches.held_out(), batches.training_part()):
        assert batch.larger is not None and batch.larger.images.shape[-2:] == (16, 16)
        assert torch.equal(batch.images, reduced(batch.larger.images, 2))
    assert batches.training_images(5).shape == (5, 1, 8, 8)
    assert Batches(bars(), recipe(factor=0), None).at(0).larger is None


class Blind(torch.nn.Module):
    """The upper level with zeros in place of the image that it reads."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        low = condition.low
        assert low is not None
        predicted: Tensor = self.network(x_t, t, condition._replace(low=torch.zeros_like(low)))
        return predicted


def test_the_upper_level_learns_and_needs_the_image_that_it_reads() -> None:
    trainer, batches = trainer_of(recipe())
    before = trainer.fixed_losses(batches)
    for step in range(80):
        trainer.step(batches.at(step))
    after = trainer.fixed_losses(batches)
    assert before is not None and after is not None and before.upper is not None and after.upper is not None
    assert after.upper < 0.8 * before.upper
    objective = trainer.objective
    assert isinstance(objective, DiffusionObjective) and isinstance(objective._upper, UpperLoss)
    blind = objective._upper.held_out_loss(Blind(trainer.ema_network.eval()), batches)
    assert blind is not None and blind > 2 * after.upper
    nothing_held_out = Batches(bars(held_out=0), recipe(), None)
    assert objective._upper.held_out_loss(trainer.ema_network, nothing_held_out) is None


def test_a_state_goes_on_to_the_bit() -> None:
    first, batches = trainer_of(recipe())
    for step in range(2):
        first.step(batches.at(step))
    second, _ = trainer_of(recipe())
    second.restore(copy.deepcopy(first.state()))
    for step in range(2, 4):
        first.step(batches.at(step))
        second.step(batches.at(step))
    assert all(torch.equal(weights(second)[name], value) for name, value in weights(first).items())
    theirs = second.ema_network.state_dict()
    assert all(torch.equal(theirs[name], value) for name, value in first.ema_network.state_dict().items())


def test_muon_gets_the_blocks_of_both_levels() -> None:
    trainer, _ = trainer_of(recipe())
    network = trainer.network
    assert isinstance(network, CascadedTransformer)
    muon = {id(parameter) for parameter in trainer.objective.optimisers[0].param_groups[0]["params"]}
    for blocks in (network.blocks, network.upper.blocks):
        assert all(id(block.attn.qkv.weight) in muon and id(block.mlp.w3.weight) in muon for block in blocks)
    assert id(network.upper.patch_embed.proj1.weight) not in muon


def test_two_processes_do_what_one_does() -> None:
    plain = replace(recipe(), optimiser=replace(recipe().optimiser, name=OptimiserName.SGD, learning_rate=0.01))
    alone, batches = trainer_of(plain)
    losses = [alone.step(batches.at(step)) for step in range(3)]

    trainers = [trainer_of(plain) for _ in range(2)]  # whose weights are drawn from the one global generator

    def member(team: Processes) -> tuple[list[float | None], dict[str, Tensor]]:
        trainer, own = trainers[team.rank]
        trainer.join(team)
        own.team = team
        return [trainer.step(own.at(step)).upper_loss for step in range(3)], weights(trainer)

    for found, theirs in together(2, member):
        assert found == pytest.approx([each.upper_loss for each in losses], abs=1e-5)
        for name, value in weights(alone).items():
            torch.testing.assert_close(theirs[name], value, rtol=0, atol=1e-5)


def test_parameters_memory_and_sizes_count_both_levels() -> None:
    for augment_labels in (True, False):
        whole = replace(recipe(), data=replace(recipe().data, augment_labels=augment_labels))
        trainer, _ = trainer_of(whole)
        assert parameter_count(whole) == sum(one.numel() for one in trainer.network.parameters())
    assert memory_bytes(recipe(factor=0)) < memory_bytes(recipe()) < memory_bytes(recipe(factor=4))
    assert upper_config(recipe(factor=0)) is None
    assert size_problem(recipe()) == ""
    assert "16 px of the upper level" in size_problem(replace(recipe(), upper=replace(recipe().upper, patch=5)))
    assert "3 heads" in size_problem(replace(recipe(), upper=replace(recipe().upper, heads=3)))


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"upper": {"factor": 3}}, "it must be one of 0, 2, 4"),
        ({"upper": {"factor": 2}, "data": {"fit": "bucket"}}, "aspect buckets are not possible"),
        ({"upper": {"factor": 4}, "data": {"size": 1024}}, "4096 px, and the limit is 2048 px"),
        (
            {"upper": {"factor": 2, "noise": 0.1, "sample_noise": 0.2}},
            "must not exceed recipe.upper.noise, which is 0.1",
        ),
        (
            {"upper": {"factor": 2}, "objective": {"kind": "gan"}, "optimiser": {"name": "adam"}},
            "a GAN has no upper level",
        ),
    ],
)
def test_what_cannot_be_combined_is_refused(values: dict[str, dict[str, object]], why: str) -> None:
    with pytest.raises(RunProblem, match=why):
        Recipe.from_json(values)
    assert Recipe.from_json({"upper": {"factor": 0}, "data": {"fit": "bucket"}}).prepared.size == 64
