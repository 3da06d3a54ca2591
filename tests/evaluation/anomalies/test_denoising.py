"""Denoising errors against the posterior variance of Gaussian data, which is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from diffstudio.diffusion.schedule import RectifiedFlow, Schedule, VariancePreserving
from diffstudio.evaluation.anomalies.denoising import NormalErrors, denoising_errors
from tests.diffusion.exact import Gaussian


@pytest.mark.parametrize("schedule", [RectifiedFlow(), VariancePreserving.linear()])
def test_the_error_is_the_posterior_variance_at_each_level(schedule: Schedule) -> None:
    """E|D - x|^2 of data N(m, s^2) at noise r = sigma / alpha is s^2 r^2 / (s^2 + r^2), whatever the schedule."""
    images = 0.7 + 0.4 * torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    errors = denoising_errors(Gaussian(schedule), schedule, images, (0.2, 0.5), draws=4)
    assert errors.shape == (64, 2, 8, 8)
    for found, level in zip(errors.mean(axis=(0, 2, 3)), (0.2, 0.5), strict=True):
        noise = level / (1 - level)
        assert found == pytest.approx(0.16 * noise**2 / (0.16 + noise**2), rel=0.05)


def test_all_images_meet_the_same_noise_in_any_batch() -> None:
    images = torch.rand(5, 1, 8, 8) * 2 - 1
    denoiser = Gaussian(RectifiedFlow())
    together = denoising_errors(denoiser, denoiser.schedule, images)
    alone = denoising_errors(denoiser, denoiser.schedule, images[3:4])
    np.testing.assert_allclose(together[3:4], alone, rtol=1e-5)


def test_normal_errors_have_no_mean_and_unit_deviation() -> None:
    rng = np.random.default_rng(0)
    scale = rng.uniform(1, 4, (2, 6, 6))
    errors = (rng.gamma(4, 1, (800, 2, 6, 6)) * scale).astype(np.float32)
    normal = NormalErrors.of(errors)
    maps = normal.maps(errors)
    assert maps.mean() == pytest.approx(0, abs=0.01)
    assert maps.std() == pytest.approx(np.sqrt(1 / 2), rel=0.05)  # the mean of two levels
    assert normal.scores(errors).mean() == pytest.approx(1.0, abs=1e-5)
    worse = errors.copy()
    worse[0, :, 2, 3] += 50
    assert normal.maps(worse)[0].argmax() == 2 * 6 + 3
    assert normal.scores(worse)[0] > normal.scores(errors)[0]


def test_pixels_that_never_vary_do_not_explode() -> None:
    errors = np.ones((10, 1, 2, 2), np.float32)
    errors[:, 0, 0, 0] = np.linspace(0, 2, 10)
    assert np.isfinite(NormalErrors.of(errors).maps(errors + 0.01)).all()


def test_held_out_images_look_no_more_normal_than_new_ones() -> None:
    """The worst pixel of 16 images by their own deviations is bounded; by those of the others it is as of new images."""
    rng = np.random.default_rng(0)
    errors, new = (rng.gamma(2, 1, (count, 1, 16, 16)).astype(np.float32) for count in (16, 200))
    maps, roots, scores = NormalErrors.cross_fitted(errors)
    normal = NormalErrors.of(errors)
    worst, of_new = maps.max(axis=(1, 2)), normal.maps(new).max(axis=(1, 2))
    assert normal.maps(errors).max() < np.median(of_new) < 2 * np.median(worst)
    assert np.mean(of_new > worst.max()) < 0.2
    assert scores.mean() == pytest.approx(1.0, abs=0.02)
    assert roots.shape == maps.shape and roots.mean() == pytest.approx(normal.root_maps(new).mean(), rel=0.05)


def test_root_maps_are_in_units_of_the_mean_error_of_each_level() -> None:
    """Errors of four times the normal ones have twice the root; the place of a pixel is of no account."""
    scale = np.array([1.0, 50.0], np.float32)[:, None, None]
    errors = np.ones((8, 2, 4, 4), np.float32) * scale
    errors[:, :, 0] *= 0.0  # a border that is always known
    normal = NormalErrors.of(errors)
    mean = 12 / 16
    worse = errors[:1].copy()
    worse[0, :, 2, 1] *= 4
    found = normal.root_maps(worse)[0]
    assert found[2, 1] == pytest.approx(2 / np.sqrt(mean), rel=1e-5)
    assert found[1, 1] == pytest.approx(1 / np.sqrt(mean), rel=1e-5) and found[0].max() == 0
