"""Images that the detector which is used overlooks."""

from __future__ import annotations

import pytest

from diffstudio.studio.evaluations.anomalies.choice import note_on_overlooked
from diffstudio.studio.evaluations.anomalies.result import COMBINED, COMBINED_LOCAL, PATCHES, PIXELS, ScoredImage

HELD_OUT = 36
LEAST = 1 / (HELD_OUT + 1)  # the p-value of a score above those of all held-out normal images


def images(*, far: int, near: int, anomalous: bool = False) -> list[ScoredImage]:
    """Images far from all normal ones by both distances, but not by the local combination, and ordinary ones."""
    of_far = {PATCHES: LEAST, PIXELS: LEAST, COMBINED_LOCAL: 0.08}
    of_near = {PATCHES: 0.4, PIXELS: 0.6, COMBINED_LOCAL: 0.5}
    found = [ScoredImage(f"far {number}.png", 1.3, 0.08, anomalous, of_far) for number in range(far)]
    return found + [ScoredImage(f"{number}.png", 0.1, 0.5, False, of_near) for number in range(near)]


def test_images_that_other_detectors_put_above_all_normal_ones_are_said() -> None:
    (note,) = note_on_overlooked(images(far=20, near=20), COMBINED_LOCAL, HELD_OUT)
    assert note.startswith("20 of 40 images are called normal by “combination, local maximum”, although another")
    assert "“nearest normal patches” (20), “nearest normal image” (20). They may differ as a whole" in note


@pytest.mark.parametrize(
    ("found", "used"),
    [
        (images(far=0, near=40), COMBINED_LOCAL),
        (images(far=2, near=98), COMBINED_LOCAL),  # as many as chance gives
        (images(far=40, near=0, anomalous=True), COMBINED),  # they are found
        ([], COMBINED),
    ],
)
def test_without_more_of_them_than_by_chance_nothing_is_said(found: list[ScoredImage], used: str) -> None:
    assert note_on_overlooked(found, used, HELD_OUT) == []


def test_the_detector_that_is_used_does_not_count_itself() -> None:
    found = [ScoredImage("a.png", 1.0, LEAST, False, {PIXELS: LEAST, PATCHES: 0.5})] * 40
    assert note_on_overlooked(found, PIXELS, HELD_OUT) == [] and note_on_overlooked(found, PATCHES, HELD_OUT)
