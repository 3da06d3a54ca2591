"""Parameters and memory of a U-Net, by its recipe and in the real network."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from diffstudio.networks.conditioning import Conditioning
from diffstudio.networks.unet import PixelUNet
from diffstudio.training.network_sizes.recipe_size import memory_bytes, parameter_count, size_problem
from diffstudio.training.network_sizes.unet_size import unet_parameters
from diffstudio.training.objectives.unet import unet_config
from diffstudio.training.recipe import DataRecipe, NetworkRecipe, OptimiserRecipe, Recipe
from diffstudio.training.recipe.network_recipe import NetworkName
from diffstudio.training.recipe.optimiser_recipe import OptimiserName

SMALL = NetworkRecipe(
    kind=NetworkName.UNET, channels=(16, 24, 40), layers=1, attention=4, condition_width=24, text_tokens=5
)
BY_ADAM = OptimiserRecipe(name=OptimiserName.ADAMW)


@pytest.mark.parametrize("conditioning", list(Conditioning))
@pytest.mark.parametrize(
    ("data", "layers"), [(DataRecipe(size=16), 2), (DataRecipe(size=8, channels=1, augment_labels=False), 1)]
)
def test_as_many_parameters_as_the_network_has(conditioning: Conditioning, data: DataRecipe, layers: int) -> None:
    network = replace(SMALL, conditioning=conditioning, layers=layers)
    recipe = Recipe(data=data, network=network, optimiser=BY_ADAM)
    with torch.device("meta"):
        real = sum(one.numel() for one in PixelUNet(unet_config(recipe, classes=7, vocabulary=50)).parameters())
    assert unet_parameters(recipe, classes=7, vocabulary=50) == real
    assert parameter_count(recipe, classes=7, vocabulary=50) == real


def test_sides_must_halve_as_often_as_there_are_levels() -> None:
    recipe = Recipe(data=DataRecipe(size=20), network=SMALL, optimiser=BY_ADAM)
    assert size_problem(recipe) == "" and recipe.network.multiple == 4
    wrong = replace(recipe, data=DataRecipe(size=18))
    assert size_problem(wrong) == "The size of 18 px cannot be halved 2 times, as a U-Net of 3 levels needs."
    with pytest.raises(ValueError):
        unet_config(wrong, 0, 0)


@pytest.mark.parametrize("conditioning", [Conditioning.NONE, Conditioning.TEXT])
def test_the_memory_of_training_is_what_is_alive_in_the_real_network(conditioning: Conditioning) -> None:
    """Of two sizes, traced on the meta device: the weights cancel out."""
    from tests.models.memory.test_oom_fallback import _alive

    network = replace(SMALL, channels=(16, 32), attention=16, conditioning=conditioning)
    recipe = Recipe(network=network, optimiser=BY_ADAM)
    recipe = replace(recipe, run=replace(recipe.run, batch=2))
    measured, estimated = [], []
    for side in (16, 32):
        sized = replace(recipe, data=DataRecipe(size=side, augment_labels=False))
        config = replace(unet_config(sized, 0, 50), attention_side=side // 2)
        with torch.device("meta"):
            unet = PixelUNet(config)

            def step(unet: PixelUNet = unet, side: int = side) -> None:
                with torch.device("meta"):
                    unet(torch.empty(2, 3, side, side), torch.empty(2)).sum().backward()

            measured.append(_alive(step))
        estimated.append(memory_bytes(replace(sized, network=replace(network, attention=side // 2))))
    assert 0.75 < (measured[1] - measured[0]) / (estimated[1] - estimated[0]) < 1.3
