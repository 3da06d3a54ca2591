"""The arrays for the window are the numbers of `diffusion`."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from diffstudio.diffusion.schedule import Schedule
from diffstudio.errors import BadRequest
from diffstudio.studio.curves.schedules import RECTIFIED_FLOW, STABLE_DIFFUSION, schedule_arrays
from tests.diffusion.exact import SCHEDULES

every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())


@every_schedule
def test_every_array_equals_the_mathematics(schedule: Schedule) -> None:
    arrays = schedule_arrays(schedule.to_json())
    assert arrays.t_max == schedule.t_max and arrays.t_min == pytest.approx(schedule.t_min, rel=1e-12)
    t = np.linspace(0, schedule.t_max, 301)
    tensor = torch.from_numpy(t)
    for name in ("alpha", "sigma", "log_snr", "scheduler_sigma"):
        expected = getattr(schedule, name)(tensor).numpy()
        np.testing.assert_allclose(getattr(arrays, name)(t), expected, rtol=1e-9, atol=1e-9, err_msg=name)
    log_snr = np.linspace(-18, 18, 301)
    expected = schedule.t_from_log_snr(torch.from_numpy(log_snr)).numpy()
    np.testing.assert_allclose(arrays.t_from_log_snr(log_snr), expected, rtol=1e-9, atol=1e-9)
    sigma = arrays.scheduler_sigma(t)
    expected = schedule.t_from_scheduler_sigma(torch.from_numpy(sigma)).numpy()
    np.testing.assert_allclose(arrays.t_from_scheduler_sigma(sigma), expected, rtol=1e-9, atol=1e-9)
    ends = torch.tensor([schedule.t_max, schedule.t_min], dtype=torch.float64)
    assert arrays.log_snr_range == pytest.approx(tuple(schedule.log_snr(ends).tolist()))


def test_a_schedule_is_made_once() -> None:
    assert schedule_arrays(STABLE_DIFFUSION) is schedule_arrays(dict(STABLE_DIFFUSION))


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"kind": "unknown"},
        {"kind": ["variance_preserving"]},
        {"kind": "rectified_flow", "shift": 0},
        {"kind": "rectified_flow", "shift": "3"},
        {"kind": "rectified_flow", "shape": 1},
        {"kind": "variance_exploding", "sigma_min": 2, "sigma_max": 1},
        dict(STABLE_DIFFUSION) | {"steps": 0},
        dict(STABLE_DIFFUSION) | {"steps": 10**9},
        dict(STABLE_DIFFUSION) | {"curve": "other"},
        dict(STABLE_DIFFUSION) | {"beta_last": 2.0},
    ],
)
def test_what_cannot_be_shown(values: dict[str, object]) -> None:
    with pytest.raises(BadRequest, match="cannot be shown"):
        schedule_arrays(values)


def test_the_constants_are_those_of_the_families() -> None:
    assert schedule_arrays(RECTIFIED_FLOW).t_max == 1
    assert schedule_arrays(STABLE_DIFFUSION).log_snr_range[0] == pytest.approx(-5.36, abs=0.01)
