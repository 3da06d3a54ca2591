"""Hashes are right, worked out once, and never believed for another file."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from unittest.mock import Mock

import pytest

from diffstudio import paths
from diffstudio.errors import CheckpointMissing, Interrupted
from diffstudio.models.files import hashes
from diffstudio.models.files.hashes import autov2, cached_sha256, file_sha256, known_file, sha256_of, sha256_steps

CONTENT = os.urandom(100_000)
RIGHT = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(CONTENT)
    return path


def test_worked_out_once(file: Path) -> None:
    told: list[float] = []
    assert cached_sha256(file) == ""
    assert sha256_of(file, told.append) == RIGHT == cached_sha256(file)
    assert told[-1] == 1.0
    assert autov2(RIGHT) == RIGHT[:10]
    told.clear()
    assert sha256_of(file, told.append) == RIGHT and told == []  # remembered: not read again


def test_a_changed_file_is_another(file: Path) -> None:
    sha256_of(file)
    stamp = file.stat().st_mtime_ns
    file.write_bytes(CONTENT[:-1])  # shorter
    assert cached_sha256(file) == ""
    file.write_bytes(CONTENT[::-1])  # as long, later
    os.utime(file, ns=(stamp, stamp + 1))
    assert cached_sha256(file) == "" and sha256_of(file) == hashlib.sha256(CONTENT[::-1]).hexdigest()


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"format": 99, "files": {}}', '{"format": 1, "files": {"a": 3}}', "[" * 100_000]
)
def test_a_damaged_memory_is_no_memory(file: Path, damage: str) -> None:
    sha256_of(file)
    (paths.cache() / "hashes.json").write_text(damage)
    assert cached_sha256(file) == "" and sha256_of(file) == RIGHT == cached_sha256(file)


def test_files_that_are_gone_are_forgotten(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"x")
    sha256_of(other)
    other.unlink()
    sha256_of(file)
    assert str(other) not in (paths.cache() / "hashes.json").read_text()


def test_stopped_and_missing(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashes, "_CHUNK_BYTES", 1000)
    with pytest.raises(Interrupted):
        sha256_of(file, cancelled=lambda: True)
    with pytest.raises(CheckpointMissing, match="cannot be read"):
        sha256_of(tmp_path / "nothing")


def test_a_cache_that_cannot_be_written_costs_only_time(file: Path) -> None:
    paths.cache().parent.mkdir(parents=True, exist_ok=True)
    paths.cache().write_text("a file where the folder should be")
    assert sha256_of(file) == RIGHT and cached_sha256(file) == ""


def test_progress_and_the_question_whether_to_stop(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashes, "_CHUNK_BYTES", 40_000)
    fractions: list[float] = []
    asked: list[None] = []

    def stop_at_the_third() -> bool:
        asked.append(None)
        return len(asked) == 3

    with pytest.raises(Interrupted, match="Stopped while the checkpoint's hash was worked out"):
        sha256_of(file, fractions.append, stop_at_the_third)
    assert fractions == [0.4] and cached_sha256(file) == ""
    assert list(sha256_steps(file)) == [0.0, 0.4, 0.8, 1.0]
    assert list(sha256_steps(file)) == []  # known now


def test_a_file_that_changes_while_it_is_read_is_not_remembered(file: Path) -> None:
    steps = sha256_steps(file)
    assert next(steps) == 0.0
    file.write_bytes(CONTENT * 2)
    assert list(steps) == [1.0]
    assert cached_sha256(file) == "" and not (paths.cache() / "hashes.json").exists()


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    assert sha256_of(tmp_path / "empty") == hashlib.sha256(b"").hexdigest() == cached_sha256(tmp_path / "empty")


def test_the_cache_belongs_to_a_format(file: Path) -> None:
    sha256_of(file)
    cache = paths.cache() / "hashes.json"
    stored = json.loads(cache.read_text())
    stamp = file.stat()
    assert stored == {"format": 1, "files": {str(file): [stamp.st_size, stamp.st_mtime_ns, RIGHT]}}
    cache.write_text(json.dumps(stored | {"format": 2}))
    assert cached_sha256(file) == ""


def test_a_disk_that_cannot_be_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for error, why in ((OSError(5, "Input/output error"), "Input/output error"), (OSError("odd"), "odd")):
        with monkeypatch.context() as patch:
            patch.setattr(Path, "open", Mock(side_effect=error))
            with pytest.raises(
                CheckpointMissing, match=f"weights.safetensors cannot be read: {why}. Check the disk, or"
            ):
                sha256_of(file)


def test_a_file_that_is_there_for_a_while_is_not_remembered(file: Path) -> None:
    assert file_sha256(file) == RIGHT and known_file(RIGHT) is None


def test_a_file_is_known_by_its_hash_until_it_changes(file: Path) -> None:
    assert known_file(RIGHT) is None
    sha256_of(file)
    assert known_file(RIGHT) == file and known_file("0" * 64) is None
    stamp = file.stat().st_mtime_ns
    os.utime(file, ns=(stamp, stamp + 1))
    assert known_file(RIGHT) is None
    file.unlink()
    assert known_file(RIGHT) is None
