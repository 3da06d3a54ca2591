from __future__ import annotations

import json
import math

import pytest
import torch

from diffstudio.diffusion.schedule import BetaCurve, RectifiedFlow, Schedule, VariancePreserving, schedule_from_json
from tests.diffusion.exact import SCHEDULES, float64

every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
every_curve = pytest.mark.parametrize("curve", BetaCurve)


@every_curve
def test_a_training_step_has_the_variance_that_its_betas_leave(curve: BetaCurve) -> None:
    schedule = VariancePreserving(curve, 200, 1e-4, 0.02)
    alpha_bar = 1.0
    for step, beta in enumerate(schedule.betas().tolist(), start=1):
        alpha_bar *= 1 - beta
        assert schedule.alpha(float64(step)).item() == pytest.approx(math.sqrt(alpha_bar), rel=1e-12)
        assert schedule.sigma(float64(step)).item() == pytest.approx(math.sqrt(1 - alpha_bar), rel=1e-9)


@every_curve
def test_variance_is_preserved_at_every_time(curve: BetaCurve) -> None:
    schedule = VariancePreserving(curve, 100, 1e-4, 0.02)
    t = torch.linspace(0, 100, 777, dtype=torch.float64)
    torch.testing.assert_close(schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2, torch.ones_like(t))


def test_between_training_steps_the_ratio_is_linear() -> None:
    schedule = VariancePreserving.scaled_linear()
    at_8, between, at_9 = (schedule.sigma(float64(8, 8.25, 9)) / schedule.alpha(float64(8, 8.25, 9))).tolist()
    assert between == pytest.approx(0.75 * at_8 + 0.25 * at_9)


def test_training_steps_may_be_counted_in_whole_numbers() -> None:
    schedule, steps = VariancePreserving(), torch.arange(1001)
    assert torch.equal(schedule.alpha(steps), schedule.alpha(steps.double()))
    assert torch.equal(schedule.sigma(steps), schedule.sigma(steps.double()))


def test_the_cosine_curve_is_its_formula_until_the_betas_are_capped() -> None:
    schedule = VariancePreserving.cosine(500)
    t = torch.arange(0, 490, dtype=torch.float64)
    squared_cosine = torch.cos((t / 500 + 0.008) / 1.008 * math.pi / 2) ** 2
    torch.testing.assert_close(schedule.alpha(t) ** 2, squared_cosine / squared_cosine[0])


@every_curve
def test_zero_terminal_snr_ends_in_noise_and_begins_as_before(curve: BetaCurve) -> None:
    plain = VariancePreserving(curve, 1000, 1e-4, 0.02)
    schedule = plain.with_zero_terminal_snr()
    assert schedule.alpha(float64(1000)).item() ** 2 == pytest.approx(2**-24)
    assert schedule.alpha(float64(1)).item() == pytest.approx(plain.alpha(float64(1)).item(), rel=1e-12)
    shrunk = (plain.alpha(float64(1, 400)) - plain.alpha(float64(1000))).tolist()
    assert schedule.alpha(float64(400)) / schedule.alpha(float64(1)) == pytest.approx(shrunk[1] / shrunk[0])


@every_schedule
def test_all_noise_levels_rise_with_time_from_the_clean_image(schedule: Schedule) -> None:
    t = torch.linspace(0, schedule.t_max, 501, dtype=torch.float64)
    assert schedule.alpha(t)[0] == 1 and schedule.sigma(t)[0] == 0
    assert (schedule.log_snr(t).diff() < 0).all()
    assert schedule.log_snr(t)[0] == math.inf


@every_schedule
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 2e-4)])
def test_log_snr_and_coordinate_have_inverses(schedule: Schedule, dtype: torch.dtype, tolerance: float) -> None:
    t = torch.linspace(schedule.t_min, schedule.t_max * 0.999, 300, dtype=dtype)
    for there, back in (
        (schedule.log_snr, schedule.t_from_log_snr),
        (schedule.scheduler_sigma, schedule.t_from_scheduler_sigma),
    ):
        assert back(there(t)).dtype is dtype
        torch.testing.assert_close(back(there(t)), t, rtol=tolerance, atol=0)


@every_schedule
def test_what_lies_beyond_the_ends_is_the_end(schedule: Schedule) -> None:
    assert schedule.t_from_log_snr(float64(math.inf, -math.inf)).tolist() == [0, schedule.t_max]


@pytest.mark.parametrize("shift", [0.0, -1.0, math.inf, math.nan])
def test_a_shift_must_be_positive_and_finite(shift: float) -> None:
    with pytest.raises(ValueError, match="shift must be positive and finite"):
        RectifiedFlow(shift)


@every_schedule
def test_schedules_survive_storage(schedule: Schedule) -> None:
    assert schedule_from_json(json.loads(json.dumps(schedule.to_json()))) == schedule


@pytest.mark.parametrize("damaged", [
    {}, {"kind": "sideways"}, {"kind": "variance_preserving"}, {"kind": "variance_preserving", "curve": "wavy"},
    {"kind": "rectified_flow", "bend": 2}, {"kind": "variance_preserving", "curve": "linear", "steps": -5},
    {"kind": "variance_preserving", "curve": "linear", "steps": 10**15},
])  # fmt: skip
def test_what_is_no_schedule_is_refused(damaged: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="schedule|BetaCurve"):
        schedule_from_json(damaged)


@pytest.mark.parametrize(("steps", "first", "last", "why"), [
    (0, 1e-4, 0.02, "at least one step, not 0"),
    (1000, 1e-4, 2.0, "between 0 and 1, not from 0.0001 to 2"),
    (1000, 0.0, 0.02, "between 0 and 1, not from 0 to 0.02"),
])  # fmt: skip
def test_schedules_without_steps_or_with_impossible_betas_are_refused(
    steps: int, first: float, last: float, why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        VariancePreserving.linear(steps, first, last)


def test_a_number_that_no_float_holds_is_refused() -> None:
    with pytest.raises(ValueError, match="invalid rectified_flow schedule"):
        schedule_from_json({"kind": "rectified_flow", "shift": 10**400})
