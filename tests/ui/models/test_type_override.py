"""Setting the family and prediction type of a file in the Models room."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QWheelEvent
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from diffstudio import paths
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.library.library import Library
from diffstudio.models.library.overrides import Overrides
from diffstudio.models.recommended import recommended_values
from diffstudio.studio.library.annotations import Annotations
from diffstudio.ui.models.room import ModelsRoom
from diffstudio.ui.widgets.inputs.combo_box import LabelledComboBox
from diffstudio.ui.widgets.wrapping_text import WrappingText
from tests.models import headers
from tests.models.tiny import write_tiny_checkpoint


@pytest.fixture
def room(qtbot: QtBot, dressed: QApplication, tmp_path: Path, home: Path) -> Iterator[ModelsRoom]:
    folder = tmp_path / "models"
    folder.mkdir()
    headers.write_header(folder / "old.safetensors", headers.whole("sd1"))
    headers.write_header(folder / "mix.safetensors", headers.comfy_z_image())
    write_tiny_checkpoint(folder / "ours.safetensors")
    library = Library([folder])
    room = ModelsRoom(None, Annotations(), lambda: folder)
    room.rescan_requested.connect(lambda: room.set_checkpoints(library.scan(), library.problems))
    qtbot.addWidget(room, before_close_func=lambda widget: widget.shut_down())
    room.resize(1100, 800)
    with qtbot.waitExposed(room):
        room.show()
    room.rescan_requested.emit()
    assert room.choose(folder / "old.safetensors")
    yield room


def choose(choice: LabelledComboBox, text: str) -> None:
    """As a person does: from the list."""
    choice.combo.setCurrentIndex(choice.combo.findText(text))
    choice.combo.activated.emit(choice.combo.currentIndex())


def chosen(room: ModelsRoom) -> Checkpoint:
    entry = room.chosen()
    assert isinstance(entry, Checkpoint)
    return entry


def test_an_override_is_saved_shown_and_reset(room: ModelsRoom) -> None:
    override = room.details.type_override
    assert override.isVisibleTo(room) and (override.family.value(), override.prediction.value()) == ("", "")
    recognised = chosen(room)
    choose(override.family, "Stable Diffusion XL")
    assert chosen(room).family == "sdxl" and "Set by you" in dict(room.details.model_table.facts())["Recognised by"]
    assert room.message.text() == "old now opens as Stable Diffusion XL."
    assert override.family.value() == "sdxl"  # and is shown so when the room is looked at again
    choose(override.prediction, "v")
    assert (chosen(room).family, chosen(room).prediction) == ("sdxl", "v")
    choose(override.family, "As detected")
    assert (chosen(room).family, chosen(room).prediction) == ("sd1", "v")
    choose(override.prediction, "Family default")
    assert chosen(room) == recognised and Overrides().of(recognised) is None
    assert room.message.text() == "old now opens as detected."


def test_the_edition_is_asked_for_where_neither_name_nor_metadata_says(room: ModelsRoom) -> None:
    override = room.details.type_override
    assert not override.question.isVisibleTo(room) and override.edition.isVisibleTo(room)  # of Stable Diffusion 1
    mix = next(entry for entry in room._checkpoints() if entry.name == "mix")
    room.choose(mix.path)
    assert override.question.toPlainText().startswith("Which edition is this checkpoint: Turbo, Base, Omni?")
    assert override.question.isVisibleTo(room) and recommended_values(chosen(room))["steps"] == 9
    choose(override.edition, "Base")
    assert chosen(room).edition == "Base" and not override.question.isVisibleTo(room)
    assert recommended_values(chosen(room)) == recommended_values(chosen(room)) | {"steps": 50, "guidance": 5.0}
    assert room.message.text() == "mix now opens as Base." and override.edition.value() == "Base"
    choose(override.family, "Stable Diffusion 3")  # which has no Base
    assert (chosen(room).family, chosen(room).edition) == ("sd3", "")


def test_a_checkpoint_made_here_says_what_it_is(room: ModelsRoom) -> None:
    ours = next(entry for entry in room._checkpoints() if entry.name == "ours")
    room.choose(ours.path)
    assert not room.details.type_override.isVisibleTo(room)


def test_an_unreadable_overrides_file_is_reported(room: ModelsRoom) -> None:
    paths.overrides().parent.mkdir(parents=True, exist_ok=True)
    paths.overrides().write_text("{", encoding="utf-8")
    choose(room.details.type_override.family, "Stable Diffusion XL")
    assert str(paths.overrides()) in room.message.text() and chosen(room).family == "sd1"
    assert paths.overrides().read_text(encoding="utf-8") == "{"  # nothing is written over


def test_a_scroll_over_a_text_scrolls_what_it_lies_in(room: ModelsRoom) -> None:
    text = next(
        passage
        for passage in room.details.model_table.findChildren(WrappingText)
        if passage.accessibleName() == "Recognised by"
    )
    point = QPointF(5, 5)
    turned = QWheelEvent(
        point,
        text.viewport().mapToGlobal(point),
        QPoint(),
        QPoint(0, -240),
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    text.wheelEvent(turned)
    assert not turned.isAccepted() and text.verticalScrollBar().value() == 0  # it goes on to the column
