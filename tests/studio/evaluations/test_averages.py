"""The result of a job that averages a run's weights, read without trust."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from diffstudio.errors import RunProblem
from diffstudio.studio.evaluations.averages import LONGEST, SHORTEST, Averages, has_averages, read_averages
from diffstudio.training import power_ema
from diffstudio.training.run.run_folder import RunFolder


def test_it_comes_back_with_whole_paths(tmp_path: Path) -> None:
    found = Averages({0.05: 0.25, 0.1: 0.5}, 0.05, "/models/a.safetensors", ("sample-1.png",))
    read = read_averages(found.to_json(), tmp_path)
    assert read == Averages(found.losses, 0.05, found.checkpoint, (str(tmp_path / "sample-1.png"),))
    assert (SHORTEST, LONGEST) == (power_ema.SHORTEST, power_ema.LONGEST)


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({"format": 2}, "format 2: this program reads formats up to 1"),
        ({"losses": [[1]]}, "damaged"),
        ({"losses": None}, "damaged"),
        ({"samples": ["../x.png"]}, "outside its folder"),
        ({"length": "long"}, "damaged"),
    ],
)
def test_damage_is_said(values: dict[str, Any], what: str, tmp_path: Path) -> None:
    with pytest.raises(RunProblem, match=what):
        read_averages(Averages({}, 0.05).to_json() | values, tmp_path)


def test_a_run_has_averages_once_it_stored_some(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert not has_averages(run)
    run.ema_folder.mkdir()
    (run.ema_folder / "notes.txt").touch()
    assert not has_averages(run)
    (run.ema_folder / "00000003.safetensors").touch()
    assert has_averages(run)
