"""Events are values: they cannot change, and reach another process as they were."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from diffstudio.errors import StorageProblem
from diffstudio.studio import events
from diffstudio.studio.events import (
    ENDINGS,
    Cancelled,
    Event,
    Failed,
    Finished,
    ImageSaved,
    Loading,
    Noted,
    Paused,
    Resumed,
    Started,
    Stepped,
)
from diffstudio.studio.requests import GenerateRequest

IMAGE = np.full((2, 3, 3), 7, np.uint8)
EVENTS: tuple[Event, ...] = (
    Started(1, GenerateRequest(prompt="a cat")),
    Loading(1, "the checkpoint"),
    Loading(1, "the checkpoint", 0.5),
    Noted(1, "A sentence."),
    Stepped(1, 3, 20, 0, 2, 1.5, (IMAGE, IMAGE), 0.1, 1.7),
    Paused(1),
    Resumed(1),
    ImageSaved(1, 0, Path("a.png"), IMAGE),
    Finished(1, 2.5),
    Cancelled(1),
    Failed(1, StorageProblem("The image cannot be saved", "the disk is full", "Free some space")),
)


def test_all_events_are_here() -> None:
    assert {type(event) for event in EVENTS} == set(get_args(Event)) >= set(ENDINGS)
    assert set(ENDINGS) == {events.Finished, events.Cancelled, events.Failed}
    assert Loading(1, "x").fraction is None


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_events_are_frozen_and_picklable(event: Event) -> None:
    with pytest.raises(FrozenInstanceError):
        event.job = 2  # type: ignore[misc]
    assert not hasattr(event, "__dict__")
    copy = pickle.loads(pickle.dumps(event))
    assert type(copy) is type(event)
    for field in fields(event):
        found, expected = getattr(copy, field.name), getattr(event, field.name)
        if isinstance(expected, StorageProblem):
            assert type(found) is StorageProblem and str(found) == str(expected)
        else:
            np.testing.assert_equal(found, expected)
