from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from diffstudio.diffusion.curve_points import NoiseCurve
from diffstudio.studio.curves.models import ModelNoise
from diffstudio.studio.curves.noise_levels import TrainingLevels
from diffstudio.studio.curves.presets import curve_of_schedule, preset_curves
from diffstudio.studio.curves.schedules import RECTIFIED_FLOW, STABLE_DIFFUSION, schedule_arrays
from diffstudio.studio.evaluations.noise_schedule.losses import LevelLosses
from diffstudio.studio.evaluations.plots.figure import marks
from diffstudio.studio.evaluations.plots.files import data, png, svg
from diffstudio.studio.evaluations.views.noise_schedule import readout, schedule_view

LINE = NoiseCurve(((0.0, 10.0), (1.0, -10.0)))
FLOW = ModelNoise(schedule_arrays(RECTIFIED_FLOW), "x0", TrainingLevels("curve", curve=LINE))
SD = ModelNoise(schedule_arrays(STABLE_DIFFUSION), "eps", TrainingLevels())
LOSSES = LevelLosses("flowers", 400, (5.0, 0.0, -5.0), (1.0, 0.5, 0.4), (0.9, 0.5, 0.3))


def test_steps_losses_and_training_are_where_the_curve_has_their_noise() -> None:
    view = schedule_view(LINE, FLOW, 6, [("Karras", "karras"), ("Fitted", (1.0, 0.5))], LOSSES)
    mine, karras, fitted = view.steps
    assert mine.name == "this curve" and mine.u == pytest.approx((1, 0.8, 0.6, 0.4, 0.2, 0), abs=1e-6)  # even
    assert mine.log_snr[1:5] == pytest.approx((-6, -2, 2, 6), abs=1e-6)
    times = FLOW.times(6, "karras")[1:-1]
    expected = [(10 - 2 * math.log((1 - t) / t)) / 20 for t in times.tolist()]  # the line inverted
    assert karras.u[1:] == pytest.approx(np.clip(expected, 0, 1), abs=1e-6) and karras.u[0] == 1
    assert fitted.u == pytest.approx((1, 0.5), abs=1e-6)
    assert view.losses is not None and view.losses.u == pytest.approx((0.25, 0.5, 0.75), abs=1e-6)
    assert view.density == pytest.approx(1) and view.trained == "a drawn curve" and view.warnings == ()


def test_another_distribution_can_be_shown() -> None:
    view = schedule_view(LINE, FLOW, 4, levels=TrainingLevels("logit_normal", 0.6, 0.9))
    # logit(t) = 10 u - 5 on this line, so that the density is largest at its mean, u = 0.56
    assert view.edges[int(np.argmax(view.density))] == pytest.approx(0.56, abs=0.03)
    assert view.density.mean() == pytest.approx(1, abs=1e-3) and "mean 0.6" in view.trained


def test_without_a_model_there_is_the_curve_alone() -> None:
    view = schedule_view(LINE, None, 4)
    assert view.steps == () and not len(view.density) and view.losses is None and view.warnings == ()
    assert view.log_snr == pytest.approx(10 - 20 * view.u)


def test_a_curve_that_begins_with_alpha_of_zero_is_warned_about_for_eps_alone() -> None:
    flow = preset_curves()["flow"]
    (alpha, *others) = schedule_view(flow, SD, 4).warnings
    assert "alpha = 0" in alpha and "(eps)" in alpha and "−5.36" in alpha
    assert all("no less noise" in text for text in others)
    velocity = schedule_view(flow, replace(SD, prediction="v"), 4).warnings
    assert not any("alpha = 0" in text for text in velocity) and "no more noise than log-SNR −5.36" in velocity[0]
    assert not any("alpha" in text for text in schedule_view(flow, FLOW, 4).warnings)
    assert schedule_view(curve_of_schedule(SD.schedule), SD, 4).warnings == ()


def test_what_cannot_be_shown_is_said() -> None:
    outside = NoiseCurve(((0.0, 19.0), (1.0, 15.0)))
    view = schedule_view(outside, replace(SD, note="It is assumed."), 2000, [("Trailing", "trailing")])
    assert view.steps == ()
    assert view.warnings[0] == "It is assumed." and "no less noise than log-SNR" in view.warnings[1]
    assert view.warnings[2].startswith("This noise schedule cannot be used with this model")
    assert view.warnings[3].startswith("Trailing: This model cannot be sampled in 2,000 steps")


def test_everything_is_saved_as_image_and_data() -> None:
    figures = schedule_view(LINE, FLOW, 6, [("Karras", "karras")], LOSSES).figures()
    assert [figure.name for figure in figures] == ["noise-schedule", "training-distribution", "loss-by-noise-level"]
    for figure in figures:
        assert png(marks(figure)).startswith(b"\x89PNG") and svg(figure).startswith("<svg")
    assert "steps: Karras" in data(figures[0]) and "held-out images,0.5,0.5" in data(figures[2])
    without = replace(LOSSES, training=())
    assert "training images" not in data(schedule_view(LINE, FLOW, 6, (), without).figures()[2])
    assert len(schedule_view(LINE, None, 4).figures()) == 1


def test_the_readout_has_the_closed_forms() -> None:
    text = readout(LINE, FLOW, 0.25)
    assert text == "Time 0.250 · log-SNR 5.00 · sigma / alpha 0.0821 · model time 0.07586"  # t = sigmoid(-5 / 2)
    assert readout(LINE, None, 0.25) == text.partition(" · model")[0]
