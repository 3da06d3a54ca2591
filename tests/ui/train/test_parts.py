"""The parts of the room that need no run."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PySide6.QtWidgets import QWidget
from pytestqt.qtbot import QtBot

from diffstudio.studio.runs.history import HistoryView
from diffstudio.training.recipe import DataRecipe, NoiseLevelsName, OptimiserName, Recipe
from diffstudio.ui.tasks import Tasks
from diffstudio.ui.train.duration_slider import DurationSlider, minutes_of, minutes_text
from diffstudio.ui.train.loss_curve import LossCurve, step_text
from diffstudio.ui.train.recipe_options import FLIPS, MINUTES, SHIFTS, TURNS, Options, changes_text, estimate
from diffstudio.ui.train.sample_sheets_view import GAP, SamplesThroughTime, fit_tiles
from diffstudio.ui.train.thumbnails import first_pictures, spread


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("90", 90),
        ("90 min", 90),
        ("1 h 30 min", 90),
        ("1.5h", 90),
        ("1,5 h", 90),
        ("2 hours", 120),
        ("1h30", 90),
        ("45m", 45),
        ("", None),
        ("0", None),
        ("soon", None),
        ("-5", None),
        ("1 h h", None),
    ],
)
def test_times_as_people_write_them(text: str, minutes: float | None) -> None:
    assert minutes_of(text) == minutes


@pytest.mark.parametrize("minutes", [*MINUTES, 75, 1499])
def test_a_time_reads_back_as_it_was_written(minutes: int) -> None:
    assert minutes_of(minutes_text(minutes)) == minutes


def test_the_slider_and_the_field_follow_each_other(qtbot: QtBot) -> None:
    duration = DurationSlider("Time", MINUTES, 120)
    qtbot.addWidget(duration)
    said: list[float] = []
    duration.value_changed.connect(said.append)
    duration.slider.setValue(MINUTES.index(30))
    assert (duration.field.text(), said) == ("30 min", [30])
    duration.field.setValue(100)
    assert said == [30, 100]
    assert duration.slider.value() == MINUTES.index(90)
    assert duration.value() == 100, "the nearest notch does not round what was typed"
    duration.set_value(5)
    assert said == [30, 100], "setting it by program tells nobody"


def test_options_are_read_from_a_recipe_and_change_nothing_by_themselves() -> None:
    recipe = Recipe(data=DataRecipe(size=96, flips=0.3, rotation_degrees=0.0, translation=0.1))
    options = Options.of(recipe)
    assert options == Options(96, OptimiserName.MUON, NoiseLevelsName.LOGIT_NORMAL, (FLIPS, SHIFTS))
    assert options.applied_to(recipe) is recipe


def test_a_changed_option_changes_what_belongs_to_it_and_no_more() -> None:
    recipe = Recipe()
    turned = replace(Options.of(recipe), changes=(TURNS,)).applied_to(recipe)
    assert (turned.data.flips, turned.data.translation) == (0, 0) and turned.data.rotation_degrees > 0
    assert (turned.network, turned.optimiser, turned.objective, turned.run) == (
        recipe.network,
        recipe.optimiser,
        recipe.objective,
        recipe.run,
    )
    other = replace(Options.of(recipe), noise_levels=NoiseLevelsName.LOG_NORMAL).applied_to(recipe)
    assert other.objective.mean < 0, "the mean of log sigma is not the mean of logit t"
    assert replace(Options.of(recipe), optimiser=OptimiserName.SGD).applied_to(recipe).optimiser.learning_rate > 1e-3


def test_changes_in_words() -> None:
    assert (
        changes_text(Recipe(data=DataRecipe(flips=0.3, rotation_degrees=8, translation=0.06)))
        == "flips, rotation up to 8°, shifts up to 6 %"
    )
    assert changes_text(Recipe(data=DataRecipe(flips=0, rotation_degrees=0, translation=0))) == "none"


def test_estimates_round_and_name_the_day() -> None:
    noon = time.mktime((2026, 11, 23, 12, 0, 0, 0, 0, -1))
    assert estimate(120, 43.21, noon) == "About 310,000 images seen · ready near 14:00"
    assert estimate(120, None, noon) == "Ready near 14:00"
    assert estimate(13 * 60, None, noon) == "Ready near 01:00 tomorrow"
    assert estimate(48 * 60, None, noon) == "Ready near 12:00 in 2 days"


@pytest.mark.parametrize(
    ("width", "height", "count"), [(744, 340, 16), (744, 190, 16), (230, 220, 16), (300, 300, 1), (5, 5, 16)]
)
def test_tiles_fit_the_room_there_is(width: int, height: int, count: int) -> None:
    columns, side = fit_tiles(count, width, height, 8)
    rows = -(-count // columns)
    if side > 1:
        assert columns * side + (columns - 1) * GAP <= width
        assert rows * side + (rows - 1) * GAP <= height


def test_a_wide_room_keeps_full_rows() -> None:
    assert fit_tiles(16, 744, 190, 8)[0] == 8
    assert fit_tiles(16, 230, 220, 8)[0] == 4


@pytest.mark.parametrize(
    ("step", "text"), [(0, "0"), (500, "500"), (1500, "1.5k"), (20_000, "20k"), (1_500_000, "1.5M")]
)
def test_steps_as_ticks(step: float, text: str) -> None:
    assert step_text(step) == text


def test_spread_takes_from_everywhere() -> None:
    assert spread(list(range(100)), 4) == [0, 25, 50, 75]
    assert spread([1, 2], 4) == [1, 2]


def test_first_pictures_come_from_every_group(tmp_path: Path) -> None:
    for group in "ab":
        (tmp_path / group).mkdir()
        for number in range(3):
            (tmp_path / group / f"{number}.png").write_bytes(b"")
    found = [path.relative_to(tmp_path).as_posix() for path in first_pictures(tmp_path)]
    assert found[:2] == ["a/0.png", "b/0.png"]
    assert len(found) == 6
    assert list(first_pictures(tmp_path / "nowhere")) == []


def history(losses: list[float], held_out: list[float]) -> HistoryView:
    steps = np.arange(1.0, len(losses) + 1)
    values = np.array(losses)
    return HistoryView(steps, values, values, np.linspace(1, len(losses), len(held_out)), np.array(held_out))


def test_the_curve_is_drawn_on_a_logarithmic_scale(qtbot: QtBot) -> None:
    tasks = Tasks()
    curve = LossCurve(tasks)
    qtbot.addWidget(curve)
    curve.resize(600, 240)
    curve.show_history(history([0.5, 0.05, 0.005], [0.6, 0.06, 0.006]))  # before there is anything to draw with
    with qtbot.waitSignal(curve.ready, timeout=60_000):
        curve.show()
    assert curve._plot is not None
    assert curve._plot._raw.yData == pytest.approx(np.log10([0.5, 0.05, 0.005]))
    assert curve._plot._held_out.yData == pytest.approx(np.log10([0.6, 0.06, 0.006]))
    left = curve._plot._item.getAxis("left")
    shown = [text for _, values in left.tickValues(-2.3, 0.0, 200.0) for text in left.tickStrings(values, 1, 1)]
    assert "0.1" in shown and "0.01" in shown
    curve.show_history(history([1.0, 0.0], []))  # a loss of nothing has no logarithm
    assert np.all(np.isfinite(curve._plot._raw.yData))
    curve.show_history(None)
    assert not curve._plot.widget.isVisible()
    curve.grab()
    tasks.close()


@pytest.mark.parametrize(("low", "high"), [(-3.0, 0.0), (-1.30, -1.22), (-1.201, -1.2), (-8.0, 2.0)])
def test_there_are_always_a_few_ticks(qtbot: QtBot, low: float, high: float) -> None:
    import pyqtgraph

    from diffstudio.ui.train.loss_curve import _log_axis

    axis = _log_axis(pyqtgraph)
    ((_, values),) = axis.tickValues(low, high, 200.0)
    assert all(low <= value <= high for value in values)
    assert len(values) <= 10
    if high - low > 0.05:
        assert len(values) >= 2
    labels = axis.tickStrings(values, 1.0, 1.0)
    assert len(set(labels)) == len(labels), "no two ticks read the same"


def test_every_chip_of_the_samples_is_seen_in_a_narrow_room(qtbot: QtBot) -> None:
    tasks, room = Tasks("samples"), QWidget()
    qtbot.addWidget(room)
    samples = SamplesThroughTime(tasks)
    samples.setParent(room)
    samples.chips.show()
    room.show()
    for width in (300, 340, 900):
        samples.resize(width, 300)
        qtbot.waitUntil(lambda width=width: samples.width() == width and samples.chips.geometry().right() <= width)
    tasks.close()
