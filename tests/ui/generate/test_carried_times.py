"""The times that the Generate panel gives to a request: those of a loaded image while they fit, or the checkpoint's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.fitted_steps.stored import store
from diffstudio.models.library.records import read_checkpoint
from diffstudio.studio.requests import GenerateRequest, SamplerName, SpacingName
from diffstudio.ui.generate.carried_times import CarriedTimes
from tests.models.fitted_steps.some_ladders import ladder
from tests.models.tiny import write_tiny_checkpoint

CHOSEN = GenerateRequest(steps=4, sampler=SamplerName.EULER, spacing=SpacingName.FITTED)
LOADED = replace(CHOSEN, times=(1.0, 0.9, 0.5, 0.1))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    found = read_checkpoint(write_tiny_checkpoint(tmp_path / "tiny.safetensors"))
    store(found, [ladder("euler", 4), ladder("euler", 2)])
    return read_checkpoint(found.path)


def test_they_are_the_checkpoints_unless_an_image_brought_some(checkpoint: Checkpoint) -> None:
    carried = CarriedTimes()
    assert carried.given_to(CHOSEN, checkpoint).times == ladder("euler", 4).times and not carried.are_loaded
    carried.load(LOADED)
    assert carried.given_to(CHOSEN, checkpoint) == LOADED and carried.are_loaded
    assert carried.given_to(CHOSEN, None) == LOADED
    two = replace(CHOSEN, steps=2)
    assert carried.given_to(two, checkpoint).times == ladder("euler", 2).times
    assert carried.given_to(replace(CHOSEN, sampler=SamplerName.HEUN), checkpoint).times == ()
    assert carried.given_to(CHOSEN, checkpoint) == LOADED  # back at those of the image
    carried.forget()
    assert carried.given_to(CHOSEN, checkpoint).times == ladder("euler", 4).times


def test_another_spacing_has_none_and_another_image_replaces_them(checkpoint: Checkpoint) -> None:
    carried = CarriedTimes()
    carried.load(LOADED)
    assert carried.given_to(replace(CHOSEN, spacing=SpacingName.KARRAS), checkpoint).times == ()
    carried.load(GenerateRequest())
    assert not carried.are_loaded
