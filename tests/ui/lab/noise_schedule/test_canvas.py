"""The curve under the mouse and the keys."""

from __future__ import annotations

import time
from collections.abc import Iterator
from statistics import median

import pytest
from PySide6.QtCore import QEvent, QPoint, QPointF, Qt
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from diffstudio import paths
from diffstudio.models.library.records import read_checkpoint
from diffstudio.studio.curves.curve import NoiseCurve
from diffstudio.studio.curves.models import model_noise
from diffstudio.studio.curves.presets import preset_curves
from diffstudio.studio.evaluations.noise_schedule.losses import LevelLosses
from diffstudio.studio.evaluations.views.noise_schedule import schedule_view
from diffstudio.ui.lab.noise_schedule.axes import range_of
from diffstudio.ui.lab.noise_schedule.canvas import ScheduleCanvas
from diffstudio.ui.widgets import theme

CURVE = NoiseCurve(((0.0, 9.0), (0.3, 2.0), (0.7, -1.0), (1.0, -8.0)))
LOSSES = LevelLosses("flowers", 400, (5.0, 0.0, -5.0), (1.0, 0.5, 0.4), (0.9, 0.5, 0.3))
NOISE = model_noise(read_checkpoint(paths.starter()))
COMPARED = (("Karras", "karras"), ("Fitted", (1.0, 0.7, 0.3)))


@pytest.fixture
def canvas(qtbot: QtBot, dressed: QApplication) -> Iterator[ScheduleCanvas]:
    canvas = ScheduleCanvas(CURVE)
    qtbot.addWidget(canvas)
    canvas.changed.connect(lambda curve: canvas.show_view(schedule_view(curve, NOISE, 20, COMPARED, LOSSES)))
    canvas.show_view(schedule_view(CURVE, NOISE, 20, COMPARED, LOSSES))
    canvas.resize(520, 340)
    canvas.show()
    qtbot.waitExposed(canvas)
    yield canvas


def place(canvas: ScheduleCanvas, u: float, log_snr: float) -> QPoint:
    return canvas.axes().at(u, log_snr).toPoint()


def drag(canvas: ScheduleCanvas, qtbot: QtBot, start: tuple[float, float], *ends: tuple[float, float]) -> None:
    qtbot.mousePress(canvas, Qt.MouseButton.LeftButton, pos=place(canvas, *start))
    for end in ends:
        qtbot.mouseMove(canvas, place(canvas, *end))
    qtbot.mouseRelease(canvas, Qt.MouseButton.LeftButton, pos=place(canvas, *ends[-1]))


def test_a_point_is_dragged_as_far_as_its_neighbours_allow(canvas: ScheduleCanvas, qtbot: QtBot) -> None:
    with qtbot.waitSignal(canvas.changed):
        drag(canvas, qtbot, (0.3, 2.0), (0.35, 3.0), (0.4, 4.0))
    u, log_snr = canvas.curve().points[1]
    assert u == pytest.approx(0.4, abs=0.005) and log_snr == pytest.approx(4.0, abs=0.1)
    assert canvas.index() == 1 and "Point 2 of 4" in canvas.accessibleDescription()
    drag(canvas, qtbot, canvas.curve().points[1], (0.9, -7.0))  # not past the next one
    assert canvas.curve().points[1] == pytest.approx((0.696, -0.98))
    drag(canvas, qtbot, (0.0, 9.0), (0.3, 9.5))
    assert canvas.curve().points[0][0] == 0  # the first keeps its time
    canvas.undo()
    canvas.undo()
    assert canvas.curve().points[1] == pytest.approx((0.4, 4.0), abs=0.1)  # a whole drag at a time
    canvas.undo()
    assert canvas.curve() == CURVE and not canvas.can_undo()


def test_a_click_chooses_and_changes_nothing(canvas: ScheduleCanvas, qtbot: QtBot) -> None:
    qtbot.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=place(canvas, 0.7, -1.0))
    assert canvas.index() == 2 and canvas.curve() == CURVE and not canvas.can_undo()
    qtbot.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=place(canvas, 0.5, 8.0))  # nothing there
    assert canvas.index() == 2


def test_points_are_added_and_removed(canvas: ScheduleCanvas, qtbot: QtBot) -> None:
    qtbot.mouseDClick(canvas, Qt.MouseButton.LeftButton, pos=place(canvas, 0.5, CURVE.log_snr(0.5)))
    assert len(canvas.curve().points) == 5 and canvas.curve().points[2] == pytest.approx(
        (0.5, CURVE.log_snr(0.5)), abs=0.01
    )
    qtbot.mouseClick(canvas, Qt.MouseButton.RightButton, pos=place(canvas, *canvas.curve().points[2]))
    assert canvas.curve() == CURVE
    with qtbot.waitSignal(canvas.refused) as refused:
        qtbot.mouseClick(canvas, Qt.MouseButton.RightButton, pos=place(canvas, 0.0, 9.0))
    assert "cannot be removed" in refused.args[0]


def test_everything_by_keys(canvas: ScheduleCanvas, qtbot: QtBot) -> None:
    def press(key: Qt.Key, modifier: Qt.KeyboardModifier = Qt.KeyboardModifier.NoModifier) -> None:
        qtbot.keyClick(canvas, key, modifier)

    canvas.setFocus()
    press(Qt.Key.Key_Right)
    assert canvas.index() == 1
    press(Qt.Key.Key_Up)
    press(Qt.Key.Key_Down, Qt.KeyboardModifier.ShiftModifier)
    assert canvas.curve().points[1] == pytest.approx((0.3, 2.2))
    press(Qt.Key.Key_Right, Qt.KeyboardModifier.ControlModifier)
    press(Qt.Key.Key_Left, Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier)
    assert canvas.curve().points[1] == pytest.approx((0.308, 2.2))
    press(Qt.Key.Key_Insert)
    assert len(canvas.curve().points) == 5 and canvas.index() == 2
    press(Qt.Key.Key_Delete)
    assert len(canvas.curve().points) == 4 and canvas.index() == 1
    press(Qt.Key.Key_End)
    assert canvas.index() == 3
    press(Qt.Key.Key_Left)
    press(Qt.Key.Key_Home)
    assert canvas.index() == 0
    before = canvas.curve()
    press(Qt.Key.Key_A)  # not a key of the editor
    assert canvas.curve() == before


def test_a_drag_answers_within_a_frame(canvas: ScheduleCanvas, qtbot: QtBot) -> None:
    """33 ms of the window's thread from the move of the mouse to the new picture: curve, steps, training and loss."""
    canvas.set_curve(preset_curves()["cosine"])
    u, log_snr = canvas.curve().points[5]
    qtbot.mousePress(canvas, Qt.MouseButton.LeftButton, pos=place(canvas, u, log_snr))
    seconds = []
    for number in range(15):
        where = place(canvas, u + 0.003 * number, log_snr + 0.02 * number)
        began = time.thread_time()
        qtbot.mouseMove(canvas, where)
        canvas.repaint()
        seconds.append(time.thread_time() - began)
    qtbot.mouseRelease(canvas, Qt.MouseButton.LeftButton, pos=where)
    assert canvas.curve() != preset_curves()["cosine"]
    assert median(seconds) < 0.033


def pixels_like(image: QImage, role: str) -> int:
    colour = theme.colour(role).rgb()
    return sum(image.pixel(x, y) == colour for x in range(image.width()) for y in range(image.height()))


def test_each_thing_is_drawn_where_it_is(canvas: ScheduleCanvas, qtbot: QtBot) -> None:
    image = canvas.grab().toImage()
    axes = canvas.axes()
    assert image.pixelColor(place(canvas, 0.7, -1.0)) == theme.colour("raised")  # a point
    assert image.pixelColor(place(canvas, 0.0, 9.0)) == theme.colour("accent")  # the chosen one
    step = canvas.view().steps[1].u[4]  # type: ignore[union-attr]
    row = axes.row(1)
    assert image.pixelColor(QPointF(axes.x(step), row.center().y()).toPoint()) == theme.colour("good")
    assert pixels_like(image, "bad") > 20  # the held-out loss
    without = schedule_view(CURVE, None, 4)
    canvas.show_view(without)
    image = canvas.grab().toImage()
    assert pixels_like(image, "bad") == pixels_like(image, "good") == 0
    assert axes.time(axes.x(0.3)) == pytest.approx(0.3) and axes.log_snr(axes.y(2.0)) == pytest.approx(2.0)
    assert range_of(-13, 3) == (-15, 10) and range_of(-1, 13.8) == (-10, 15)


def test_the_pointer_is_heard_of_until_it_leaves(canvas: ScheduleCanvas, qtbot: QtBot) -> None:
    heard: list[object] = []
    canvas.pointed.connect(heard.append)
    qtbot.mouseMove(canvas, place(canvas, 0.25, 5.0))
    assert heard[-1] == pytest.approx(0.25, abs=0.01)
    qtbot.mouseMove(canvas, place(canvas, 0.7, -1.0))
    assert canvas.cursor().shape() == Qt.CursorShape.SizeAllCursor
    QApplication.sendEvent(canvas, QEvent(QEvent.Type.Leave))
    assert heard[-1] is None
