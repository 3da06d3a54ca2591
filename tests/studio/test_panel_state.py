"""What is kept of the Generate panel: round trip, and files that are damaged, newer, or partly wrong."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from diffstudio.studio.panel_state import PanelState, read_state, save_state
from diffstudio.studio.requests import ControlNetUse, GenerateRequest

STATE = PanelState(
    GenerateRequest(
        "red apple ", "worm", "dreams", 7, 31, width=96, height=64, controls=(ControlNetUse("canny", Path("a.png")),)
    ),
    seed_is_fixed=True,
    sections_open=frozenset({"hires_fix"}),
    set_by_hand=frozenset({"steps", "size"}),
    typed={"negative": "x" * 10_001, "seed": "12 apples"},
    class_name="cat",
    hires_scale=1.5,
)


def test_what_was_saved_is_read(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "generate.json"
    save_state(STATE, path)
    assert read_state(path).state == STATE and read_state(path).problem == ""
    if sys.platform != "win32":
        assert path.stat().st_mode & 0o777 == 0o600  # it holds prompts


def test_no_file_is_no_state(home: Path) -> None:
    assert read_state().state is None and read_state().problem == ""


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[1]",
        '{"format": 2}',
        '{"format": 1}',
        '{"request": 3}',
        '{"request": {"steps": -1}}',
        '{"request": {"format": 99}}',
    ],
)
def test_a_file_that_cannot_be_read_is_set_aside_and_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "generate.json"
    path.write_text(text)
    loaded = read_state(path)
    assert loaded.state is None and "generate.json.damaged" in loaded.problem
    assert not path.exists() and (tmp_path / "generate.json.damaged").read_text() == text


def test_other_values_of_the_wrong_type_become_their_defaults_and_are_named(tmp_path: Path) -> None:
    path = tmp_path / "generate.json"
    wrong = {
        "seed_is_fixed": "yes",
        "sections_open": 3,
        "set_by_hand": ["steps", "colour", 1],
        "typed": {"prompt": 4, "seed": "x", "other": "y"},
        "class_name": None,
        "hires_scale": 1e9,
    }
    path.write_text(json.dumps(wrong | {"request": {"format": 1, "prompt": "apple"}}))
    loaded = read_state(path)
    state = loaded.state
    assert loaded.problem == (
        "Some of the settings of the Generate room could not be read and are not used: whether the seed is fixed, "
        "open sections, 2 of 3 settings made by hand, class, scale of the hires fix, prompt."
    )
    assert state is not None
    assert (state.seed_is_fixed, state.sections_open, state.set_by_hand) == (False, frozenset(), frozenset({"steps"}))
    assert (state.typed, state.class_name, state.hires_scale) == ({"seed": "x"}, "", 2.0)
    path.write_text(json.dumps({"request": {"format": 1, "prompt": "apple"}, "typed": []}))
    state = read_state(path).state
    assert state is not None and state.prompts() == ("apple", "")


def test_prompts_can_be_taken_from_another_state() -> None:
    other = PanelState(GenerateRequest("rocket"), typed={"negative": "y" * 20_000})
    mixed = STATE.with_prompts_of(other)
    assert mixed.prompts() == ("rocket", "y" * 20_000)
    assert mixed.typed["seed"] == "12 apples" and mixed.request.steps == 31


def test_a_seed_that_was_drawn_is_no_difference() -> None:
    drawn = replace(STATE, seed_is_fixed=False)
    assert drawn.without_drawn_seed() == replace(drawn, request=replace(drawn.request, seed=99)).without_drawn_seed()
    assert STATE.without_drawn_seed() == STATE
