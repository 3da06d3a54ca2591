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
from diffstudio.training.network_sizes.one_call_size import with_image_size
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


@pytest.mark.parametrize("size", [8, 16, 32, 48, 64, 96, 128, 192, 256])
@pytest.mark.parametrize("minutes", [None, 1])
def test_the_network_follows_the_image_size_that_a_person_chooses(size: int, minutes: float | None) -> None:
    """At 128 px the patches of the recipe for 32 px would make the coarsest grid, from which images are composed, 16 cells
    wide, and full-resolution blocks would take 16 times as long and 12 GiB.
    """
    for name in ("vae", "gan"):
        before = choose_recipe(name, report(500, 100), minutes=minutes).recipe
        recipe = with_image_size(before, size)
        network = recipe.network
        assert recipe.data.size == size and size % network.patch == 0 and size_problem(recipe) == ""
        assert 4 <= size // network.patch < 8 and size // network.stem <= 64 and network.stem <= network.patch
        assert network == replace(before.network, patch=network.patch, stem=network.stem), "nothing else changes"
        if size <= 64 and minutes is None:
            assert network.stem == 1
        if minutes is not None and size >= 32:
            finest = before.data.size // before.network.stem
            assert finest <= size // network.stem < 2 * finest, "as fast as before"
        with torch.device("meta"):
            Autoencoder(autoencoder_config(recipe, 0, 0)) if name == "vae" else Generator(gan_config(recipe, 0, 0))
    assert with_image_size(before, before.data.size) == before


def test_networks_that_are_given_keep_their_shape_at_another_image_size() -> None:
    gan, diffusion = named_recipes()["gan"], named_recipes()["tiny"]
    started = replace(gan, run=replace(gan.run, start_from="a checkpoint"))
    for recipe in (started, diffusion):
        assert with_image_size(recipe, 128) == replace(recipe, data=replace(recipe.data, size=128))


def test_diff_augment_is_for_fewer_than_5000_images() -> None:
    assert choose_recipe("gan", report(32, 4999)).recipe.objective.diff_augment == "on"
    assert choose_recipe("gan", report(32, 5000)).recipe.objective.diff_augment == "off"
    assert choose_recipe("gan", report(16, 100)).recipe.objective.diff_augment == "off"  # too little would be left
    assert choose_recipe("vae", report(32, 10)).recipe.objective.diff_augment == "auto"
