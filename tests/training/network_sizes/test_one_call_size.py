"""Sizes of VAEs and GANs: those that suit a folder, and as many parameters as the networks have."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from diffstudio.networks.autoencoder import Autoencoder
from diffstudio.networks.conditioning import Conditioning
from diffstudio.networks.gan import Generator
from diffstudio.training.data.folder_report import FolderReport, ImageRecord
from diffstudio.training.network_sizes.recipe_size import memory_bytes, parameter_count, size_problem
from diffstudio.training.objectives.autoencoder import autoencoder_config
from diffstudio.training.objectives.gan import gan_config
from diffstudio.training.recipe_choice import choose_recipe, named_recipes


def report(side: int, count: int) -> FolderReport:
    images = tuple(ImageRecord(Path(f"{index}.png"), side, side, (), "", False) for index in range(count))
    return FolderReport(Path("p"), images, groups={"": count})


@pytest.mark.parametrize("conditioning", list(Conditioning))
@pytest.mark.parametrize(("name", "stem"), [("vae", 1), ("vae", 2), ("gan", 1), ("gan", 2)])
def test_as_many_parameters_as_the_network_has(name: str, stem: int, conditioning: Conditioning) -> None:
    recipe = named_recipes()[name]
    network_recipe = replace(recipe.network, conditioning=conditioning, depth=2, patch=4, stem=stem)
    recipe = replace(recipe, network=replace(network_recipe, latent_grid=stem // 2))
    with torch.device("meta"):
        network = (
            Autoencoder(autoencoder_config(recipe, 7, 50)) if name == "vae" else Generator(gan_config(recipe, 7, 50))
        )
    real = sum(parameter.numel() for parameter in network.parameters())
    assert parameter_count(recipe, classes=7, vocabulary=50) == real
    larger = replace(recipe, run=replace(recipe.run, batch=2 * recipe.run.batch))
    assert memory_bytes(recipe) < memory_bytes(larger)


@pytest.mark.parametrize(
    ("side", "count", "accelerator", "size", "grid"),
    [(16, 100, False, 16, 4), (20, 100, False, 32, 4), (500, 100, False, 32, 4), (500, 3000, True, 64, 4)],
)
def test_as_large_as_the_images_are_up_to_what_the_machine_trains(
    side: int, count: int, accelerator: bool, size: int, grid: int
) -> None:
    for name in ("vae", "gan"):
        choice = choose_recipe(name, report(side, count), accelerator=accelerator)
        recipe = choice.recipe
        assert recipe.data.size == size and recipe.data.size // recipe.network.patch == grid
        assert f"{size} px" in choice.why and size_problem(recipe) == ""
        wider = accelerator or (name == "gan" and size == 16)
        assert recipe.network.width == named_recipes()[name].network.width * (2 if wider else 1)
    tiny = choose_recipe("tiny", report(side, count), accelerator=accelerator).recipe
    assert tiny.data.size == named_recipes()["tiny"].data.size


def test_diff_augment_is_for_fewer_than_5000_images() -> None:
    assert choose_recipe("gan", report(32, 4999)).recipe.objective.diff_augment == "on"
    assert choose_recipe("gan", report(32, 5000)).recipe.objective.diff_augment == "off"
    assert choose_recipe("gan", report(16, 100)).recipe.objective.diff_augment == "off"  # too little would be left
    assert choose_recipe("vae", report(32, 10)).recipe.objective.diff_augment == "auto"
