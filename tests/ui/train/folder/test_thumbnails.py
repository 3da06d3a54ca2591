"""Thumbnails of training images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from diffstudio.imaging.value_range import SampleType
from diffstudio.ui.train.folder.thumbnails import evenly_spaced, first_images, thumbnail


def test_evenly_spaced_covers_the_whole_list() -> None:
    assert evenly_spaced(list(range(100)), 4) == [0, 25, 50, 75]
    assert evenly_spaced([1, 2], 4) == [1, 2]


def test_first_images_come_from_every_group(tmp_path: Path) -> None:
    for group in "ab":
        (tmp_path / group).mkdir()
        for number in range(3):
            (tmp_path / group / f"{number}.png").write_bytes(b"")
    found = [path.relative_to(tmp_path).as_posix() for path in first_images(tmp_path)]
    assert found[:2] == ["a/0.png", "b/0.png"]
    assert len(found) == 6
    assert list(first_images(tmp_path / "nowhere")) == []


def test_thumbnails_show_transparency_as_white(tmp_path: Path) -> None:
    Image.new("RGBA", (40, 20), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    image = thumbnail(tmp_path / "clear.png", 16)
    assert image is not None
    assert (image.width(), image.height()) == (16, 16)
    assert image.pixelColor(8, 8).lightness() == 255


def test_thumbnails_of_deep_images_have_the_range_of_their_folder(tmp_path: Path) -> None:
    Image.fromarray(np.full((20, 20), 4095, np.uint16)).save(tmp_path / "a.png")
    image = thumbnail(tmp_path / "a.png", 16, {SampleType.UINT16: (0.0, 4095.0)})
    alone = thumbnail(tmp_path / "a.png", 16)
    assert image is not None and alone is not None
    assert (image.pixelColor(8, 8).red(), alone.pixelColor(8, 8).red()) == (255, 16)
