"""What is remembered of files is what their headers say, for as long as they stay as they are."""

from __future__ import annotations

import os
import pickle
import sqlite3
from pathlib import Path

import pytest

from diffstudio import paths
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.library import library as library_module
from diffstudio.models.library.library import Library
from diffstudio.models.library.record_cache import RecordCache, code_of_records
from tests.models.headers import write_header
from tests.models.tiny import write_tiny_checkpoint


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(paths, "starter", lambda: tmp_path / "none")
    folder = tmp_path / "models"
    write_tiny_checkpoint(folder / "tiny.safetensors")
    write_header(
        folder / "ink.safetensors",
        {
            "lora_unet_mid_block_attentions_0_proj_in.lora_down.weight": (4, 1280),
            "lora_unet_mid_block_attentions_0_proj_in.lora_up.weight": (1280, 4),
        },
        metadata={"ss_output_name": "ink"},
    )
    return folder


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files whose headers are read."""
    read: list[str] = []
    real = library_module.read_checkpoint

    def watched(path: Path, **known: object) -> Checkpoint:
        read.append(path.name)
        return real(path, **known)  # type: ignore[arg-type]

    monkeypatch.setattr(library_module, "read_checkpoint", watched)
    return read


def scan(folder: Path) -> list[Checkpoint]:
    """As at the start of the program."""
    return Library([folder]).scan()


def test_the_second_start_reads_no_header(folder: Path, read: list[str]) -> None:
    first = scan(folder)
    assert sorted(read) == ["ink.safetensors", "tiny.safetensors"]
    read.clear()
    second = scan(folder)
    assert read == [] and second == first
    for before, after in zip(first, second, strict=True):
        assert dict(after.metadata) == dict(before.metadata) and after.metadata.get("no such key") is None
        assert after.role is before.role and after.conditioning is before.conditioning
        key = "modelspec.title" if after.name == "tiny" else "ss_output_name"
        assert pickle.loads(pickle.dumps(after)).metadata[key] == after.name


def test_what_changed_is_read_again_and_what_went_is_forgotten(folder: Path, read: list[str]) -> None:
    scan(folder)
    read.clear()
    write_tiny_checkpoint(folder / "tiny.safetensors", seed=2)
    (folder / "new.safetensors").write_bytes((folder / "tiny.safetensors").read_bytes())
    os.utime(folder / "tiny.safetensors", ns=(1, 1))
    (folder / "ink.safetensors").unlink()
    assert {each.name for each in scan(folder)} == {"tiny", "new"} and sorted(read) == [
        "new.safetensors",
        "tiny.safetensors",
    ]
    assert {stamp[0].name for stamp, _ in RecordCache().records()} == {"tiny.safetensors", "new.safetensors"}


def test_a_description_that_appears_beside_it_counts(folder: Path, read: list[str]) -> None:
    scan(folder)
    read.clear()
    (folder / "ink.yaml").write_text("model: {}")
    scan(folder)
    assert read == ["ink.safetensors"]


def test_a_file_that_cannot_be_read_is_looked_at_each_time(folder: Path, read: list[str]) -> None:
    (folder / "broken.safetensors").write_bytes(b"nothing")
    scan(folder)
    read.clear()
    library = Library([folder])
    library.scan()
    assert read == ["broken.safetensors"] and len(library.problems) == 1


@pytest.mark.parametrize("damage", [b"", b"no database", b"SQLite format 3\0" + bytes(100)])
def test_a_damaged_memory_is_no_memory(folder: Path, read: list[str], damage: bytes) -> None:
    scan(folder)
    (paths.cache() / "library.sqlite").write_bytes(damage)
    read.clear()
    assert len(scan(folder)) == 2 and len(read) == 2
    read.clear()
    assert len(scan(folder)) == 2 and read == []


def test_records_of_other_code_and_nonsense_do_not_count(folder: Path, read: list[str]) -> None:
    scan(folder)
    with sqlite3.connect(paths.cache() / "library.sqlite") as database:
        database.execute("UPDATE files SET record = '{}' WHERE path LIKE '%ink%'")
        database.execute("UPDATE files SET metadata = '[]' WHERE path LIKE '%tiny%'")
    database.close()
    read.clear()
    found = {each.name: each for each in scan(folder)}
    assert read == ["ink.safetensors"] and dict(found["tiny"].metadata) == {}
    with sqlite3.connect(paths.cache() / "library.sqlite") as database:
        database.execute("PRAGMA user_version = 7")
    database.close()
    read.clear()
    scan(folder)
    assert len(read) == 2


def test_the_code_that_makes_records_is_all_there() -> None:
    """A module that was moved would keep old records valid for ever."""
    code = code_of_records()
    assert all(file.is_file() for file in code)
    assert {"checkpoint.py", "records.py", "prefixes.py", "detect.py", "pickle_scan.py"} <= {file.name for file in code}


def test_a_cache_that_cannot_be_written(
    folder: Path, read: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(paths, "cache", lambda: tmp_path / "file" / "cache")
    assert len(scan(folder)) == 2 and len(scan(folder)) == 2 and len(read) == 4
