"""The forward process in NumPy: equal to the mathematics in torch, and fast enough to follow a slider."""

from __future__ import annotations

import math
import statistics
import time

import numpy as np
import pytest
import torch

from diffstudio.diffusion.schedule import schedule_from_json
from diffstudio.studio.curves.forward import (
    SCHEDULES,
    NoiseLevel,
    family_schedule,
    level_at,
    noise_like,
    noisy,
    shown,
    time_at,
)
from diffstudio.studio.evaluations.views.forward import curves

FRAME_SECONDS = 0.033


@pytest.mark.parametrize("key", [key for key, _, _ in SCHEDULES])
def test_states_are_those_of_the_schedule_in_torch(key: str) -> None:
    values = next(values for name, _, values in SCHEDULES if name == key)
    exact, arrays = schedule_from_json(values), family_schedule(key)
    image = np.random.default_rng(1).uniform(-1, 1, (8, 6, 3)).astype(np.float32)
    noise = noise_like(image, 3)
    for share in (0.0, 0.01, 0.3, 0.7, 1.0):
        t = torch.tensor(time_at(arrays, share), dtype=torch.float64)
        alpha, sigma = float(exact.alpha(t)), float(exact.sigma(t))
        level = level_at(arrays, float(t))
        assert (level.alpha, level.sigma) == pytest.approx((alpha, sigma), rel=1e-6, abs=1e-9)
        assert level.log_snr == pytest.approx(float(exact.log_snr(t)), rel=1e-5, abs=1e-5)
        x_t = torch.from_numpy(image).double() * alpha + torch.from_numpy(noise).double() * sigma
        assert np.abs(noisy(image, noise, level) - x_t.numpy()).max() < 1e-5 * max(1, sigma)


def test_what_is_said_and_shown_at_both_ends() -> None:
    flow = family_schedule("flow")
    assert level_at(flow, 0.0).text() == "t 0, alpha 1, sigma 0, SNR ∞, log-SNR ∞"
    assert level_at(flow, 1.0).text() == "t 1, alpha 0, sigma 1, SNR 0, log-SNR −∞"
    assert level_at(flow, 0.5).text() == "t 0.5, alpha 0.5, sigma 0.5, SNR 1, log-SNR 0"
    assert NoiseLevel(1, 0.8, 0.4).snr == pytest.approx(4) and math.isclose(
        NoiseLevel(1, 0.8, 0.4).log_snr, math.log(4)
    )
    image = np.linspace(-1, 1, 256, dtype=np.float32).reshape(16, 16, 1).repeat(3, axis=2)
    assert np.abs(shown(image, level_at(flow, 0.0))[..., 0].ravel().astype(int) - np.arange(256)).max() <= 1
    exploding = family_schedule("edm")
    level = level_at(exploding, time_at(exploding, 1.0))
    seen = shown(noisy(image, noise_like(image, 0), level), level)
    assert seen.std() > 60 and (seen == 255).mean() < 0.2  # noise of 80 is shown as noise of 1


def test_noise_is_white_and_the_same_for_a_seed() -> None:
    image = np.zeros((64, 64, 3), np.float32)
    noise = noise_like(image, 5)
    assert noise.dtype == np.float32 and abs(float(noise.std()) - 1) < 0.02
    assert np.array_equal(noise, noise_like(image, 5)) and not np.array_equal(noise, noise_like(image, 6))


def test_the_curves_have_a_dot_at_the_level() -> None:
    flow = family_schedule("flow")
    levels, log_snr = curves(flow, level_at(flow, 0.25))
    assert [one.name for one in levels.series] == ["alpha", "sigma", "alpha now", "sigma now"]
    assert (levels.series[2].x, levels.series[2].y, levels.series[3].y) == ((0.25,), (0.75,), (0.25,))
    assert log_snr.series[1].y == pytest.approx((2 * math.log(3),)) and len(log_snr.series[0].x) == 200


def test_a_frame_of_the_slider_takes_less_than_33_milliseconds() -> None:
    """Of this thread's own time, so that other work on the machine does not count."""
    image = np.zeros((512, 512, 3), np.float32)
    noise, schedule = noise_like(image, 0), family_schedule("sd")
    taken = []
    for share in np.linspace(0, 1, 9).tolist():
        start = time.thread_time()
        level = level_at(schedule, time_at(schedule, share))
        shown(noisy(image, noise, level), level)
        curves(schedule, level)
        taken.append(time.thread_time() - start)
    assert statistics.median(taken) < FRAME_SECONDS
