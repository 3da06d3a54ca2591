from __future__ import annotations

import numpy as np
import pytest
import torch

from diffstudio.diffusion.curve_points import NoiseCurve
from diffstudio.diffusion.losses import CosineTimes, LogitNormalTimes, LogNormalSigma, NoiseLevels, UniformTimes
from diffstudio.diffusion.noise_curve import CurveLevels
from diffstudio.diffusion.schedule import Schedule
from diffstudio.studio.curves.noise_levels import TrainingLevels, density_over_time, described
from diffstudio.studio.curves.presets import curve_of_schedule
from diffstudio.studio.curves.schedules import RECTIFIED_FLOW, schedule_arrays
from tests.diffusion.exact import SCHEDULES

BENT = NoiseCurve(((0.0, 9.0), (0.3, 2.5), (0.8, -1.0), (1.0, -4.5)))
PAIRS = [
    (TrainingLevels(), UniformTimes()),
    (TrainingLevels("log_normal", -1.2, 1.2), LogNormalSigma()),
    (TrainingLevels("logit_normal", 0.6, 0.9), LogitNormalTimes(0.6, 0.9)),
    (TrainingLevels("cosine"), CosineTimes()),
    (TrainingLevels("curve", curve=BENT), CurveLevels(BENT)),
]


@pytest.mark.parametrize(("levels", "drawn"), PAIRS, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("name", ["scaled_linear", "variance_exploding", "rectified_flow"])
def test_probabilities_are_those_of_draws(levels: TrainingLevels, drawn: NoiseLevels, name: str) -> None:
    schedule: Schedule = SCHEDULES[name]
    arrays = schedule_arrays(schedule.to_json())
    t = drawn.sample(20_000, schedule, torch.Generator().manual_seed(0)).double()
    lowest, highest = arrays.log_snr_range
    grid = np.linspace(max(lowest, -12) + 0.3, min(highest, 12) - 0.3, 25)
    found = levels.less_noise(arrays, grid)
    expected = [float((t < arrays.t_from_log_snr(np.array(one))).double().mean()) for one in grid.tolist()]
    assert found.tolist() == pytest.approx(expected, abs=0.012)


def test_its_own_curve_is_flat() -> None:
    edges = np.linspace(0, 1, 41)
    flow = schedule_arrays(RECTIFIED_FLOW)
    assert density_over_time(TrainingLevels("curve", curve=BENT), flow, BENT, edges) == pytest.approx(1, abs=1e-9)


def test_uniform_times_of_a_flow_are_flat_over_its_own_schedule() -> None:
    """Up to the points through which the curve is drawn."""
    flow = schedule_arrays(RECTIFIED_FLOW)
    density = density_over_time(TrainingLevels(), flow, curve_of_schedule(flow), np.array([0.02, 0.08, 0.2, 0.5, 0.8]))
    assert density == pytest.approx(1, abs=0.002)


def test_normal_logits_have_the_density_of_the_closed_form() -> None:
    """Over the flow's own time t: the logit-normal density at the middle of narrow intervals."""
    flow = schedule_arrays(RECTIFIED_FLOW)
    curve = NoiseCurve(((0.0, 12.0), (1.0, -12.0)))  # log-SNR 12 - 24 u, so that logit t = 12 u - 6
    edges = np.linspace(0.2, 0.8, 601)
    z = (12 * (edges[1:] + edges[:-1]) / 2 - 6 - 0.6) / 0.9
    expected = 12 / 0.9 * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    found = density_over_time(TrainingLevels("logit_normal", 0.6, 0.9), flow, curve, edges)
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-6)


def test_from_the_recipe_of_a_header() -> None:
    objective = {"noise_levels": "logit_normal", "mean": 0.6, "deviation": 0.9}
    found = TrainingLevels.from_recipe({"objective": objective})
    assert found == TrainingLevels("logit_normal", 0.6, 0.9)
    assert described(found) == "logit-normal, mean 0.6, deviation 0.9"
    assert described(TrainingLevels("cosine")) == "cosine"
    drawn = {"noise_levels": "curve", "noise_curve": list(BENT.pairs), "mean": 0.6, "deviation": 0.9}
    curve = TrainingLevels.from_recipe({"objective": drawn})
    assert curve is not None and curve.curve == BENT and described(curve) == "a drawn curve"
    for broken in (
        None,
        {},
        {"objective": 3},
        {"objective": objective | {"noise_levels": "other"}},
        {"objective": objective | {"deviation": 0}},
        {"objective": drawn | {"noise_curve": [0, 1]}},
        {"objective": drawn | {"noise_curve": [0, "x", 1, 0]}},
        {"objective": drawn | {"noise_curve": [0, 1, 1, [2]]}},
    ):
        assert TrainingLevels.from_recipe(broken) is None


def test_a_mean_that_no_number_holds_is_not_read() -> None:
    assert (
        TrainingLevels.from_recipe({"objective": {"noise_levels": "log_normal", "mean": 10**400, "deviation": 1}})
        is None
    )
