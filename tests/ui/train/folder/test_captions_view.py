"""Captions in the Train room: seen, searched, edited, replaced, and images left out, by mouse and keyboard."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from PIL import Image
from PySide6.QtCore import Qt
from PySide6.QtGui import QTextCursor
from pytestqt.modeltest import ModelTester
from pytestqt.qtbot import QtBot

from diffstudio.errors import StorageProblem
from diffstudio.studio.runs.caption_edits import EditResult, Texts
from diffstudio.training.data.left_out import read_left_out
from diffstudio.ui.train.folder import folder_actions, folder_view
from diffstudio.ui.train.folder.caption_list import ALL, LEFT_OUT, UNCAPTIONED
from diffstudio.ui.train.folder.captions_view import LISTED, ONE, CaptionsView
from diffstudio.ui.train.folder.folder_view import CAPTIONS
from diffstudio.ui.train.room import TrainRoom
from diffstudio.ui.widgets.inputs.combo_box import ComboBox
from tests.ui import walk

PATIENCE_MS = 30_000
LEFT = Qt.MouseButton.LeftButton


@pytest.fixture
def toys(tmp_path: Path) -> Path:
    """Five images in two classes, three of them with a caption."""
    folder = tmp_path / "toys"
    for number, (name, caption) in enumerate(
        {"cars/a": "a red car", "cars/b": "a blue car\na boat", "cars/c": "", "dogs/d": "A dog", "dogs/e": ""}.items()
    ):
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40), (50 * number, 0, 90)).save(path)
        if caption:
            path.with_suffix(".txt").write_text(caption)
    return folder


@pytest.fixture
def view(room: TrainRoom, qtbot: QtBot, toys: Path) -> CaptionsView:
    room.inspect(toys)
    qtbot.waitUntil(lambda: room.new_panel.start.isVisible(), timeout=PATIENCE_MS)
    qtbot.mouseClick(room.folder_view.report_view.pages.chip(CAPTIONS), LEFT)
    view = room.folder_view.report_view.captions
    assert view.isVisible()
    return view


def listed(view: CaptionsView) -> list[str]:
    return [row.path.as_posix() for row in view.model.shown()]


def choose(box: ComboBox, value: str) -> None:
    box.set_value(value)
    box.chosen.emit(value)


def select(view: CaptionsView, path: str) -> None:
    view.list.setCurrentIndex(view.model.index(view.model.row_of(Path(path))))


def said(room: TrainRoom, qtbot: QtBot, text: str) -> None:
    qtbot.waitUntil(lambda: room.message.isVisible() and text in room.message.text(), timeout=PATIENCE_MS)


def test_the_list_is_searched_by_caption_name_and_class(
    view: CaptionsView, qtbot: QtBot, qtmodeltester: ModelTester
) -> None:
    qtmodeltester.check(view.model)
    assert listed(view) == ["cars/a.png", "cars/b.png", "cars/c.png", "dogs/d.png", "dogs/e.png"]
    assert view.count.text() == "5 images"
    qtbot.keyClicks(view.search, "BOAT")
    qtbot.waitUntil(lambda: listed(view) == ["cars/b.png"], timeout=PATIENCE_MS)
    assert view.count.text() == "1 of 5 images" and view.add_all.text() == "Add to 1"
    view.search.setText("dogs")
    view.search.search_now()
    assert listed(view) == ["dogs/d.png", "dogs/e.png"]
    choose(view.kind, UNCAPTIONED)
    assert listed(view) == ["dogs/e.png"]


def test_thumbnails_come_for_the_rows_that_are_seen(view: CaptionsView, qtbot: QtBot) -> None:
    path = Path("cars/b.png")
    qtbot.waitUntil(lambda: not view.model.thumbnail(path).isNull(), timeout=PATIENCE_MS)
    assert view.model.thumbnail(path).pixelColor(5, 5).getRgb()[:3] == (50, 0, 90)
    view.grab()


def test_a_caption_is_edited_and_written_to_its_file(
    view: CaptionsView, room: TrainRoom, qtbot: QtBot, toys: Path
) -> None:
    select(view, "cars/b.png")
    assert view.editor.toPlainText() == "a blue car\na boat" and not view.save.isEnabled()
    view.editor.setPlainText("a ship\n\n a boat ")
    qtbot.keyClick(view.editor, Qt.Key.Key_S, Qt.KeyboardModifier.ControlModifier)
    said(room, qtbot, "Captions of 1 image written")
    assert (toys / "cars" / "b.txt").read_text() == "a ship\na boat\n"
    qtbot.waitUntil(lambda: view.model.shown()[1].captions == ("a ship", "a boat"), timeout=PATIENCE_MS)
    assert view.editor.toPlainText() == "a ship\n\n a boat " or view.editor.toPlainText() == "a ship\na boat"
    assert view.isVisible() and view.undo.isEnabled()
    qtbot.mouseClick(view.undo, LEFT)
    qtbot.waitUntil(lambda: (toys / "cars" / "b.txt").read_text() == "a blue car\na boat\n", timeout=PATIENCE_MS)
    qtbot.waitUntil(lambda: not view.undo.isEnabled(), timeout=PATIENCE_MS)
    qtbot.waitUntil(lambda: not room.folder_controller._inspector.busy(), timeout=PATIENCE_MS)


def test_a_caption_may_be_typed_while_the_folder_is_read_again(
    view: CaptionsView, room: TrainRoom, qtbot: QtBot, toys: Path
) -> None:
    select(view, "cars/c.png")
    qtbot.keyClicks(view.editor, "a car, ")
    view.save_now()
    qtbot.waitUntil(lambda: (toys / "cars" / "c.txt").is_file(), timeout=PATIENCE_MS)
    view.editor.moveCursor(QTextCursor.MoveOperation.Start)
    qtbot.keyClick(view.editor, Qt.Key.Key_Right)
    room.inspect(toys)
    with qtbot.waitSignal(view.model.modelReset, timeout=PATIENCE_MS):
        pass
    qtbot.waitUntil(lambda: not room.folder_controller._inspector.busy(), timeout=PATIENCE_MS)
    assert view.editor.toPlainText() == "a car, " and view.editor.textCursor().position() == 1


def test_going_to_another_image_keeps_what_was_typed(
    view: CaptionsView, room: TrainRoom, qtbot: QtBot, toys: Path
) -> None:
    select(view, "cars/c.png")
    view.editor.setPlainText("a green car")
    select(view, "dogs/d.png")
    assert view.editor.toPlainText() == "A dog"
    view.editor.setPlainText("A dog, running")  # while the folder is inspected again
    said(room, qtbot, "Captions of 1 image written")
    assert (toys / "cars" / "c.txt").read_text() == "a green car\n"
    qtbot.waitUntil(lambda: view.model.shown()[2].captions == ("a green car",), timeout=PATIENCE_MS)
    assert view.editor.toPlainText() == "A dog, running" and view.save.isEnabled()
    view.editor.setPlainText("A dog")


def test_replacing_and_adding_act_on_what_is_listed(
    view: CaptionsView, room: TrainRoom, qtbot: QtBot, toys: Path
) -> None:
    assert not view.replace_all.isEnabled() and not view.add_all.isEnabled()
    view.search.setText("cars")
    view.search.search_now()
    view.find_text.setText("A ")
    view.replacement.setText("one ")
    assert view.replace_all.text() == "Replace in 3"
    qtbot.mouseClick(view.replace_all, LEFT)
    said(room, qtbot, "Captions of 2 images written")
    assert (toys / "cars" / "b.txt").read_text() == "one blue car\none boat\n"
    assert (toys / "dogs" / "d.txt").read_text() == "A dog"
    qtbot.waitUntil(lambda: view.model.shown()[0].captions == ("one red car",), timeout=PATIENCE_MS)
    room.message.hide()
    view.tag.setText("toy")
    qtbot.keyClick(view.tag, Qt.Key.Key_Return)
    said(room, qtbot, "Captions of 3 images written")
    assert (toys / "cars" / "a.txt").read_text() == "one red car, toy\n"
    assert (toys / "cars" / "c.txt").read_text() == "toy\n"
    qtbot.waitUntil(lambda: view.model.shown()[2].captions == ("toy",), timeout=PATIENCE_MS)
    room.message.hide()
    qtbot.mouseClick(view.add_all, LEFT)
    said(room, qtbot, "No caption had to be changed")


def test_a_caption_that_is_refused_is_named(view: CaptionsView, room: TrainRoom, qtbot: QtBot, toys: Path) -> None:
    (toys / "cars" / "a.webp").write_bytes((toys / "cars" / "a.png").read_bytes())
    select(view, "cars/a.png")
    view.editor.setPlainText("changed")
    view.save_now()
    said(room, qtbot, "1 left as they are (cars/a.png: its caption file a.txt is that of several images")
    assert (toys / "cars" / "a.txt").read_text() == "a red car" and not view.undo.isEnabled()
    qtbot.waitUntil(lambda: view.model.total() == 6, timeout=PATIENCE_MS)


def test_images_and_folders_are_left_out_and_put_back(
    view: CaptionsView, room: TrainRoom, qtbot: QtBot, toys: Path
) -> None:
    room.new_panel.image_size.set_value(128)
    select(view, "cars/b.png")
    qtbot.mouseClick(view.leave_out, LEFT)
    qtbot.waitUntil(lambda: view.model.total() == 4, timeout=PATIENCE_MS)
    assert read_left_out(toys) == {Path("cars/b.png")}
    assert "1 left out" in room.folder_view.report_view.sentence.text()
    assert room.new_panel.image_size.value() == 128, "what was set in the form stays"
    select(view, "dogs/d.png")
    assert view.leave_out_folder.text() == "Leave out dogs"
    qtbot.mouseClick(view.leave_out_folder, LEFT)
    qtbot.waitUntil(lambda: listed(view) == ["cars/a.png", "cars/c.png"], timeout=PATIENCE_MS)
    view.list.selectAll()
    qtbot.mouseClick(view.leave_out, LEFT)
    said(room, qtbot, "At least one image must stay")

    choose(view.kind, LEFT_OUT)
    assert listed(view) == ["cars/b.png", "dogs"] and view.count.text() == "2 left out"
    assert not view.editor.isEnabled() and not view.replace_all.isEnabled()
    view.list.selectAll()
    assert view.leave_out.text() == "Put back"
    qtbot.mouseClick(view.leave_out, LEFT)
    qtbot.waitUntil(lambda: view.model.total() == 5, timeout=PATIENCE_MS)
    assert read_left_out(toys) == frozenset() and listed(view) == []
    choose(view.kind, ALL)
    assert len(listed(view)) == 5


def test_a_disk_that_is_full_is_said(
    view: CaptionsView, room: TrainRoom, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StorageProblem("It could not be kept", "the disk is full")

    monkeypatch.setattr(folder_actions, "write_left_out", full)
    monkeypatch.setattr(folder_actions, "_written", full)
    select(view, "cars/b.png")
    qtbot.mouseClick(view.leave_out, LEFT)
    said(room, qtbot, "the disk is full")
    room.message.hide()
    view.edits_requested.emit({Path("cars/a.png"): ("x",)})
    said(room, qtbot, "the disk is full")
    assert view.model.total() == 5


def test_a_change_that_ends_after_another_folder_was_chosen_does_not_bring_the_first_back(
    view: CaptionsView, room: TrainRoom, qtbot: QtBot, toys: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "x.png").write_bytes((toys / "cars" / "a.png").read_bytes())
    view.edits_requested.emit({Path("cars/a.png"): ("changed",)})
    room.inspect(other)
    said(room, qtbot, "Captions of 1 image written")
    shown = room.folder_view.report_view
    qtbot.waitUntil(lambda: shown.title.text() == "other", timeout=PATIENCE_MS)
    qtbot.waitUntil(lambda: not room.folder_controller._inspector.busy(), timeout=PATIENCE_MS)
    qtbot.mouseClick(shown.pages.chip(CAPTIONS), LEFT)
    assert listed(view) == ["x.png"] and (toys / "cars" / "a.txt").read_text() == "changed\n"


def test_files_that_are_no_images_are_told_without_another_problem(room: TrainRoom, qtbot: QtBot, toys: Path) -> None:
    (toys / "notes.md").write_text("x")
    room.inspect(toys)
    qtbot.waitUntil(lambda: room.new_panel.start.isVisible(), timeout=PATIENCE_MS)
    shown = room.folder_view.report_view
    assert not shown.warnings.isVisible() and "1 file is not an image: 1 .md." in shown.groups.text()


def test_no_row_is_made_before_it_is_shown_and_long_lists_of_problems_are_counted(
    room: TrainRoom, qtbot: QtBot, toys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder may have a million images, and as many problems."""
    monkeypatch.setattr(folder_view, "MAX_LISTED", 2)
    for number in range(3):
        (toys / f"{number}.jpg").write_text("not an image")
    Image.new("RGB", (3, 3)).save(toys / "tiny.png")
    (toys / "lone.txt").write_text("x")
    room.inspect(toys)
    qtbot.waitUntil(lambda: room.new_panel.start.isVisible(), timeout=PATIENCE_MS)
    shown = room.folder_view.report_view
    lines = [shown.warnings.list.item(row).text() for row in range(shown.warnings.list.count())]
    assert len(lines) == 3 and lines[-1] == "… and 3 more"
    assert len(list(folder_view.warning_lines(shown._report))) == 5  # type: ignore[arg-type]
    assert shown.captions.model.rowCount() == 0
    qtbot.mouseClick(shown.pages.chip(CAPTIONS), LEFT)
    assert shown.captions.model.rowCount() == 5


def test_changes_that_follow_each_other_at_once_keep_each_other(
    view: CaptionsView, room: TrainRoom, qtbot: QtBot, toys: Path
) -> None:
    """A caption is saved, another one typed, and a tag added to all before the first is written."""
    select(view, "cars/a.png")
    view.editor.setPlainText("a  green car")
    view.save_now()
    assert view.model.shown()[0].captions == ("a green car",) and not view.save.isEnabled()
    select(view, "dogs/d.png")
    view.editor.setPlainText("a cat")
    view.tag.setText("toy")
    view.add_all.click()
    qtbot.waitUntil(lambda: (toys / "dogs" / "e.txt").exists(), timeout=PATIENCE_MS)
    qtbot.waitUntil(lambda: room.folder_controller._actions._pending == 0, timeout=PATIENCE_MS)
    assert (toys / "cars" / "a.txt").read_text() == "a green car, toy\n"
    assert (toys / "dogs" / "d.txt").read_text() == "a cat, toy\n"
    assert view.undo.isEnabled()
    view.undo.click()
    qtbot.waitUntil(lambda: room.folder_controller._actions._pending == 0, timeout=PATIENCE_MS)
    assert (toys / "cars" / "a.txt").read_text() == "a green car\n"
    assert (toys / "dogs" / "d.txt").read_text() == "a cat\n" and not view.undo.isEnabled()
    qtbot.waitUntil(lambda: not room.folder_controller._inspector.busy(), timeout=PATIENCE_MS)
    assert [row.captions for row in view.model.shown()][0] == ("a green car",)


def test_text_that_was_typed_is_saved_before_its_image_is_left_out(
    view: CaptionsView, room: TrainRoom, qtbot: QtBot, toys: Path
) -> None:
    select(view, "cars/a.png")
    view.editor.setPlainText("a green car")
    view.leave_out.click()
    qtbot.waitUntil(lambda: view.model.total() == 4, timeout=PATIENCE_MS)
    assert (toys / "cars" / "a.txt").read_text() == "a green car\n"


def test_two_changes_of_one_file_follow_each_other(
    view: CaptionsView, room: TrainRoom, qtbot: QtBot, toys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each reads the file of all captions and writes it whole."""
    written, busy, overlaps = folder_actions._written, threading.Lock(), []

    def slowly(folder: Path, edits: Mapping[Path, Texts]) -> EditResult:
        overlaps.append(not busy.acquire(blocking=False))
        try:
            time.sleep(0.1)
            return written(folder, edits)
        finally:
            if not overlaps[-1]:
                busy.release()

    monkeypatch.setattr(folder_actions, "_written", slowly)
    for name in ("a", "b", "c"):
        view.edits_requested.emit({Path(f"cars/{name}.png"): (f"new {name}",)})
    qtbot.waitUntil(lambda: room.folder_controller._actions._pending == 0, timeout=PATIENCE_MS)
    assert overlaps == [False, False, False]
    assert [(toys / "cars" / f"{name}.txt").read_text() for name in "abc"] == ["new a\n", "new b\n", "new c\n"]


def test_a_change_that_fails_is_taken_back_and_an_undo_that_fails_can_be_tried_again(
    view: CaptionsView, room: TrainRoom, qtbot: QtBot, toys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StorageProblem("It could not be kept", "the disk is full")

    view.edits_requested.emit({Path("cars/a.png"): ("first",)})
    said(room, qtbot, "Captions of 1 image written")
    with monkeypatch.context() as broken:
        broken.setattr(folder_actions, "_written", full)
        view.undo.click()
        assert view.model.shown()[0].captions == ("a red car",)
        said(room, qtbot, "the disk is full")
    assert view.undo.isEnabled()
    qtbot.waitUntil(lambda: view.model.shown()[0].captions == ("first",), timeout=PATIENCE_MS)
    view.undo.click()
    qtbot.waitUntil(lambda: (toys / "cars" / "a.txt").read_text() == "a red car\n", timeout=PATIENCE_MS)
    qtbot.waitUntil(lambda: room.folder_controller._actions._pending == 0, timeout=PATIENCE_MS)


@pytest.mark.parametrize("height", [470, 512])
def test_a_low_window_scrolls_the_list_alone_and_edits_one_image_or_all(
    room: TrainRoom, view: CaptionsView, qtbot: QtBot, height: int
) -> None:
    scrolled = room.folder_view.report_view._scrolled
    room.resize(800, 900)
    walk.settle()
    assert view.editor.isVisible() and view.find_text.isVisible() and not view.edited.isVisible()
    room.resize(800, height)
    walk.settle()
    select(view, "cars/a.png")
    assert scrolled.verticalScrollBar().maximum() == 0
    assert view.editor.isVisible() and not view.find_text.isVisible() and view.list.height() >= 90
    view.editor.setFocus()
    qtbot.mouseClick(view.edited.chip(LISTED), LEFT)
    assert not view.editor.isVisible() and view.find_text.isVisible() and scrolled.verticalScrollBar().maximum() == 0
    qtbot.keyClicks(view.tag, "toy")
    qtbot.mouseClick(view.add_all, LEFT)
    assert "toy" in view.model.shown()[0].captions[0]
    qtbot.mouseClick(view.edited.chip(ONE), LEFT)
    assert view.editor.isVisible()
    room.resize(800, 900)
    walk.settle()
    assert view.editor.isVisible() and view.tag.isVisible() and not view.edited.isVisible()
