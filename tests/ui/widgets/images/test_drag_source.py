"""Images are dragged out of every widget that shows one, and the image that was pressed is the one that is dragged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from PySide6.QtCore import QEvent, QPoint, QPointF, Qt
from PySide6.QtGui import QColor, QDrag, QImage, QMouseEvent
from PySide6.QtWidgets import QApplication, QWidget
from pytestqt.qtbot import QtBot

from diffstudio.training.run.events import RunSamples
from diffstudio.ui.gallery.compare_view import OVER, CompareView
from diffstudio.ui.lab.results.before_after import BeforeAfter
from diffstudio.ui.lab.results.grids_view import Sheet
from diffstudio.ui.lab.results.whole_image import WholeImage
from diffstudio.ui.lab.results.word_maps import PlaceImage
from diffstudio.ui.tasks import Tasks
from diffstudio.ui.train.run.sample_sheets_view import SampleGrid
from diffstudio.ui.widgets.images.drag_source import DragSource
from diffstudio.ui.widgets.images.image_menu import ImageTarget

pytestmark = pytest.mark.usefixtures("dressed")
LEFT, NONE = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
RED, BLUE = "#ff0000", "#0000ff"


@pytest.fixture
def dragged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What each drag carries: the name of its file, or the colour of its pixels."""
    found: list[str] = []

    def note(drag: QDrag, *_: object) -> None:
        data = drag.mimeData()
        urls = [Path(url.toLocalFile()).name for url in data.urls()]
        found.extend(urls or [QImage(data.imageData()).pixelColor(1, 1).name()])

    monkeypatch.setattr(QDrag, "exec", note)
    return found


def plain(colour: str) -> QImage:
    image = QImage(40, 40, QImage.Format.Format_RGB32)
    image.fill(QColor(colour))
    return image


def drag(qtbot: QtBot, widget: QWidget, start: QPoint, end: QPoint) -> None:
    """Press, move in a single step, as a fast mouse does, and release."""
    qtbot.mousePress(widget, LEFT, pos=start)
    event = QMouseEvent(QEvent.Type.MouseMove, QPointF(end), QPointF(widget.mapToGlobal(end)), LEFT, LEFT, NONE)
    QApplication.sendEvent(widget, event)
    qtbot.mouseRelease(widget, LEFT, pos=end)


def shown(qtbot: QtBot, widget: QWidget) -> QWidget:
    qtbot.addWidget(widget)
    widget.resize(320, 240)
    widget.show()
    qtbot.waitExposed(widget)
    return widget


def make(kind: Callable[[], QWidget], show: Callable[[QWidget, ImageTarget], None]) -> Callable[[ImageTarget], QWidget]:
    def made(target: ImageTarget) -> QWidget:
        widget = kind()
        show(widget, target)
        return widget

    return made


WIDGETS = {
    "whole image": make(lambda: WholeImage(120, "Image"), lambda w, t: w.show_target(t)),  # type: ignore[attr-defined]
    "place in an image": make(lambda: PlaceImage("Image", "It"), lambda w, t: w.show_image(t)),  # type: ignore[attr-defined]
    "sheet": make(Sheet, lambda w, t: w.show_image(t, "Sheet")),  # type: ignore[attr-defined]
}


@pytest.mark.parametrize("kind", WIDGETS)
def test_an_image_is_dragged_as_its_file_or_its_pixels(
    kind: str, qtbot: QtBot, dragged: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "a.png"
    Image.new("RGB", (8, 8)).save(file)
    for target, carried in ((ImageTarget(image=plain(RED)), RED), (ImageTarget(file, plain(RED)), "a.png")):
        widget = shown(qtbot, WIDGETS[kind](target))
        drag(qtbot, widget, QPoint(20, 20), QPoint(22, 22))
        assert not dragged, "a click with a shaking hand"
        drag(qtbot, widget, QPoint(20, 20), QPoint(300, 20))
        assert dragged == [carried]
        dragged.clear()
    drag(qtbot, shown(qtbot, WIDGETS[kind](ImageTarget())), QPoint(20, 20), QPoint(300, 20))
    assert not dragged


def test_the_image_that_was_pressed_is_dragged_from_many(qtbot: QtBot, dragged: list[str]) -> None:
    grid, sheet = SampleGrid("Samples"), QImage(80, 40, QImage.Format.Format_RGB32)
    sheet.fill(QColor(RED))
    for x in range(40, 80):
        for y in range(40):
            sheet.setPixelColor(x, y, QColor(BLUE))
    shown(qtbot, grid)
    grid.show_sheet(RunSamples(step=1, ema="", raw="", columns=2, rows=1, size=40, prompts=("a", "b")), sheet)
    first, second = (rect.center().toPoint() for rect in grid.tiles())
    drag(qtbot, grid, first, second)
    drag(qtbot, grid, second, QPoint(second.x(), 239))  # beside all images
    assert dragged == [RED, BLUE]


def test_before_and_after_are_dragged_beside_the_divider(qtbot: QtBot, dragged: list[str]) -> None:
    view = BeforeAfter()
    shown(qtbot, view)
    view.show_images(plain(RED), plain(BLUE), QImage())
    where = view.image_rect().toRect()
    left, right = where.center() - QPoint(40, 0), where.center() + QPoint(40, 0)
    drag(qtbot, view, left, left - QPoint(0, 60))
    view.set_divider(0.5)
    drag(qtbot, view, right, right - QPoint(0, 60))
    assert dragged == [RED, BLUE]
    view.set_divider(0.5)
    drag(qtbot, view, where.center(), right)
    assert len(dragged) == 2 and view.divider == pytest.approx((right.x() - where.left()) / where.width(), abs=0.02)
    qtbot.mouseClick(view, LEFT, pos=left)
    assert view.divider == pytest.approx((left.x() - where.left()) / where.width(), abs=0.02)
    qtbot.mouseMove(view, left)
    assert view.cursor().shape() is Qt.CursorShape.SplitHCursor


def test_compared_images_are_dragged_side_by_side(qtbot: QtBot, dragged: list[str], tmp_path: Path) -> None:
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    for file in files:
        Image.new("RGB", (40, 40), "red").save(file)
    tasks = Tasks("compare")
    view = CompareView(tasks)
    shown(qtbot, view)
    view.compare(files, ["a", "b"])
    qtbot.waitUntil(lambda: not tasks.busy())
    for index in (1, 0):
        drag(qtbot, view.pane, view.pane.image_rect(index).center().toPoint(), QPoint(0, 0))
    assert dragged == ["b.png", "a.png"]
    view.pane.set_zoom(16.0)  # dragging moves what is seen
    drag(qtbot, view.pane, QPoint(20, 60), QPoint(60, 60))
    view.pane.set_zoom(None)
    view.mode.chip(OVER).click()
    drag(qtbot, view.pane, QPoint(20, 60), QPoint(60, 60))
    assert len(dragged) == 2
    tasks.close()


def test_a_press_elsewhere_begins_no_drag(qtbot: QtBot, dragged: list[str]) -> None:
    widget = QWidget()
    DragSource(widget, lambda point: ImageTarget(image=plain(RED)) if point.x() < 50 else None)
    shown(qtbot, widget)
    drag(qtbot, widget, QPoint(100, 20), QPoint(20, 20))
    assert not dragged
    qtbot.mousePress(widget, Qt.MouseButton.RightButton, pos=QPoint(20, 20))
    event = QMouseEvent(QEvent.Type.MouseMove, QPointF(90, 20), QPointF(90, 20), LEFT, LEFT, NONE)
    QApplication.sendEvent(widget, event)
    assert not dragged
