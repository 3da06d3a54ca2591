"""The order, filters and thumbnail size of the gallery over a restart."""

from __future__ import annotations

import json

import pytest

from diffstudio import paths
from diffstudio.studio.gallery.search import GalleryQuery, Period, SortOrder
from diffstudio.studio.gallery.view_state import GalleryViewState, read_view, save_view


def test_what_is_saved_is_read_again() -> None:
    assert read_view().state == GalleryViewState() and read_view().problem == ""
    state = GalleryViewState(GalleryQuery("seed:42", True, SortOrder.SEED, Period.WEEK), 240)
    save_view(state)
    assert read_view().state == state


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"order": 7, "period": None, "starred": "yes", "cell": "big"}, "starred, order, period, thumbnail size"),
        ({"order": "x", "cell": 5}, "order, thumbnail size"),
    ],
)
def test_values_of_the_wrong_type_become_their_defaults_and_are_named(values: dict[str, object], named: str) -> None:
    paths.gallery_view_file().write_text(json.dumps({"format": 1, "search": "cat"} | values))
    assert read_view().state == GalleryViewState(GalleryQuery("cat"))
    problem = "Some of the settings of the gallery's view could not be read and are not used"
    assert read_view().problem == f"{problem}: {named}."


def test_a_damaged_file_is_set_aside_and_named() -> None:
    paths.gallery_view_file().write_text("{")
    problem = read_view().problem
    assert "The settings of the gallery's view could not be read" in problem and "it shows all images" in problem
    assert paths.gallery_view_file().with_name("gallery.json.damaged").read_text() == "{"
