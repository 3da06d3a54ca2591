from __future__ import annotations

import math

import pytest
import torch

from diffstudio.diffusion.curve_points import NoiseCurve
from diffstudio.diffusion.noise_curve import CurveLevels, CurveSpacing, curve_log_snr
from diffstudio.diffusion.schedule import RectifiedFlow, Schedule, VarianceExploding, VariancePreserving
from diffstudio.diffusion.spacing import sampling_times
from diffstudio.errors import BadRequest
from tests.diffusion.exact import SCHEDULES, float64

BENT = NoiseCurve(((0.0, 12.0), (0.1, 3.0), (0.35, 2.5), (0.8, -1.0), (1.0, -14.5)))
WIDE = NoiseCurve(((0.0, 20.0), (1.0, -20.0)))


def test_the_tensor_is_what_the_numbers_are() -> None:
    u = torch.linspace(0, 1, 53, dtype=torch.float64)
    expected = float64(*(BENT.log_snr(one) for one in u.tolist()))
    torch.testing.assert_close(curve_log_snr(BENT, u), expected, rtol=0, atol=1e-12)
    assert curve_log_snr(BENT, u.float().view(53, 1)).shape == (53, 1)
    torch.testing.assert_close(curve_log_snr(BENT, u.float()), expected.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
@pytest.mark.parametrize("steps", [1, 2, 9, 50])
def test_steps_fall_from_noise_to_the_clean_image(schedule: Schedule, steps: int) -> None:
    for curve in (BENT, WIDE):
        times = sampling_times(schedule, steps, CurveSpacing(curve))
        assert times[0] == schedule.t_max and times[-1] == 0 and len(times) == steps + 1
        assert bool((times.diff() < 0).all())


def test_steps_are_at_even_times_of_the_curve() -> None:
    schedule = VarianceExploding()
    inside = NoiseCurve(((0.0, 6.0), (0.3, 1.0), (1.0, -5.0)))
    levels = schedule.log_snr(sampling_times(schedule, 11, CurveSpacing(inside)))[:-1]
    u = [inside.time(level) for level in levels.tolist()]
    assert u[1:] == pytest.approx([1 - index / 10 for index in range(1, 11)], abs=1e-9)
    assert levels[0] == pytest.approx(-2 * math.log(80))  # noise begins where the model's does


def test_a_line_in_log_snr_is_the_spacing_log_snr() -> None:
    """A line between a schedule's own ends, or beyond them, has the steps of `log_snr`: exactly even in log-SNR."""
    for schedule in (VariancePreserving.scaled_linear(), VarianceExploding()):
        expected = sampling_times(schedule, 12, "log_snr")
        torch.testing.assert_close(sampling_times(schedule, 12, CurveSpacing(WIDE)), expected, rtol=1e-9, atol=1e-12)


def test_strength_keeps_the_last_steps() -> None:
    whole = sampling_times(RectifiedFlow(), 10, CurveSpacing(BENT))
    part = sampling_times(RectifiedFlow(), 10, CurveSpacing(BENT), strength=0.4)
    assert part.tolist() == whole.tolist()[-5:]


def test_a_curve_outside_the_models_noise() -> None:
    for curve in (NoiseCurve(((0.0, 19.0), (1.0, 15.0))), NoiseCurve(((0.0, -7.0), (1.0, -9.0)))):
        with pytest.raises(BadRequest, match="Draw it within the noise levels"):
            sampling_times(VariancePreserving.scaled_linear(), 5, CurveSpacing(curve))


def test_training_meets_the_quantiles_of_the_curve() -> None:
    """P(log-SNR > c) is the time at which the curve has fallen to c."""
    schedule = RectifiedFlow()
    t = CurveLevels(BENT).sample(40_000, schedule, torch.Generator().manual_seed(0))
    assert t.dtype == torch.float32 and t.min() >= schedule.t_min and t.max() <= 1
    log_snr = schedule.log_snr(t.double())
    for level in (5.0, 2.8, 2.0, 0.0, -3.0):
        assert float((log_snr > level).double().mean()) == pytest.approx(BENT.time(level), abs=0.01)


def test_a_line_is_uniform_in_log_snr() -> None:
    log_snr = VarianceExploding().log_snr(
        CurveLevels(NoiseCurve(((0.0, 5.0), (1.0, -5.0)))).sample(
            20_000, VarianceExploding(), torch.Generator().manual_seed(1)
        )
    )
    assert float(log_snr.mean()) == pytest.approx(0, abs=0.07) and float(log_snr.std()) == pytest.approx(
        10 / math.sqrt(12), rel=0.02
    )


def test_draws_come_from_the_generator() -> None:
    draws = [CurveLevels(BENT).sample(16, RectifiedFlow(), torch.Generator().manual_seed(7)) for _ in range(2)]
    assert torch.equal(*draws)
