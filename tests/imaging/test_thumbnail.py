"""Small copies: upright, no larger than asked for, and from any kind of file."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from diffstudio.errors import ImageProblem
from diffstudio.imaging.thumbnail import read_thumbnail


@pytest.mark.parametrize(("size", "expected"), [((400, 200), (64, 32)), ((200, 400), (32, 64)), ((30, 20), (30, 20))])
def test_it_fits_and_keeps_its_shape(tmp_path: Path, size: tuple[int, int], expected: tuple[int, int]) -> None:
    Image.new("RGB", size, "red").save(tmp_path / "a.png")
    image = read_thumbnail(tmp_path / "a.png", 64)
    assert image.size == expected and image.mode == "RGB" and image.getpixel((5, 5)) == (255, 0, 0)


def test_it_is_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (400, 200)).save(tmp_path / "a.jpg", exif=exif)
    assert read_thumbnail(tmp_path / "a.jpg", 64).size == (32, 64)


def test_transparency_stays(tmp_path: Path) -> None:
    Image.new("RGBA", (400, 200), (255, 0, 0, 100)).save(tmp_path / "a.webp", lossless=True)
    assert read_thumbnail(tmp_path / "a.webp", 64).getpixel((3, 3)) == (255, 0, 0, 100)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("text")
    with pytest.raises(ImageProblem, match="a.png cannot be read: it is not an image"):
        read_thumbnail(tmp_path / "a.png", 64)
    with pytest.raises(ImageProblem, match="does not exist. It may have been moved or deleted"):
        read_thumbnail(tmp_path / "gone.png", 64)
