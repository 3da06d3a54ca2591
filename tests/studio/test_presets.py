"""Presets: saved, renamed, deleted; entries that cannot be read stay in the file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from diffstudio.errors import BadRequest
from diffstudio.studio.panel_state import PanelState
from diffstudio.studio.presets import LONGEST_NAME, Preset, Presets, read_presets, save_presets
from diffstudio.studio.requests import GenerateRequest

STATE = PanelState(GenerateRequest("apple", steps=7))


def names(presets: Presets) -> list[str]:
    return [preset.name for preset in presets.presets]


def test_they_are_listed_by_name_each_once(tmp_path: Path) -> None:
    presets = Presets()
    for name in ("zoo", " Portrait\n of a <b>cat</b> ", "zoo", "apple"):
        presets = presets.with_preset(Preset(name, STATE, with_prompts=False))
    assert names(presets) == ["apple", "Portrait of a <b>cat</b>", "zoo"]
    save_presets(presets, tmp_path / "presets.json")
    assert read_presets(tmp_path / "presets.json").state == presets


def test_rename_and_delete() -> None:
    presets = Presets().with_preset(Preset("a", STATE)).with_preset(Preset("b", STATE))
    assert names(presets.renamed("a", "c")) == ["b", "c"]
    assert presets.renamed("a", " a ") == presets and presets.renamed("gone", "x") == presets
    with pytest.raises(BadRequest, match="already a preset"):
        presets.renamed("a", "b")
    for unusable in ("", " \n", "x" * (LONGEST_NAME + 1)):
        with pytest.raises(BadRequest):
            presets.renamed("a", unusable)
    assert names(presets.without("a")) == ["b"] and presets.without("gone") == presets


def test_what_cannot_be_read_is_named_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "presets.json"
    stored = {"state": STATE.to_json()}
    broken = [{"name": "newer", "state": {"request": {"format": 99}}}, 7, {"state": {}}, {"name": 3} | stored]
    path.write_text(json.dumps({"format": 1, "presets": [Preset("good", STATE).to_json(), *broken]}))
    loaded = read_presets(path)
    assert names(loaded.state) == ["good"] and "newer" in loaded.problem
    save_presets(loaded.state.without("good"), path)
    assert json.loads(path.read_text())["presets"] == json.loads(json.dumps(broken))


def test_values_that_cannot_be_read_are_named_with_their_preset(tmp_path: Path) -> None:
    path = tmp_path / "presets.json"
    entry = {"name": "good", "with_prompts": "no", "state": STATE.to_json() | {"hires_scale": "twice"}}
    path.write_text(json.dumps({"format": 1, "presets": [entry]}))
    loaded = read_presets(path)
    assert loaded.state == Presets().with_preset(Preset("good", STATE))
    assert loaded.problem == (
        "Some of the settings in presets could not be read and are not used: scale of the hires fix of “good”, "
        "prompts of “good”."
    )


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 2}', '{"presets": 3}'])
def test_a_file_that_cannot_be_read_is_set_aside(tmp_path: Path, text: str) -> None:
    path = tmp_path / "presets.json"
    path.write_text(text)
    loaded = read_presets(path)
    assert loaded.state == Presets() and "presets.json.damaged" in loaded.problem
    assert (tmp_path / "presets.json.damaged").read_text() == text


def test_no_file_is_no_presets(home: Path) -> None:
    assert read_presets().state == Presets() and read_presets().problem == ""
