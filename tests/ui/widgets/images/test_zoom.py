"""Zooming: the fitted size, the point that stays in place, and how far an image can be moved."""

from __future__ import annotations

import pytest
from PySide6.QtCore import QPoint, QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QWheelEvent

from diffstudio.ui.widgets.images.zoom import STEPS, View, WheelSteps, Zoom

AREA = QRectF(0, 0, 600, 400)


def view(width: int, height: int, ratio: float = 1.0, *, exact: bool = False) -> View:
    return View(AREA, QSize(width, height), ratio, pixel_exact=exact)


@pytest.mark.parametrize(
    "size, ratio, exact, fit",
    [
        ((1200, 400), 1.0, False, 0.5),
        ((300, 300), 1.0, False, 400 / 300),
        ((160, 160), 1.0, True, 2.0),  # 2.5 would make some pixels larger than others
        ((250, 250), 1.5, True, 2.0),  # of the screen's own pixels
        ((64, 64), 1.0, True, 6.25),  # which nobody sees here
        ((900, 700), 1.5, True, 600 / 700),  # too large for a whole factor
    ],
)
def test_the_whole_image_is_as_large_as_fits(size: tuple[int, int], ratio: float, exact: bool, fit: float) -> None:
    here = view(*size, ratio, exact=exact)
    assert here.fit() == pytest.approx(fit) and Zoom().scale(here) == pytest.approx(fit)
    rect = Zoom().rect(here)
    assert rect.width() == pytest.approx(size[0] * fit / ratio) and rect.center().x() == pytest.approx(300, abs=1)


def test_the_point_under_the_pointer_stays_in_place() -> None:
    zoom, here, pointer = Zoom(), view(1200, 800), QPointF(450, 100)

    def image_point() -> tuple[float, float]:
        rect, scale = zoom.rect(here), zoom.scale(here)
        return (pointer.x() - rect.x()) / scale, (pointer.y() - rect.y()) / scale

    before = image_point()
    for factor in (1.0, 3.0, 16.0, 2.0):
        zoom.set_factor(factor, here, pointer)
        assert image_point() == pytest.approx(before, abs=1 / factor)


def test_the_steps_go_through_the_fitted_size_and_100_percent() -> None:
    zoom, here = Zoom(), view(1000, 1000)  # fits at 40%
    seen = []
    for _ in range(20):
        zoom.step(1, here)
        seen.append(zoom.scale(here))
    assert seen[:4] == [0.5, pytest.approx(2 / 3), 1.0, 2.0] and seen[-1] == STEPS[-1]
    for _ in range(30):
        zoom.step(-1, here)
    assert zoom.factor is None and zoom.scale(here) == pytest.approx(0.4)
    small, here = Zoom(), view(64, 64, exact=True)  # fits at 625%
    small.step(-1, here)
    assert small.factor == 6
    small.step(-1, here)
    assert small.factor == 4
    small.step(1, here)
    small.step(1, here)
    assert small.factor is None
    for _ in range(9):
        small.step(-1, here)
    assert small.factor == 1


def test_no_border_beside_a_larger_image() -> None:
    zoom, here = Zoom(), view(1000, 300)
    zoom.set_factor(1.0, here)
    assert zoom.can_pan(here)
    zoom.pan(QPointF(10_000, 10_000), here)
    assert zoom.rect(here) == QRectF(0, 50, 1000, 300)  # in the middle where it is smaller
    zoom.pan(QPointF(-10_000, 0), here)
    assert zoom.rect(here).right() == pytest.approx(600)
    zoom.set_factor(None, here)
    assert not zoom.can_pan(here) and zoom.rect(here).center() == QPointF(300, 200)


def test_the_corner_lies_on_a_pixel_of_the_screen() -> None:
    zoom, here = Zoom(), view(777, 333, 1.5)
    zoom.set_factor(3.0, here, QPointF(123.4, 56.7))
    rect = zoom.rect(here)
    assert (rect.x() * 1.5).is_integer() and (rect.y() * 1.5).is_integer()


def test_a_touchpad_zooms_after_as_many_small_turns_as_make_a_step() -> None:
    def turn(by: int) -> QWheelEvent:
        keys, phase = Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase
        at = QPointF(1, 1)
        return QWheelEvent(at, at, QPoint(), QPoint(0, by), Qt.MouseButton.NoButton, keys, phase, False)

    steps = WheelSteps()
    assert [steps.add(turn(by)) for by in (50, 50, 50, -40, 240, -120)] == [0, 0, 1, 0, 1, 0]
