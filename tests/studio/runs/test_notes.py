"""Notes on runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffstudio.errors import StorageProblem
from diffstudio.studio.runs.notes import LONGEST_NOTE, read_note, write_note
from diffstudio.training.run.run_folder import RunFolder


def test_a_note_is_a_text_file_that_a_person_may_edit(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert read_note(run) == ""
    write_note(run, "half the rate\nworked: é")
    assert (tmp_path / "notes.txt").read_text(encoding="utf-8") == "half the rate\nworked: é" == read_note(run)
    (tmp_path / "notes.txt").write_bytes(b"edited \xff" + b"x" * 2 * LONGEST_NOTE)
    assert read_note(run).startswith("edited") and len(read_note(run)) == LONGEST_NOTE
    write_note(run, " ")
    assert not (tmp_path / "notes.txt").exists()
    write_note(run, "")


def test_a_note_that_cannot_be_saved_says_why(tmp_path: Path) -> None:
    with pytest.raises(StorageProblem):
        write_note(RunFolder(tmp_path / "gone" / "away"), "text")
