"""Sizes, stamps and errors of files, as every reader uses them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from diffstudio.errors import CheckpointDamaged, CheckpointMissing
from diffstudio.models.files.file_access import (
    damaged,
    file_stamp,
    first_line,
    nonfinite,
    not_weights,
    read_json,
    read_json_object,
    reading,
    regular_file_size,
)


def test_a_stamp_changes_with_the_file(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    assert file_stamp(file) is None
    file.write_bytes(b"abc")
    before = file_stamp(file)
    assert before is not None and before.size_bytes == 3
    assert file_stamp(file) == before
    os.utime(file, ns=(1, before.modified_ns + 1))
    assert file_stamp(file) != before


def test_only_regular_files_have_a_size(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"abc")
    assert regular_file_size(tmp_path / "a.bin") == 3
    with pytest.raises(CheckpointDamaged, match="is not a weights file: it is a folder"):
        regular_file_size(tmp_path)
    with pytest.raises(FileNotFoundError):
        regular_file_size(tmp_path / "b.bin")


@pytest.mark.parametrize("error", [FileNotFoundError(), NotADirectoryError()])
def test_a_missing_file_is_a_missing_checkpoint(error: OSError, tmp_path: Path) -> None:
    with pytest.raises(CheckpointMissing, match="There is no checkpoint at"), reading(tmp_path / "a.gguf"):
        raise error


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(
            CheckpointDamaged, match=r"a.gguf cannot be read: input/output error. Check the disk, or download"
        ),
        reading(tmp_path / "a.gguf"),
    ):
        raise OSError(5, "Input/output error")
    with (
        pytest.raises(CheckpointDamaged, match=r"a.gguf cannot be read: permission denied. Change its permissions"),
        reading(tmp_path / "a.gguf"),
    ):
        raise PermissionError(13, "Permission denied")
    with pytest.raises(CheckpointDamaged, match=r"a.gguf cannot be read: odd"), reading(tmp_path / "a.gguf"):
        raise OSError("odd")
    with reading(tmp_path / "a.gguf"):
        pass


def test_reasons_are_one_line_of_limited_length() -> None:
    assert first_line(ValueError()) == "" and first_line(ValueError("one\ntwo")) == "one"
    assert len(first_line(ValueError("x" * 1000))) == 200
    assert len(damaged(Path("a.pt"), "x" * 1000).why) == 200
    assert str(damaged(Path("a.pt"), "A library's sentence.")).endswith(": A library's sentence. Download it again.")


def test_sentences_that_several_readers_use() -> None:
    assert nonfinite("up.0.weight") == "up.0.weight contains NaN or Inf values"
    assert not_weights(Path("models") / "a.zip") == "a.zip is not a weights file"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b'{"a": 1', r"it is not valid JSON \(line 1, column 8\)"),
        (b'{"a": "\xff"}', "it is not text in UTF-8"),
        (b"[" * 100_000, "its values are nested too deeply"),
        (b"[1]", "it is not a JSON object"),
    ],
)
def test_a_damaged_configuration_is_described_in_words(tmp_path: Path, text: bytes, why: str) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(text)
    with pytest.raises(CheckpointDamaged, match=why) as caught:
        read_json_object(path)
    assert str(path) in str(caught.value)


def test_a_configuration_is_read_up_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"a": [1]}')
    assert read_json_object(path) == {"a": [1]} and read_json(path, 10) == {"a": [1]}
    with pytest.raises(CheckpointDamaged, match="it is too large"):
        read_json(path, 9)
    with pytest.raises(CheckpointMissing, match="does not exist"):
        read_json_object(tmp_path / "other.json")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(13, "Permission denied"), "a.json cannot be read: permission denied. Change its permissions."),
        (
            OSError(5, "Input/output error"),
            "a.json cannot be read: input/output error. Check the disk, or download it again.",
        ),
    ],
)
def test_what_the_system_refuses_is_not_called_damaged(
    error: OSError, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.json").write_text("{}")

    def refuse(_: Path) -> bytes:
        raise error

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(CheckpointDamaged) as raised:
        read_json(tmp_path / "a.json")
    assert str(raised.value) == said
