"""Changes to a recipe, put on the one of another start."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pytestqt.qtbot import QtBot

from diffstudio.training.data.folder_report import FolderReport
from diffstudio.training.data.inspect_folder import inspect_folder
from diffstudio.training.recipe import Recipe
from diffstudio.training.recipe.objective_recipe import NoiseLevelsName
from diffstudio.training.recipe.optimiser_recipe import OptimiserName
from diffstudio.training.recipe_choice import named_recipes
from diffstudio.training.recipe_from_checkpoint import FROM_SCRATCH, RATE_FROM_CHECKPOINT, STARTER, started_from
from diffstudio.ui.train.kept_changes import KeptChanges, kept_changes
from diffstudio.ui.train.new_run_panel import NewRunPanel
from diffstudio.ui.train.recipe_options import ROTATION, RecipeOptions, TwoLevels

SCRATCH = named_recipes()["small"]
STARTED = started_from(SCRATCH, STARTER)


def with_options(recipe: Recipe, **changes: object) -> Recipe:
    return replace(RecipeOptions.from_recipe(recipe), **changes).apply_to(recipe)  # type: ignore[arg-type]


def test_the_controls_keep_what_was_set() -> None:
    changed = with_options(SCRATCH, optimiser=OptimiserName.SGD, augmentations=(ROTATION,), size=128)
    kept = kept_changes(SCRATCH, changed, STARTED)
    assert not kept.by_hand and not kept.text()
    options = RecipeOptions.from_recipe(kept.recipe)
    assert (options.optimiser, options.augmentations, options.size) == (OptimiserName.SGD, (ROTATION,), 128)
    assert kept.recipe.network == STARTED.network and kept.recipe.run.start_from == STARTER
    assert kept.recipe.optimiser.learning_rate == changed.optimiser.learning_rate * RATE_FROM_CHECKPOINT
    assert kept_changes(STARTED, kept.recipe, SCRATCH).recipe == changed, "and back"
    assert kept_changes(SCRATCH, SCRATCH, STARTED) == KeptChanges(STARTED), "what was not changed follows"


def test_settings_changed_by_hand_are_kept_but_for_what_the_start_fixes() -> None:
    changed = replace(SCRATCH, run=replace(SCRATCH.run, batch=7))
    kept = kept_changes(SCRATCH, changed, STARTED)
    assert kept.by_hand and kept.recipe == replace(STARTED, run=replace(STARTED.run, batch=7))
    deeper = replace(changed, network=replace(SCRATCH.network, depth=SCRATCH.network.depth + 1))
    kept = kept_changes(SCRATCH, deeper, STARTED)
    assert kept.recipe == replace(STARTED, run=replace(STARTED.run, batch=7)) and len(kept.lost) == 1
    assert kept.text().endswith(" was set back, because what the run starts from does not allow the change.")
    assert kept_changes(SCRATCH, deeper, replace(SCRATCH, name="other")).recipe.network == deeper.network


def test_a_start_that_was_set_by_hand_is_named_and_so_is_what_does_not_allow_it() -> None:
    by_hand = replace(SCRATCH, run=replace(SCRATCH.run, start_from=STARTER))
    kept = kept_changes(SCRATCH, by_hand, replace(SCRATCH, name="other"))
    assert kept.recipe.run.start_from == "" and len(kept.lost) == 1 and "start from" in kept.lost[0]
    assert kept.text().endswith("because the recipe does not allow the change.")
    assert not kept_changes(SCRATCH, by_hand, STARTED).lost


@pytest.mark.parametrize(
    ("changes", "recipe", "lost"),
    [
        ({"size": 96 + STARTED.network.multiple // 2}, STARTED, ("size",)),
        ({"size": TwoLevels(64, 2)}, named_recipes()["unet"], ("size",)),
        ({"noise_levels": NoiseLevelsName.UNIFORM, "size": TwoLevels(64, 2)}, named_recipes()["gan"], ("size", "noise levels")),
    ],
)  # fmt: skip
def test_what_cannot_be_kept_is_named(changes: dict[str, object], recipe: Recipe, lost: tuple[str, ...]) -> None:
    kept = kept_changes(SCRATCH, with_options(SCRATCH, **changes), recipe)
    assert kept.lost == lost and kept.recipe == recipe
    assert kept.text().startswith("Size and noise levels were" if len(lost) > 1 else "Size was")


@pytest.mark.usefixtures("dressed")
def test_the_form_keeps_them_when_another_start_is_chosen(qtbot: QtBot, pictures: Path) -> None:
    panel = NewRunPanel()
    qtbot.addWidget(panel)
    *_, report = inspect_folder(pictures)
    assert isinstance(report, FolderReport)
    panel.set_report(report)

    def start_from(name: str | None) -> Recipe:
        panel.start_from.set_value(name)
        panel.start_from.value_changed.emit(name)
        settings = panel.run_settings()
        assert settings is not None
        return settings.recipe

    panel.optimiser.set_value(OptimiserName.ADAMW)
    panel.optimiser.value_changed.emit(OptimiserName.ADAMW)
    panel.augmentations.set_value((ROTATION,))
    panel.augmentations.value_changed.emit((ROTATION,))
    for name in (FROM_SCRATCH, None, STARTER):
        recipe = start_from(name)
        assert recipe.optimiser.name is OptimiserName.ADAMW and recipe.data.rotation_degrees > 0 == recipe.data.flips
        assert panel.lost_note.isHidden() and panel.changed_note.isHidden()
    start_from(FROM_SCRATCH)
    panel.show_changed(replace(recipe := start_from(FROM_SCRATCH), run=replace(recipe.run, batch=7)), by_hand=True)
    deeper = replace(recipe, run=replace(recipe.run, batch=7), network=replace(recipe.network, depth=9))
    panel.show_changed(deeper, by_hand=True)
    assert start_from(STARTER).run.batch == 7 and not panel.changed_note.isHidden()
    assert "was set back" in panel.lost_note.text() and not panel.lost_note.isHidden()
    panel.start_with(None)  # as after Start
    settings = panel.run_settings()
    assert settings is not None and settings.recipe.run.batch == 7 and panel.lost_note.isHidden()
    panel.recipe.chosen.emit("auto")
    settings = panel.run_settings()
    assert settings is not None and settings.recipe.optimiser.name is OptimiserName.MUON, "another recipe starts anew"
