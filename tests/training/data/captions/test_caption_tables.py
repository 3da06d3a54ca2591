"""Files with the captions of many images: Hugging Face's and kohya-ss's, and hostile ones."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from diffstudio.training.data.captions import caption_tables
from diffstudio.training.data.captions.caption_tables import Metadata, is_metadata, read_metadata


def read(folder: Path, name: str, content: str | bytes) -> Metadata:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    metadata = Metadata()
    read_metadata(folder, Path(name), metadata)
    return metadata


def texts(metadata: Metadata, path: str) -> tuple[str, ...] | None:
    entry = metadata.of(Path(path))
    return None if entry is None else entry.texts


def test_their_names() -> None:
    assert all(map(is_metadata, ("metadata.csv", "Metadata.JSONL", "metadata.json", "meta_cap.json", "meta_lat.json")))
    assert not any(map(is_metadata, ("cat.json", "metadata.txt", "metadatas.csv", "metadata.parquet")))


def test_hugging_faces_tables_in_any_sub_folder(tmp_path: Path) -> None:
    table = read(tmp_path, "train/metadata.csv", 'file_name,text\na.png,"a dog, asleep"\nsub/b.png,two\n')
    assert texts(table, "train/a.png") == ("a dog, asleep",)
    assert texts(table, "train/sub/b.png") == ("two",)
    assert texts(table, "a.png") is None
    assert table.entries["train/a.png"].source == "metadata.csv, key text"
    lines = read(tmp_path, "metadata.jsonl", '{"file_name": "a.png", "caption": "a dog"}\n\n')
    assert texts(lines, "a.png") == ("a dog",) and not lines.problems


def test_rows_of_the_same_image_are_alternatives(tmp_path: Path) -> None:
    table = read(tmp_path, "metadata.csv", "file_name,text\na.png,one\na.png,two\na.png,one\n")
    assert texts(table, "a.png") == ("one", "two")


@pytest.mark.parametrize("separator", [";", "\t"])
def test_spreadsheets_write_other_separators_and_a_byte_order_mark(tmp_path: Path, separator: str) -> None:
    table = read(tmp_path, "metadata.csv", f"\ufefffile_name{separator}text\r\na.png{separator}one, two\r\n")
    assert texts(table, "a.png") == ("one, two",)


def test_kohyas_objects(tmp_path: Path) -> None:
    values = {
        "a": {"caption": "a dog", "tags": "grass"},
        "sub/b.png": {"tags": "sun"},
        str(tmp_path / "c.png"): {"caption": "whole path"},
        "bad": 5,
    }
    found = read(tmp_path, "meta_cap.json", json.dumps(values))
    assert texts(found, "a.png") == ("a dog, grass",)
    assert texts(found, "sub/b.png") == ("sun",)
    assert texts(found, "c.png") == ("whole path",)
    assert [problem.why for problem in found.problems] == ["an entry is not an object with the caption of an image"]


@pytest.mark.parametrize(
    "name", ["../x.png", "sub/../../x.png", "/etc/x.png", "C:\\x.png", "..\\..\\x.png", "\\\\server\\x.png"]
)
def test_a_path_that_leads_outside_is_refused_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "x.png").touch()
    found = read(tmp_path / "in", "metadata.jsonl", json.dumps({"file_name": name, "text": "a dog"}))
    assert not found.entries
    (problem,) = found.problems
    assert problem.path == Path(name) and "outside the folder" in problem.why


def test_names_with_backslashes_and_in_another_composition_meet(tmp_path: Path) -> None:
    found = read(tmp_path, "metadata.csv", "file_name,text\nsub\\cafe\u0301.png,coffee\n./x/../b.png,b\n")
    assert texts(found, "sub/caf\u00e9.png") == ("coffee",)
    assert texts(found, "b.png") == ("b",)


@pytest.mark.parametrize(
    ("name", "content", "problems"),
    [
        ("metadata.jsonl", b'5\n[1]\n"x"\n', ["a line is not a JSON object, 3 times"]),
        ("metadata.jsonl", b'{"file_name": 5}\n{"text": "x"}\n{"file_name": " "}', ["a row has no file_name, 3 times"]),
        ("metadata.jsonl", b"{broken\n" + b"[" * 100_000, ["its line 1 is not JSON", "its line 2 is not JSON"]),
        ("metadata.jsonl", b'{"file_name": "a.png", "text": NaN}', ["its text is not text"]),
        ("metadata.jsonl", b"\xff\xfe", ["its line 1 is not text in UTF-8; the rest is not used"]),
        ("metadata.csv", b"", ["it is empty"]),
        ("metadata.jsonl", b"", ["it is empty"]),
        ("metadata.csv", b"file_name,text\na.png\nb.png,\n", ["a row has no caption, 2 times"]),
        ("metadata.jsonl", b'{"file_name": "a.png", "label": 3}', ["a row has no caption"]),
        ("metadata.csv", b"name,text\na.png,x\n", ["it has no column file_name"]),
        (
            "metadata.csv",
            b"file_name,label\na.png,3\n",
            ["it has no column with captions, such as caption, captions, text"],
        ),
        ("metadata.csv", b"file_name,text\na.png,x,y\n", ["a row has more cells than the first line"]),
        ("metadata.csv", b'file_name,text\na.png,"' + b"x" * 200_000 + b'"\n', ["its line 2 is not CSV"]),
        ("metadata.json", b"[]", ["not a JSON object"]),
        ("metadata.json", b"[" * 100_000, ["it is not JSON"]),
        ("metadata.json", b"\xff", ["not text in UTF-8"]),
    ],
)
def test_what_cannot_be_used_is_said(tmp_path: Path, name: str, content: bytes, problems: list[str]) -> None:
    found = read(tmp_path, name, content)
    assert [problem.path for problem in found.problems] == [Path(name)] * len(problems)
    for problem, part in zip(found.problems, problems, strict=True):
        assert part in problem.why
    assert sum(bool(entry.texts) for entry in found.entries.values()) <= 1


def test_an_endless_line_is_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caption_tables, "MAX_LINE_BYTES", 1024)
    found = read(tmp_path, "metadata.jsonl", b'{"file_name": "a.png", "text": "x"}\n' + b"x" * 5_000)
    assert texts(found, "a.png") == ("x",)
    assert "its line 2 is longer than 1 KiB" in found.problems[0].why
    monkeypatch.setattr(caption_tables, "MAX_KOHYA_BYTES", 10)
    assert "larger than" in read(tmp_path, "metadata.json", b" " * 11).problems[0].why


def test_an_entry_without_a_caption_does_not_hide_another(tmp_path: Path) -> None:
    found = read(tmp_path, "metadata.jsonl", '{"file_name": "a.png", "text": null}')
    (tmp_path / "meta_cap.json").write_text('{"a": {"caption": "a dog"}}')
    read_metadata(tmp_path, Path("meta_cap.json"), found)
    assert texts(found, "a.png") == ("a dog",) and list(found.unmatched()) == []


def test_entries_without_an_image_are_named(tmp_path: Path) -> None:
    found = read(tmp_path, "metadata.csv", "file_name,text\na.png,x\nb.png,y\n")
    assert found.of(Path("a.png")) is not None
    (missing,) = found.unmatched()
    assert (missing.path, missing.why) == (Path("b.png"), "named in metadata.csv, but there is no such image")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
def test_a_pipe_and_a_missing_file_are_said(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "metadata.csv")
    metadata = Metadata()
    read_metadata(tmp_path, Path("metadata.csv"), metadata)
    read_metadata(tmp_path, Path("metadata.jsonl"), metadata)
    assert [problem.why for problem in metadata.problems] == ["it is not a plain file"] * 2
