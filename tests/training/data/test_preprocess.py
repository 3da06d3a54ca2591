"""What the network sees of a file: any channels and bits, cropped, padded, or in an aspect bucket."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffstudio.imaging.levels import LoadedLevels, PixelForm
from diffstudio.training.data.preprocess import (
    background_levels,
    bucket_sizes,
    fit_levels,
    prepare_image,
    resize_to,
    share_kept,
    size_for,
    training_preview,
)
from diffstudio.training.recipe import DataRecipe

NOISE = np.random.default_rng(0).integers(64, 192, (60, 90, 3), dtype=np.uint8)  # the filter overshoots 0 and 255


@pytest.mark.parametrize("fit", ["crop", "pad"])
@pytest.mark.parametrize("size", [(32, 32), (40, 24), (24, 40)])
def test_levels_are_resized_as_images_are(fit: str, size: tuple[int, int]) -> None:
    """The same pixels by both ways, up to the rounding of Pillow's two passes over 8 bits."""
    expected = resize_to(Image.fromarray(NOISE), size, (255, 0, 9), fit)
    assert expected.shape == (size[1], size[0], 3)
    found = fit_levels(LoadedLevels(NOISE), PixelForm(), size, (255, 0, 9), fit)
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_transparent_levels_are_composited_as_images_are() -> None:
    alpha = np.random.default_rng(1).integers(0, 256, (60, 90), dtype=np.uint8)
    image = Image.fromarray(NOISE)
    image.putalpha(Image.fromarray(alpha))
    expected = resize_to(image, (30, 20), (255, 255, 255), "crop").astype(int)
    found = fit_levels(LoadedLevels(NOISE, alpha), PixelForm(), (30, 20), (255, 255, 255), "crop")
    assert np.abs(found - expected).max() <= 2


def test_opacity_as_a_channel() -> None:
    """Colours where it is opaque, the background where it is clear; padding is clear."""
    alpha = np.zeros((20, 20), np.uint8)
    alpha[:, :10] = 255
    red = np.full((20, 20, 3), (200, 10, 20), np.uint8)
    form = PixelForm(4, alpha=True)
    found = fit_levels(LoadedLevels(red, alpha), form, (20, 20), (255, 255, 255, 0), "crop")
    assert (found[:, :10] == (200, 10, 20, 255)).all()
    assert (found[:, 10:] == (255, 255, 255, 0)).all()
    padded = fit_levels(LoadedLevels(red), form, (20, 30), (255, 255, 255, 0), "pad")
    assert (padded[:5] == (255, 255, 255, 0)).all()
    assert (padded[5:25] == (200, 10, 20, 255)).all()


def test_a_ramp_of_16_bits_of_the_trained_size_is_exact(tmp_path: Path) -> None:
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    data = DataRecipe(size=256, channels=1, bits=16, fit="crop")
    np.testing.assert_array_equal(prepare_image(tmp_path / "a.png", data, (256, 256))[..., 0], ramp)


def test_backgrounds() -> None:
    data = DataRecipe(background="#ff8000")
    assert background_levels(data) == (255, 128, 0)
    assert background_levels(replace(data, bits=16)) == (65535, 128 * 257, 0)
    assert background_levels(replace(data, channels=1)) == (151,)  # 0.299 r + 0.587 g + 0.114 b
    assert background_levels(replace(data, channels=4, alpha=True)) == (255, 128, 0, 0)
    assert background_levels(replace(data, channels=5)) == (0, 0, 0, 0, 0)


def test_buckets_have_about_one_area() -> None:
    sizes = bucket_sizes(64, 8)
    assert (64, 64) in sizes
    assert (80, 48) in sizes
    assert (48, 80) in sizes
    for width, height in sizes:
        assert width % 8 == height % 8 == 0
        assert abs(width * height / 64**2 - 1) < 0.13
        assert max(width, height) <= 2 * min(width, height)
    assert bucket_sizes(16, 16) == ((16, 16),)


def test_each_image_goes_to_the_nearest_ratio() -> None:
    data = DataRecipe(fit="bucket", buckets=(48, 80, 64, 64, 80, 48))
    assert size_for(300, 200, data) == (80, 48)
    assert size_for(200, 300, data) == (48, 80)
    assert size_for(110, 100, data) == (64, 64)
    assert size_for(300, 200, replace(data, fit="crop")) == (64, 64)
    assert share_kept(300, 200, (64, 64)) == pytest.approx(2 / 3)
    assert share_kept(300, 200, (60, 40)) == pytest.approx(1)


def test_what_is_shown_of_it(tmp_path: Path) -> None:
    Image.fromarray(NOISE).save(tmp_path / "a.png")
    data = DataRecipe(size=32, fit="crop")
    shown = training_preview(tmp_path / "a.png", data, 90, 60)
    np.testing.assert_array_equal(shown, prepare_image(tmp_path / "a.png", data, (32, 32)))
    grey = training_preview(tmp_path / "a.png", replace(data, channels=1, bits=16), 90, 60)
    assert grey.shape == (32, 32, 3)
    assert (grey[..., 0] == grey[..., 2]).all()
    clear = Image.fromarray(NOISE)
    clear.putalpha(Image.new("L", clear.size, 0))
    clear.save(tmp_path / "b.png")
    assert (training_preview(tmp_path / "b.png", replace(data, channels=4, alpha=True), 90, 60) == 255).all()
    np.save(tmp_path / "c.npy", np.dstack([NOISE, NOISE[..., :2]]))
    five = replace(data, channels=5, channel_ranges=(0.0, 255.0) * 5, fit="bucket", buckets=(40, 24))
    assert training_preview(tmp_path / "c.npy", five, 90, 60).shape == (24, 40, 3)
