"""What a recipe needs, before anything is built."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from diffstudio.networks.conditioning import Conditioning
from diffstudio.networks.transformer import PixelTransformer
from diffstudio.training.network_sizes.recipe_size import memory_bytes, parameter_count, size_problem
from diffstudio.training.objectives.diffusion import network_config
from diffstudio.training.recipe import DataRecipe, NetworkRecipe, Recipe
from diffstudio.training.recipe_choice import named_recipes

TINY = NetworkRecipe(patch=4, margin=1, bottleneck=12, width=32, depth=2, heads=2, condition_width=24, text_tokens=5)


@pytest.mark.parametrize("conditioning", list(Conditioning))
@pytest.mark.parametrize("data", [DataRecipe(size=16), DataRecipe(size=24, channels=1, augment_labels=False)])
def test_as_many_parameters_as_the_network_has(conditioning: Conditioning, data: DataRecipe) -> None:
    recipe = Recipe(data=data, network=replace(TINY, conditioning=conditioning))
    with torch.device("meta"):
        network = PixelTransformer(network_config(recipe, classes=7, vocabulary=50))
    real = sum(parameter.numel() for parameter in network.parameters())
    assert parameter_count(recipe, classes=7, vocabulary=50) == real


def test_sizes_that_do_not_go_together_are_named() -> None:
    assert [size_problem(recipe) for recipe in named_recipes().values()] == [""] * len(named_recipes())
    assert "not a multiple of the patch of 8 px" in size_problem(Recipe(data=DataRecipe(size=60)))
    assert "3 heads" in size_problem(Recipe(network=replace(TINY, heads=3)))
    for recipe in (Recipe(data=DataRecipe(size=60)), Recipe(network=replace(TINY, heads=3))):
        with pytest.raises(ValueError):
            network_config(recipe, 0, 0)


def test_memory_grows_with_batch_size_and_network() -> None:
    recipe = Recipe()
    twice = replace(recipe, run=replace(recipe.run, batch=2 * recipe.run.batch))
    larger = replace(recipe, data=replace(recipe.data, size=128))
    assert memory_bytes(recipe) < memory_bytes(twice) < memory_bytes(larger)
