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
from diffstudio.models.recommended import recommended_for, recommended_values
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


def test_a_scale_that_no_number_holds_is_ignored(own: Checkpoint) -> None:
    hostile = replace(own, metadata={**own.metadata, "diffstudio.guidance": json.dumps({"scale": 10**400})})
    usual = recommended_for(hostile)
    assert usual is not None and usual.guidance == PIXEL.guidance
