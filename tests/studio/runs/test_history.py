from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from diffstudio.studio.runs.history import MOST_POINTS, RunHistory, Trend, held_out_trend, smoothed
from diffstudio.training.run.events import (
    RunCheckpoint,
    RunCrossValidated,
    RunEarlyStop,
    RunFinished,
    RunHeldOut,
    RunRolledBack,
    RunSamples,
    RunStarted,
    RunStep,
    RunVerdict,
)


def step(number: int, loss: float) -> RunStep:
    return RunStep(
        step=number,
        steps=1000,
        images_seen=number * 64,
        loss=loss,
        gradient_norm=1.0,
        learning_rate=1e-3,
        images_per_second=60.0,
        elapsed_seconds=number,
        left_seconds=1000 - number,
    )


def started(number: int) -> RunStarted:
    return RunStarted(
        step=number,
        steps=1000,
        pid=1,
        parameters=1,
        images=1,
        held_out=1,
        device="cpu",
        dtype="float32",
        threads=1,
        why="",
    )


def sheet(number: int) -> RunSamples:
    return RunSamples(
        step=number, ema=f"{number}-ema.png", raw=f"{number}-raw.png", columns=4, rows=2, size=16, prompts=()
    )


def test_the_curve_is_what_the_events_said() -> None:
    history = RunHistory()
    history.take([started(0), step(1, 0.5), RunHeldOut(1, 0.6), step(2, 0.4), sheet(2)])
    history.take([step(3, 0.3)])
    view = history.view()
    assert view.steps.tolist() == [1, 2, 3]
    assert view.losses.tolist() == [0.5, 0.4, 0.3]
    assert view.held_out_losses.tolist() == [0.6]
    assert [sheet.step for sheet in view.samples] == [2]
    assert view.last == step(3, 0.3)


def test_curves_verdicts_and_decisions_are_kept_and_a_roll_back_drops_what_it_undid() -> None:
    history = RunHistory()
    early, verdict = RunHeldOut(1, 0.6, (0.5,), (0.6,), best=True), RunVerdict(1, "learning", "It is learning", ())
    saved, undone = RunCheckpoint(1, "1.safetensors", 0.6, True), RunCheckpoint(3, "3.safetensors")
    back, stop = RunRolledBack(1, 3, 0.5, "NaN"), RunEarlyStop(4, 1, "level")
    end = RunFinished(4, "latest.safetensors", True, "ready", "ready")
    history.take([started(0), step(1, 0.5), early, verdict, saved, step(3, 9.0), RunHeldOut(3, 9.0), undone, back])
    history.take([step(4, 0.4), stop, end])
    view = history.view()
    assert view.steps.tolist() == [1, 4] and view.gradient_norms.tolist() == [1, 1]
    assert view.learning_rates.tolist() == [1e-3, 1e-3] and view.images_per_second.tolist() == [60, 60]
    assert view.held_out == (early,) and view.verdicts == (verdict,) and view.checkpoints == (saved,)
    assert view.decisions == (back, stop) and view.finished == end
    history.take([started(4)])
    assert history.view().finished is None


def test_a_run_resumed_from_an_older_checkpoint_does_not_double_back() -> None:
    history = RunHistory()
    history.take(
        [
            started(0),
            *(step(n, 0.5) for n in range(1, 11)),
            RunHeldOut(5, 0.5),
            RunHeldOut(10, 0.5),
            sheet(5),
            sheet(10),
        ]
    )
    history.take([started(6), step(7, 0.4), step(8, 0.3)])
    view = history.view()
    assert view.steps.tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert view.losses[-2:].tolist() == [0.4, 0.3]
    assert view.held_out_steps.tolist() == [5]
    assert [sheet.step for sheet in view.samples] == [5]


def test_what_is_not_a_number_is_not_drawn() -> None:
    history, norm = RunHistory(), replace(step(4, 0.4), gradient_norm=float("inf"))
    history.take([step(1, 0.5), step(2, float("nan")), step(3, float("inf")), norm, RunHeldOut(3, float("nan"))])
    assert history.view().losses.tolist() == [0.5]
    assert len(history.view().held_out_losses) == 0


def test_a_long_run_is_thinned_and_keeps_its_shape() -> None:
    history = RunHistory()
    count = 5 * MOST_POINTS
    history.take(step(n, 1.0 / n) for n in range(1, count + 1))
    view = history.view()
    assert MOST_POINTS / 4 <= len(view.steps) < MOST_POINTS
    assert view.steps[-1] > 0.99 * count
    assert np.all(np.diff(view.steps) > 0)
    far = view.steps > 1000
    assert view.losses[far] == pytest.approx(1.0 / view.steps[far], rel=0.01)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 500])
def test_smoothing_keeps_length_and_level(count: int) -> None:
    steps = np.arange(1.0, count + 1)
    assert smoothed(steps, np.full(count, 0.25)) == pytest.approx(np.full(count, 0.25))


def test_smoothing_takes_the_noise_away() -> None:
    noise = np.random.default_rng(0).normal(1.0, 0.1, 1000)
    smooth = smoothed(np.arange(1000.0), noise)
    assert smooth[50:].std() < 0.25 * noise.std()
    assert abs(smooth[-1] - 1.0) < 0.06, "the last number alone does not bend the line"


def test_smoothing_stays_on_a_steep_curve_that_is_measured_unevenly() -> None:
    """Once in thirty steps at first, then at every step: as when a run moves to a slower machine."""
    steps = np.concatenate([np.arange(1.0, 1200, 30), np.arange(1200.0, 1800)])
    losses = 0.05 + 2.0 * np.exp(-steps / 60)
    assert smoothed(steps, losses) == pytest.approx(losses, rel=0.1)


@pytest.mark.parametrize(
    ("losses", "trend"),
    [
        ([], Trend.UNKNOWN),
        ([0.5, 0.4, 0.3], Trend.UNKNOWN),
        ([0.5, 0.4, 0.3, 0.2, 0.18, 0.17, 0.16, 0.15], Trend.FALLING),
        ([0.5, 0.3, 0.2, 0.1500, 0.1501, 0.1500, 0.1502, 0.1501], Trend.LEVEL),
        ([0.5, 0.3, 0.2, 0.15, 0.16, 0.18, 0.20, 0.22], Trend.RISING),
    ],
)
def test_the_trend_of_the_held_out_loss(losses: list[float], trend: Trend) -> None:
    found, sentence = held_out_trend(np.arange(1.0, len(losses) + 1) * 250, np.array(losses))
    assert found is trend
    assert sentence


def test_the_sentence_says_since_when() -> None:
    steps = np.arange(1.0, 9) * 250
    _, sentence = held_out_trend(steps, np.array([0.5, 0.3, 0.2, 0.15, 0.16, 0.18, 0.20, 0.22]))
    assert "40%" in sentence and "step 1,000" in sentence


def test_a_cross_validation_keeps_its_curve_beside_the_losses_of_the_run_that_follows() -> None:
    history = RunHistory()
    pooled = [RunHeldOut(5, 0.6, splits=4), RunHeldOut(10, 0.5, splits=4)]
    history.take([started(0), step(3, 0.9), pooled[0], step(9, 0.8), pooled[1]])
    assert history.view().held_out == tuple(pooled) and history.view().steps.tolist() == [3, 9]
    history.take([started(5)])  # resumed after a kill
    assert history.view().held_out == (pooled[0],)
    chosen = RunCrossValidated(0, 4, 16, 10, 100, 0.5, 0.4, 0.6, (5, 10), (0.6, 0.5), "why")
    history.take([pooled[1], chosen, step(2, 0.7)])
    view = history.view()
    assert view.held_out == tuple(pooled) and view.steps.tolist() == [2] and view.chosen == chosen
    history.take([started(1)])
    assert history.view().held_out == tuple(pooled)
