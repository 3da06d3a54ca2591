"""What changes a figure is said."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from diffstudio.studio.evaluations.folders.equal_images import digest_and_flatness
from diffstudio.studio.evaluations.folders.notes import duplicate_notes, repeated_notes
from diffstudio.studio.evaluations.folders.reading import read_real
from tests.studio.evaluations.folders.small_folders import go_on, no_progress, notes_of, smooth_images


def test_equal_images_are_said(tmp_path: Path) -> None:
    flat = np.full((5, 8, 8, 3), 200, np.uint8)
    assert duplicate_notes("x", map(digest_and_flatness, flat)) == [
        "5 of 5 images of x are of a single colour.",
        "All 5 images of x are identical.",
    ]
    varied = np.random.default_rng(0).integers(0, 255, (6, 8, 8, 3)).astype(np.uint8)
    assert duplicate_notes("x", map(digest_and_flatness, varied)) == []
    varied[1] = varied[0]
    assert duplicate_notes("x", map(digest_and_flatness, varied)) == ["1 duplicate among the 6 images of x."]


@pytest.mark.parametrize(
    ("mode", "size", "of_real", "expected"),
    [
        ("RGB", (32, 32), "RGB", "are smaller than 64 px and were enlarged"),
        ("RGB", (120, 80), "RGB", "have another aspect ratio than the real ones and were cropped"),
        ("RGBA", (64, 64), "RGB", "are transparent and were put on the background #ffffff"),
        ("RGB", (64, 64), "L", "are in colour and were made grey, like the real ones"),
        ("L", (64, 64), "RGB", "are grey, unlike the real ones"),
    ],
)
def test_images_that_are_changed_before_they_are_compared_are_said(
    tmp_path: Path, mode: str, size: tuple[int, int], of_real: str, expected: str
) -> None:
    real = read_real(smooth_images(tmp_path / "real", 30, seed=0, mode=of_real), None, no_progress, go_on)
    folder = smooth_images(tmp_path / "generated", 12, seed=1, mode=mode, size=size)
    assert notes_of(folder, real) == [f"12 of 12 images of generated {expected}."]


def test_duplicates_among_the_real_images_are_said_with_what_they_do(tmp_path: Path) -> None:
    folder = smooth_images(tmp_path / "real", 40, seed=0)
    assert repeated_notes(read_real(folder, None, no_progress, go_on), no_progress, go_on) == []
    for number in range(7):
        shutil.copy(folder / "0.png", folder / f"again {number}.png")
    shutil.copy(folder / "1.png", folder / "twice.png")
    real = read_real(folder, None, no_progress, go_on)
    real = replace(real, dataset=replace(real.dataset, held_out=np.zeros(len(real.dataset), bool)))
    (note,) = repeated_notes(real, no_progress, go_on)
    assert note.startswith(
        "8 duplicates among the 48 images of the training part of real. 8 exist more than 5 times: their"
    )
