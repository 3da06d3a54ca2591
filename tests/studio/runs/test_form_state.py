"""What is chosen for the next training run, over a restart."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from diffstudio import paths
from diffstudio.studio.runs.form_state import FormState, read_form, save_form
from diffstudio.training.distributed.cluster import Cluster
from diffstudio.training.recipe_choice import named_recipes


def test_what_is_saved_is_read_again() -> None:
    assert read_form().state == FormState() and read_form().problem == ""
    recipe = named_recipes()["tiny"]
    changed = replace(recipe, run=replace(recipe.run, batch=7))
    state = FormState(Path("/toys"), "tiny", changed, True, 7.5, "starter", "toys at night", Cluster(0, 3))
    save_form(state)
    assert read_form().state == state


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"folder": 3, "recipe": None, "minutes": "long"}, "folder of images, recipe, training time"),
        ({"start_from": [], "name": {}, "processes": "all"}, "start from, run name, devices"),
        ({"folder": "a\0b", "recipe": "x" * 40_000, "minutes": True}, "folder of images, recipe, training time"),
        ({"by_hand": 1, "processes": -1, "machines": 0}, "whether settings were changed, devices, machines"),
        ({"minutes": float("nan")}, "training time"),
        ({"minutes": 1e9}, "training time"),
        ({"processes": 1.5, "machines": True}, "devices, machines"),
    ],
)
def test_values_of_the_wrong_type_become_their_defaults_and_are_named(values: dict[str, object], named: str) -> None:
    paths.training_form_file().write_text(json.dumps({"format": 1, "name": "toys"} | values))
    loaded = read_form()
    assert loaded.state == FormState(name="" if "name" in values else "toys")
    assert loaded.problem == f"Some of the settings of the Train room could not be read and are not used: {named}."


@pytest.mark.parametrize("text", ["{", '{"format": 2}', '{"changed": {"no": "such key"}}', '{"changed": 3}'])
def test_a_file_that_cannot_be_read_is_set_aside_and_named(text: str) -> None:
    paths.training_form_file().write_text(text)
    problem = read_form().problem
    assert (
        "The settings of the Train room could not be read" in problem
        and "the form for a new run starts with the defaults" in problem
    )
    assert paths.training_form_file().with_name("train.json.damaged").read_text() == text
