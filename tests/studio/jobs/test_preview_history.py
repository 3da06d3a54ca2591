"""Preview history: nothing is lost while it fits, and what does not fit is thinned out evenly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffstudio.studio.events import Picture
from diffstudio.studio.jobs.preview_history import PreviewHistory

PICTURE_BYTES = 2 * 2 * 3


def picture(value: int) -> Picture:
    return np.full((2, 2, 3), value, dtype=np.uint8)


def values(film: PreviewHistory, step: int) -> list[int]:
    return [int(image[0, 0, 0]) for image in film.at(step)]


def kept(film: PreviewHistory) -> list[int]:
    return [step for step, images in enumerate(film.steps(), 1) if images]


def test_every_step_of_every_image_while_it_fits() -> None:
    film = PreviewHistory()
    for first in (0, 2):
        for step in range(1, 6):
            film.put(step, first, [picture(10 * step + first), picture(10 * step + first + 1)])
    assert len(film) == 5 and kept(film) == [1, 2, 3, 4, 5]
    assert values(film, 3) == [30, 31, 32, 33]


def test_what_was_passed_over_shows_the_step_before_it_and_the_image_that_came() -> None:
    film = PreviewHistory()
    film.put(3, 1, [picture(7)])
    assert values(film, 3) == [7, 7]  # image 0 was never told
    assert film.at(2) == () and film.at(0) == ()
    assert values(film, 9) == [7, 7]


def test_a_later_telling_replaces_an_earlier_one() -> None:
    film = PreviewHistory()
    film.put(1, 0, [picture(1), picture(2)])
    film.put(1, 1, [picture(3)])
    assert values(film, 1) == [1, 3]
    film.cut(1)
    assert values(film, 1) == [1]


@settings(max_examples=60, deadline=None)
@given(steps=st.integers(1, 200), images=st.integers(1, 6), room=st.integers(1, 40))
def test_thinned_out_evenly_within_its_bytes(steps: int, images: int, room: int) -> None:
    film = PreviewHistory(room * PICTURE_BYTES)
    for first in range(images):
        for step in range(1, steps + 1):
            film.put(step, first, [picture(step % 251)])
    newest = film.at(steps)
    assert newest is film.steps()[-1]  # the last step is there whatever the room
    assert len(film) == steps
    held = sum(len(pictures) for pictures in film.steps())
    assert held <= max(room, 2 * images)  # the first and the newest at least
    between = np.diff(kept(film)[:-1])
    assert len(set(between)) <= 1  # as far apart from one another, but for the newest
    if steps * images <= room:
        assert kept(film) == list(range(1, steps + 1))


@pytest.mark.parametrize("count", [1, 3])
def test_bytes_are_counted_rightly_after_cutting(count: int) -> None:
    film = PreviewHistory(8 * PICTURE_BYTES)
    for step in range(1, 5):
        film.put(step, 0, [picture(step)] * 2)
    film.cut(0)
    for step in range(1, 5):  # as much room as there was at first
        film.put(step, 0, [picture(step)] * min(count, 2))
    assert kept(film) == [1, 2, 3, 4]
