"""The clock of a run whose length is a time, on a clock that the test sets."""

from __future__ import annotations

import pytest

from diffstudio.training.optimisers import multiplier_by_time
from diffstudio.training.recipe import OptimiserRecipe, RunRecipe
from diffstudio.training.run import clock as module
from diffstudio.training.run.clock import Cadence, RunClock


class Time:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    monkeypatch.setattr(module, "time", time)
    return time


TEN_MINUTES = RunRecipe(minutes=10.0, schedule="time")


def test_pauses_do_not_count_and_an_earlier_process_does(now: Time) -> None:
    clock = RunClock(TEN_MINUTES, 120.0, 0.2)
    now.now += 60
    with clock.stopped():
        now.now += 10_000
        assert clock.elapsed_seconds == 180
    now.now += 120
    with clock.final_work():  # which took no time
        pass
    assert clock.elapsed_seconds == 300 and clock.progress(1000) == 0.5
    assert clock.left_seconds(1000, 1.0) == 300 and clock.steps(1000) == 2000


def test_what_the_end_costs_is_reserved_and_progress_never_falls(now: Time) -> None:
    clock = RunClock(TEN_MINUTES, 0.0, 0.0)
    now.now += 450
    before = clock.progress(500)
    assert before == pytest.approx(450 / (600 - 5 * 450 / 500))  # five steps are reserved before it is known
    with clock.final_work():
        now.now += 50
    assert clock.progress(500) == pytest.approx(500 / 540)
    with clock.final_work():
        now.now += 1
    assert clock.progress(500) >= 500 / 540
    now.now += 200
    assert clock.progress(500) == 1.0


def test_a_slow_first_step_does_not_end_the_run(now: Time) -> None:
    """torch.compile: 100 s for the first step and 70 s for the first samples, of ten minutes; then 20 steps a second."""
    clock = RunClock(TEN_MINUTES, 0.0, 0.0)
    now.now += 100
    assert clock.progress(1) == pytest.approx(100 / 600)
    with clock.final_work():
        now.now += 70
        assert clock.progress(1) == pytest.approx(170 / 600)
    now.now += 0.05
    assert clock.progress(2) == pytest.approx(170.05 / (600 - 84))
    with clock.final_work():
        now.now += 2
    now.now += 300
    assert clock.progress(6000) == pytest.approx(472.05 / (600 - 2.4))


def test_the_steps_after_a_slow_first_one_say_what_the_end_takes(now: Time) -> None:
    clock = RunClock(TEN_MINUTES, 0.0, 0.0)
    now.now += 100
    clock.progress(1)
    now.now += 20
    assert clock.progress(11) == pytest.approx(120 / (600 - 5 * 2))


def test_time_lent_while_samples_are_drawn_is_not_reserved_for_the_end(now: Time) -> None:
    clock = RunClock(TEN_MINUTES, 0.0, 0.0)
    with clock.final_work():
        now.now += 10
        with clock.stopped():
            now.now += 150
    assert clock.elapsed_seconds == 10 and clock.progress(500) == pytest.approx(10 / (600 - 12))


def test_a_time_that_is_over_still_has_one_step_and_no_more(now: Time) -> None:
    clock = RunClock(RunRecipe(minutes=0.01, schedule="time", first_step=100, first_seconds=50.0), 50.0, 0.0)
    now.now += 100
    assert clock.progress(100) == 0.0 and clock.steps(100) == 0  # not known yet; the last step is not the 100th
    assert clock.progress(101) == 1.0 and clock.steps(101) == 101


def test_slow_steps_do_not_overrun_a_very_short_time(now: Time) -> None:
    """Twelve seconds, a second each step: about half of the time is trained, for the end takes as long as a few steps."""
    recipe = RunRecipe(minutes=0.2, schedule="time")
    clock, cadence, step = RunClock(recipe, 0.0, 0.0), Cadence(recipe, 0.0), 0
    while clock.progress(step) < 1:
        now.now += 1
        step += 1
        cadence.advance(clock.progress(step))
        assert not cadence.samples_due(step, clock.elapsed_seconds) and not cadence.checkpoint_due(step)
    assert step == 7 and clock.elapsed_seconds + 5 <= 12


def test_the_first_state_is_saved_within_a_minute_and_the_others_by_time(now: Time) -> None:
    clock = RunClock(RunRecipe(steps=10**6), 0.0, 0.0)
    saved = []
    for second in range(300):
        now.now += 1
        if clock.state_due():
            clock.state_saved()
            saved.append(second)
    assert saved[0] < 60 and max(b - a for a, b in zip(saved, saved[1:], strict=False)) < 60


def test_steps_are_counted_from_where_the_run_was_continued() -> None:
    clock = RunClock(RunRecipe(steps=30, first_step=10), 0.0, 0.0)
    assert [clock.progress(step) for step in (10, 20, 30)] == [0.0, 0.5, 1.0] and clock.steps(20) == 30


def test_events_of_a_timed_run_are_spread_evenly_over_its_time() -> None:
    cadence = Cadence(TEN_MINUTES, 0.0)
    found = []
    for step in range(1, 1001):
        cadence.advance(step / 1000)
        if cadence.held_out_due(step, 0.6 * step):
            found.append(step)
    assert len(found) == 24 and found[0] == 42 and found[-1] == 1000
    cadence = Cadence(TEN_MINUTES, 0.0)
    cadence.advance(0.05)
    cadence.measured(3.0, 30.0)  # a measurement takes three seconds: not again for a minute
    cadence.advance(0.1)
    assert not cadence.held_out_due(5, 60.0)
    cadence.advance(0.2)
    assert cadence.held_out_due(5, 90.1)
    cadence.measured(
        9.0, 150.0
    )  # nine seconds would be three minutes; but a verdict needs several: after an eighth of the run
    cadence.advance(0.3)
    assert not cadence.held_out_due(5, 224.0) and cadence.held_out_due(5, 225.0)
    cadence.measured(30.0, 300.0)  # half a minute: these take at most 15% of the time
    assert not cadence.held_out_due(5, 499.0) and cadence.held_out_due(5, 500.0)
    cadence.sampled(30.0, 120.0)  # samples take half a minute: not again for 200 seconds
    cadence.advance(0.4)
    assert not cadence.samples_due(5, 180.0) and cadence.samples_due(5, 321.0)
    assert Cadence(RunRecipe(sample_every=5), 0.0).samples_due(5, 0.0)


def test_the_rate_follows_the_time() -> None:
    recipe = OptimiserRecipe(warm_up_steps=100, decay_share=0.3)
    assert multiplier_by_time(recipe, 0, 0.0) == 0.01 and multiplier_by_time(recipe, 99, 0.01) == 1.0
    assert multiplier_by_time(recipe, 10, 0.1) == 1.0  # few steps: warm after a tenth of the time
    assert multiplier_by_time(recipe, 500, 0.7) == pytest.approx(1.0)
    assert multiplier_by_time(recipe, 500, 0.85) == pytest.approx(0.5) and multiplier_by_time(recipe, 500, 1.0) == 0.0


@pytest.mark.parametrize("reserve", [12.0, 360.0], ids=["usual", "most of the time"])
def test_a_rate_that_falls_early_shortens_the_run_and_survives_a_kill(now: Time, reserve: float) -> None:
    clock = RunClock(TEN_MINUTES, 0.0, 0.0)
    with clock.final_work():  # which took no time
        pass
    clock.comparison_seconds = reserve
    now.now += 200
    assert clock.progress(1000) < 0.7
    clock.begin_decay(0.3)
    assert clock.progress(1000) == pytest.approx(0.7) and clock.ends_after == pytest.approx(200 / 0.7)
    assert clock.seconds == pytest.approx(min(600, 200 / 0.7 + reserve))
    resumed = RunClock(TEN_MINUTES, clock.elapsed_seconds, clock.progress(1000), clock.ends_after)
    assert resumed.progress(1000) == pytest.approx(0.7)
    now.now += 200 / 0.7 - 201
    assert 0.7 < resumed.progress(1400) < 1
    now.now += 2
    assert resumed.progress(1401) == 1.0


def test_the_comparison_of_checkpoints_is_reserved(now: Time) -> None:
    clock = RunClock(TEN_MINUTES, 0.0, 0.0)
    with clock.final_work():
        now.now += 10
    clock.comparison_seconds = 48.0
    now.now += 260
    assert clock.progress(100) == pytest.approx(270 / (600 - 12 - 48))
