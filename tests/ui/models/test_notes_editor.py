"""The editor of tags and notes: saving leaves alone what is being typed, and what is not saved is said."""

from __future__ import annotations

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from diffstudio.studio.library.annotations import LONGEST_NOTE, LONGEST_TAG, MOST_TAGS, Annotation
from diffstudio.ui.models.notes_editor import NotesEditor

pytestmark = pytest.mark.usefixtures("dressed")


@pytest.fixture
def saved() -> list[Annotation]:
    return []


@pytest.fixture
def editor(qtbot: QtBot, saved: list[Annotation]) -> NotesEditor:
    editor = NotesEditor()
    qtbot.addWidget(editor)

    def save(annotation: Annotation) -> None:
        saved.append(annotation)
        editor.show_saved(annotation)

    editor.changed.connect(save)
    editor.resize(300, 300)
    editor.show()
    qtbot.waitExposed(editor)
    editor.tags.setFocus()
    return editor


def test_a_pause_after_a_comma_keeps_it(editor: NotesEditor, qtbot: QtBot, saved: list[Annotation]) -> None:
    qtbot.keyClicks(editor.tags, "cat, ")
    editor._timer.timeout.emit()
    assert saved[-1].tags == ("cat",) and editor.tags.text() == "cat, "
    qtbot.keyClicks(editor.tags, "dog")
    editor._timer.timeout.emit()
    assert saved[-1].tags == ("cat", "dog")
    editor.tags.setCursorPosition(3)
    qtbot.keyClicks(editor.tags, "s ")
    editor._timer.timeout.emit()
    qtbot.keyClicks(editor.tags, "2")
    assert editor.tags.text() == "cats 2, dog"
    qtbot.keyClicks(editor.tags, ",,")
    qtbot.keyClick(editor.tags, Qt.Key.Key_Return)  # the edit ends
    assert editor.tags.text() == "cats 2, dog" and saved[-1].tags == ("cats 2", "dog")


def test_the_cursor_in_a_note_stays_where_it_is(editor: NotesEditor, qtbot: QtBot, saved: list[Annotation]) -> None:
    editor.note.setPlainText("y" * LONGEST_NOTE)
    qtbot.keyClicks(editor.note, "ab")  # at the beginning
    editor.note.save()
    qtbot.keyClicks(editor.note, "c")
    editor.note.save()
    assert saved[-1].note == "abc" + "y" * (LONGEST_NOTE - 3)
    assert editor.note.toPlainText().startswith("abcy")


def test_what_could_not_be_saved_stays_and_is_saved_later(editor: NotesEditor, saved: list[Annotation]) -> None:
    editor.changed.disconnect()
    editor.changed.connect(lambda _: editor.show_saved(Annotation()))
    editor.tags.setText("cat")
    editor.note.setPlainText("good")
    editor.save()
    assert editor.tags.text() == "cat" and editor.note.toPlainText() == "good"
    editor.changed.connect(saved.append)
    editor.save()
    assert saved == [Annotation("good", ("cat",))]


def test_what_is_cut_is_said(editor: NotesEditor, saved: list[Annotation], qapp: QApplication) -> None:
    assert not editor.note.too_long.isVisible() and not editor.left_out.isVisible()
    editor.note.setPlainText("y" * LONGEST_NOTE + "LAST")
    editor.save()
    assert len(saved[-1].note) == LONGEST_NOTE and editor.note.toPlainText().endswith("LAST")
    editor.note.setFocus()
    editor.note.show_text(saved[-1].note)  # as after it was saved, while it is typed
    assert editor.note.toPlainText().endswith("LAST") and editor.note.too_long.isVisible()
    assert editor.note.too_long.text() == "Only the first 20,000 characters are saved. Remove 4."
    assert not editor.note.viewport().geometry().intersects(editor.note.too_long.geometry())
    editor.note.setPlainText("y" * LONGEST_NOTE)
    assert not editor.note.too_long.isVisible()
    editor.tags.setText(",".join(map(str, range(MOST_TAGS + 1))))
    assert editor.left_out.isVisible() and editor.left_out.text() == "Only the first 50 tags are saved."
    editor.tags.setText("x" * (LONGEST_TAG + 1))
    assert "too long" in editor.left_out.text() and "60" in editor.left_out.text()
    editor.tags.setText("x" * LONGEST_TAG)
    assert not editor.left_out.isVisible()
