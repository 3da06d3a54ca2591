"""The recipe settings that the window offers."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from diffstudio.studio.curves.curve import NoiseCurve
from diffstudio.studio.curves.saved import NamedCurve, delete_curve, save_curve
from diffstudio.training.network_sizes.one_call_size import with_image_size
from diffstudio.training.network_sizes.recipe_size import size_problem
from diffstudio.training.recipe import DataRecipe, NetworkRecipe, ObjectiveRecipe, Recipe
from diffstudio.training.recipe.network_recipe import NetworkName
from diffstudio.training.recipe.objective_recipe import NoiseLevelsName, ObjectiveName
from diffstudio.training.recipe.optimiser_recipe import OptimiserName
from diffstudio.training.recipe_choice import named_recipes
from diffstudio.ui.train.recipe_options import (
    DRAWN,
    FLIPS,
    ROTATION,
    SHIFTS,
    RecipeOptions,
    TwoLevels,
    augmentation_text,
    estimate_text,
    has_two_levels,
    noise_levels_choices,
    noise_levels_text,
    recipe_size_text,
    short_size_texts,
    size_choices,
)


def test_options_are_read_from_a_recipe_and_change_nothing_by_themselves() -> None:
    recipe = Recipe(data=DataRecipe(size=96, flips=0.3, rotation_degrees=0.0, translation=0.1))
    options = RecipeOptions.from_recipe(recipe)
    assert options == RecipeOptions(96, OptimiserName.MUON, NoiseLevelsName.LOGIT_NORMAL, (FLIPS, SHIFTS))
    assert options.apply_to(recipe) is recipe


def test_the_network_of_a_gan_follows_the_chosen_image_size() -> None:
    recipe = named_recipes()["gan"]
    larger = replace(RecipeOptions.from_recipe(recipe), size=128).apply_to(recipe)
    assert (larger.data.size, larger.network.patch, larger.network.stem) == (128, 32, 2)
    assert larger == replace(with_image_size(recipe, 128), data=larger.data) and larger.data.fit == recipe.data.fit


def test_a_changed_option_changes_what_belongs_to_it_and_no_more() -> None:
    recipe = Recipe()
    turned = replace(RecipeOptions.from_recipe(recipe), augmentations=(ROTATION,)).apply_to(recipe)
    assert (turned.data.flips, turned.data.translation) == (0, 0) and turned.data.rotation_degrees > 0
    assert (turned.network, turned.optimiser, turned.objective, turned.run) == (
        recipe.network,
        recipe.optimiser,
        recipe.objective,
        recipe.run,
    )
    other = replace(RecipeOptions.from_recipe(recipe), noise_levels=NoiseLevelsName.LOG_NORMAL).apply_to(recipe)
    assert other.objective.mean < 0, "the mean of log sigma is not the mean of logit t"
    assert (
        replace(RecipeOptions.from_recipe(recipe), optimiser=OptimiserName.SGD).apply_to(recipe).optimiser.learning_rate
        > 1e-3
    )


def test_two_levels_are_a_size_and_back() -> None:
    recipe = replace(Recipe(), data=DataRecipe(size=96, fit="bucket", buckets=(96, 96)))
    plain = RecipeOptions.from_recipe(recipe)
    two = replace(plain, size=TwoLevels(64, 4)).apply_to(recipe)
    assert (two.data.size, two.upper.factor, two.prepared.size, two.data.fit, two.data.buckets) == (
        64,
        4,
        256,
        "crop",
        (),
    )
    assert (two.upper.patch, two.upper.margin) == (16, 8) and size_problem(two) == ""
    Recipe.from_json(two.to_json())  # which refuses what cannot be combined
    assert RecipeOptions.from_recipe(two).size == TwoLevels(64, 4) and recipe_size_text(two) == "256 px in two levels"
    assert RecipeOptions.from_recipe(two).apply_to(two) is two
    assert replace(RecipeOptions.from_recipe(two), size=64).apply_to(two).upper.factor == 0
    assert recipe_size_text(recipe) == "96 px"


def test_sizes_on_offer() -> None:
    assert has_two_levels(Recipe())
    assert not has_two_levels(replace(Recipe(), objective=ObjectiveRecipe(kind=ObjectiveName.GAN)))
    assert not has_two_levels(replace(Recipe(), network=NetworkRecipe(kind=NetworkName.UNET)))
    texts = dict(size_choices(50, two_levels=True))
    assert texts[50] == "50 px" and texts[TwoLevels(64, 2)] == "128 px in two levels" and 64 in texts
    assert not any(isinstance(size, TwoLevels) for size, _ in size_choices(64, two_levels=False))
    short = short_size_texts(size_choices(64, two_levels=True))
    assert short == {"128 px in two levels": "64 → 128 px", "256 px in two levels": "64 → 256 px"}
    assert (TwoLevels(32, 2), "64 px in two levels") in size_choices(TwoLevels(32, 2), two_levels=False)


def test_a_saved_schedule_can_be_the_noise_levels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DIFFSTUDIO_HOME", str(tmp_path))
    recipe, curve = Recipe(), NoiseCurve(((0.0, 9.0), (0.3, 1.0), (1.0, -7.0)))
    save_curve(NamedCurve("my schedule", curve))
    assert (curve, "my schedule") in noise_levels_choices(NoiseLevelsName.UNIFORM)
    chosen = replace(RecipeOptions.from_recipe(recipe), noise_levels=curve).apply_to(recipe)
    assert chosen.objective.noise_levels is NoiseLevelsName.CURVE and chosen.objective.noise_curve == curve.pairs
    assert (chosen.objective.mean, chosen.objective.deviation) == (recipe.objective.mean, recipe.objective.deviation)
    assert RecipeOptions.from_recipe(chosen).noise_levels == curve and noise_levels_text(chosen) == "my schedule"
    delete_curve("my schedule")
    assert noise_levels_text(chosen) == DRAWN, "a recipe needs no file"
    assert noise_levels_text(recipe) == "Logit-normal"


def test_another_optimiser_keeps_the_lower_rate_of_a_start_from_a_checkpoint() -> None:
    scratch = Recipe()
    started = replace(scratch, run=replace(scratch.run, start_from="starter"))
    for name in OptimiserName:
        if name is not scratch.optimiser.name:
            options = replace(RecipeOptions.from_recipe(scratch), optimiser=name)
            rates = [options.apply_to(recipe).optimiser.learning_rate for recipe in (scratch, started)]
            assert rates[1] == rates[0] / 2


def test_augmentation_text() -> None:
    assert (
        augmentation_text(Recipe(data=DataRecipe(flips=0.3, rotation_degrees=8, translation=0.06)))
        == "flips, rotation up to 8°, shifts up to 6%"
    )
    assert augmentation_text(Recipe(data=DataRecipe(flips=0, rotation_degrees=0, translation=0))) == "none"


def test_estimates_round_and_name_the_day() -> None:
    noon = time.mktime((2026, 11, 23, 12, 0, 0, 0, 0, -1))
    assert estimate_text(120, 43.21, noon) == "About 310,000 images seen · ready near 14:00"
    assert estimate_text(120, None, noon) == "Ready near 14:00"
    assert estimate_text(13 * 60, None, noon) == "Ready near 01:00 tomorrow"
    assert estimate_text(48 * 60, None, noon) == "Ready near 12:00 in 2 days"


def test_a_model_of_two_levels_is_not_cross_validated() -> None:
    """It would be refused when the run starts."""
    recipe = Recipe(data=DataRecipe(size=64, cross_splits=4))
    options = RecipeOptions.from_recipe(recipe)
    assert replace(options, size=32).apply_to(recipe).data.cross_splits == 4
    larger = replace(options, size=TwoLevels(64, 2)).apply_to(recipe)
    assert larger.data.cross_splits == 0 and Recipe.from_json(larger.to_json()) == larger
