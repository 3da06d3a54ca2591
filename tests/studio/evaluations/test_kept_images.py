"""Images that are kept until it is known which are shown, and written as files that anything opens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from diffstudio.errors import StorageProblem
from diffstudio.studio.evaluations.kept_images import KeptImages, closest, save_image


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_images_are_read_back_by_their_number(tmp_path: Path, dtype: Any) -> None:
    images = np.random.default_rng(0).integers(0, 255, (5, 4, 3, 2)).astype(dtype)
    kept = KeptImages(tmp_path / "kept")
    kept.add(images[:2])
    kept.add(images[2:])
    assert all(np.array_equal(kept[number], images[number]) for number in range(5))
    with pytest.raises(StorageProblem):
        KeptImages(tmp_path / "no" / "kept").add(images)


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "L"), (3, "RGB"), (4, "RGBA"), (7, "RGB")])
def test_any_number_of_channels_is_written(tmp_path: Path, channels: int, mode: str) -> None:
    pixels = np.full((4, 5, channels), 200, np.uint8)
    with Image.open(tmp_path / save_image(pixels, tmp_path, "a")) as image:
        assert (image.mode, image.size) == (mode, (5, 4)) and np.all(np.asarray(image) == 200)


def test_sixteen_bits_and_floats_are_written_in_eight(tmp_path: Path) -> None:
    for pixels, expected in (
        (np.full((2, 2, 1), 51_400, np.uint16), 200),
        (np.full((2, 2, 1), 1.0, np.float32), 255),
        (np.full((2, 2, 1), -3.0, np.float32), 0),
    ):
        with Image.open(tmp_path / save_image(pixels, tmp_path, "a")) as image:
            assert np.all(np.asarray(image) == expected)


def test_the_closest_come_first() -> None:
    assert closest(np.array([0.5, 0.1, 0.9, 0.3]), 2) == [1, 3]
