"""The map under mouse and keyboard: hover, click, drag, wheel and arrows; and 20,000 points at 30 frames a second."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from PySide6.QtCore import QEvent, QPoint, QPointF, Qt
from PySide6.QtGui import QContextMenuEvent, QMouseEvent, QWheelEvent
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from diffstudio.studio.evaluations.image_map.result import MapLayout, MapPart, MapResult, PartKind
from diffstudio.studio.evaluations.plots.scatter import DARK_COLOURS, LIGHT_COLOURS, Group
from diffstudio.studio.evaluations.views.image_map import PARTS, ImageMapView
from diffstudio.ui.lab.image_map.canvas import MapCanvas
from diffstudio.ui.lab.image_map.view import ImageMapResultView
from diffstudio.ui.widgets import theme

LEFT, SHIFT, NONE = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.ShiftModifier, Qt.KeyboardModifier.NoModifier
PATIENCE_MS = 30_000


def move(canvas: MapCanvas, place: QPointF, buttons: Qt.MouseButton = Qt.MouseButton.NoButton) -> None:
    at = canvas.mapToGlobal(place)
    QApplication.sendEvent(
        canvas, QMouseEvent(QEvent.Type.MouseMove, place, at, Qt.MouseButton.NoButton, buttons, NONE)
    )


def wheel(canvas: MapCanvas, place: QPointF, steps: int) -> QWheelEvent:
    event = QWheelEvent(
        place,
        canvas.mapToGlobal(place),
        QPoint(),
        QPoint(0, 120 * steps),
        Qt.MouseButton.NoButton,
        NONE,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(canvas, event)
    return event


def colour_at(canvas: MapCanvas, place: QPointF) -> str:
    image = canvas.grab().toImage()
    return image.pixelColor((place * canvas.devicePixelRatioF()).toPoint()).name()


def test_points_have_the_colours_of_their_parts_in_both_themes(
    view: ImageMapResultView, qtbot: QtBot, dressed: QApplication
) -> None:
    canvas = view.canvas
    for colours, shown in (("dark", DARK_COLOURS), ("light", LIGHT_COLOURS)):
        theme.apply(dressed, colours)
        assert [colour_at(canvas, canvas.place_of(point)) for point in (0, 12, 16)] == list(shown[:3])
    assert canvas.accessibleDescription() == "20 images"


def test_the_image_under_the_mouse_is_shown_beside_it(view: ImageMapResultView, qtbot: QtBot) -> None:
    canvas = view.canvas
    move(canvas, canvas.place_of(12) + QPointF(3, 3))
    assert canvas.hovered == 12
    blue = canvas.place_of(12) + QPointF(14 + 8 + 60, -10)
    qtbot.waitUntil(lambda: colour_at(canvas, blue) == "#0000ff", timeout=PATIENCE_MS)
    view.resize(420, 1300)
    qtbot.waitUntil(lambda: canvas.width() <= 420)
    move(canvas, canvas.place_of(3))  # at the right edge: the image is on its left
    qtbot.waitUntil(lambda: colour_at(canvas, canvas.place_of(3) - QPointF(80, -40)) == "#ff0000", timeout=PATIENCE_MS)
    move(canvas, canvas.place_of(19))  # not kept: its words alone
    assert canvas.hovered == 19
    canvas.grab()
    QApplication.sendEvent(canvas, QEvent(QEvent.Type.Leave))
    assert canvas.hovered is None and colour_at(canvas, blue) != "#0000ff"


def test_a_click_chooses_an_image_and_with_shift_a_second_one(view: ImageMapResultView, qtbot: QtBot) -> None:
    canvas = view.canvas
    qtbot.mouseClick(canvas, LEFT, NONE, canvas.place_of(5).toPoint())
    assert (canvas.first, canvas.second) == (5, None) and "red/05.png" in canvas.accessibleDescription()
    qtbot.mouseClick(canvas, LEFT, SHIFT, canvas.place_of(17).toPoint())
    assert (canvas.first, canvas.second) == (5, 17) and "seed 8" in canvas.accessibleDescription()
    qtbot.mouseClick(canvas, LEFT, NONE, canvas.place_of(6).toPoint())
    assert (canvas.first, canvas.second) == (6, None)
    qtbot.mouseClick(canvas, LEFT, NONE, ((canvas.place_of(0) + canvas.place_of(5)) / 2).toPoint())
    assert canvas.first is None


def test_the_wheel_zooms_around_the_mouse_once_the_map_has_the_focus(view: ImageMapResultView, qtbot: QtBot) -> None:
    canvas = view.canvas
    before, place = canvas.place_of(0), canvas.place_of(5)
    view.save.setFocus()
    assert not wheel(canvas, place, 2).isAccepted() and canvas.place_of(0) == before  # the column scrolls
    assert not view.everything.isEnabled()
    canvas.setFocus()
    assert wheel(canvas, place, 2).isAccepted()
    assert (canvas.place_of(5) - place).manhattanLength() < 1e-6 and canvas.place_of(0).x() < before.x()
    assert view.everything.isEnabled() and view.zoom_out.isEnabled()
    view.zoom_in.click()
    view.zoom_out.click()
    view.everything.click()
    assert canvas.place_of(0) == before and not canvas.zoomed


def test_dragging_moves_the_map_and_chooses_nothing(view: ImageMapResultView, qtbot: QtBot) -> None:
    canvas = view.canvas
    canvas.zoom(6)
    start, before = QPointF(300, 200), canvas.place_of(5)
    qtbot.mousePress(canvas, LEFT, NONE, start.toPoint())
    move(canvas, start + QPointF(2, 1), LEFT)  # not yet a drag
    move(canvas, start + QPointF(30, 12), LEFT)
    qtbot.mouseRelease(canvas, LEFT, NONE, (start + QPointF(30, 12)).toPoint())
    assert (canvas.place_of(5) - before - QPointF(30, 12)).manhattanLength() < 1 and canvas.first is None
    move(canvas, start)
    assert (canvas.place_of(5) - before - QPointF(30, 12)).manhattanLength() < 1  # the button is up


def test_the_arrows_go_from_image_to_image(view: ImageMapResultView, qtbot: QtBot) -> None:
    canvas = view.canvas
    canvas.setFocus()
    qtbot.keyClick(canvas, Qt.Key.Key_Right)  # from the middle
    assert canvas.first in (9, 10)
    canvas.choose(5)
    for key, expected in ((Qt.Key.Key_Right, 6), (Qt.Key.Key_Down, 10), (Qt.Key.Key_Left, 9), (Qt.Key.Key_Up, 5)):
        qtbot.keyClick(canvas, key)
        assert canvas.first == expected
    qtbot.keyClick(canvas, Qt.Key.Key_Down, SHIFT)
    qtbot.keyClick(canvas, Qt.Key.Key_Down, SHIFT)
    assert (canvas.first, canvas.second) == (5, 13)
    canvas.choose(0)
    qtbot.keyClick(canvas, Qt.Key.Key_Up)
    assert canvas.first == 0  # nothing is above
    for key, zoomed in ((Qt.Key.Key_Plus, True), (Qt.Key.Key_0, False), (Qt.Key.Key_Equal, True)):
        qtbot.keyClick(canvas, key)
        assert canvas.zoomed is zoomed
    qtbot.keyClick(canvas, Qt.Key.Key_Minus)
    assert not canvas.zoomed
    canvas.zoom(10)
    canvas.choose(19)  # far outside
    assert canvas.rect().contains(canvas.place_of(19).toPoint())
    qtbot.keyClick(canvas, Qt.Key.Key_Escape)
    assert canvas.first is None
    qtbot.keyClick(canvas, Qt.Key.Key_F5)  # not ours


def test_an_image_on_the_map_has_the_menu_of_every_image(
    view: ImageMapResultView, qtbot: QtBot, tmp_path: Path
) -> None:
    canvas = view.canvas
    place = canvas.place_of(12).toPoint()
    with qtbot.waitSignal(view.menu_requested) as by_mouse:
        QApplication.sendEvent(
            canvas, QContextMenuEvent(QContextMenuEvent.Reason.Mouse, place, canvas.mapToGlobal(place))
        )
    assert by_mouse.args is not None and by_mouse.args[0].path == tmp_path / "photos" / "blue" / "0.png"
    canvas.setFocus()
    canvas.choose(17)
    with qtbot.waitSignal(view.menu_requested) as by_key:
        qtbot.keyClick(canvas, Qt.Key.Key_Return)
    assert by_key.args is not None and by_key.args[0].path == tmp_path / "job" / "images" / "2.png"
    with qtbot.waitSignal(view.menu_requested):
        QApplication.sendEvent(
            canvas, QContextMenuEvent(QContextMenuEvent.Reason.Keyboard, QPoint(), canvas.mapToGlobal(QPoint()))
        )
    canvas.choose(19)  # has no file
    with qtbot.assertNotEmitted(view.menu_requested):
        qtbot.keyClick(canvas, Qt.Key.Key_Return)


def many(count: int) -> ImageMapView:
    names = tuple(map(str, range(count)))
    points = np.random.default_rng(0).normal(size=(count, 2))
    layout = MapLayout("pca", "PCA", "", points, None, 0, count)
    part = MapPart("Images", PartKind.IMAGES, count, "/", names=names)
    result = MapResult("/", "a network", [part], [layout])
    groups = [Group(f"group {number}", number) for number in range(8)]
    return ImageMapView(Path("/"), result, {PARTS: (groups, np.arange(count) % 8)})


@pytest.mark.parametrize("what", ["zooming", "moving", "hovering"])
def test_twenty_thousand_points_stay_above_30_frames_a_second(qtbot: QtBot, dressed: QApplication, what: str) -> None:
    canvas = MapCanvas()
    qtbot.addWidget(canvas)
    shown = many(20_000)
    canvas.resize(1000, 460)
    canvas.show_points(shown, shown.layouts[0].coordinates, *shown.colours[PARTS])
    canvas.show()
    qtbot.waitExposed(canvas)
    canvas.zoom(2)
    seconds = []
    for frame in range(8):
        begun = time.thread_time()
        if what == "zooming":
            canvas.zoom(0.4 if frame < 4 else -0.4)
        elif what == "moving":
            assert canvas._viewport is not None
            canvas._set_viewport(canvas._viewport.moved(6, 3))
        else:
            move(canvas, QPointF(300 + 20 * frame, 230))
        canvas.repaint()
        seconds.append(time.thread_time() - begun)
    assert sorted(seconds)[len(seconds) // 2] < 1 / 30  # the median, of this thread
    canvas.shut_down()


def test_an_empty_map_is_empty(qtbot: QtBot, dressed: QApplication) -> None:
    canvas = MapCanvas()
    qtbot.addWidget(canvas)
    canvas.show()
    canvas.zoom(1)
    canvas.show_all()
    qtbot.keyClick(canvas, Qt.Key.Key_Right)
    assert not canvas.zoomed and colour_at(canvas, QPointF(50, 50)) == theme.colour("background").name()
    canvas.shut_down()
