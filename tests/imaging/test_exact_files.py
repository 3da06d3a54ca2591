"""PNG of 16 bits with texts, and TIFF of any channels: other programs read the same values."""

from __future__ import annotations

import io

import numpy as np
import pytest
import tifffile
from PIL import Image

from diffstudio.imaging.colour import srgb_chunks
from diffstudio.imaging.exact_files import ExactValues, write_png, write_tiff

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_png_of_16_bits_with_texts(channels: int) -> None:
    import imagecodecs

    values = RNG.integers(0, 65536, (20, 24, channels), dtype=np.uint16)
    texts = srgb_chunks()
    texts.add_text("parameters", "a lighthouse, Größe 灯台")
    buffer = io.BytesIO()
    write_png(buffer, Image.new("L", (24, 20)), texts, ExactValues(values, as_png=True))
    found = imagecodecs.png_decode(buffer.getvalue()).reshape(values.shape)
    np.testing.assert_array_equal(found, values)
    with Image.open(buffer) as image:
        image.load()
        assert image.info["parameters"] == "a lighthouse, Größe 灯台"
        assert "srgb" in image.info


@pytest.mark.parametrize("exact", [None, ExactValues(np.zeros((20, 24, 5), np.float32), as_png=False)])
def test_else_the_image_itself(exact: ExactValues | None) -> None:
    buffer = io.BytesIO()
    write_png(buffer, Image.new("LA", (24, 20), (50, 60)), srgb_chunks(), exact)
    with Image.open(buffer) as image:
        assert image.mode == "LA"
        assert image.getpixel((3, 3)) == (50, 60)


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
@pytest.mark.parametrize("dtype", [np.float32, np.uint16, np.uint8])
def test_tiff_of_any_channels(channels: int, dtype: type) -> None:
    values = (RNG.random((20, 24, channels)) * 200).astype(dtype)
    buffer = io.BytesIO()
    write_tiff(buffer, ExactValues(values, as_png=False))
    buffer.seek(0)
    found = tifffile.imread(buffer)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found.reshape(values.shape), values)
