from __future__ import annotations

import base64
import struct
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from diffstudio.imaging.limits import LARGEST_PIXELS
from diffstudio.models.checkpoint import Checkpoint, Origin
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.requests.limits import LARGEST_ENLARGED, enlarged_size
from diffstudio.ui.widgets.images.image_reading import (
    header_thumbnail,
    image_size,
    numpy_to_qimage,
    read_image,
    unreadable,
    unreadable_reason,
)

pytestmark = pytest.mark.usefixtures("qapp")


def test_it_is_known_why_a_picture_cannot_be_read(tmp_path: Path) -> None:
    whole = tmp_path / "whole.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(whole)
    assert not read_image(whole).isNull()

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    huge = tmp_path / "huge.png"
    huge.write_bytes(
        whole.read_bytes()[:16] + header + struct.pack(">I", zlib.crc32(b"IHDR" + header)) + whole.read_bytes()[33:]
    )
    text = tmp_path / "text.png"
    text.write_text("hello")
    assert unreadable_reason(whole) == ""
    assert image_size(huge).width() == image_size(text).width() == 1 and image_size(whole).width() == 64
    assert "30,000 × 30,000 px" in unreadable_reason(huge)
    assert unreadable_reason(text) == ""
    assert unreadable(text) == "text.png cannot be read: it is not an image in a supported format."
    assert unreadable(huge).startswith("huge.png cannot be read: at 30,000 × 30,000 px it has more than 89 megapixels")
    whole.write_bytes(whole.read_bytes()[:2000])
    assert "truncated" in unreadable_reason(whole)


def test_the_window_shows_the_colours_that_are_generated_with() -> None:
    data = Path(__file__).parents[3] / "data" / "colour"
    with Image.open(data / "adobergb_expected.png") as expected:
        wanted = numpy_to_qimage(np.asarray(expected))
    for shown in (read_image(data / "adobergb.png"), read_image(data / "adobergb.png", 32)):
        for x, y in ((1, 1), (20, 30), (31, 31)):
            place = (x * 64 // shown.width(), y * 64 // shown.height()) if shown.width() == 64 else (2 * x, 2 * y)
            assert abs(shown.pixelColor(x, y).red() - wanted.pixelColor(*place).red()) <= 12


def test_the_window_opens_jpeg_xl_and_keeps_transparency(tmp_path: Path) -> None:
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[...] = (200, 100, 50, 255)
    pixels[0, 0, 3] = 0
    (tmp_path / "a.jxl").write_bytes(imagecodecs.jpegxl_encode(pixels, lossless=True))
    image = read_image(tmp_path / "a.jxl")
    assert image.pixelColor(3, 3).getRgb() == (200, 100, 50, 255) and image.pixelColor(0, 0).alpha() == 0


def checkpoint_with_thumbnail(data: bytes) -> Checkpoint:
    text = "data:image/png;base64," + base64.b64encode(data).decode()
    about = (Path("a.safetensors"), "a", "a", "pixel", Conditioning.TEXT, (), 64, 64, 0, "F32", 0, Origin.IMPORTED, 0.0)
    return Checkpoint(*about, metadata={"modelspec.thumbnail": text})


def test_a_bomb_in_a_checkpoints_header_is_not_decoded(tmp_path: Path) -> None:
    Image.new("RGB", (32, 16), (9, 8, 7)).save(tmp_path / "small.png")
    small = (tmp_path / "small.png").read_bytes()
    assert header_thumbnail(checkpoint_with_thumbnail(small)).width() == 32
    header = b"IHDR" + struct.pack(">IIBBBBB", 13_000, 13_000, 8, 2, 0, 0, 0)
    bomb = small[:12] + header + struct.pack(">I", zlib.crc32(header)) + small[33:]
    assert header_thumbnail(checkpoint_with_thumbnail(bomb)).isNull()


def test_the_largest_image_that_can_be_made_is_shown(tmp_path: Path) -> None:
    """Of one bit a pixel, so that the test is cheap: 16,384 px wide and just within the limit of pixels."""
    width, height = LARGEST_ENLARGED, LARGEST_PIXELS // LARGEST_ENLARGED
    assert enlarged_size(width // 4, height // 4, 4) == (width, height // 4 * 4)
    Image.new("1", (width, height), 1).save(tmp_path / "large.png", compress_level=1)
    shown = read_image(tmp_path / "large.png", 512)
    assert shown.width() == 512 and shown.pixelColor(3, 3).red() == 255
    assert image_size(tmp_path / "large.png").width() == width
    assert unreadable_reason(tmp_path / "large.png") == ""
