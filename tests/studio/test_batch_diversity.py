"""How different the images of a batch are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffstudio.errors import ImageProblem
from diffstudio.studio.batch_diversity import batch_diversity

RNG = np.random.default_rng(3)


def images(folder: Path, pixels: list[np.ndarray]) -> list[Path]:
    for number, each in enumerate(pixels):
        Image.fromarray(each.astype(np.uint8)).save(folder / f"{number}.png")
    return [folder / f"{number}.png" for number in range(len(pixels))]


def square(left: int, side: int, colour: tuple[int, int, int]) -> np.ndarray:
    pixels = np.full((64, 64, 3), 255)
    pixels[left : left + side, left : left + side] = colour
    return pixels


def test_equal_images_are_one_and_different_ones_more(tmp_path: Path) -> None:
    same = batch_diversity(images(tmp_path, [square(10, 30, (200, 0, 0))] * 3))
    assert same is not None and same.images == 3
    assert same.vendi == pytest.approx(1, abs=1e-4) and same.distance == pytest.approx(0, abs=1e-5)
    alike = batch_diversity(images(tmp_path, [square(left, 30, (200, 0, 0)) for left in (10, 12, 14)]))
    noise = [
        RNG.integers(0, 256, (64, 64, 3)),
        square(10, 30, (200, 0, 0)),
        np.tile(np.arange(64)[:, None, None] * 4, (1, 64, 3)),
    ]
    varied = batch_diversity(images(tmp_path, noise))
    assert alike is not None and varied is not None
    assert 1 < alike.vendi < varied.vendi <= 3 and 0 < alike.distance < varied.distance


def test_one_image_is_no_batch_and_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    paths = images(tmp_path, [square(10, 30, (0, 0, 0))] * 2)
    assert batch_diversity([]) is None and batch_diversity(paths[:1]) is None
    paths[1].unlink()
    with pytest.raises(ImageProblem, match=r"1\.png"):
        batch_diversity(paths)
