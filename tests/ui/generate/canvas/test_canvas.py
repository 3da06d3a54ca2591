"""The canvas and the filmstrip: what they show where, by mouse and keyboard."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PySide6.QtCore import QEvent, QPoint, QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QContextMenuEvent, QImage, QPainter, QWheelEvent
from PySide6.QtWidgets import QApplication, QPushButton
from pytestqt.qtbot import QtBot

from diffstudio.ui.generate.canvas.canvas import Canvas
from diffstudio.ui.generate.canvas.filmstrip import Filmstrip
from diffstudio.ui.generate.canvas.painting import paint_note, smooth
from diffstudio.ui.widgets.images.image_reading import numpy_to_qimage
from tests.ui.samples import picture

pytestmark = pytest.mark.usefixtures("dressed")


@pytest.fixture
def canvas(qtbot: QtBot) -> Canvas:
    canvas = Canvas()
    qtbot.addWidget(canvas)
    canvas.resize(640, 480)
    canvas.show()
    qtbot.waitExposed(canvas)
    return canvas


@pytest.fixture
def strip(qtbot: QtBot) -> Filmstrip:
    strip = Filmstrip()
    qtbot.addWidget(strip)
    strip.resize(640, 72)
    strip.show()
    qtbot.waitExposed(strip)
    return strip


def grey_at(canvas: Canvas, cell: QRectF) -> int:
    return canvas.grab().toImage().pixelColor(cell.center().toPoint()).red()


def test_one_picture_fills_the_room_in_its_shape(canvas: Canvas) -> None:
    canvas.begin(1, QSize(64, 64))
    canvas.show_previews(0, [picture(90)])
    ((_, cell),) = canvas.cells()
    assert (cell.width(), cell.height()) == (480, 480)
    assert cell.center().x() == pytest.approx(320, abs=1)
    assert grey_at(canvas, cell) == 90


@pytest.mark.parametrize("count", [2, 3, 4, 6, 9, 16, 64])
def test_several_pictures_lie_in_a_grid_without_touching(canvas: Canvas, count: int) -> None:
    canvas.begin(count, QSize(64, 48))
    cells = [cell for _, cell in canvas.cells()]
    assert len(cells) == count
    room = QRectF(canvas.rect())
    for index, cell in enumerate(cells):
        assert room.adjusted(-1, -1, 1, 1).contains(cell)
        assert cell.width() / cell.height() == pytest.approx(64 / 48, rel=0.05)
        assert not any(cell.intersects(other) for other in cells[index + 1 :])


def test_an_estimate_gives_way_to_what_is_saved(canvas: Canvas) -> None:
    canvas.begin(3, QSize(16, 16))
    canvas.show_previews(1, [picture(50), picture(60), picture(70)])  # one more than there is room for
    canvas.show_saved(1, numpy_to_qimage(picture(200)), Path("b.png"))
    cells = dict(canvas.cells())
    assert grey_at(canvas, cells[1]) == 200
    assert grey_at(canvas, cells[2]) == 60
    assert canvas.path() is None
    canvas._choose(1)
    assert canvas.path() == Path("b.png")


def test_a_click_shows_one_of_many_and_escape_all_of_them(qtbot: QtBot, canvas: Canvas) -> None:
    canvas.begin(4, QSize(16, 16))
    canvas.show_previews(0, [picture(level) for level in (10, 20, 30, 40)])
    qtbot.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=dict(canvas.cells())[2].center().toPoint())
    assert [index for index, _ in canvas.cells()] == [2]
    qtbot.keyClick(canvas, Qt.Key.Key_Right)
    assert [index for index, _ in canvas.cells()] == [3]
    qtbot.keyClick(canvas, Qt.Key.Key_Escape)
    assert len(canvas.cells()) == 4
    assert canvas.chosen() == 3


def test_scrubbing_covers_what_is_there_and_uncovers_it(canvas: Canvas) -> None:
    canvas.show_one(numpy_to_qimage(picture(200)), Path("a.png"))
    canvas.scrub([picture(33)])
    assert grey_at(canvas, canvas.cells()[0][1]) == 33
    assert canvas.path() is None  # an estimate is in no file
    canvas.scrub(None)
    assert grey_at(canvas, canvas.cells()[0][1]) == 200
    assert canvas.path() == Path("a.png")


def test_the_menu_opens_by_keyboard_and_not_on_nothing(qtbot: QtBot, canvas: Canvas, qapp: QApplication) -> None:
    asked: list[QPoint] = []
    canvas.context_menu_requested.connect(asked.append)
    event = QContextMenuEvent(QContextMenuEvent.Reason.Keyboard, QPoint(1, 1), QPoint(1, 1))
    qapp.sendEvent(canvas, event)
    assert asked == []
    canvas.show_one(numpy_to_qimage(picture(9)), None)
    qapp.sendEvent(canvas, QContextMenuEvent(QContextMenuEvent.Reason.Keyboard, QPoint(1, 1), QPoint(1, 1)))
    assert len(asked) == 1


def test_enlarging_is_smooth_and_keeps_a_plain_colour(qapp: QApplication) -> None:
    image = QImage(2, 1, QImage.Format.Format_RGB888)
    image.setPixelColor(0, 0, QColor("black"))
    image.setPixelColor(1, 0, QColor("white"))
    large = smooth(image, QSize(200, 100))
    levels = [large.pixelColor(x, 50).red() for x in range(200)]
    assert levels == sorted(levels)
    assert len(set(levels)) > 50  # a ramp, not two blocks
    assert smooth(numpy_to_qimage(picture(77, 3)), QSize(100, 99)).pixelColor(50, 50).red() == 77


def test_the_strip_follows_the_newest_step_until_somebody_goes_back(qtbot: QtBot, strip: Filmstrip) -> None:
    strip.clear(10)
    emitted: list[int] = []
    strip.valueChanged.connect(emitted.append)
    for step in range(1, 5):
        strip.set_step(step, 0, [picture(step)])
    assert (strip.value(), strip.last_step(), emitted) == (4, 4, [])
    qtbot.keyClick(strip, Qt.Key.Key_Left)
    strip.set_step(5, 0, [picture(5)])
    assert (strip.value(), strip.last_step(), emitted) == (3, 5, [3])
    qtbot.keyClick(strip, Qt.Key.Key_End)
    assert strip.value() == 5  # not beyond what there is
    strip.set_step(6, 0, [picture(6)])
    assert strip.value() == 6


def test_every_step_can_be_reached_with_the_mouse(qtbot: QtBot, strip: Filmstrip) -> None:
    strip.clear(24)
    for step in range(1, 25):
        strip.set_step(step, 0, [picture(step)])
    shown = [step for step, _ in strip.thumbnails()]
    assert len(shown) < 24
    assert (shown[0], shown[-1]) == (1, 24)
    reached = {strip._step_at(x) for x in range(strip.width())}
    assert reached == set(range(1, 25))
    for step in shown:
        qtbot.mouseClick(strip, Qt.MouseButton.LeftButton, pos=strip.center_of(step))
        assert strip.value() == step
    qtbot.mousePress(strip, Qt.MouseButton.LeftButton, pos=strip.center_of(24))
    qtbot.mouseMove(strip, strip.center_of(shown[2]))
    qtbot.mouseRelease(strip, Qt.MouseButton.LeftButton, pos=strip.center_of(shown[2]))


def test_steps_that_were_passed_over_show_the_one_before(strip: Filmstrip) -> None:
    strip.clear(10)
    strip.set_step(2, 0, [picture(2)])
    strip.set_step(5, 0, [picture(5)])
    assert strip.previews_at(1) == ()
    assert strip.previews_at(4)[0][0, 0, 0] == 2
    assert strip.previews_at(9)[0][0, 0, 0] == 5
    strip.set_previews([(picture(100 + step),) for step in range(10)])
    assert strip.previews_at(4)[0][0, 0, 0] == 103
    assert strip.value() == 10


def test_the_strip_says_where_it_is(strip: Filmstrip) -> None:
    strip.clear(12)
    for step in range(1, 9):
        strip.set_step(step, 0, [picture(step)])
    strip.setValue(7)
    assert strip.accessibleDescription() == "Step 7 of 12"


# ---- zoom ------------------------------------------------------------------------------------------------------------


def noise(width: int, height: int) -> QImage:
    pixels = np.random.default_rng(width).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return numpy_to_qimage(pixels)


def shown_pixels(canvas: Canvas) -> np.ndarray:
    image = canvas.grab().toImage().convertToFormat(QImage.Format.Format_RGB888)
    rows = np.frombuffer(image.constBits(), np.uint8).reshape(image.height(), image.bytesPerLine())
    return rows[:, : 3 * image.width()].reshape(image.height(), image.width(), 3).copy()


def wheel(canvas: Canvas, at: QPointF, delta: int) -> None:
    none = Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase
    event = QWheelEvent(at, canvas.mapToGlobal(at), QPoint(), QPoint(0, delta), *none, False)
    QApplication.sendEvent(canvas, event)


def look_away(canvas: Canvas) -> None:
    """Neither the pointer nor the focus is on the canvas."""
    QApplication.sendEvent(canvas, QEvent(QEvent.Type.Leave))
    if (focus := QApplication.focusWidget()) is not None:
        focus.clearFocus()


@pytest.mark.parametrize("factor", [1.0, 2.0, 3.0])
def test_zoomed_pixels_are_squares_of_their_own_colour(canvas: Canvas, factor: float) -> None:
    image = noise(600, 500)
    canvas.show_one(image, Path("a.png"))
    canvas.set_zoom(factor)
    cell, drawn, middle = canvas.cells()[0][1], shown_pixels(canvas), QPoint(300, 300)
    for x in range(200, 320):
        column, row = int((x - cell.x()) // factor), int((middle.y() - cell.y()) // factor)
        colour = image.pixelColor(column, row)
        assert tuple(drawn[middle.y(), x]) == (colour.red(), colour.green(), colour.blue())


def test_small_images_are_pixel_exact_when_fitted(canvas: Canvas) -> None:
    image = noise(50, 40)
    canvas.show_one(image, Path("a.png"))
    cell = canvas.cells()[0][1]
    assert (cell.width(), cell.height()) == (600, 480) and canvas.zoom() == 12
    drawn = shown_pixels(canvas)
    for column in range(2, 48):  # not the rounded corners, nor the bar
        left = int(cell.x()) + 12 * column
        square = drawn[240:252, left : left + 12].reshape(-1, 3)
        assert len(np.unique(square, axis=0)) == 1


def test_an_image_of_256_px_is_resampled_when_fitted(canvas: Canvas) -> None:
    canvas.show_one(noise(256, 256), None)
    assert canvas.zoom() == pytest.approx(480 / 256)
    drawn = shown_pixels(canvas)[200:280, 200:280].astype(int)
    assert np.abs(np.diff(drawn, axis=1)).mean() < 40  # neighbours blend


def test_the_wheel_zooms_around_the_pointer_and_dragging_pans(qtbot: QtBot, canvas: Canvas) -> None:
    canvas.show_one(noise(800, 600), Path("a.png"))
    assert canvas.is_fitted() and not canvas.can_pan()
    at, cell = QPointF(100, 100), canvas.cells()[0][1]
    before = (at.x() - cell.x()) / canvas.zoom()
    for _ in range(3):
        wheel(canvas, at, 120)
    cell = canvas.cells()[0][1]
    assert canvas.zoom() == 3 and (at.x() - cell.x()) / 3 == pytest.approx(before, abs=1)
    wheel(canvas, at, 60)  # half a notch of a touchpad
    assert canvas.zoom() == 3
    wheel(canvas, at, 60)
    assert canvas.zoom() == 4
    before = canvas.cells()[0][1].topLeft()
    qtbot.mousePress(canvas, Qt.MouseButton.LeftButton, pos=QPoint(300, 200))
    qtbot.mouseMove(canvas, QPoint(260, 170))
    qtbot.mouseRelease(canvas, Qt.MouseButton.LeftButton, pos=QPoint(260, 170))
    assert canvas.cells()[0][1].topLeft() - before == QPointF(-40, -30)
    for _ in range(9):
        wheel(canvas, at, -120)
    assert canvas.is_fitted()


def test_the_keys_zoom_pan_and_leave(qtbot: QtBot, canvas: Canvas) -> None:
    canvas.show_one(noise(800, 600), Path("a.png"))
    closed: list[bool] = []
    canvas.closed.connect(lambda: closed.append(True))
    qtbot.keyClick(canvas, Qt.Key.Key_1)
    assert canvas.zoom() == 1
    qtbot.keyClick(canvas, Qt.Key.Key_Plus)
    assert canvas.zoom() == 2
    before = canvas.cells()[0][1].topLeft()
    qtbot.keyClick(canvas, Qt.Key.Key_Right)
    assert canvas.cells()[0][1].left() < before.x()
    qtbot.keyClick(canvas, Qt.Key.Key_Minus)
    qtbot.keyClick(canvas, Qt.Key.Key_0)
    assert canvas.is_fitted()
    qtbot.keyClick(canvas, Qt.Key.Key_1)
    qtbot.keyClick(canvas, Qt.Key.Key_Escape)
    assert canvas.is_fitted() and closed == []
    qtbot.keyClick(canvas, Qt.Key.Key_Escape)
    assert closed == [True]


def test_the_bar_says_and_changes_the_zoom(qtbot: QtBot, canvas: Canvas) -> None:
    bar = canvas.zoom_bar
    assert not bar.isVisible()
    look_away(canvas)
    canvas.show_one(noise(800, 600), Path("a.png"))
    assert not bar.isVisible()  # nothing covers the image until it is pointed at or has the focus
    canvas.activateWindow()
    canvas.setFocus()
    qtbot.waitUntil(bar.isVisible)
    assert bar.zoom.percent.text() == "80%" and "fitted" in bar.zoom.percent.accessibleName()
    qtbot.mouseClick(bar.zoom.percent, Qt.MouseButton.LeftButton)
    assert canvas.zoom() == 1 and bar.zoom.percent.text() == "100%"
    qtbot.mouseClick(bar.zoom.zoom_in, Qt.MouseButton.LeftButton)
    assert canvas.zoom() == 2
    qtbot.mouseClick(bar.zoom.zoom_out, Qt.MouseButton.LeftButton)
    qtbot.mouseClick(bar.zoom.percent, Qt.MouseButton.LeftButton)
    assert canvas.is_fitted() and not bar.zoom.zoom_out.isEnabled()
    with qtbot.waitSignal(canvas.full_screen_requested):
        qtbot.mouseClick(bar.full_screen, Qt.MouseButton.LeftButton)
    assert all(button.accessibleName() for button in bar.findChildren(QPushButton))
    canvas.begin(4, QSize(16, 16))
    assert not bar.isVisible()


def test_a_double_click_asks_for_the_full_screen_of_one(qtbot: QtBot, canvas: Canvas) -> None:
    canvas.begin(2, QSize(16, 16))
    canvas.show_previews(0, [picture(10), picture(20)])
    at = dict(canvas.cells())[1].center().toPoint()
    with qtbot.waitSignal(canvas.full_screen_requested):
        qtbot.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=at)
        qtbot.mouseDClick(canvas, Qt.MouseButton.LeftButton, pos=at)
    assert [index for index, _ in canvas.cells()] == [1]


def test_an_image_shown_alone_is_read_in_full_once(canvas: Canvas) -> None:
    asked: list[Path] = []
    canvas.full_image_requested.connect(asked.append)
    canvas.begin(2, QSize(800, 800))
    canvas.show_saved(0, noise(512, 512), Path("a.png"))
    assert asked == []  # in the grid, the reduced one is good enough
    canvas.set_zoom(1.0)
    canvas.set_zoom(2.0)
    assert asked == [Path("a.png")] and canvas.cells()[0][1].width() == 1600
    canvas.set_full_image(Path("a.png"), QImage())  # it could not be read
    assert canvas.image().width() == 512
    canvas.set_full_image(Path("a.png"), noise(800, 800))
    assert canvas.image().width() == 800 and canvas.cells()[0][1].width() == 1600


def test_the_zoom_stays_while_the_steps_are_browsed(canvas: Canvas) -> None:
    canvas.show_one(noise(800, 800), Path("a.png"))
    canvas.set_zoom(1.0)
    cell = canvas.cells()[0][1]
    canvas.scrub([picture(33, 100)])
    assert canvas.cells()[0][1] == cell and canvas.zoom() == 1
    assert canvas.file() == Path("a.png") and canvas.path() is None


def test_the_bar_is_reached_and_left_by_keyboard(qtbot: QtBot, canvas: Canvas) -> None:
    canvas.show_one(noise(800, 600), Path("a.png"))
    canvas.activateWindow()
    canvas.setFocus()
    qtbot.waitUntil(canvas.zoom_bar.isVisible)
    canvas.zoom_bar.zoom.zoom_in.setFocus()
    assert canvas.zoom_bar.isVisible()
    qtbot.keyClick(canvas.zoom_bar.zoom.zoom_in, Qt.Key.Key_Space)
    assert canvas.zoom() == 1
    canvas.set_zoom(None)
    look_away(canvas)
    assert not canvas.zoom_bar.isVisible()


def test_small_images_of_a_grid_are_drawn_pixel_by_pixel(canvas: Canvas) -> None:
    canvas.begin(2, QSize(40, 40))
    image = noise(40, 40)
    colours = {image.pixelColor(x, y).rgb() for x in range(40) for y in range(40)}
    canvas.show_saved(1, image, Path("a.png"))
    canvas.show_previews(0, [picture(90, 20)])  # of 40 px, so it is smoothed
    cell, drawn = dict(canvas.cells())[1].toRect(), canvas.grab().toImage()
    row = cell.center().y()
    assert all(drawn.pixelColor(x, row).rgb() in colours for x in range(cell.left() + 8, cell.right() - 8))


def test_a_note_that_is_too_long_for_one_line_has_several() -> None:
    note = "Stopped after step 33 of 104: not saved"
    heights = []
    for width in (600, 160):
        image = QImage(width, 200, QImage.Format.Format_RGB32)
        image.fill(0xFF00FF00)
        painter = QPainter(image)
        paint_note(painter, note, QRectF(0, 0, width, 200))
        painter.end()
        drawn = [(x, y) for x in range(width) for y in range(200) if image.pixel(x, y) != 0xFF00FF00]
        assert max(x for x, _ in drawn) < width
        heights.append(max(y for _, y in drawn) - min(y for _, y in drawn))
    assert heights[0] < 30 < heights[1]
