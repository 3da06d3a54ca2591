"""Starting from a picture: choosing it, painting on it with the mouse, drawing its frame larger, and what comes of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QMessageBox, QPushButton
from pytestqt.qtbot import QtBot

from diffstudio.errors import StorageProblem
from diffstudio.studio.generation import masks
from diffstudio.studio.generation.masks import keep_mask
from diffstudio.studio.requests import GenerateRequest
from diffstudio.studio.requests.choices import FillName, ResizeName
from diffstudio.ui.generate.loading import load_request
from diffstudio.ui.generate.mask.dialog import MaskDialog
from diffstudio.ui.generate.mask.editor import MaskEditor
from diffstudio.ui.generate.panel import Panel
from diffstudio.ui.generate.sections import init_image_section as start_module
from diffstudio.ui.generate.sections.init_image_section import InitImageSection
from tests.ui.samples import checkpoint

pytestmark = pytest.mark.usefixtures("dressed", "home")
LEFT = Qt.MouseButton.LeftButton


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(1).integers(0, 255, (100, 160, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


@pytest.fixture
def painter(qtbot: QtBot, picture: Path) -> MaskEditor:
    painter = MaskEditor()
    qtbot.addWidget(painter)
    painter.resize(720, 520)
    painter.set_image(QImage(str(picture)))
    painter.set_brush(20)
    painter.softness = 0.0
    with qtbot.waitExposed(painter):
        painter.show()
    return painter


def at(painter: MaskEditor, x: float, y: float) -> QPoint:
    """Of a px of the picture, on the widget."""
    rect, scale = painter.image_rect(), painter.scale()
    return QPointF(rect.x() + x * scale, rect.y() + y * scale).toPoint()


def stroke(qtbot: QtBot, painter: MaskEditor, *points: tuple[float, float]) -> None:
    qtbot.mousePress(painter, LEFT, pos=at(painter, *points[0]))
    for point in points[1:]:
        qtbot.mouseMove(painter, at(painter, *point))
    qtbot.mouseRelease(painter, LEFT, pos=at(painter, *points[-1]))


def values(image: QImage) -> Any:
    rows = [bytes(image.constScanLine(row))[: image.width()] for row in range(image.height())]  # type: ignore[call-overload]
    return np.array([list(row) for row in rows], dtype=np.uint8)


def mask_of(painter: MaskEditor) -> Any:
    return values(painter.mask_image())


def test_a_stroke_is_where_the_mouse_was(painter: MaskEditor, qtbot: QtBot) -> None:
    assert painter.is_blank()
    stroke(qtbot, painter, (30, 50), (100, 50))
    found = mask_of(painter)
    assert found.shape == (100, 160) and found[50, 30] == found[50, 65] == found[50, 100] == 255
    assert (found[:38] == 0).all() and (found[62:] == 0).all() and (found[:, 115:] == 0).all()
    assert not painter.is_blank()


def test_softness_fades_towards_the_edge(painter: MaskEditor, qtbot: QtBot) -> None:
    painter.set_brush(60)
    painter.softness = 1.0
    stroke(qtbot, painter, (80, 50), (80, 50))
    row = mask_of(painter)[50, 80:112].astype(int)
    assert row[0] > 240 and row[-1] < 20 and (np.diff(row) <= 1).all() and len(set(row)) > 10


def test_erasing_undoing_redoing_inverting_and_clearing(painter: MaskEditor, qtbot: QtBot) -> None:
    stroke(qtbot, painter, (40, 50), (120, 50))
    whole = mask_of(painter)
    qtbot.keyClick(painter, Qt.Key.Key_E)
    stroke(qtbot, painter, (80, 20), (80, 80))
    cut = mask_of(painter)
    assert cut[50, 80] == 0 and cut[50, 50] == 255
    painter.undo()
    assert np.array_equal(mask_of(painter), whole)
    painter.redo()
    assert np.array_equal(mask_of(painter), cut)
    painter.invert()
    assert np.array_equal(mask_of(painter), 255 - cut)
    painter.clear()
    assert painter.is_blank()
    for _ in range(4):
        painter.undo()
    assert painter.is_blank() and not painter.can_undo()
    painter.redo()
    assert np.array_equal(mask_of(painter), whole)
    stroke(qtbot, painter, (10, 10), (12, 10))
    assert not painter.can_redo()  # another way was taken


def test_undo_is_bounded(painter: MaskEditor, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    from diffstudio.ui.generate.mask import layer as module

    monkeypatch.setattr(module, "MAX_UNDO_BYTES", 3 * 160 * 100 * 4)
    for _ in range(10):
        painter.fill()
    assert painter._mask.undo_count() == 3


def test_the_brush_by_keys_and_the_wheel_zooms_where_it_points(painter: MaskEditor, qtbot: QtBot) -> None:
    qtbot.keyClick(painter, Qt.Key.Key_BracketRight)
    assert painter.brush > 20
    qtbot.keyClick(painter, Qt.Key.Key_BracketLeft)
    qtbot.keyClick(painter, Qt.Key.Key_BracketLeft)
    assert painter.brush < 20
    spot = QPointF(at(painter, 40, 30))
    before = painter.scale()
    painter._zoom, kept = 4.0, painter.to_image(spot)
    assert painter.scale() == pytest.approx(4 * before) and kept != painter.to_image(QPointF(0, 0))


def test_an_edge_is_dragged_outwards_in_steps(painter: MaskEditor, qtbot: QtBot) -> None:
    frame, scale = painter.frame(), painter.scale()
    qtbot.mousePress(painter, LEFT, pos=QPointF(frame.right() + 4, frame.center().y()).toPoint())
    qtbot.mouseMove(painter, QPointF(frame.right() + 9 * scale, frame.center().y()).toPoint())
    assert painter.sides() == (0, 0, 8, 0)
    qtbot.mouseRelease(painter, LEFT, pos=QPoint(0, 0))
    assert painter.is_blank()  # dragging paints nothing
    painter.set_sides((0, 16, 8, 0))
    assert painter.image_rect().top() > painter.frame().top()
    assert painter.to_image(QPointF(at(painter, 12, 34))).x() == pytest.approx(12, abs=1)


def test_a_mask_comes_back_as_it_was(painter: MaskEditor, qtbot: QtBot, picture: Path) -> None:
    stroke(qtbot, painter, (40, 50), (120, 60))
    kept = painter.mask_image()
    painter.set_image(QImage(str(picture)), kept)
    assert np.abs(values(kept).astype(int) - mask_of(painter)).max() <= 1


@pytest.fixture
def section(qtbot: QtBot) -> Iterator[InitImageSection]:
    section = InitImageSection()
    qtbot.addWidget(section)
    section.resize(300, 500)
    section.show()
    yield section


def test_choosing_painting_and_taking_it_away(section: InitImageSection, qtbot: QtBot, picture: Path) -> None:
    request = GenerateRequest("a cat")
    assert (
        section.apply_to(request) == request and section.choose_button.isVisible() and not section.strength.isVisible()
    )
    assert section.set_image(picture)
    section.strength.set_value(0.4)
    assert section.apply_to(request) == dataclasses.replace(request, init=picture, strength=0.4)
    assert not section.fill.isVisible()
    dialog = section.open_mask_editor()
    assert dialog is not None
    dialog.editor.set_brush(30)
    stroke(qtbot, dialog.editor, (80, 50), (90, 50))
    assert dialog.undo.isEnabled() and not dialog.redo.isEnabled()
    qtbot.mouseClick(dialog.accept_button, LEFT)
    made = section.apply_to(request)
    assert made.mask is not None and made.strength == 1.0 and section.about.text() == "Inpaint"
    kept = np.array(Image.open(made.mask))
    assert kept.shape == (100, 160) and kept[50, 85] == 255 and kept[5, 5] == 0
    section.masked_only.setChecked(True)
    section.fill.set_value(FillName.NOISE)
    section.feather.set_value(3)
    made = section.apply_to(request)
    assert (made.masked_only, made.fill, made.feather, made.padding) == (
        True,
        FillName.NOISE,
        3,
        32,
    ) and section.padding.isVisible()
    other = InitImageSection()
    qtbot.addWidget(other)
    other.load_from(made)
    assert other.apply_to(request) == made
    qtbot.mouseClick(section.remove_button, LEFT)
    assert section.apply_to(request) == request and section.choose_button.isVisible()


def test_extending_by_fields(section: InitImageSection, qtbot: QtBot, picture: Path) -> None:
    section.set_image(picture)
    dialog = section.open_mask_editor()
    assert dialog is not None
    dialog.sides[0].set_value(64)
    dialog.sides[0].value_changed.emit(64)
    assert dialog.editor.sides() == (64, 0, 0, 0)
    qtbot.mouseClick(dialog.accept_button, LEFT)
    made = section.apply_to(GenerateRequest())
    assert made.outpaint == (64, 0, 0, 0) and made.mask is None and section.about.text() == "Outpaint"
    again = section.open_mask_editor()
    assert again is not None and again.editor.sides() == (64, 0, 0, 0)
    qtbot.mouseClick(again.cancel, LEFT)
    assert section.apply_to(GenerateRequest()) == made


def test_escape_asks_before_it_discards_what_was_painted(
    section: InitImageSection, qtbot: QtBot, picture: Path
) -> None:
    section.set_image(picture)
    dialog = section.open_mask_editor()
    assert dialog is not None
    stroke(qtbot, dialog.editor, (40, 50), (60, 50))
    ends: list[int] = []
    dialog.finished.connect(ends.append)
    for verb, ended in (("Cancel", []), ("Discard", [0])):
        qtbot.keyClick(dialog, Qt.Key.Key_Escape)
        (box,) = dialog.findChildren(QMessageBox)
        assert box.text() == "Discard the mask?" and not ends
        qtbot.mouseClick(next(each for each in box.buttons() if each.text().replace("&", "") == verb), LEFT)
        qtbot.waitUntil(lambda ended=ended: ends == ended and (bool(ended) or not dialog.findChildren(QMessageBox)))
    dialog = section.open_mask_editor()
    assert dialog is not None and dialog.editor.is_blank()
    stroke(qtbot, dialog.editor, (40, 50), (60, 50))
    dialog.undo.click()
    with qtbot.waitSignal(dialog.finished):  # at once: nothing is lost
        qtbot.keyClick(dialog, Qt.Key.Key_Escape)


def test_the_frame_of_a_size_set_by_hand_is_drawn_over_the_image(section: InitImageSection, picture: Path) -> None:
    section.set_image(picture)  # 160 x 100 px
    section.show_fit((160, 100), pastes=False)
    dialog = section.open_mask_editor()
    assert dialog is not None and dialog.editor.result_rect() is None  # the size follows the image
    dialog.reject()
    section.show_fit((100, 100), pastes=False, by_hand=True)
    dialog = section.open_mask_editor()
    assert dialog is not None
    editor = dialog.editor
    editor.resize(600, 400)
    frame, image, scale = editor.result_rect(), editor.image_rect(), editor.scale()
    assert frame is not None and frame.height() == pytest.approx(image.height())
    assert frame.width() == pytest.approx(100 * scale) and frame.center().x() == pytest.approx(image.center().x())
    blank = QImage(160, 100, QImage.Format.Format_RGB32)
    blank.fill(Qt.GlobalColor.white)
    editor.set_image(blank)
    pixels = editor.grab().toImage()
    inside, outside = (pixels.pixelColor(at(editor, x, 50)).lightness() for x in (80, 10))
    assert inside == 255 and outside < 130  # what is cropped is dimmed
    editor.set_sides((40, 0, 0, 0))  # the frame stays in the middle of the larger canvas
    frame = editor.result_rect()
    assert frame is not None and frame.center().x() == pytest.approx(editor.frame().center().x())
    dialog.done(0)


def test_the_padding_of_a_frame_is_shown_around_the_image(section: InitImageSection, picture: Path) -> None:
    section.set_image(picture)
    section.resize_mode.set_value(ResizeName.PAD)
    section.show_fit((100, 100), pastes=False, by_hand=True)
    dialog = section.open_mask_editor()
    assert dialog is not None
    editor = dialog.editor
    editor.resize(400, 600)
    frame, image = editor.result_rect(), editor.image_rect()
    assert frame is not None and frame.height() == pytest.approx(1.6 * image.height(), rel=0.02)
    assert editor.rect().contains(frame.toAlignedRect())
    pixels = editor.grab().toImage()
    above = pixels.pixelColor(round(image.center().x()), round((frame.top() + image.top()) / 2))
    assert above.name() == "#ffffff"
    dialog.done(0)


def test_the_frame_follows_the_mask_that_is_painted(section: InitImageSection, qtbot: QtBot, picture: Path) -> None:
    section.set_image(picture)
    section.feather.set_value(0)
    section.padding.set_value(0)
    section.show_fit((64, 64), pastes=True)
    dialog = section.open_mask_editor()
    assert dialog is not None
    dialog.editor.set_brush(10)
    stroke(qtbot, dialog.editor, (140, 50), (141, 50))
    frame, image = dialog.editor.result_rect(), dialog.editor.image_rect()
    assert frame is not None and frame.left() > image.center().x() and frame.width() < image.width() / 2
    dialog.done(0)


def test_a_painted_mask_is_not_named_by_its_hash(section: InitImageSection, picture: Path) -> None:
    section.set_image(picture)
    section._apply_mask(b"png", (0, 0, 0, 0))
    assert section.mask_label.text() == "Mask painted here"
    assert section.set_mask(picture) and section.mask_label.text() == f"Mask: {picture.name}"


def test_what_a_request_brings_is_announced_once_it_is_all_there(
    section: InitImageSection, tmp_path: Path, picture: Path
) -> None:
    """Others decide by the mask and the margins whether a hires fix is offered."""
    seen: list[tuple[int, int, int, int]] = []
    section.changed.connect(lambda: seen.append(section.apply_to(GenerateRequest()).outpaint))
    section.load_from(GenerateRequest(init=picture, outpaint=(8, 0, 0, 0)))
    assert seen == [(8, 0, 0, 0)]
    section.load_from(GenerateRequest(init=tmp_path / "gone.png"))
    assert section.apply_to(GenerateRequest()).init is None  # not the image of the request before


def test_pictures_and_masks_that_are_gone_or_broken(
    section: InitImageSection, qtbot: QtBot, tmp_path: Path, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    message: list[str] = []
    section.failed.connect(message.append)
    (tmp_path / "text.png").write_text("hello")
    assert not section.set_image(tmp_path / "text.png") and "it is not an image" in message[-1]
    section.load_from(GenerateRequest(init=picture, mask=tmp_path / "gone.png"))
    assert "no longer exists" in message[-1] and section.apply_to(GenerateRequest()).mask is None

    def full(png: bytes) -> Path:
        raise StorageProblem("The mask could not be saved", "the disk is full")

    monkeypatch.setattr(start_module, "keep_mask", full)
    section._apply_mask(b"png", (0, 0, 0, 0))
    assert "the disk is full" in message[-1] and section.apply_to(GenerateRequest()).mask is None
    Image.new("L", (8, 8), 255).save(tmp_path / "mask.png")
    section.load_from(GenerateRequest(init=picture, mask=tmp_path / "mask.png"))
    (tmp_path / "mask.png").write_text("damaged")
    dialog = section.open_mask_editor()
    assert dialog is not None and dialog.editor.is_blank()
    assert (
        message[-1]
        == "mask.png cannot be read: it is not an image in a supported format. The mask editor starts without a mask."
    )
    dialog.reject()
    picture.unlink()
    assert section.open_mask_editor() is None and "no longer be read" in message[-1]


def test_masks_are_kept_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = keep_mask(b"one")
    assert keep_mask(b"one") == first and first.read_bytes() == b"one" and keep_mask(b"two") != first
    monkeypatch.setattr(masks.paths, "data", lambda: first)  # a file where a folder should be
    with pytest.raises(StorageProblem, match="could not be saved"):
        keep_mask(b"three")


def test_the_whole_column_says_it(qtbot: QtBot, picture: Path) -> None:
    panel = Panel()
    qtbot.addWidget(panel)
    panel.set_checkpoints([checkpoint()])
    panel.init_image.set_image(picture)
    assert panel.request().init == picture
    load_request(panel, GenerateRequest("x"))
    assert panel.request().init is None


def test_everything_has_a_name(qtbot: QtBot, picture: Path) -> None:
    dialog = MaskDialog(QImage(str(picture)), None, (0, 0, 0, 0))
    qtbot.addWidget(dialog)
    for button in dialog.findChildren(QPushButton):
        assert button.accessibleName() and button.toolTip()
