"""Annotations are kept, follow a file that moves, and survive damage and full disks."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from diffstudio.errors import StorageProblem
from diffstudio.studio.library import annotations as module
from diffstudio.studio.library.annotations import Annotation, Annotations

SAID = Annotation("good for skies — 空", ("landscape", "calm"), favourite=True)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "models" / "one.safetensors"
    path.parent.mkdir()
    path.write_bytes(b"weights")
    return path


def test_kept_over_a_restart(weights: Path, tmp_path: Path) -> None:
    file = tmp_path / "annotations.json"
    Annotations(file).put(weights, SAID)
    again = Annotations(file)
    assert again.of(weights) == SAID and again.problem == ""
    assert not again.of(weights.with_name("other.safetensors"))
    again.put(weights, Annotation())
    assert not Annotations(file).of(weights)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no modes")
def test_only_its_owner_reads_it(weights: Path, tmp_path: Path) -> None:
    file = tmp_path / "annotations.json"
    Annotations(file).put(weights, SAID)
    assert file.stat().st_mode & 0o777 == 0o600
    file.chmod(0o644)  # as versions before this one wrote it
    assert Annotations(file).of(weights) == SAID and file.stat().st_mode & 0o777 == 0o600


def test_follows_a_file_that_moves_but_not_a_copy(weights: Path, tmp_path: Path) -> None:
    import shutil

    kept = Annotations(tmp_path / "annotations.json")
    kept.put(weights, SAID)
    copy = tmp_path / "copy" / weights.name
    copy.parent.mkdir()
    shutil.copy2(weights, copy)
    assert not kept.of(copy)  # the one it was said about is still there
    moved = tmp_path / "elsewhere" / weights.name
    moved.parent.mkdir()
    weights.rename(moved)
    copy.unlink()
    assert kept.of(moved) == SAID
    kept.put(moved, kept.of(moved))
    assert Annotations(tmp_path / "annotations.json").of(moved) == SAID


def test_tags_are_tidied_and_counted(weights: Path, tmp_path: Path) -> None:
    kept = Annotations(tmp_path / "annotations.json")
    kept.put(weights, Annotation(tags=("  two   words ", "Sky", "sky", "", "x" * 100)))
    kept.put(weights.with_name("b"), Annotation(tags=("Sky",)))
    assert kept.of(weights).tags == ("two words", "Sky", "x" * module.LONGEST_TAG)
    assert kept.tags()[0] == "Sky" and len(kept.tags()) == 3


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"format": 2, "files": {}}', '{"format": 1, "files": {"a": {}}}', "[" * 100_000]
)
def test_a_damaged_file_is_put_aside(weights: Path, tmp_path: Path, damage: str) -> None:
    file = tmp_path / "annotations.json"
    file.write_text(damage)
    kept = Annotations(file)
    assert "cannot be read" in kept.problem and (tmp_path / "annotations.damaged.json").read_text() == damage
    kept.put(weights, SAID)
    assert Annotations(file).of(weights) == SAID


def test_single_values_that_cannot_be_read_are_named(weights: Path, tmp_path: Path) -> None:
    file = tmp_path / "annotations.json"
    Annotations(file).put(weights, SAID)
    stored = json.loads(file.read_text())
    (entry,) = stored["files"].values()
    entry |= {"note": 3, "favourite": "yes", "tags": ["Sky", 7]}
    file.write_text(json.dumps(stored))
    kept = Annotations(file)
    assert kept.of(weights) == Annotation(tags=("Sky",))
    assert kept.problem.endswith(
        f"could not be read and are not used: note of {weights.name}, 1 of 2 tags of {weights.name}, "
        f"favourite of {weights.name}."
    )


def test_what_cannot_be_written_changes_nothing(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Annotations(tmp_path / "annotations.json")
    kept.put(weights, SAID)

    def full(path: Path, text: str, **_: object) -> None:
        raise StorageProblem("no room")

    monkeypatch.setattr(module, "write_text", full)
    with pytest.raises(StorageProblem):
        kept.put(weights, Annotation("other"))
    assert kept.of(weights) == SAID
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageProblem, match="cannot be written"):
        Annotations(tmp_path / "file" / "annotations.json").put(weights, SAID)


def test_a_second_damaged_file_does_not_replace_the_first(tmp_path: Path) -> None:
    file = tmp_path / "annotations.json"
    for text in ("{1", "{2"):
        file.write_text(text)
        Annotations(file)
    assert (tmp_path / "annotations.damaged.json").read_text() == "{1"
    assert (tmp_path / "annotations.damaged-2.json").read_text() == "{2"


def test_the_disk_is_not_read_for_files_without_an_annotation(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The window asks for every file of its list."""
    annotations = Annotations(tmp_path / "annotations.json")
    annotations.put(weights, SAID)
    monkeypatch.setattr(module, "file_stamp", lambda path: pytest.fail(f"{path} was read"))
    assert not annotations.of(weights.with_name("other.safetensors")) and annotations.of(weights) == SAID


def test_a_renamed_file_keeps_its_notes_also_over_a_restart(tmp_path: Path) -> None:
    old, new = tmp_path / "ink.safetensors", tmp_path / "brush.safetensors"
    old.write_bytes(b"weights")
    annotations = Annotations(tmp_path / "notes.json")
    annotations.put(old, Annotation("0.6 is enough", ("paper",), True))
    old.rename(new)
    annotations.moved(old, new)
    annotations.moved(tmp_path / "unknown", tmp_path / "other")
    for each in (annotations, Annotations(tmp_path / "notes.json")):
        assert each.of(new) == Annotation("0.6 is enough", ("paper",), True) and not each.of(old)


def test_notes_that_cannot_be_saved_stay_where_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    annotations = Annotations(tmp_path / "notes.json")
    annotations.put(tmp_path / "a.ckpt", Annotation("a note"))

    def fails(*args: object, **options: object) -> None:
        raise StorageProblem("full")

    monkeypatch.setattr("diffstudio.studio.library.annotations.write_text", fails)
    with pytest.raises(StorageProblem):
        annotations.moved(tmp_path / "a.ckpt", tmp_path / "b.ckpt")
    assert annotations.of(tmp_path / "a.ckpt").note == "a note"
