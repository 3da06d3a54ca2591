"""The Models room as a person uses it."""

from __future__ import annotations

import base64
import io
import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QAction, QContextMenuEvent, QDesktopServices
from PySide6.QtWidgets import QApplication, QFileDialog, QMenu, QMessageBox, QPushButton, QWidget
from pytestqt.qtbot import QtBot

from diffstudio import paths
from diffstudio.errors import CheckpointDamaged, DiffstudioError
from diffstudio.models.checkpoint import Checkpoint, Origin
from diffstudio.models.library.records import read_checkpoint
from diffstudio.studio.gallery.gallery import Gallery
from diffstudio.studio.library.annotations import Annotations
from diffstudio.studio.requests import GenerateRequest
from diffstudio.ui.models import model_info
from diffstudio.ui.models.item_model import CheckpointsModel, Problem
from diffstudio.ui.models.rename_dialog import RenameDialog
from diffstudio.ui.models.room import ModelsRoom
from diffstudio.ui.widgets import actions, theme
from diffstudio.ui.widgets.images.image_reading import header_thumbnail
from tests.ui.accessibility import accessibility_problems


def picture(colour: str) -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (128, 128), colour).save(buffer, "WEBP")
    return base64.b64encode(buffer.getvalue()).decode()


def checkpoint(
    path: Path,
    *,
    ours: bool = True,
    conditioning: str = "text",
    thumbnail: str = "",
    title: str = "",
    run: Any = None,
    origin: Origin | None = None,
    **metadata: str,
) -> Checkpoint:
    """A real file with a real header, small."""
    held = {"modelspec.title": title or path.stem} | metadata
    if ours:
        about = {"family": "pixel", "conditioning": conditioning, "classes": ["cat", "dog"], "width": 64, "height": 64}
        recipe = {"name": "from scratch", "optimiser": {"name": "muon"}, "run": {"batch": 64}, "data": {"flips": 0.3}}
        run = {"steps": 6000, "pictures_seen": 384_000, "held_out_loss": 0.03456} if run is None else run
        held |= {
            "diffstudio.format": "1",
            "diffstudio.model": json.dumps(about),
            "diffstudio.run": json.dumps(run),
            "diffstudio.recipe": json.dumps(recipe),
        }
        if thumbnail:
            held["diffstudio.thumbnail"] = json.dumps(thumbnail)
    header = json.dumps({"__metadata__": held, "w": {"dtype": "F16", "shape": [30, 50], "data_offsets": [0, 3000]}})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(header)) + header.encode() + bytes(3000))
    return read_checkpoint(path, origin=origin)


@pytest.fixture
def gallery(tmp_path: Path, home: Path) -> Iterator[Gallery]:
    gallery = Gallery(tmp_path / "images", tmp_path / "gallery.sqlite")
    yield gallery
    gallery.close()


@pytest.fixture
def show(qtbot: QtBot, qapp: QApplication, gallery: Gallery) -> Callable[[], ModelsRoom]:
    def make() -> ModelsRoom:
        theme.apply(qapp, "dark")
        room = ModelsRoom(gallery)
        qtbot.addWidget(room, before_close_func=lambda widget: widget.shut_down())
        room.resize(1100, 700)
        with qtbot.waitExposed(room):
            room.show()
        return room

    return make


@pytest.fixture
def some(tmp_path: Path) -> tuple[list[Checkpoint], list[tuple[Path, DiffstudioError]]]:
    """The starter, one trained here, one of another program, and a file that is none."""
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"nothing")
    with pytest.raises(CheckpointDamaged) as caught:
        read_checkpoint(broken)
    return [
        checkpoint(
            tmp_path / "starter.safetensors",
            title="Starter · emoji 64",
            origin=Origin.INCLUDED,
            thumbnail=picture("red"),
            **{"modelspec.license": "MIT", "modelspec.description": "Emoji."},
        ),
        checkpoint(tmp_path / "cats.safetensors", conditioning="class"),
        checkpoint(tmp_path / "sdxl.safetensors", ours=False),
    ], [(broken, caught.value)]


def click(qtbot: QtBot, widget: QWidget) -> None:
    qtbot.mouseClick(widget, Qt.MouseButton.LeftButton)


def pick(qtbot: QtBot, room: ModelsRoom, row: int) -> None:
    spot = room.list.visualRect(room.model.index(row)).center()
    qtbot.mouseClick(room.list.viewport(), Qt.MouseButton.LeftButton, pos=spot)


def test_an_empty_library_invites_once_it_was_looked_through(show: Callable[[], ModelsRoom], qtbot: QtBot) -> None:
    room = show()
    assert not room.empty.isVisible()
    assert not room.details.isVisible(), "its buttons are for a model"
    room.set_checkpoints([])
    assert room.empty.isVisible()
    click(qtbot, room.empty.button)
    menu = next(menu for menu in room.findChildren(QMenu) if menu.isVisible())
    assert [action.text().split("\t")[0] for action in menu.actions()] == ["Files…", "Folder…", "From link…"]
    menu.close()


def test_what_a_checkpoint_is_and_how_it_was_trained(show: Callable[[], ModelsRoom], some: Any, qtbot: QtBot) -> None:
    room = show()
    room.set_checkpoints(*some)
    assert room.model.rowCount() == 4 and room.heading._right.text() == "3 · 1 unusable"
    rows = dict(room.details.model_table.facts())
    assert room.details.title.text() == "Starter · emoji 64" and room.details.description.text() == "Emoji."
    assert (rows["Type"], rows["Conditioning"], rows["Image size"]) == ("pixel transformer", "Text", "64 × 64 px")
    assert (rows["Parameters"], rows["License"]) == ("1.5 k (16-bit)", "MIT")
    assert rows["Origin"] == "Included" and rows["File"].endswith("starter.safetensors")
    trained = dict(room.details.training_table.facts())
    assert (trained["Recipe"], trained["Steps"], trained["Held-out loss"]) == ("from scratch", "6,000", "0.0346")
    assert not room.details.delete.isVisible()  # what came with the program stays
    pick(qtbot, room, 1)
    assert dict(room.details.model_table.facts())["Conditioning"] == "One of 2 classes: cat, dog"
    assert dict(room.details.model_table.facts())["Origin"] == "Trained here"
    assert room.details.delete.isVisible()


def test_generate_with_this_by_button_double_click_and_enter(
    show: Callable[[], ModelsRoom], some: Any, qtbot: QtBot
) -> None:
    room = show()
    room.set_checkpoints(*some)
    pick(qtbot, room, 1)
    for act in (lambda: click(qtbot, room.details.use), lambda: qtbot.keyClick(room.list, Qt.Key.Key_Return)):
        with qtbot.waitSignal(room.generate_requested) as caught:
            act()
        assert caught.args == [some[0][1]]
    spot = room.list.visualRect(room.model.index(0)).center()
    with qtbot.waitSignal(room.generate_requested) as caught:
        qtbot.mouseClick(room.list.viewport(), Qt.MouseButton.LeftButton, pos=spot)
        qtbot.mouseDClick(room.list.viewport(), Qt.MouseButton.LeftButton, pos=spot)
    assert caught.args == [some[0][0]]


def test_what_cannot_be_used_says_why_and_offers_no_generating(
    show: Callable[[], ModelsRoom], some: Any, qtbot: QtBot
) -> None:
    room = show()
    room.set_checkpoints(*some)
    for row, why in ((2, "does not recognise this file"), (3, "is not a weights file")):
        pick(qtbot, room, row)
        assert why in room.details.description.text()
        assert not room.details.use.isVisible() and not room.details.training_table.facts()
        with qtbot.assertNotEmitted(room.generate_requested):
            qtbot.keyClick(room.list, Qt.Key.Key_Return)


def test_pictures_come_from_the_file_or_from_the_gallery(
    show: Callable[[], ModelsRoom], some: Any, gallery: Gallery, qtbot: QtBot
) -> None:
    gallery.add(Image.new("RGB", (64, 64), "blue"), GenerateRequest(checkpoint="cats"), extra={})
    room = show()
    checkpoints, _ = some
    room.set_checkpoints(*some)
    qtbot.waitUntil(lambda: not any(room.model.thumbnail(each).isNull() for each in checkpoints[:2]))
    assert room.model.thumbnail(checkpoints[0]).pixelColor(9, 9).red() > 200
    assert room.model.thumbnail(checkpoints[1]).pixelColor(9, 9).blue() > 200
    assert room.model.thumbnail(checkpoints[2]).isNull()
    assert room.details.thumbnail.isVisible()
    pick(qtbot, room, 2)
    assert not room.details.thumbnail.isVisible()


def test_the_images_made_with_a_model_have_the_usual_menu(
    show: Callable[[], ModelsRoom], some: Any, gallery: Gallery, qtbot: QtBot
) -> None:
    made = [
        gallery.add(Image.new("RGB", (64, 64), "blue"), GenerateRequest(prompt=prompt, checkpoint="cats"), extra={})
        for prompt in ("a cat", "a black cat")
    ]
    room = show()
    room.set_checkpoints(*some)
    pick(qtbot, room, 1)
    qtbot.waitUntil(lambda: [each.accessibleName() for each in room.details.images] == ["a black cat", "a cat"])
    newest, older = room.details.images
    newest.setFocus()
    qtbot.keyClick(newest, Qt.Key.Key_Right)
    assert older.hasFocus() and not newest.focusPolicy() & Qt.FocusPolicy.TabFocus
    with qtbot.waitSignal(room.image_actions.menu_requested, timeout=5000) as asked:
        qtbot.keyClick(older, Qt.Key.Key_Return)
    assert asked.args is not None and asked.args[0].path == made[0].path
    texts = [each.text() for each in room.image_actions.menu([asked.args[0]]).actions()]
    assert {actions.USE_SETTINGS, actions.SHOW_STEPS, actions.COPY_PROMPT} <= set(texts)
    gallery.delete([made[0].id])
    room.refresh_images()
    qtbot.waitUntil(lambda: [each.accessibleName() for each in room.details.images] == ["a black cat"])


def test_a_wide_room_has_the_sections_in_two_columns(show: Callable[[], ModelsRoom], some: Any, qtbot: QtBot) -> None:
    room = show()
    room.set_checkpoints(*some)
    pick(qtbot, room, 0)
    notes, table = room.details.notes, room.details.model_table
    for width, beside in ((900, False), (1800, True), (900, False)):
        room.resize(width, 700)
        qtbot.waitUntil(lambda beside=beside: (table.mapTo(room, QPoint()).x() > room.width() / 2) is beside)
        below = table.mapTo(room, QPoint()).y() > notes.mapTo(room, QPoint(0, notes.height())).y()
        assert below is not beside and notes.width() <= 640


def test_the_description_beside_a_model_is_shown_even_if_its_newest_image_is_gone(
    show: Callable[[], ModelsRoom], some: Any, gallery: Gallery, qtbot: QtBot
) -> None:
    checkpoints, problems = some
    gallery.add(Image.new("RGB", (64, 64), "blue"), GenerateRequest(checkpoint="cats"), extra={}).path.unlink()
    cats = checkpoints[1]
    cats.path.with_suffix(".civitai.info").write_text(json.dumps({"trainedWords": ["sks cat"], "model": {}}))
    room = show()
    room.set_checkpoints(checkpoints, problems)
    pick(qtbot, room, 1)
    qtbot.waitUntil(lambda: room.details.trigger_words.words() == ["sks cat"])


def test_unreadable_notes_are_reported_when_the_room_opens(tmp_path: Path, qtbot: QtBot) -> None:
    (tmp_path / "annotations.json").write_text("{")
    room = ModelsRoom(annotations=Annotations(tmp_path / "annotations.json"))
    qtbot.addWidget(room, before_close_func=lambda widget: widget.shut_down())
    assert "annotations.json cannot be read" in room.message.text() and "annotations.damaged" in room.message.text()


def test_models_are_imported_from_chosen_files(show: Callable[[], ModelsRoom], qtbot: QtBot, tmp_path: Path) -> None:
    room = show()
    room.activateWindow()
    qtbot.keyClick(room.list, Qt.Key.Key_O, Qt.KeyboardModifier.ControlModifier)
    dialog = room.findChildren(QFileDialog)[-1]
    assert dialog.fileMode() is QFileDialog.FileMode.ExistingFiles and "*.safetensors" in dialog.nameFilters()[0]
    with qtbot.waitSignal(room.import_requested) as caught:
        dialog.filesSelected.emit([str(tmp_path / "a.safetensors"), str(tmp_path / "b.ckpt")])
    assert caught.args == [[tmp_path / "a.safetensors", tmp_path / "b.ckpt"]]
    dialog.reject()


def test_looking_again_shows_progress_and_keeps_what_was_chosen(
    show: Callable[[], ModelsRoom], some: Any, qtbot: QtBot, tmp_path: Path
) -> None:
    room = show()
    room.set_checkpoints(*some)
    pick(qtbot, room, 1)
    with qtbot.waitSignal(room.rescan_requested):
        click(qtbot, room.rescan_button)
    assert room.progress.isVisible() and not room.rescan_button.isEnabled()
    room.set_checkpoints([checkpoint(tmp_path / "newer.safetensors"), *some[0]], some[1])
    assert not room.progress.isVisible() and room.rescan_button.isEnabled()
    assert room.chosen() == some[0][1]
    assert room.choose(some[1][0][0]) and not room.choose(tmp_path / "nowhere")


def test_deleting_asks_first(show: Callable[[], ModelsRoom], some: Any, qtbot: QtBot) -> None:
    room = show()
    room.set_checkpoints(*some)
    qtbot.keyClick(room.list, Qt.Key.Key_Delete)  # the starter
    assert not room.findChildren(QMessageBox)
    assert room.message.text() == "It comes with the program and cannot be deleted."
    room.show_imported(paths.included_checkpoints()[1])
    assert room.message.text() == "four-styles.safetensors comes with the program, and was not copied."
    pick(qtbot, room, 1)
    with qtbot.assertNotEmitted(room.delete_requested):
        qtbot.keyClick(room.list, Qt.Key.Key_Delete)
        _answer(qtbot, room, "Cancel")
    for row in (1, 3):
        pick(qtbot, room, row)
        with qtbot.waitSignal(room.delete_requested) as caught:
            click(qtbot, room.details.delete)
            _answer(qtbot, room, "Delete")
        assert caught.args[0].path == (some[0][1].path if row == 1 else some[1][0][0])


def _answer(qtbot: QtBot, room: ModelsRoom, text: str) -> None:
    box = room.findChildren(QMessageBox)[-1]
    click(qtbot, next(each for each in box.findChildren(QPushButton) if each.text().replace("&", "") == text))


def test_what_uses_a_model_is_said_before_it_is_trashed(
    qtbot: QtBot, qapp: QApplication, some: Any, tmp_path: Path
) -> None:
    (tmp_path / "cats.preview.png").write_text("")
    room = ModelsRoom(find_uses=lambda entry, show: show([f"Two jobs use {entry.path.stem}."]))
    qtbot.addWidget(room, before_close_func=lambda widget: widget.shut_down())
    room.set_checkpoints(*some)
    room.choose(some[0][1].path)
    room.file_actions.ask_to_trash()
    box = room.findChildren(QMessageBox)[-1]
    assert box.text() == "Move cats.safetensors to the trash?"
    assert "Two jobs use cats." in box.informativeText() and "cats.preview.png" in box.informativeText()
    box.reject()


def test_a_model_is_renamed_by_button_menu_and_key(
    show: Callable[[], ModelsRoom], some: Any, qtbot: QtBot, tmp_path: Path
) -> None:
    (tmp_path / "cats.txt").write_text("notes")
    room = show()
    room.set_checkpoints(*some)
    assert not room.details.rename.isVisible()  # what came with the program
    pick(qtbot, room, 1)
    room.activateWindow()
    for ask in (
        lambda: click(qtbot, room.details.rename),
        lambda: qtbot.keyClick(room.list, Qt.Key.Key_F2),
        lambda: _menu_entry(room, "Rename…").trigger(),
    ):
        ask()
        dialog = next(each for each in room.findChildren(RenameDialog) if each.isVisible())
        assert dialog.name.text() == dialog.name.selectedText() == "cats" and not dialog.accept_button.isEnabled()
        dialog.reject()
        dialog.setParent(None)
    dialog = room.file_actions.rename()
    assert dialog is not None and not accessibility_problems(dialog)
    qtbot.keyClicks(dialog.name, "sdxl")
    assert "sdxl.safetensors already exists" in dialog.problem.text() and not dialog.accept_button.isEnabled()
    dialog.name.clear()
    qtbot.keyClicks(dialog.name, "lions")
    with qtbot.waitSignal(room.rename_requested) as caught:
        qtbot.keyClick(dialog.name, Qt.Key.Key_Return)
    assert caught.args == [some[0][1], "lions"]


def test_the_checkpoint_of_a_run_leads_to_it(show: Callable[[], ModelsRoom], qtbot: QtBot, home: Path) -> None:
    trained = checkpoint(home / "runs" / "shapes" / "checkpoints" / "latest.safetensors", origin=Origin.TRAINED)
    room = show()
    room.set_checkpoints([trained])
    with qtbot.waitSignal(room.run_requested) as caught:
        click(qtbot, room.details.run)
    assert caught.args == [home / "runs" / "shapes"] and not room.details.rename.isVisible()
    room.file_actions.rename()
    assert "the run shapes" in room.message.text()
    assert [action.text() for action in _menu(room).actions() if not action.isSeparator()] == [
        "Generate with this", "Star", "Show in folder", "Show training run", "Delete"
    ]  # fmt: skip


def test_the_menu_key_opens_the_menu_of_the_selected_model(
    show: Callable[[], ModelsRoom], some: Any, qtbot: QtBot
) -> None:
    room = show()
    room.set_checkpoints(*some)
    pick(qtbot, room, 3)
    event = QContextMenuEvent(QContextMenuEvent.Reason.Keyboard, QPoint(0, 0), QPoint(0, 0))
    QApplication.sendEvent(room.list.viewport(), event)
    menu = next(menu for menu in room.findChildren(QMenu) if menu.isVisible())
    assert [action.text() for action in menu.actions() if action.text()] == ["Star", "Show in folder", "Delete"]
    menu.close()


def _menu(room: ModelsRoom) -> QMenu:
    return room.open_menu(room.mapToGlobal(QPoint(100, 100)))


def _menu_entry(room: ModelsRoom, text: str) -> QAction:
    return next(action for action in _menu(room).actions() if action.text() == text)


def test_show_in_folder(
    show: Callable[[], ModelsRoom], some: Any, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = show()
    room.set_checkpoints(*some)
    opened = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: opened.append(Path(url.toLocalFile())) or True)
    with qtbot.waitSignal(room.folder_opened):
        click(qtbot, room.details.folder)
    assert opened == [some[0][0].path.parent]
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: False)
    click(qtbot, room.details.folder)
    assert str(some[0][0].path) in room.message.text()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("run", "[1]"),
        ("run", "{"),
        ("run", '{"steps": "many", "held_out_loss": "low"}'),
        ("recipe", '{"run": 3}'),
        ("recipe", '{"data": {"flips": "x"}, "optimiser": []}'),
        ("thumbnail", '"not base64!"'),
        ("thumbnail", "7"),
        ("thumbnail", json.dumps(base64.b64encode(b"no picture").decode())),
    ],
)
def test_a_header_that_lies_is_shown_without_its_lies(
    show: Callable[[], ModelsRoom], tmp_path: Path, qtbot: QtBot, key: str, value: str
) -> None:
    odd = checkpoint(tmp_path / "odd.safetensors", **{f"diffstudio.{key}": value})
    odd = replace(odd, metadata=dict(odd.metadata) | {f"diffstudio.{key}": value})
    model_info.training_rows(odd)
    assert header_thumbnail(odd).isNull()
    room = show()
    room.set_checkpoints([odd])
    assert room.details.use.isVisible()


def test_the_model_keeps_qts_rules(some: Any, qtmodeltester: Any) -> None:
    model = CheckpointsModel()
    qtmodeltester.check(model)
    model.set_entries([*some[0], *(Problem(*problem) for problem in some[1])])
    qtmodeltester.check(model)
    texts = [model.data(model.index(row), Qt.ItemDataRole.AccessibleTextRole) for row in range(4)]
    assert "Included" in texts[0] and "cannot be used" in texts[3]


def test_long_names_narrow_and_wide_light_and_dark(
    show: Callable[[], ModelsRoom], tmp_path: Path, qtbot: QtBot, qapp: QApplication
) -> None:
    long = checkpoint(tmp_path / ("n" * 100) / ("n" * 200 + ".safetensors"), title="long title " * 30)
    room = show()
    room.set_checkpoints([long])
    for wish in ("light", "dark"):
        theme.apply(qapp, wish)
        for width in (560, 1900):
            qtbot.waitUntil(lambda width=width: room.resize(width, 500) or room.width() == width)
            for part in (room.details.title, room.details.model_table, room.details.use):
                assert part.mapTo(room, QPoint(part.width(), 0)).x() <= width
            assert not room.grab().isNull()
    for button in room.findChildren(QPushButton):
        if not button.objectName().startswith("qt_"):
            assert button.accessibleName(), button.text()


def test_the_list_keeps_its_place_where_no_matches(show: Callable[[], ModelsRoom], some: Any, qtbot: QtBot) -> None:
    room = show()
    room.set_checkpoints(*some)
    before = room.filter.mapTo(room, QPoint()).x()
    qtbot.keyClicks(room.filter.search, "zzz")
    qtbot.waitUntil(room._no_matches.isVisible)
    room.grab()  # laid out again
    assert not room.details.isVisible() and room.filter.mapTo(room, QPoint()).x() == before
