"""VAEs and GANs for little time: when the smaller network is chosen, and what it saves."""

from __future__ import annotations

from dataclasses import replace

import pytest

from diffstudio.training.network_sizes import quick_size
from diffstudio.training.network_sizes.one_call_size import step_gigaflops
from diffstudio.training.network_sizes.quick_size import processor_speed, with_quick_size
from diffstudio.training.network_sizes.recipe_size import parameter_count, size_problem
from diffstudio.training.recipe_choice import choose_recipe, named_recipes
from tests.training.network_sizes.test_one_call_size import report


@pytest.mark.parametrize("name", ["vae", "gan"])
@pytest.mark.parametrize("size", [8, 16, 32, 64])
def test_little_time_gets_a_smaller_network_that_makes_more_steps(name: str, size: int) -> None:
    usual = named_recipes()[name]
    usual = replace(usual, data=replace(usual.data, size=size), network=replace(usual.network, patch=max(2, size // 4)))
    quick, why = with_quick_size(usual, 0.01, speed=100)
    assert step_gigaflops(quick) < step_gigaflops(usual)
    assert quick.run.batch < usual.run.batch and size_problem(quick) == "" and "smaller network" in why
    assert size // quick.network.stem >= 8 or quick.network.stem == 1
    assert parameter_count(quick) > 0


def test_the_time_and_the_speed_decide_and_the_sentence_says_how_many_steps() -> None:
    usual = named_recipes()["gan"]
    seconds = step_gigaflops(usual) / 50  # half the speed of products of matrices
    enough = 1000 * seconds / 60
    assert with_quick_size(usual, 1.01 * enough, speed=100) == (usual, "")
    quick, why = with_quick_size(usual, 0.25 * enough, speed=100)
    assert quick.objective.penalty_every > 1 and "there is time for 250 steps of" in why
    for few, said in ((1.5, "time for 1 step of"), (0.5, "no time for a single step of")):
        assert f"there is {said} the usual one" in with_quick_size(usual, few * seconds / 60, speed=100)[1]
    assert with_quick_size(usual, 0.25 * enough, speed=500)[0] == usual  # on a faster processor


@pytest.mark.parametrize("name", ["gan-plain", "tiny", "unet"])
def test_other_recipes_are_left_alone(name: str) -> None:
    assert with_quick_size(named_recipes()[name], 0.001, speed=1) == (named_recipes()[name], "")


def test_the_choice_for_a_folder_has_it_without_an_accelerator_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffstudio.training.network_sizes.quick_size.processor_speed", lambda: 100.0)
    for name in ("vae", "gan"):
        quick = choose_recipe(name, report(32, 6000), minutes=6)
        assert quick.recipe.network.stem > 1 and "because in 6 min there is time for" in quick.why
        for longer in (
            choose_recipe(name, report(32, 6000)),
            choose_recipe(name, report(32, 6000), minutes=600),
            choose_recipe(name, report(32, 6000), minutes=6, accelerator=True),
        ):
            assert longer.recipe.network.stem == 1 and "smaller" not in longer.why


def test_the_speed_is_measured_once() -> None:
    assert processor_speed() == processor_speed() > 0.1
    assert quick_size.processor_speed.cache_info().hits > 0
