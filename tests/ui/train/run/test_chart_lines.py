"""What the charts of a run show."""

from __future__ import annotations

import numpy as np
import pytest

from diffstudio.studio.runs.history import HistoryView, RunHistory
from diffstudio.training.run.events import (
    RunCheckpoint,
    RunCheckpointChosen,
    RunDiversity,
    RunEarlyDecay,
    RunEarlyStop,
    RunHeldOut,
    RunRolledBack,
    RunStep,
)
from diffstudio.ui.train.run.chart_lines import Chart, ChartKind, Line, OtherRun, chart_of

LEVELS = (0.1, 0.5, 0.9)


def step(number: int, loss: float = 0.5) -> RunStep:
    return RunStep(number, 100, 16 * number, loss, 0.25, 1e-3 * number, 20.0 + number, 1.0, 2.0)


@pytest.fixture
def history() -> HistoryView:
    """Ten steps; three measurements on held-out images, of which the second is the best."""
    run = RunHistory()
    run.take([step(number) for number in range(1, 11)])
    for at, loss in ((2, 0.9), (6, 0.3), (10, 0.4)):
        by_level = tuple(loss * (1 + level) for level in LEVELS)
        run.take([RunHeldOut(at, loss, LEVELS, by_level, loss / 2, tuple(each / 2 for each in by_level), at == 6)])
    run.take([RunRolledBack(10, 12, 0.5, "the loss rose"), RunEarlyStop(10, 6, "it no longer falls")])
    return run.view()


def line(chart: Chart, name: str) -> Line:
    return next(each for each in chart.lines if each.name == name)


def test_losses_raw_smoothed_held_out_and_of_training_images_with_the_same_noise(history: HistoryView) -> None:
    chart = chart_of(ChartKind.LOSS, history)
    assert [each.name for each in chart.lines] == ["measured", "smoothed", "training, same noise", "held out"]
    assert line(chart, "measured").faint and line(chart, "training, same noise").dashed
    assert list(line(chart, "held out").y) == [0.9, 0.3, 0.4] and list(line(chart, "held out").x) == [2, 6, 10]
    assert list(line(chart, "training, same noise").y) == [0.45, 0.15, 0.2]
    assert chart.marks == ((10.0, "rolled back"), (10.0, "stopped early"), (6.0, "best")) and chart.logarithmic
    assert chart.description == "Loss 0.5 at step 10, held out 0.4"


@pytest.mark.parametrize(
    ("chosen", "marks"), [(6, ((6.0, "best"),)), (10, ((6.0, "lowest"), (10.0, "kept")))], ids=["lowest", "last"]
)
def test_the_checkpoint_that_is_kept_is_marked(chosen: int, marks: tuple[tuple[float, str], ...]) -> None:
    run = RunHistory()
    run.take([step(1), *(RunHeldOut(at, loss) for at, loss in ((2, 0.9), (6, 0.3), (10, 0.4)))])
    run.take([RunEarlyDecay(8, 6, "it no longer falls")])
    run.take([RunCheckpointChosen(10, chosen, "nearer", (6, 10), (0.2, 0.3), (0, 0), 256)])
    assert chart_of(ChartKind.LOSS, run.view()).marks == ((8.0, "rate falls early"), *marks)
    run.take([RunHeldOut(14, 0.2), RunCheckpoint(14, "checkpoints/00000014.safetensors", 0.2, True)])  # trained longer
    assert chart_of(ChartKind.LOSS, run.view()).marks == ((8.0, "rate falls early"), (14.0, "best"))


def test_the_upper_level_has_a_line_of_its_own_and_other_runs_are_compared_by_their_base() -> None:
    run = RunHistory()
    run.take([step(1), RunHeldOut(1, 0.5, upper_loss=0.2), RunHeldOut(2, 0.4, upper_loss=0.1)])
    chart = chart_of(ChartKind.LOSS, run.view())
    assert list(line(chart, "held out, upper level").y) == [0.2, 0.1] and list(line(chart, "held out").y) == [0.5, 0.4]
    assert chart.description.endswith("held out 0.4, upper level 0.1")
    assert chart_of(ChartKind.LOSS, run.view(), [OtherRun("two", run.view())]).lines[-1].name == "two, held out"


def test_a_run_of_an_older_version_has_no_loss_of_training_images() -> None:
    run = RunHistory()
    run.take([step(1), RunHeldOut(1, 0.5)])
    chart = chart_of(ChartKind.LOSS, run.view())
    assert [each.name for each in chart.lines] == ["measured", "smoothed", "held out"] and chart.marks == ()
    assert chart_of(ChartKind.NOISE_LEVELS, run.view()).is_empty()


def test_losses_by_noise_level_first_and_newest(history: HistoryView) -> None:
    chart = chart_of(ChartKind.NOISE_LEVELS, history)
    assert chart.over_levels
    assert [each.name for each in chart.lines] == ["held out, step 2", "training", "held out, step 10"]
    newest = line(chart, "held out, step 10")
    assert tuple(newest.x) == LEVELS and newest.y == pytest.approx([0.44, 0.6, 0.76])
    assert line(chart, "training").y == pytest.approx([0.22, 0.3, 0.38])


@pytest.mark.parametrize(
    ("kind", "newest", "logarithmic"),
    [
        (ChartKind.GRADIENT_NORM, 0.25, True),
        (ChartKind.LEARNING_RATE, 0.01, False),
        (ChartKind.THROUGHPUT, 30.0, False),
    ],
)
def test_what_else_was_measured(history: HistoryView, kind: ChartKind, newest: float, logarithmic: bool) -> None:
    chart = chart_of(kind, history)
    assert chart.lines[0].y[-1] == pytest.approx(newest) and chart.logarithmic is logarithmic
    assert np.array_equal(chart.lines[0].x, history.steps) and chart.description


@pytest.mark.parametrize("kind", list(ChartKind))
def test_a_run_that_has_not_begun_has_empty_charts(kind: ChartKind) -> None:
    assert chart_of(kind, RunHistory().view()).is_empty()


def test_of_other_runs_the_most_telling_line_is_laid_over(history: HistoryView) -> None:
    run = RunHistory()
    run.take([step(1, 0.7), step(2, 0.6)])
    other = OtherRun("other", run.view())
    added = [each.name for each in chart_of(ChartKind.LOSS, history, [other]).lines][4:]
    assert added == ["other, smoothed"]  # it has no held-out images
    added = [each.name for each in chart_of(ChartKind.LOSS, history, [OtherRun("again", history)]).lines][4:]
    assert added == ["again, held out"]
    assert len(chart_of(ChartKind.NOISE_LEVELS, history, [other]).lines) == 3
    many = [OtherRun(str(number), history) for number in range(9)]
    colours = [each.role for each in chart_of(ChartKind.LOSS, history, many).lines][4:]
    assert len(colours) == len(set(colours)) == 4


def test_diversity_of_the_samples_as_shares_of_that_of_training_images() -> None:
    run = RunHistory()
    run.take([RunDiversity(5, 0.9, 4.0, 5.0), RunDiversity(10, 0.5, 2.5, 5.0, 16, 0.9, 0.8, 0.3, 0.6, 0.2, 0.8)])
    chart = chart_of(ChartKind.DIVERSITY, run.view())
    assert list(line(chart, "distance of samples").y) == [0.9, 0.5] and not chart.logarithmic
    assert list(line(chart, "Vendi score").y) == [0.8, 0.5] and list(line(chart, "Vendi score").x) == [5, 10]
    assert list(line(chart, "coverage").y) == [0.5] and list(line(chart, "recall").y) == pytest.approx([0.25])
    assert list(line(chart, "training images").y) == [1, 1] and line(chart, "training images").dashed
    assert chart.description.startswith("Relative to training images: recall 0.25, distance of samples 0.50")
    assert chart_of(ChartKind.DIVERSITY, RunHistory().view()).is_empty()
    run.take([RunRolledBack(5, 10, 0.5, "the loss rose")])
    assert [each.step for each in run.view().diversity] == [5]


def test_the_loss_that_a_run_follows_at_all_levels_is_a_line_of_its_own() -> None:
    run = RunHistory()
    measured = RunHeldOut(1, 0.5, LEVELS, (0.5, 0.4, 0.3), learned_levels=(0.2, 0.4), learned_losses=(0.6, 0.7))
    run.take([step(1), measured])
    learned = line(chart_of(ChartKind.NOISE_LEVELS, run.view()), "training, as followed")
    assert learned.faint and list(learned.x) == [0.2, 0.4] and list(learned.y) == [0.6, 0.7]


def test_the_density_of_adaptive_noise_levels_first_and_newest() -> None:
    run = RunHistory()
    for at, drawn in ((1, ()), (2, (1.0, 2.0)), (3, (1.5, 0.5))):
        run.take([RunHeldOut(at, 0.5, LEVELS, (0.5, 0.4, 0.3), 0.4, (), False, (0.2, 0.4), (0.6, 0.7), drawn)])
    chart = chart_of(ChartKind.DRAWN_LEVELS, run.view())
    assert [(each.name, each.faint) for each in chart.lines] == [("density, step 2", True), ("density, step 3", False)]
    assert list(chart.lines[1].y) == [1.5, 0.5] and chart.over_levels and not chart.logarithmic
    assert chart.description == "Noise levels are drawn most densely at 0.20"


def test_the_losses_of_a_cross_validation_are_named_so() -> None:
    run = RunHistory()
    run.take([step(1), RunHeldOut(5, 0.5, splits=4), RunHeldOut(10, 0.4, splits=4)])
    chart = chart_of(ChartKind.LOSS, run.view())
    assert list(line(chart, "cross-validated").y) == [0.5, 0.4] and chart.description.endswith("cross-validated 0.4")
