from __future__ import annotations

import numpy as np
import pytest

from diffstudio.diffusion import spacing as mathematics
from diffstudio.diffusion.curve_points import NoiseCurve
from diffstudio.diffusion.noise_curve import CurveSpacing
from diffstudio.diffusion.schedule import RectifiedFlow, Schedule
from diffstudio.errors import BadRequest
from diffstudio.studio.curves.schedules import schedule_arrays
from diffstudio.studio.curves.spacings import SPACINGS, leading, log_snr, sampling_times
from tests.diffusion.exact import SCHEDULES

every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
BENT = NoiseCurve(((0.0, 12.0), (0.1, 3.0), (0.35, 2.5), (0.8, -1.0), (1.0, -14.5)))


@every_schedule
@pytest.mark.parametrize("spacing", [*mathematics.SPACINGS, BENT], ids=lambda one: str(one)[:16])
@pytest.mark.parametrize("steps", [1, 2, 7, 50])
def test_every_spacing_equals_the_mathematics(schedule: Schedule, spacing: str | NoiseCurve, steps: int) -> None:
    arrays = schedule_arrays(schedule.to_json())
    if spacing == "align_your_steps" and isinstance(schedule, RectifiedFlow):
        with pytest.raises(BadRequest, match="no table is published"):
            sampling_times(arrays, steps, spacing)
        return
    theirs = CurveSpacing(spacing) if isinstance(spacing, NoiseCurve) else spacing
    expected = mathematics.sampling_times(schedule, steps, theirs).numpy()
    np.testing.assert_allclose(sampling_times(arrays, steps, spacing), expected, rtol=1e-6, atol=1e-9)


def test_the_names_are_the_same() -> None:
    assert list(SPACINGS) == list(mathematics.SPACINGS)


def test_options_equal_the_mathematics() -> None:
    schedule = SCHEDULES["scaled_linear"]
    arrays = schedule_arrays(schedule.to_json())
    for steps in (4, 1000):
        expected = mathematics.leading(schedule, steps, offset=1).tolist()
        assert leading(arrays, steps, offset=1).tolist() == expected
    flow = schedule_arrays(RectifiedFlow().to_json())
    expected = mathematics.log_snr(RectifiedFlow(), 8, second=0.95).tolist()
    assert sampling_times(flow, 8, lambda schedule, steps: log_snr(schedule, steps, 0.95))[:-1] == pytest.approx(
        expected
    )


def test_bad_requests_are_those_of_the_mathematics() -> None:
    schedule = SCHEDULES["scaled_linear"]
    arrays = schedule_arrays(schedule.to_json())
    outside = NoiseCurve(((0.0, 19.0), (1.0, 15.0)))
    for steps, spacing in ((0, "uniform"), (3, "none"), (2000, "trailing"), (5, outside)):
        theirs = CurveSpacing(spacing) if isinstance(spacing, NoiseCurve) else spacing
        with pytest.raises(BadRequest) as expected:
            mathematics.sampling_times(schedule, steps, theirs)
        with pytest.raises(BadRequest) as found:
            sampling_times(arrays, steps, spacing)
        assert str(found.value) == str(expected.value)
