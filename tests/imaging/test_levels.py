"""Levels for training: exact ramps of 16 bits, grey, opacity, and the ranges of arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from diffstudio.errors import ImageProblem
from diffstudio.imaging import colour
from diffstudio.imaging.levels import PixelForm, is_grey, load_levels, ranges_of_channels
from diffstudio.imaging.reader import load_image
from diffstudio.imaging.value_range import Depth, SampleType, measure_channel

RAMP = np.arange(65536, dtype=np.uint16).reshape(256, 256)
GREY16 = PixelForm(1, 16)


def test_a_ramp_of_16_bits_is_exact(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "ramp.png")
    tifffile.imwrite(tmp_path / "ramp.tif", RAMP)
    np.save(tmp_path / "ramp.npy", RAMP)
    for path in tmp_path.glob("ramp.*"):
        loaded = load_levels(path, GREY16)
        assert loaded.alpha is None
        np.testing.assert_array_equal(loaded.values[..., 0], RAMP)


def test_twelve_bits_fill_the_range_of_their_folder(tmp_path: Path) -> None:
    Image.fromarray(RAMP >> 4).save(tmp_path / "a.png")
    form = PixelForm(1, 16, ranges={SampleType.UINT16: (0.0, 4095.0)})
    found = load_levels(tmp_path / "a.png", form).values[..., 0]
    np.testing.assert_array_equal(np.rint(found / 65535 * 4095), RAMP >> 4)


@pytest.mark.parametrize("bits", [8, 16])
def test_eight_bits_as_16(tmp_path: Path, bits: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found = load_levels(tmp_path / "a.png", PixelForm(3, bits)).values
    assert found.dtype == (np.uint8 if bits == 8 else np.uint16)
    np.testing.assert_array_equal(found, pixels.astype(int) * (1 if bits == 8 else 257))


@pytest.mark.parametrize("bits", [8, 16])
def test_colour_becomes_grey_as_pillow_converts_it(tmp_path: Path, bits: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    grey = np.asarray(Image.fromarray(pixels).convert("L"), dtype=int)
    found = load_levels(tmp_path / "a.png", PixelForm(1, bits)).values[..., 0] / (1 if bits == 8 else 257)
    assert np.abs(found - grey).max() <= (0 if bits == 8 else 0.51)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    image = Image.fromarray(RAMP[:40:2, ::8] >> 8).convert("L")
    image.save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened))
    np.testing.assert_array_equal(load_levels(tmp_path / "a.png", PixelForm(1)).values[..., 0], expected)


def test_opacity(tmp_path: Path) -> None:
    pixels = np.dstack([RAMP[:32, :32] >> 8] * 3 + [RAMP[::8, ::8] >> 8]).astype(np.uint8)
    Image.fromarray(pixels, "RGBA").save(tmp_path / "a.png")
    for bits in (8, 16):
        loaded = load_levels(tmp_path / "a.png", PixelForm(4, bits, alpha=True))
        assert loaded.alpha is not None
        np.testing.assert_array_equal(loaded.alpha, pixels[..., 3].astype(int) * (1 if bits == 8 else 257))
    deep = np.dstack([RAMP[:32, :32]] * 3 + [RAMP[::8, ::8]])
    (tmp_path / "b.png").write_bytes(imagecodecs.png_encode(deep))
    for bits in (8, 16):
        loaded = load_levels(tmp_path / "b.png", PixelForm(3, bits))
        assert loaded.alpha is not None
        assert np.abs(loaded.alpha / loaded.alpha.max() - deep[..., 3] / deep[..., 3].max()).max() < 1 / 255
    deep[..., 3] = 65535
    (tmp_path / "b.png").write_bytes(imagecodecs.png_encode(deep))
    assert load_levels(tmp_path / "b.png", PixelForm(3, 16)).alpha is None


def test_reduced_by_means_weighted_by_opacity(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    found = load_levels(tmp_path / "a.png", GREY16, at_least=64).values[..., 0]
    expected = RAMP.reshape(64, 4, 64, 4).astype(float).mean(axis=(1, 3))
    assert np.abs(found - expected).max() <= 0.51
    pixels = np.zeros((32, 32, 4), np.uint8)
    pixels[::2, ::2] = (200, 100, 50, 255)
    Image.fromarray(pixels, "RGBA").save(tmp_path / "b.png")
    loaded = load_levels(tmp_path / "b.png", PixelForm(4, alpha=True), at_least=16)
    assert loaded.alpha is not None
    assert (loaded.values == (200, 100, 50)).all()
    assert (loaded.alpha == 64).all()


def _profile(kind: str) -> bytes:
    points = {"primaries": [0.64, 0.33, 1.0, 0.3, 0.6, 1.0, 0.15, 0.06, 1.0]} if kind == "rgb" else {}
    made: bytes = imagecodecs.cms_profile(kind, whitepoint=(0.3127, 0.3290, 1.0), gamma=1.0, **points)
    return made


@pytest.mark.parametrize(("kind", "channels"), [("gray", 1), ("rgb", 1), ("rgb", 3)])
def test_colours_of_16_bits_by_their_profile(tmp_path: Path, kind: str, channels: int) -> None:
    """Linear light becomes sRGB: IEC 61966-2-1."""
    pixels = RAMP if channels == 1 else np.dstack([RAMP] * 3)
    tifffile.imwrite(tmp_path / "a.tif", pixels, iccprofile=_profile(kind))
    linear = RAMP / 65535
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    found = load_levels(tmp_path / "a.tif", PixelForm(channels, 16)).values
    assert np.abs(found[..., 0] / 65535 - srgb)[linear > 0.01].max() < 0.002
    found = load_levels(tmp_path / "a.tif", PixelForm(channels, 8)).values
    assert np.abs(found[..., 0] / 255 - srgb)[linear > 0.01].max() < 0.005


def test_profiles_of_16_bits_that_change_nothing_or_cannot_be_used(tmp_path: Path) -> None:
    for name, profile in (("srgb", colour.srgb_profile()), ("bad", b"not a profile"), ("grey", _profile("gray"))):
        tifffile.imwrite(tmp_path / f"{name}.tif", np.dstack([RAMP] * 3), iccprofile=profile)
        found = load_levels(tmp_path / f"{name}.tif", PixelForm(3, 16)).values
        np.testing.assert_array_equal(found, np.dstack([RAMP] * 3), err_msg=name)


def test_grey_is_recognised() -> None:
    grey = np.dstack([RAMP[:16, :16] >> 8] * 3).astype(np.uint8)
    assert is_grey(Image.fromarray(grey))
    tinted = grey.copy()
    tinted[..., 2] += 2
    assert is_grey(Image.fromarray(tinted))
    tinted[3, 3] = (10, 0, 0)
    assert not is_grey(Image.fromarray(tinted))
    clear = np.dstack([tinted, np.full((16, 16), 255, np.uint8)])
    assert not is_grey(Image.fromarray(clear, "RGBA"))
    clear[3, 3, 3] = 0
    assert is_grey(Image.fromarray(clear, "RGBA"))


# ---- arrays ----------------------------------------------------------------------------------------------------------


def depths(*channels: Any) -> list[Depth]:
    return [measure_channel(np.asarray(channel)) for channel in channels]


OVERSHOOTS = np.linspace(-0.002, 1.004, 400)
OUTLIERS = np.append(np.linspace(100.0, 200.0, 20_000), 90_000.0)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ([depths(np.uint8([0, 7]), np.uint8([0, 200]))], ((0, 255), (0, 255))),
        ([depths(np.uint16([0, 7]), np.uint16([0, 4000]))], ((0, 4095), (0, 4095))),
        ([depths(np.uint16([0, 7])), depths(np.uint16([0, 65000]))], ((0, 65535),)),
        ([depths(np.int16([-1024, 3071]), np.int16([0, 9]))], ((-1024, 3071), (0, 9))),
        ([depths(OVERSHOOTS, np.linspace(-1, 1, 9), np.linspace(0, 254.5, 9))], ((0, 1), (-1, 1), (0, 255))),
        ([depths(np.float32([300, 300]))], ((300, 301),)),
        ([depths(np.float32([5, 9]), np.float32([0, 0.25]))], ((5, 9), (0, 0.25))),
        ([depths(np.uint32([0, 70_000]))], ((0, 70_000),)),
        ([depths(np.float64([np.nan, np.inf]))], ((0, 1),)),
    ],
)
def test_ranges_of_channels(files: list[list[Depth]], expected: Any) -> None:
    assert ranges_of_channels(files) == expected


def test_a_few_outliers_do_not_widen_the_range() -> None:
    ((low, high),) = ranges_of_channels([depths(OUTLIERS), depths(OUTLIERS)])
    assert low == pytest.approx(100, abs=0.2)
    assert high == pytest.approx(200, abs=0.2)


def test_an_array_keeps_its_channels_each_in_its_range(tmp_path: Path) -> None:
    values = np.random.default_rng(0).uniform([0, -1, 1000], [1, 1, 2000], (20, 24, 3)).astype(np.float32)
    values = np.dstack([values, values[..., :2]])
    np.save(tmp_path / "a.npy", values)
    form = PixelForm(5, 16, channel_ranges=((0, 1), (-1, 1), (1000, 2000), (0, 1), (-1, 1)))
    found = load_levels(tmp_path / "a.npy", form).values
    low, high = np.array(form.channel_ranges).T
    assert np.abs(low + found / 65535 * (high - low) - values).max() <= 1000 / 65535
    with pytest.raises(ImageProblem, match="it has 5 channels, not 4"):
        load_levels(tmp_path / "a.npy", PixelForm(4, 16, channel_ranges=((0, 1),) * 4))
    with pytest.raises(ImageProblem, match="it has 5 channels, not 4"):
        load_levels(tmp_path / "a.npy", PixelForm(4, alpha=True))
    Image.new("RGB", (20, 20)).save(tmp_path / "b.png")
    with pytest.raises(ImageProblem, match="it is an image, not an array of 5 channels"):
        load_levels(tmp_path / "b.png", form)


def test_arrays_of_one_or_three_channels_are_images(tmp_path: Path) -> None:
    hounsfield = np.linspace(-1024, 3071, 400).reshape(20, 20, 1).astype(np.int16)
    np.save(tmp_path / "ct.npy", hounsfield)
    form = PixelForm(1, 16, ranges={SampleType.INTEGER: (-1024, 3071)})
    found = load_levels(tmp_path / "ct.npy", form).values
    assert np.abs(found / 65535 * 4095 - 1024 - hounsfield).max() < 0.05
    np.save(tmp_path / "rgb.npy", np.full((20, 20, 3), 51, np.uint8))
    for bits, level in ((8, 51), (16, 51 * 257)):
        assert (load_levels(tmp_path / "rgb.npy", PixelForm(3, bits)).values == level).all()
    assert len(load_image(tmp_path / "rgb.npy").channels) == 3
