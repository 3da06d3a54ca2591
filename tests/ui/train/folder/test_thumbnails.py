"""Thumbnails of training images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from diffstudio.imaging.value_range import SampleType
from diffstudio.training.data.folder_report import ImageRecord
from diffstudio.training.recipe import DataRecipe
from diffstudio.ui.train.folder.thumbnails import as_seen, evenly_spaced, first_images, seen_sentence, thumbnail


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


def test_an_image_is_shown_as_the_network_sees_it(tmp_path: Path) -> None:
    pixels = np.zeros((16, 48, 3), np.uint8)
    pixels[:, 16:32] = (255, 0, 0)  # the middle third is red
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    record = ImageRecord(Path("wide.png"), 48, 16, (), "", False)
    square = DataRecipe(size=16, fit="crop", channels=3, bits=8)
    image = as_seen(tmp_path / "wide.png", record, 32, square)
    assert image is not None and image.pixelColor(1, 16).red() == 255
    assert seen_sentence(record, square) == "seen at 16 × 16 px, 67% cropped"

    wide = DataRecipe(size=16, fit="bucket", buckets=(24, 12), channels=3, bits=8)
    image = as_seen(tmp_path / "wide.png", record, 32, wide)
    assert image is not None
    assert image.pixelColor(16, 1).alpha() == 0 and image.pixelColor(1, 16).alpha() == 255
    assert seen_sentence(record, wide) == "seen at 24 × 12 px, 33% cropped"

    padded = DataRecipe(size=16, fit="pad", background="#0000ff", channels=3, bits=8)
    image = as_seen(tmp_path / "wide.png", record, 32, padded)
    assert image is not None and image.pixelColor(16, 1).blue() == 255
    assert seen_sentence(record, padded) == "seen at 16 × 16 px"


def test_an_image_that_the_recipe_leaves_out_is_not_shown(tmp_path: Path) -> None:
    record = ImageRecord(Path("thin.png"), 4000, 17, (), "", False)
    square = DataRecipe(size=16, fit="crop", channels=3, bits=8)
    assert as_seen(tmp_path / "thin.png", record, 32, square) is None
    assert seen_sentence(record, square).startswith("not used: ")
    whole = ImageRecord(Path("gone.png"), 20, 20, (), "", False)
    assert as_seen(tmp_path / "gone.png", whole, 32, square) is None
