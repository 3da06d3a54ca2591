"""Finding models by search text, type, star, tags and notes; importing dropped files; watching the folders."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
from PySide6.QtCore import QMimeData, QPoint, Qt, QUrl
from PySide6.QtGui import QDragEnterEvent, QDropEvent
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from diffstudio.errors import StorageProblem
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.types import Role
from diffstudio.models.files.hashes import sha256_of
from diffstudio.studio.library.annotations import Annotation, Annotations
from diffstudio.ui.models.room import ModelsRoom
from diffstudio.ui.shell import model_library as model_library_module
from diffstudio.ui.shell.model_library import ModelLibrary
from diffstudio.ui.tasks import Tasks
from tests.models.tiny import write_tiny_checkpoint
from tests.ui.models.test_room import checkpoint


@pytest.fixture
def three(tmp_path: Path) -> list[Checkpoint]:
    return [
        checkpoint(tmp_path / "skies.safetensors", title="Skies"),
        checkpoint(tmp_path / "cats.safetensors", title="Cats"),
        replace(checkpoint(tmp_path / "ink.safetensors", ours=False, title="Ink"), role=Role.LORA),
    ]


@pytest.fixture
def room(qtbot: QtBot, dressed: QApplication, home: Path, three: list[Checkpoint]) -> Iterator[ModelsRoom]:
    room = ModelsRoom(None, Annotations())
    qtbot.addWidget(room, before_close_func=lambda widget: widget.shut_down())
    room.resize(1100, 800)
    with qtbot.waitExposed(room):
        room.show()
    room.set_checkpoints(three)
    yield room


def titles(room: ModelsRoom) -> list[str]:
    return [room.model.index(row).data() for row in range(room.model.rowCount())]


def test_words_kinds_and_a_way_back(room: ModelsRoom, qtbot: QtBot) -> None:
    qtbot.keyClick(room.list, Qt.Key.Key_F, Qt.KeyboardModifier.ControlModifier)
    assert room.filter.search.hasFocus() or not room.isActiveWindow()
    qtbot.keyClicks(room.filter.search, "CAT pixel")
    qtbot.waitUntil(lambda: titles(room) == ["Cats"])
    assert room.details.title.text() == "Cats"
    qtbot.keyClicks(room.filter.search, "nothing like it")
    qtbot.waitUntil(lambda: room.model.rowCount() == 0)
    assert room._no_matches.isVisible() and not room.details.isVisible()
    qtbot.mouseClick(room._no_matches.button, Qt.MouseButton.LeftButton)
    assert titles(room) == ["Skies", "Cats", "Ink"]
    assert room.filter.type.isVisible()  # there are two kinds
    room.filter.type.set_value(Role.LORA)
    room.filter.changed.emit()
    assert titles(room) == ["Ink"]


def test_a_star_is_kept_and_can_be_looked_for(room: ModelsRoom, qtbot: QtBot, three: list[Checkpoint]) -> None:
    assert room.choose(three[1].path)
    qtbot.mouseClick(room.details.star, Qt.MouseButton.LeftButton)
    assert room.details.star.text() == "Starred" and Annotations().of(three[1].path).favourite
    qtbot.mouseClick(room.filter.starred, Qt.MouseButton.LeftButton)
    assert titles(room) == ["Cats"]
    assert room.choose(three[0].path) and len(titles(room)) == 3  # what is chosen is shown, whatever was looked for
    room.choose(three[1].path)
    qtbot.keyClick(room.list, Qt.Key.Key_D, Qt.KeyboardModifier.ControlModifier)
    assert not Annotations().of(three[1].path)


def test_notes_and_tags_belong_to_their_model(room: ModelsRoom, qtbot: QtBot, three: list[Checkpoint]) -> None:
    room.choose(three[0].path)
    qtbot.keyClicks(room.details.notes.tags, "calm, blue , calm")
    qtbot.keyClicks(room.details.notes.note, "guidance 4 is best")
    room.choose(three[1].path)  # at once: nothing is lost, nothing goes to the wrong one
    assert room.details.notes.note.toPlainText() == ""
    assert Annotations().of(three[0].path) == Annotation("guidance 4 is best", ("calm", "blue"))
    assert not Annotations().of(three[1].path)
    qtbot.keyClicks(room.filter.search, "blue best")
    qtbot.waitUntil(lambda: titles(room) == ["Skies"])
    assert room.details.notes.tags.text() == "calm, blue"
    assert room.details.notes.tags.completer() is not None


def test_what_cannot_be_kept_is_said(
    room: ModelsRoom, monkeypatch: pytest.MonkeyPatch, three: list[Checkpoint]
) -> None:
    def full(path: Path, said: Annotation) -> None:
        raise StorageProblem("The disk is full")

    room.choose(three[0].path)
    with monkeypatch.context() as patched:
        patched.setattr(room._annotations, "put", full)
        room._star()
        assert "The disk is full" in room.message.text() and room.details.star.text() == "Star"
        room.details.notes.tags.setText("calm, ")
        room.details.notes.save()
        room._restore_selection(room.chosen())  # as after a scan of the folders
        assert room.details.notes.tags.text() == "calm, "  # what is typed is not lost
    room.choose(three[1].path)
    assert Annotations().of(three[0].path).tags == ("calm",)


def test_the_hash_appears_when_it_is_worked_out(room: ModelsRoom, qtbot: QtBot, three: list[Checkpoint]) -> None:
    room.choose(three[0].path)
    sha256 = sha256_of(three[0].path)
    qtbot.waitUntil(lambda: dict(room.details.model_table.facts()).get("SHA-256") == sha256)
    assert dict(room.details.model_table.facts())["AutoV2"] == sha256[:10]


def drag(room: ModelsRoom, *paths: Path) -> QMimeData:
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    event = QDragEnterEvent(
        QPoint(10, 10), Qt.DropAction.CopyAction, data, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    )
    room.dragEnterEvent(event)
    return data


def test_files_of_weights_may_be_dropped_pictures_are_the_windows(
    room: ModelsRoom, qtbot: QtBot, tmp_path: Path
) -> None:
    drag(room, tmp_path / "picture.png")
    assert not room._drop_hint.isVisible()
    data = drag(room, tmp_path / "picture.png", tmp_path / "new.safetensors")
    assert room._drop_hint.isVisible()
    drop = QDropEvent(
        QPoint(10, 10), Qt.DropAction.CopyAction, data, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    )
    with qtbot.waitSignal(room.import_requested) as caught:
        room.dropEvent(drop)
    assert caught.args == [[tmp_path / "new.safetensors"]] and not room._drop_hint.isVisible()
    assert room.message.text() == "Not model files, so not imported: picture.png."


@pytest.fixture
def model_library(qtbot: QtBot, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelLibrary]:
    monkeypatch.setattr(model_library_module, "WATCH_DELAY_MS", 20)
    (tmp_path / "models").mkdir()
    tasks = Tasks("model_library")
    model_library = ModelLibrary([tmp_path / "models"], tasks)
    yield model_library
    model_library.close()
    tasks.close()
    model_library.deleteLater()


def names(model_library: ModelLibrary) -> set[str]:
    return {found.name for found in model_library.checkpoints if not found.is_included}


def test_what_is_dropped_is_brought_in_and_what_is_none_is_named(
    model_library: ModelLibrary, qtbot: QtBot, tmp_path: Path
) -> None:
    source = write_tiny_checkpoint(tmp_path / "down" / "new.safetensors")
    (tmp_path / "down" / "text.safetensors").write_text("hello")
    failed: list[str] = []
    model_library.failed.connect(failed.append)
    with qtbot.waitSignal(model_library.imported) as caught:
        model_library.import_files([tmp_path / "down" / "text.safetensors", source])
    assert caught.args == [tmp_path / "models" / "new.safetensors"]
    assert names(model_library) == {"new"}
    qtbot.waitUntil(lambda: bool(failed))
    assert len(failed) == 1 and "text.safetensors" in failed[0]


def test_all_that_cannot_be_imported_is_named(model_library: ModelLibrary, qtbot: QtBot, tmp_path: Path) -> None:
    """In one message: several in a row would hide all but the last."""
    for name in ("a", "b"):
        (tmp_path / f"{name}.safetensors").write_text("hello")
    with qtbot.waitSignal(model_library.failed) as caught:
        model_library.import_files([tmp_path / "a.safetensors", tmp_path / "b.safetensors"])
    first, second = caught.args[0].splitlines()
    assert first.startswith("a.safetensors") and second.startswith("b.safetensors")


def test_a_file_that_appears_or_goes_is_noticed(model_library: ModelLibrary, qtbot: QtBot, tmp_path: Path) -> None:
    with qtbot.waitSignal(model_library.changed):
        model_library.rescan()
    (tmp_path / "models" / "below").mkdir()
    qtbot.waitUntil(lambda: len(model_library._watcher.watched()) == 2)
    made = write_tiny_checkpoint(tmp_path / "elsewhere.safetensors")
    os.replace(made, tmp_path / "models" / "below" / "late.safetensors")
    qtbot.waitUntil(lambda: names(model_library) == {"late"})
    (tmp_path / "models" / "below" / "late.safetensors").unlink()
    qtbot.waitUntil(lambda: names(model_library) == set())


def test_a_file_that_is_still_being_written_is_looked_at_again(
    model_library: ModelLibrary, qtbot: QtBot, tmp_path: Path
) -> None:
    whole = write_tiny_checkpoint(tmp_path / "whole.safetensors").read_bytes()
    growing = tmp_path / "models" / "growing.safetensors"
    growing.write_bytes(whole[:1000])
    with qtbot.waitSignal(model_library.changed):
        model_library.rescan()
    assert names(model_library) == set() and len(model_library.problems) == 1
    growing.write_bytes(whole)  # no folder changes by this
    qtbot.waitUntil(lambda: names(model_library) == {"growing"})


def test_a_scan_that_fails_keeps_what_was_found_and_ends(
    qtbot: QtBot, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rooms wait for the end of a scan: without it, their button would stay disabled."""
    write_tiny_checkpoint(tmp_path / "models" / "tiny.safetensors")
    tasks = Tasks()
    library = ModelLibrary((tmp_path / "models",), tasks)
    with qtbot.waitSignal(library.changed):
        library.rescan()
    assert "tiny" in [found.name for found in library.checkpoints]
    monkeypatch.setattr(library.library, "scan", Mock(side_effect=PermissionError(13, "Permission denied")))
    messages: list[str] = []
    library.failed.connect(messages.append)
    with qtbot.waitSignal(library.changed):
        library.rescan()
    assert "tiny" in [found.name for found in library.checkpoints]
    assert messages == ["The model folders could not be scanned: [Errno 13] Permission denied."]
    library.close()
    tasks.close()
