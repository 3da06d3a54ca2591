"""One table of image formats: what is listed opens, and the first bytes tell what a file is."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from diffstudio.imaging.formats import (
    GALLERY_SUFFIXES,
    HEIF,
    IMAGE_SUFFIXES,
    JPEG_XL,
    NPY,
    SUFFIXES_OF,
    format_of,
    is_raw,
    read_head,
    why_not_read,
)
from diffstudio.imaging.reader import read_image, read_size

WRITTEN = ("png", "jpg", "webp", "avif", "tiff", "bmp", "dib", "gif", "jp2", "ppm", "tga", "qoi", "dds", "pcx", "sgi")


@pytest.mark.parametrize("suffix", WRITTEN)
def test_each_format_opens(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"image.{suffix}"
    Image.new("RGB", (24, 16), (200, 100, 50)).save(path)
    image, size = read_image(path)
    assert size == image.size == read_size(path) == (24, 16)
    assert image.getpixel((9, 9)) == pytest.approx((200, 100, 50), abs=4)
    assert path.suffix in IMAGE_SUFFIXES


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "avif", "tiff", "bmp", "gif", "jp2", "qoi", "dds"])
def test_formats_with_a_signature_are_recognised_whatever_their_name(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"image.{suffix}"
    Image.new("RGB", (24, 16), (200, 100, 50)).save(path)
    named = path.rename(tmp_path / "image")
    assert suffix in {end.removeprefix(".") for end in SUFFIXES_OF[format_of(read_head(named))]}
    assert read_image(named)[1] == (24, 16)


def test_what_is_not_read_has_a_reason_and_is_no_format_that_is() -> None:
    assert is_raw(".nef") and "camera raw" in why_not_read(".nef")
    assert not is_raw(".exr") and "export it as PNG or TIFF" in why_not_read(".exr")
    assert why_not_read(".txt") == why_not_read("") == "" and not is_raw(".png")
    assert not any(map(why_not_read, IMAGE_SUFFIXES))


def test_every_other_format_is_one_of_pillows() -> None:
    Image.init()
    assert set(SUFFIXES_OF) - {JPEG_XL, HEIF, NPY, "MPO"} <= set(Image.OPEN)
    assert {".png", ".jpg", ".webp", ".avif", ".jxl", ".heic"} <= set(GALLERY_SUFFIXES) <= IMAGE_SUFFIXES


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"\xff\xd8\xff\xe0", "JPEG"),
        (b"GIF89a", "GIF"),
        (b"BM", "BMP"),
        (b"II*\0", "TIFF"),
        (b"\x93NUMPY\x01\0", NPY),
        (b"MM\0+", "TIFF"),
        (b"RIFF\0\0\0\0WEBP", "WEBP"),
        (b"RIFF\0\0\0\0WAVE", ""),
        (b"\xff\x0a", JPEG_XL),
        (b"\0\0\0\x0cJXL \r\n\x87\n", JPEG_XL),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", HEIF),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif", "AVIF"),
        (b"\0\0\0\x18ftypisom\0\0\0\0mp41", ""),
        (b"Dear diary", ""),
    ],
)
def test_the_first_bytes_name_the_format(tmp_path: Path, head: bytes, name: str) -> None:
    (tmp_path / "file").write_bytes(head.ljust(64, b"\0"))
    assert format_of(read_head(tmp_path / "file")) == name
