"""Notes on runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffstudio.errors import StorageProblem
from diffstudio.studio.runs.notes import LONGEST_NOTE, RunNote, read_note, write_note
from diffstudio.training.run.run_folder import RunFolder


def test_a_note_is_a_text_file_that_a_person_may_edit(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert read_note(run) == RunNote()
    write_note(run, "half the rate\nworked: é")
    assert (tmp_path / "notes.txt").read_text(encoding="utf-8") == "half the rate\nworked: é"
    assert read_note(run) == RunNote("half the rate\nworked: é")
    (tmp_path / "notes.txt").write_bytes(b"of another\r\nprogram")
    assert read_note(run) == RunNote("of another\nprogram")
    write_note(run, " ")
    assert not (tmp_path / "notes.txt").exists()
    write_note(run, "")


@pytest.mark.parametrize(
    ("data", "shown", "why"),
    [
        (b"x" * 2 * LONGEST_NOTE, "x" * LONGEST_NOTE, "longer than 10,000 characters"),
        (b"a \xff", "a \ufffd", "not text in UTF-8"),
    ],
)
def test_a_note_that_is_not_shown_completely_says_why(tmp_path: Path, data: bytes, shown: str, why: str) -> None:
    (tmp_path / "notes.txt").write_bytes(data)
    note = read_note(RunFolder(tmp_path))
    assert note.text == shown and note.problem.startswith("The note cannot be edited here") and why in note.problem


def test_a_note_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").mkdir()
    note = read_note(RunFolder(tmp_path))
    assert note.text == "" and "cannot be shown completely" in note.problem


def test_a_note_that_cannot_be_saved_says_why(tmp_path: Path) -> None:
    with pytest.raises(StorageProblem):
        write_note(RunFolder(tmp_path / "gone" / "away"), "text")
