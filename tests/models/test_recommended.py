"""The settings that a checkpoint recommends, where they are fitted steps; tests/stories has those of headers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.families_table import PIXEL
from diffstudio.models.fitted_steps.stored import store
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.recommended import min_timestep_of, recommended_for, recommended_values, sampling_values
from tests.models.fitted_steps.some_ladders import ladder
from tests.models.tiny import write_tiny_checkpoint


@pytest.fixture
def own(tmp_path: Path) -> Checkpoint:
    return read_checkpoint(write_tiny_checkpoint(tmp_path / "own.safetensors"))


def test_recommended_steps_are_the_recommended_settings(own: Checkpoint) -> None:
    store(own, [ladder("euler", 4)])
    usual = recommended_for(read_checkpoint(own.path))
    assert usual is not None and usual.spacing != "fitted" and usual == recommended_for(own, fitted=True)
    store(own, [ladder("heun", 3, recommended=True)])
    again = read_checkpoint(own.path)
    assert recommended_for(again) == recommended_for(own)  # what cannot carry times computes its own
    usual = recommended_for(again, fitted=True)
    assert usual is not None and (usual.sampler, usual.spacing, usual.steps) == ("heun", "fitted", 3)
    assert recommended_values(again, fitted=True) == {
        "steps": 3,
        "sampler": "heun",
        "spacing": "fitted",
        "guidance": usual.guidance,
    }


def test_sampling_takes_the_fitted_steps_that_are_recommended(own: Checkpoint) -> None:
    usual = recommended_values(own)
    assert sampling_values(own) == usual
    assert sampling_values(own, steps=7, sampler="euler", spacing="karras") == usual | {
        "steps": 7,
        "sampler": "euler",
        "spacing": "karras",
    }
    few, best = ladder("heun", 2), ladder("heun", 3, recommended=True)
    store(own, [few, best, ladder("euler", 4)])
    again = read_checkpoint(own.path)
    fitted = {"steps": 3, "sampler": "heun", "spacing": "fitted", "times": best.times}
    assert sampling_values(again) == usual | fitted
    assert sampling_values(again, steps=2) == usual | fitted | {"steps": 2, "times": few.times}
    assert sampling_values(again, sampler="euler", steps=4)["times"] == ladder("euler", 4).times
    for nothing_fitted in ({"steps": 9}, {"spacing": "uniform"}, {"sampler": "euler"}):
        values = sampling_values(again, **nothing_fitted)  # type: ignore[arg-type]
        assert values == usual | nothing_fitted and "times" not in values


def test_fitted_spacing_can_be_asked_for_where_it_is_not_recommended(own: Checkpoint) -> None:
    store(own, [ladder("euler", 4)])
    again = read_checkpoint(own.path)
    assert sampling_values(again, steps=4, sampler="euler", spacing="fitted")["times"] == ladder("euler", 4).times
    assert "times" not in sampling_values(again, steps=5, sampler="euler", spacing="fitted")


def test_a_scale_that_no_number_holds_is_ignored(own: Checkpoint) -> None:
    hostile = replace(own, metadata={**own.metadata, "diffstudio.guidance": json.dumps({"scale": 10**400})})
    usual = recommended_for(hostile)
    assert usual is not None and usual.guidance == PIXEL.guidance


@pytest.mark.parametrize(
    ("value", "expected"),
    [("0.2", 0.2), ("0", 0), ("0.95", 0), ("-1", 0), ("NaN", 0), ("true", 0), ('"0.2"', 0), ("1" + "0" * 400, 0)],
)
def test_a_minimum_timestep_that_cannot_be_used_is_ignored(own: Checkpoint, value: str, expected: float) -> None:
    header = {"diffstudio.sampling": f'{{"min_timestep": {value}}}'}
    assert min_timestep_of(replace(own, metadata={**own.metadata, **header})) == expected
    assert min_timestep_of(replace(own, metadata={**own.metadata, "diffstudio.sampling": "[]"})) == 0
