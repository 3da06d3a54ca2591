from __future__ import annotations

import math

import pytest
import torch

from diffstudio.diffusion.schedule import RectifiedFlow, Schedule, VarianceExploding, VariancePreserving
from diffstudio.diffusion.spacing import (
    SPACINGS,
    align_your_steps,
    carried_times,
    leading,
    sampling_times,
    times_from_noise_level,
)
from diffstudio.diffusion.tables import ALIGNED_SD15, ALIGNED_SDXL
from diffstudio.errors import BadRequest
from diffstudio.studio.requests import SpacingName
from diffstudio.studio.requests.choices import CARRIED
from tests.diffusion.exact import SCHEDULES, float64

every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
every_spacing = pytest.mark.parametrize("spacing", SPACINGS)


@every_schedule
@every_spacing
@pytest.mark.parametrize("steps", [1, 2, 7, 50])
def test_every_ladder_falls_from_the_start_to_the_clean_image(schedule: Schedule, spacing: str, steps: int) -> None:
    if spacing == "align_your_steps" and isinstance(schedule, RectifiedFlow):
        with pytest.raises(BadRequest, match="Choose another scheduler"):
            sampling_times(schedule, steps, spacing)
        return
    times = sampling_times(schedule, steps, spacing)
    assert times.shape == (steps + 1,) and times.dtype is torch.float64 and times.device.type == "cpu"
    assert (times.diff() < 0).all() and times[-1] == 0
    if spacing == "leading":
        assert times[-2] == pytest.approx(schedule.t_min)
    else:
        assert times[0] == pytest.approx(schedule.t_max)


def test_training_steps_are_chosen_as_published() -> None:
    """Lin et al. 2023, Table 2, of 1000 training steps ten."""
    schedule = VariancePreserving.scaled_linear()
    assert sampling_times(schedule, 10, "trailing").tolist() == [1000, 900, 800, 700, 600, 500, 400, 300, 200, 100, 0]
    assert sampling_times(schedule, 10, "leading").tolist() == [901, 801, 701, 601, 501, 401, 301, 201, 101, 1, 0]
    assert sampling_times(schedule, 10, "uniform").tolist() == [1000, 889, 778, 667, 556, 445, 334, 223, 112, 1, 0]
    assert sampling_times(schedule, 7, "trailing").tolist() == [1000, 857, 714, 571, 429, 286, 143, 0]
    assert leading(schedule, 4, offset=1).tolist() == [752, 502, 252, 2]


def test_flow_ladders_are_even_and_shifted() -> None:
    assert sampling_times(RectifiedFlow(), 4, "uniform").tolist() == [1, 0.75, 0.5, 0.25, 0]
    for shifted, u in zip(
        sampling_times(RectifiedFlow(3.0), 4, "uniform").tolist(), (1, 0.75, 0.5, 0.25, 0), strict=True
    ):
        assert shifted == pytest.approx(3 * u / (1 + 2 * u))


def test_karras_is_equation_5() -> None:
    times = sampling_times(VarianceExploding(), 18, "karras")
    for i, t in enumerate(times[:-1].tolist()):
        assert t == pytest.approx((80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7)


@every_schedule
def test_exponential_steps_multiply_and_log_snr_steps_add(schedule: Schedule) -> None:
    multiplied = schedule.scheduler_sigma(sampling_times(schedule, 9, "exponential")[:-1]).log().diff()
    torch.testing.assert_close(multiplied, multiplied.mean().expand(8))
    added = schedule.log_snr(sampling_times(schedule, 9, "log_snr")[:-1])
    added = added[added.isfinite()].diff()
    torch.testing.assert_close(added, added.mean().expand_as(added))


def test_log_snr_of_a_flow_may_begin_where_guidance_does() -> None:
    """10 steps from 0.95: even in log((1 - t) / t) down to t_min, after t = 1."""
    schedule = RectifiedFlow()
    times = times_from_noise_level(schedule, 10, "log_snr", 1.0, 0.95)
    assert times[[0, 1, -2, -1]].tolist() == pytest.approx([1, 0.95, 0.001, 0])
    logits = (times[1:-1] / (1 - times[1:-1])).log().diff()
    torch.testing.assert_close(logits, logits.mean().expand(8))
    for spacing, guided_from in (("log_snr", 1.0), ("karras", 0.95)):
        expected = sampling_times(schedule, 10, spacing)
        torch.testing.assert_close(times_from_noise_level(schedule, 10, spacing, 1.0, guided_from), expected)


def test_align_your_steps_is_its_table() -> None:
    schedule = VariancePreserving.scaled_linear()
    times = sampling_times(schedule, 10, "align_your_steps")[:-1]
    torch.testing.assert_close(schedule.scheduler_sigma(times), float64(*ALIGNED_SD15[:-1]), rtol=1e-5, atol=0)
    published = float64(999, 850, 736, 645, 545, 455, 343, 233, 124, 24) + 1  # the same in whole training steps
    torch.testing.assert_close(times, published, rtol=0, atol=3)
    twenty = schedule.scheduler_sigma(sampling_times(schedule, 20, "align_your_steps"))
    assert twenty[1].item() == pytest.approx(math.sqrt(ALIGNED_SD15[0] * ALIGNED_SD15[1]))
    sdxl = sampling_times(schedule, 10, lambda schedule, steps: align_your_steps(schedule, steps, ALIGNED_SDXL))
    assert schedule.scheduler_sigma(sdxl)[4].item() == pytest.approx(ALIGNED_SDXL[4])


@pytest.mark.parametrize(("strength", "kept"), [(1, 20), (0.75, 15), (0.33, 7), (0.01, 1), (0, 1)])
def test_strength_keeps_the_end_of_the_ladder(strength: float, kept: int) -> None:
    schedule = VariancePreserving.scaled_linear()
    whole, part = sampling_times(schedule, 20, "karras"), sampling_times(schedule, 20, "karras", strength=strength)
    assert len(part) == kept + 1
    assert part.tolist() == whole[-kept - 1 :].tolist()


@pytest.mark.parametrize(("steps", "spacing", "strength", "expected"), [
    (10, "golden", 1, "Choose one of uniform"),
    (0, "uniform", 1, "one or more"),
    (1001, "leading", 1, "fewer steps"),
    (2500, "trailing", 1, "fewer steps"),
    (10, "uniform", 1.5, "strength"),
])  # fmt: skip
def test_ladders_that_cannot_be_laid_say_why(steps: int, spacing: str, strength: float, expected: str) -> None:
    with pytest.raises(BadRequest, match=expected):
        sampling_times(VariancePreserving.linear(), steps, spacing, strength=strength)


def test_a_person_can_ask_for_exactly_these_spacings() -> None:
    assert [name.value for name in SpacingName if name not in {*CARRIED, SpacingName.CUSTOM}] == list(SPACINGS)


# ---- times that a request carries ------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_carried_times_are_fractions_of_the_largest_time(schedule: Schedule) -> None:
    times = carried_times(schedule, (1.0, 0.5, 0.125), 3)
    assert times.dtype == torch.float64
    assert times.tolist() == [schedule.t_max, schedule.t_max * 0.5, schedule.t_max * 0.125, 0.0]


def test_for_another_number_of_steps_they_are_interpolated_between() -> None:
    flow = RectifiedFlow()
    assert carried_times(flow, (1.0, 0.4), 4).tolist() == pytest.approx([1.0, 0.7, 0.4, 0.2, 0.0])
    assert carried_times(flow, (1.0, 0.7, 0.4, 0.2), 2).tolist() == pytest.approx([1.0, 0.4, 0.0])
    assert carried_times(flow, (1.0, 0.4), 1).tolist() == [1.0, 0.0]


def test_img2img_begins_at_its_noise_level_with_carried_times() -> None:
    flow, fractions = RectifiedFlow(), (1.0, 0.8, 0.5, 0.2)
    assert carried_times(flow, fractions, 4, 0.55).tolist() == [0.55, 0.2, 0.0]  # 0.5 is the nearest, and moved there
    assert carried_times(flow, fractions, 4, 0.3).tolist() == [0.3, 0.0]
    assert carried_times(flow, fractions, 4, 0.01).tolist() == [0.01, 0.0]
    assert carried_times(flow, fractions, 4, 1.0).tolist() == [1.0, 0.8, 0.5, 0.2, 0.0]


@pytest.mark.parametrize("fractions", [(), (0.5, 0.5), (1.1, 0.5), (1.0, 0.0), (1.0, -0.1)])
def test_carried_times_that_do_not_fall_are_refused(fractions: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="must fall"):
        carried_times(RectifiedFlow(), fractions, 2)
    with pytest.raises(BadRequest, match="one or more"):
        carried_times(RectifiedFlow(), (1.0,), 0)
