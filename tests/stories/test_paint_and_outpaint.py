"""The journey of a person who paints a mask over an image, extends its canvas, and looks at what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QContextMenuEvent
from PySide6.QtWidgets import QApplication, QMenu
from pytestqt.qtbot import QtBot

from diffstudio.studio.events import Failed, Finished, ImageSaved
from diffstudio.studio.metadata import metadata
from diffstudio.studio.requests import GenerateRequest
from diffstudio.ui.app import Desktop
from diffstudio.ui.generate.mask.dialog import MaskDialog
from tests.ui.desktop_helpers import PATIENCE_MS, EventRecorder, close_desktop, open_desktop

pytestmark = pytest.mark.usefixtures("dressed", "home")
LEFT = Qt.MouseButton.LeftButton


@pytest.fixture
def opened(qtbot: QtBot) -> Iterator[Callable[[], Desktop]]:
    """Opens the desktop, and closes the one before: a restart."""
    made: list[Desktop] = []

    def open_it() -> Desktop:
        for desktop in made:
            close_desktop(desktop)
        made.append(open_desktop(qtbot))
        return made[-1]

    yield open_it
    for desktop in made:
        close_desktop(desktop)


def generate(qtbot: QtBot, desktop: Desktop) -> Path:
    recorder = EventRecorder(desktop)
    qtbot.mouseClick(desktop.generate_room.panel.button, LEFT)
    qtbot.waitUntil(lambda: recorder.count(Finished) + recorder.count(Failed) == 1, timeout=PATIENCE_MS)
    assert recorder.count(Failed) == 0, recorder.events[-1]
    path = next(event.path for event in recorder.events if isinstance(event, ImageSaved))
    room = desktop.generate_room
    qtbot.waitUntil(lambda: room.canvas.path() == path and room.canvas.zoom_bar is not None)
    return path


def choose_from_menu(qtbot: QtBot, desktop: Desktop, text: str) -> None:
    """Open the menu of the image with the keyboard's menu key, and choose an entry."""
    canvas = desktop.generate_room.canvas
    QApplication.sendEvent(canvas, QContextMenuEvent(QContextMenuEvent.Reason.Keyboard, QPoint(5, 5), QPoint(5, 5)))
    qtbot.waitUntil(lambda: isinstance(QApplication.activePopupWidget(), QMenu))
    menu = QApplication.activePopupWidget()
    assert isinstance(menu, QMenu)
    next(action for action in menu.actions() if action.text() == text).trigger()
    menu.close()


def mask_editor(qtbot: QtBot, desktop: Desktop) -> MaskDialog:
    section = desktop.generate_room.panel.init_image
    qtbot.waitUntil(section.paint_button.isVisible)
    qtbot.mouseClick(section.paint_button, LEFT)
    shown: list[MaskDialog] = []

    def is_shown() -> bool:
        shown[:] = [dialog for dialog in desktop.window.findChildren(MaskDialog) if dialog.isVisible()]
        return len(shown) == 1

    qtbot.waitUntil(is_shown)
    return shown[0]


def stroke(qtbot: QtBot, dialog: MaskDialog, *points: tuple[float, float]) -> None:
    """Paint through points in px of the image."""
    editor = dialog.editor

    def place(x: float, y: float) -> QPoint:
        rect, scale = editor.image_rect(), editor.scale()
        return QPointF(rect.x() + x * scale, rect.y() + y * scale).toPoint()

    qtbot.mousePress(editor, LEFT, pos=place(*points[0]))
    for point in points[1:]:
        qtbot.mouseMove(editor, place(*point))
    qtbot.mouseRelease(editor, LEFT, pos=place(*points[-1]))


def drag_right_edge(qtbot: QtBot, dialog: MaskDialog, pixels: int) -> None:
    editor = dialog.editor
    frame, scale = editor.frame(), editor.scale()
    qtbot.mousePress(editor, LEFT, pos=QPointF(frame.right() + 4, frame.center().y()).toPoint())
    qtbot.mouseMove(editor, QPointF(frame.right() + 4 + pixels * scale, frame.center().y()).toPoint())
    qtbot.mouseRelease(editor, LEFT, pos=QPointF(frame.right() + 4 + pixels * scale, frame.center().y()).toPoint())


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image.convert("RGB")).astype(int)


def request_of(path: Path) -> GenerateRequest:
    request = metadata.read(path).request
    assert isinstance(request, GenerateRequest)
    return request


def test_paint_outpaint_look_closely_and_go_on_tomorrow(qtbot: QtBot, opened: Callable[[], Desktop]) -> None:
    desktop = opened()
    room = desktop.generate_room
    panel, section = room.panel, room.panel.init_image
    panel.prompt.setFocus()
    qtbot.keyClicks(panel.prompt, "red apple")
    panel.sampling.steps.set_value(3)
    panel.seed.set_fixed(5)
    original = generate(qtbot, desktop)

    # A mask is painted over the right half, and only that half is made anew.
    choose_from_menu(qtbot, desktop, "Use for img2img")
    qtbot.waitUntil(section.remove_button.isVisible)
    dialog = mask_editor(qtbot, desktop)
    dialog.editor.set_brush(4)
    dialog.editor.softness = 0.0
    for x in (10, 13):  # not at the edges, which are dragged
        stroke(qtbot, dialog, (x, 3), (x, 8), (x, 13))
    assert dialog.undo.isEnabled()
    qtbot.mouseClick(dialog.accept_button, LEFT)
    assert section.has_mask() and section.about.text() == "Inpaint"
    assert room.canvas.path() == original and room.canvas.init_overlay() is not None  # drawn where the image is shown
    section.feather.set_value(0)
    panel.prompt.set_text("blue rocket")
    inpainted = generate(qtbot, desktop)
    changed = np.abs(pixels(inpainted) - pixels(original)).max(axis=2)
    assert changed[:, :5].max() == 0 and changed[:, 12:].max() > 10 and changed.shape == (16, 16)
    assert request_of(inpainted).mask is not None and request_of(inpainted).prompt == "blue rocket"

    # Its canvas is extended to the right by dragging the edge, and the picture is larger.
    choose_from_menu(qtbot, desktop, "Use for img2img")
    qtbot.waitUntil(lambda: not section.has_mask())
    dialog = mask_editor(qtbot, desktop)
    drag_right_edge(qtbot, dialog, 8)
    assert dialog.editor.sides() == (0, 0, 8, 0) and dialog.sides[2].value() == 8
    qtbot.mouseClick(dialog.accept_button, LEFT)
    assert section.about.text() == "Outpaint" and panel.size_control.width_box.value() == 24
    overlay = room.canvas.init_overlay()
    assert overlay is not None and overlay.sides == (0, 0, 8, 0)
    outpainted = generate(qtbot, desktop)
    assert pixels(outpainted).shape == (16, 24, 3)
    assert np.abs(pixels(outpainted)[:, :8] - pixels(inpainted)[:, :8]).max() == 0
    assert request_of(outpainted).outpaint == (0, 0, 8, 0)

    # It is looked at closely: its pixels, its seed, its steps, on the whole screen.
    room.canvas.setFocus()
    qtbot.keyClick(room.canvas, Qt.Key.Key_1)
    ((_, cell),) = room.canvas.cells()
    assert (cell.width(), cell.height()) == (24, 16) and room.canvas.zoom_bar.zoom.percent.text() == "100%"
    qtbot.keyClick(room.canvas, Qt.Key.Key_0)
    assert room.seed.text() == "Seed 5" and room.filmstrip.last_step() == 3
    room.filmstrip.setFocus()
    qtbot.keyClick(room.filmstrip, Qt.Key.Key_Left)
    assert room.canvas.scrubbing() and room.canvas.image().size().toTuple() == (24, 16)
    qtbot.keyClick(room.filmstrip, Qt.Key.Key_End)
    qtbot.mouseDClick(room.canvas, LEFT, pos=room.canvas.rect().center())
    qtbot.waitUntil(room.full_screen.isVisible)
    qtbot.keyClick(room.canvas, Qt.Key.Key_Escape)
    assert not room.full_screen.isVisible()

    # Another size crops or pads, which is said before.
    panel.size_control.width_box.setValue(16)
    panel.size_control.width_box.editingFinished.emit()
    assert section.fit_label.text().startswith("Crops ") and section.resize_mode.isVisible()
    panel.size_control.follow_box.click()
    assert section.fit_label.text() == "" and panel.size_control.width_box.value() == 24

    # Everything is there the next day, and makes the same pixels.
    desktop = opened()
    room = desktop.generate_room
    qtbot.waitUntil(lambda: room.panel.init_image.about.text() == "Outpaint", timeout=PATIENCE_MS)
    again = generate(qtbot, desktop)
    assert np.array_equal(pixels(again), pixels(outpainted))
    qtbot.mouseClick(room.controls.use_settings, LEFT)
    assert room.panel.request().outpaint == (0, 0, 8, 0) and room.panel.request().seed == 5
