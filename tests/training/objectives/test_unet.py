"""A U-Net is trained as the transformer is: the same objective, and every random number from the run's seed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from diffstudio.networks.conditioning import Conditioning
from diffstudio.networks.transformer import Condition
from diffstudio.networks.unet import PixelUNet
from diffstudio.training.data.batches import Batch
from diffstudio.training.distributed.portion import Portion
from diffstudio.training.loop import train
from diffstudio.training.objectives.unet import seeded_dropout, unet_config
from diffstudio.training.recipe import OptimiserRecipe, Recipe
from diffstudio.training.recipe.network_recipe import NetworkName
from diffstudio.training.recipe.optimiser_recipe import OptimiserName
from diffstudio.training.run.events import RunFinished, RunHeldOut
from diffstudio.training.run.run_folder import Command, RunFolder
from diffstudio.training.trainer import Trainer
from tests.training.test_loop import assert_same, at_step


@pytest.fixture
def unet(recipe: Recipe) -> Recipe:
    network = replace(recipe.network, kind=NetworkName.UNET, channels=(8, 16), layers=1, attention=8)
    return replace(recipe, network=network, optimiser=OptimiserRecipe(OptimiserName.ADAMW, warm_up_steps=5, ema=0.9))


def batch(step: int = 0, portion: Portion | None = None) -> Batch:
    images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(step)) * 2 - 1
    condition = Condition(torch.tensor([[1, 2, 0, 0, 0, 0]] * 4), None, torch.zeros(4, 6))
    return Batch(images, condition, torch.Generator().manual_seed(step), None, portion)


def trained(recipe: Recipe, steps: int = 2) -> tuple[list[float], Trainer]:
    trainer = Trainer(recipe, classes=0, vocabulary=300, device=torch.device("cpu"))
    return [trainer.step(batch(step)).loss for step in range(steps)], trainer


def test_the_config_is_that_of_the_recipe(unet: Recipe) -> None:
    config = unet_config(replace(unet, network=replace(unet.network, dropout=0.1)), classes=2, vocabulary=300)
    assert (config.image_size, config.block_out_channels, config.layers_per_block) == (16, (8, 16), 1)
    assert (config.attention_side, config.dropout, config.cond_dim, config.augment_dim) == (8, 0.1, 32, 6)
    assert (config.conditioning, config.num_classes, config.vocab_size) == (Conditioning.TEXT, 2, 300)


def test_the_first_loss_is_that_of_a_grey_image_for_both_networks(unet: Recipe, recipe: Recipe) -> None:
    """New networks predict 0, so the first loss depends on the objective alone."""
    assert trained(unet, 1)[0] == trained(recipe, 1)[0]


def test_dropout_repeats_with_the_batch_and_leaves_the_global_generator_alone(unet: Recipe) -> None:
    with_dropout = replace(unet, network=replace(unet.network, dropout=0.5))
    losses, trainer = trained(with_dropout, 4)
    before = torch.get_rng_state()
    again, other = trained(with_dropout, 4)
    assert losses == again and torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(trainer.network.parameters(), other.network.parameters(), strict=True))
    assert losses != trained(unet, 4)[0]


def test_processes_drop_values_of_their_own(unet: Recipe) -> None:
    network, device = replace(unet.network, dropout=0.5), torch.device("cpu")
    drawn = []
    for portion in (Portion(0, 4, 8), Portion(4, 4, 8)):
        with seeded_dropout(network, batch(0, portion), device):
            drawn.append(torch.rand(4))
    assert not torch.equal(drawn[0], drawn[1])


def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one(folder: Path, unet: Recipe, tmp_path: Path) -> None:
    unet = replace(unet, network=replace(unet.network, dropout=0.2))
    unet.write(tmp_path / "recipe.toml")
    recipe, path = str(tmp_path / "recipe.toml"), tmp_path / "halves"
    whole = train(tmp_path / "whole", folder, recipe=recipe)
    halves = train(path, folder, recipe=recipe, on_event=at_step(4, lambda: RunFolder(path).send(Command.STOP)))
    train(path, resume=True)
    events = halves.events()[0]
    assert isinstance(events[-1], RunFinished)
    assert_same(whole, halves)
    losses = [event.loss for event in events if isinstance(event, RunHeldOut)]
    assert losses[-1] < losses[0]


def test_the_ema_and_the_raw_network_are_unets(unet: Recipe) -> None:
    trainer = trained(unet, 1)[1]
    assert isinstance(trainer.network, PixelUNet) and isinstance(trainer.ema_network, PixelUNet)
    assert trainer.network.config == unet_config(unet, 0, 300)
