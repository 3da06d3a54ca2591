"""The values of generated images mean what they meant where they were generated."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile

from diffstudio.studio.evaluations.folders.notes import notes_on_compared
from diffstudio.studio.evaluations.folders.reading import inspected, read_generated, read_real
from diffstudio.studio.evaluations.folders.value_ranges import ranges_of_generated
from tests.studio.evaluations.folders.small_folders import go_on, no_progress, write_deep


@pytest.mark.parametrize(
    ("factor", "here", "said"),
    [
        (1, False, None),  # in the units of the real ones
        (65535 / 4095, True, None),  # as this program writes what it generates
        (65535 / 4095 / 40, True, None),  # also where all are dark
        (
            65535 / 4095,
            False,
            "values of made are from .*, beyond the range of real, 0 to 4,095: they were read from 0 to 65,535",
        ),
        (1.02, False, "Those beyond 0 to 4,095, the range of real, were cut"),
    ],
)
def test_generated_images_are_read_by_what_their_values_mean(
    tmp_path: Path, factor: float, here: bool, said: str | None
) -> None:
    """Of a folder of 12-bit images: 65,535 is the white of a generated image, not 16 times the white."""
    rng = np.random.default_rng(0)
    given, made = (rng.integers(0, 4096, (20, 16, 16)) for _ in range(2))
    made[:, :2, :2] = 4095
    real = read_real(write_deep(tmp_path / "real", given), None, no_progress, go_on)
    path = write_deep(tmp_path / "made", np.rint(made * factor), here=here)
    found = read_generated(path, real, no_progress, go_on)
    images = found.dataset
    wanted = made / 4095 * (factor * 4095 / 65535 if here else min(factor, 1.02) if factor < 2 else 1)
    shown = np.asarray(images.images, float)[..., 0] / 65535
    assert np.abs(shown - wanted.clip(0, 1)).max() < 2e-3
    notes = notes_on_compared(found, real, no_progress, go_on)
    assert not notes if said is None else re.search(said, notes[0])
    if said and factor > 2:  # images that are searched are in the units of the normal ones
        images = read_generated(path, real, no_progress, go_on, same_units=True).dataset
        assert images.images.min() >= 0 and np.median(images.images) == 65535


def test_generated_images_of_both_kinds_are_said(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 4096, (20, 16, 16))
    real = read_real(write_deep(tmp_path / "real", values), None, no_progress, go_on)
    path = write_deep(tmp_path / "made", values[::-1] * 16, here=True)
    write_deep(tmp_path / "other", values)
    shutil.copy(tmp_path / "other" / "000.png", path / "other.png")
    _, notes = ranges_of_generated("made", inspected(path, no_progress, go_on), real)
    assert notes == [
        "1 of the 21 16-bit images of made does not say that it was generated here: read from 0 to 65,535, like the others."
    ]
    shutil.copy(path / "000.png", tmp_path / "other" / "made.png")
    ranges, (note,) = ranges_of_generated("other", inspected(tmp_path / "other", no_progress, go_on), real)
    assert "1 of the 21 16-bit images of other was generated here" in note  # the 20 keep their brightness
    assert ranges == real.data.ranges


def test_generated_floats_have_the_units_of_the_folder(tmp_path: Path) -> None:
    """Also of a folder of whole numbers with a sign, of which floats are generated."""
    rng = np.random.default_rng(0)
    (tmp_path / "real").mkdir()
    found = rng.integers(-1000, 3001, (20, 16, 16))
    found[0, 0, :2] = -1000, 3000
    for number, one in enumerate(found):
        tifffile.imwrite(tmp_path / "real" / f"{number}.tif", one.astype(np.int16))
    real = read_real(tmp_path / "real", None, no_progress, go_on)
    made = rng.uniform(-500, 1500, (20, 16, 16)).astype(np.float32)
    images = read_generated(write_deep(tmp_path / "made", made), real, no_progress, go_on).dataset
    assert np.abs(np.asarray(images.images, float)[..., 0] / 65535 - (made + 1000) / 4000).max() < 1e-3
    path = write_deep(tmp_path / "unit", rng.uniform(0, 1, (20, 16, 16)).astype(np.float32))
    images = read_generated(path, real, no_progress, go_on).dataset
    assert images.images.min() < 1000 and images.images.max() > 64_000
