"""PNG of 16 bits with texts, and TIFF of any channels: other programs read the same values."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from diffstudio.errors import ImageProblem
from diffstudio.imaging.colour import srgb_chunks
from diffstudio.imaging.exact_files import (
    EXACT_SUFFIX,
    ExactValues,
    channels_beside,
    files_beside,
    read_channel_beside,
    write_png,
    write_tiff,
)

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


def test_channels_of_the_tiff_beside_a_png(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (24, 20)).save(path)
    assert channels_beside(path) == 0
    values = np.dstack([np.full((20, 24), channel) for channel in range(5)]).astype(np.float32)
    values[:, :12, 3] = -7
    with path.with_suffix(".tif").open("wb") as file:
        write_tiff(file, ExactValues(values, as_png=False))
    assert channels_beside(path) == 5
    assert channels_beside(path.with_suffix(".tif")) == 0  # that is the file itself
    shown = np.asarray(read_channel_beside(path, 4))
    assert shown.shape == (20, 24, 3)
    assert (shown[:, :12] == 0).all() and (shown[:, 12:] == 255).all()
    for number in (0, 6):
        with pytest.raises(ImageProblem, match=f"no channel {number}"):
            read_channel_beside(path, number)
    tifffile.imwrite(path.with_suffix(".tif"), np.moveaxis(values, 2, 0), photometric="minisblack")
    assert channels_beside(path) == 5
    tifffile.imwrite(path.with_suffix(".tif"), values[..., :3], photometric="rgb")
    assert channels_beside(path) == 0
    with pytest.raises(ImageProblem, match="no channel 1"):
        read_channel_beside(path, 1)
    path.with_suffix(".tif").write_bytes(b"II*\0 and no more")
    with pytest.raises(ImageProblem):
        channels_beside(path)


def test_only_a_png_has_its_exact_values_beside_it(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg", f"a{EXACT_SUFFIX}"):
        (tmp_path / name).write_bytes(b"")
    assert files_beside(tmp_path / "a.png") == [tmp_path / f"a{EXACT_SUFFIX}"]
    assert files_beside(tmp_path / "a.jpg") == files_beside(tmp_path / f"a{EXACT_SUFFIX}") == []
