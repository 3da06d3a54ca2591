"""Pixels of more than 8 bits: PNG and TIFF in the layouts that Pillow reads in part or not at all."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile

from diffstudio.errors import ImageProblem
from diffstudio.imaging.reader import load_image
from diffstudio.imaging.samples import SamplesProblem, read_png, split

NOISE = np.random.default_rng(0).integers(0, 256, (24, 31, 4), dtype=np.uint8)
DEEP = NOISE.astype(np.uint16) * 257


def written(path: Path, pixels: np.ndarray, **how: Any) -> Path:
    tifffile.imwrite(path, pixels, **how)
    return path


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_png_of_sixteen_bits(tmp_path: Path, channels: int) -> None:
    pixels = np.ascontiguousarray(DEEP[..., :channels] if channels > 1 else DEEP[..., 0])
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(pixels))
    image = np.asarray(load_image(tmp_path / "a.png").image)
    assert (image[..., 0] == NOISE[..., 0]).all()
    if channels in (2, 4):
        assert (image[..., 3] == NOISE[..., channels - 1]).all()


def test_a_transparent_colour_of_sixteen_bits() -> None:
    grey = np.full((4, 4), 300, np.uint16)
    grey[0, 0] = 301
    samples = read_png(io.BytesIO(imagecodecs.png_encode(grey)), 300)
    assert samples.alpha is not None and samples.alpha[0, 0] == 255 and samples.alpha[1, 1] == 0
    colours = np.dstack([grey, grey, grey])
    samples = read_png(io.BytesIO(imagecodecs.png_encode(colours)), (300, 300, 301))
    assert samples.alpha is not None and (samples.alpha == 255).all()
    with_alpha = np.ascontiguousarray(DEEP)
    assert (read_png(io.BytesIO(imagecodecs.png_encode(with_alpha)), (0, 0, 0)).alpha == NOISE[..., 3]).all()


@pytest.mark.parametrize(
    ("pixels", "how"),
    [
        (DEEP[..., :3], {"photometric": "rgb"}),
        (np.moveaxis(DEEP[..., :3], -1, 0), {"photometric": "rgb", "planarconfig": "separate"}),
        (DEEP[..., :3], {"photometric": "rgb", "compression": "zlib", "predictor": True, "tile": (16, 16)}),
        (DEEP[..., :3], {"photometric": "rgb", "bigtiff": True}),
        (DEEP, {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
        (DEEP[..., 0], {}),
        (NOISE[..., 0] / 255.0, {}),
        ((NOISE[..., :3] / np.float32(255)).astype(np.float16), {"photometric": "rgb"}),
        (NOISE[..., 0].astype(np.uint32) * 257, {}),
        (65535 - DEEP[..., 0], {"photometric": "miniswhite"}),
    ],
)
def test_tiff_of_every_layout(tmp_path: Path, pixels: np.ndarray, how: dict[str, Any]) -> None:
    image = np.asarray(load_image(written(tmp_path / "a.tif", np.ascontiguousarray(pixels), **how)).image)
    assert (image[..., 0] == NOISE[..., 0]).all()
    if "extrasamples" in how:
        assert (image[..., 3] == NOISE[..., 3]).all()


def test_twelve_bits_are_declared_and_hounsfield_units_are_stretched(tmp_path: Path) -> None:
    loaded = load_image(_packed(tmp_path))
    assert loaded.depth is not None and loaded.depth.declared == (0, 4095)
    assert [loaded.image.getpixel((x, 0))[0] for x in (0, 1)] == [0, 255]
    units = NOISE[..., 0].astype(np.int16) * 16 - 1024
    units.flat[:2] = -1024, 3056
    image = np.asarray(load_image(written(tmp_path / "hu.tif", units)).image)[..., 0]
    assert np.abs(image - (units + 1024.0) / 4080 * 255).max() <= 0.51


def test_alpha_of_twelve_bits_reaches_full_opacity(tmp_path: Path) -> None:
    pixels = np.full((8, 8, 4), 4095, np.uint16)
    pixels[0, 0, 3] = 0
    path = written(tmp_path / "a.tif", pixels, photometric="rgb", bitspersample=12, extrasamples=["unassalpha"])
    alpha = np.asarray(load_image(path).image)[..., 3]
    assert alpha[0, 0] == 0 and (alpha.flat[1:] == 255).all()


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_premultiplied_colours_are_divided_by_alpha(tmp_path: Path, dtype: type) -> None:
    """As Pillow does for 8 bits."""
    level = 257 if dtype is np.uint16 else np.float32(1 / 255)
    pixels = np.zeros((8, 8, 4), dtype)
    pixels[..., 0], pixels[..., 3] = 64 * level, 128 * level
    pixels[0, 0, 3] = 0
    path = written(tmp_path / "a.tif", pixels, photometric="rgb", extrasamples=["assocalpha"])
    image = np.asarray(load_image(path).image)
    assert image[1, 1].tolist() == [128, 0, 0, 128] and image[0, 0].tolist() == [0, 0, 0, 0]


def test_a_fourth_channel_that_is_not_alpha_is_ignored(tmp_path: Path) -> None:
    path = written(tmp_path / "a.tif", np.ascontiguousarray(DEEP), photometric="rgb", extrasamples=["unspecified"])
    image = load_image(path).image
    assert image.mode == "RGB" and (np.asarray(image) == NOISE[..., :3]).all()


def test_the_alpha_of_a_white_is_zero_image_is_not_inverted(tmp_path: Path) -> None:
    pixels = np.dstack([65535 - DEEP[..., 0], DEEP[..., 1]])
    path = written(
        tmp_path / "a.tif", pixels, photometric="miniswhite", planarconfig="contig", extrasamples=["unassalpha"]
    )
    image = np.asarray(load_image(path).image)
    assert (image[..., 0] == NOISE[..., 0]).all() and (image[..., -1] == NOISE[..., 1]).all()


def _packed(tmp_path: Path) -> Path:
    """A TIFF of two pixels of 12 bits each, 0 and 4095, in three bytes."""
    entries = [
        (256, 3, 2),
        (257, 3, 1),
        (258, 3, 12),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 122),
        (277, 3, 1),
        (278, 3, 1),
        (279, 4, 3),
    ]
    body = b"II*\0" + struct.pack("<IH", 8, len(entries))
    for tag, kind, value in entries:
        body += struct.pack("<HHII", tag, kind, 1, value)
    body += struct.pack("<I", 0)
    path = tmp_path / "packed.tif"
    path.write_bytes(body.ljust(122, b"\0") + b"\x00\x0f\xff")
    return path


@pytest.mark.parametrize(
    ("pixels", "how", "why"),
    [
        (
            np.zeros((2, 20, 20, 3), np.uint16),
            {"photometric": "rgb", "volumetric": True, "tile": (2, 16, 16)},
            "3 channels",
        ),
        (np.zeros((20, 20), np.complex64), {}, "of complex64"),
        (DEEP[..., :3].copy(), {"photometric": "cielab"}, r"it stores CIE L\*a\*b\* in uint16"),
        (NOISE.astype(np.float32), {"photometric": "separated"}, "it stores CMYK in float32"),
    ],
)
def test_what_is_no_picture_is_refused(tmp_path: Path, pixels: np.ndarray, how: dict[str, Any], why: str) -> None:
    with pytest.raises(ImageProblem, match=why):
        load_image(written(tmp_path / "a.tif", pixels, **how))


def test_bombs_are_refused_by_their_header(tmp_path: Path) -> None:
    small = written(tmp_path / "a.tif", np.zeros((16, 16, 3), np.float32), photometric="rgb", tile=(16, 16))
    data = small.read_bytes()
    with tifffile.TiffFile(small) as tiff:
        at = {
            name: tiff.pages.first.tags[name].offset + 8
            for name in ("ImageWidth", "ImageLength", "TileWidth", "TileLength")
        }
    for names, why in (
        (("ImageWidth", "ImageLength"), "at 60,000 × 60,000 px"),
        (("TileWidth", "TileLength"), "megapixels"),
    ):
        changed = bytearray(data)
        for name in names:
            changed[at[name] : at[name] + 2] = (60_000).to_bytes(2, "little")
        small.write_bytes(changed)
        with pytest.raises(ImageProblem, match=why):
            load_image(small)


def test_memory_is_bounded_also_where_a_value_takes_eight_bytes(tmp_path: Path) -> None:
    """9,000 × 9,000 px are fewer than the limit of pixels, and 1.9 GB as RGB of double precision."""
    small = written(tmp_path / "a.tif", np.zeros((16, 16, 3), np.float64), photometric="rgb")
    with tifffile.TiffFile(small) as tiff:
        places = [tiff.pages.first.tags[name].offset + 8 for name in ("ImageWidth", "ImageLength")]
    changed = bytearray(small.read_bytes())
    for place in places:
        changed[place : place + 2] = (9_000).to_bytes(2, "little")
    small.write_bytes(changed)
    with pytest.raises(ImageProblem, match="its pixels take 1,853 MiB, more than the 682 MiB that are read"):
        load_image(small)


def test_channels_are_split() -> None:
    assert split(NOISE[..., :1]).values.shape == (24, 31)
    assert split(NOISE[..., :2], has_alpha=False).alpha is None
    floats = split(NOISE[..., :4] / 255.0)
    assert floats.alpha is not None and (floats.alpha == NOISE[..., 3]).all()
    with pytest.raises(SamplesProblem, match="6 channels"):
        split(np.zeros((2, 2, 6)))


@pytest.mark.parametrize("how", [{}, {"compression": "zlib"}, {"rowsperstrip": 8}, {"tile": (16, 16)}])
def test_what_is_missing_is_refused_and_not_black(tmp_path: Path, how: dict[str, Any]) -> None:
    path = written(tmp_path / "a.tif", NOISE[..., :3].astype(np.float32), photometric="rgb", **how)
    with tifffile.TiffFile(path) as tiff:
        last = tiff.pages.first.dataoffsets[-1]
    data = path.read_bytes()
    for length in (last, last + 9, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(ImageProblem, match="truncated"):
            load_image(path)
