"""The baseline of a Gaussian model, against the closed form on Gaussian images and against nothing to be known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from diffstudio.networks.conditioning import Conditioning
from diffstudio.training.data.batches import Batches
from diffstudio.training.data.dataset import ImageDataset
from diffstudio.training.objectives.diffusion import DiffusionObjective
from diffstudio.training.objectives.gaussian_baseline import gaussian_loss
from diffstudio.training.recipe import Recipe


def dataset(pixels: np.ndarray, held_out: int) -> ImageDataset:
    count = len(pixels)
    names = tuple(Path(f"{index}.png") for index in range(count))
    kept = np.arange(count) < held_out
    return ImageDataset(
        pixels,
        ("",) * count,
        ("",),
        np.zeros(count, np.int64),
        kept,
        names,
        (),
        Path("none"),
        np.full((len(pixels), 2), pixels.shape[1]),
    )


def loss(recipe: Recipe, pixels: np.ndarray, held_out: int) -> tuple[float | None, DiffusionObjective]:
    plain = replace(recipe, network=replace(recipe.network, conditioning=Conditioning.NONE))
    images = dataset(pixels, held_out)
    objective = DiffusionObjective(plain, classes=1, vocabulary=0, device=torch.device("cpu"))
    return gaussian_loss(objective, Batches(images, plain, None)), objective


def test_independent_pixels_have_the_loss_of_the_closed_form(recipe: Recipe) -> None:
    """E|x_0 - D|^2 of N(m, v) is v sigma^2 / (alpha^2 v + sigma^2); the weight is 1 / sigma^2 above the floor."""
    deviation = 0.25
    normal = np.random.default_rng(0).normal(0, deviation, (300, 16, 16, 3))
    pixels = np.clip(np.rint((normal + 1) * 127.5), 0, 255).astype(np.uint8)
    found, objective = loss(recipe, pixels, 60)
    t = objective._fixed_times()
    alpha, sigma = 1 - t, t
    expected = float((deviation**2 / (alpha**2 * deviation**2 + sigma**2)).mean())
    assert found == pytest.approx(expected, rel=0.02)


def test_images_that_lie_on_a_plane_are_known_better_by_their_components(recipe: Recipe) -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(0, 1, (2, 16, 16, 3))
    amounts = rng.normal(0, 0.15, (200, 2))
    images = np.clip(amounts[:, :1, None, None] * first + amounts[:, 1:, None, None] * second, -1, 1)
    pixels = np.rint((images + 1) * 127.5).astype(np.uint8)
    shuffled = rng.permuted(pixels.reshape(200, -1), axis=1).reshape(pixels.shape)  # the same values, no plane
    on_plane, _ = loss(recipe, pixels, 40)
    without, _ = loss(recipe, shuffled, 40)
    assert on_plane is not None and without is not None and on_plane < 0.3 * without


def test_without_held_out_images_there_is_none(recipe: Recipe) -> None:
    assert loss(recipe, np.zeros((5, 16, 16, 3), np.uint8), 0)[0] is None
