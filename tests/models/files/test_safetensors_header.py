"""The header of a safetensors file: what it declares is read, and whatever does not add up is refused."""

from __future__ import annotations

import gc
import json
import re
import struct
from pathlib import Path
from typing import Any

import pytest

from diffstudio.errors import CheckpointDamaged, CheckpointDangerous, CheckpointMissing
from diffstudio.models.files import safetensors_header
from diffstudio.models.files.safetensors_header import TensorEntry, gc_paused, read_safetensors_header
from diffstudio.models.files.weights_reader import load_weights
from diffstudio.models.library.records import read_checkpoint
from tests.models.hostile import refused, safetensors_entry, safetensors_file


def read(folder: Path, data: bytes) -> safetensors_header.SafetensorsHeader:
    path = folder / "a.safetensors"
    path.write_bytes(data)
    return read_safetensors_header(path)


def test_tensors_and_metadata(tmp_path: Path) -> None:
    entries = {
        "b": safetensors_entry(24, 26, (1,), "F16"),
        "cat": safetensors_entry(0, 24, (2, 3)),
        "empty": safetensors_entry(24, 24, (0, 4), "BF16"),
        "single": safetensors_entry(26, 34, (), "I64"),
        "nibbles": safetensors_entry(34, 36, (3,), "F4"),  # twelve bits
    }
    header = read(tmp_path, data := safetensors_file({"__metadata__": {"title": "x"}} | entries, 36))
    assert header.metadata == {"title": "x"}
    assert header.shapes == {"b": (1,), "cat": (2, 3), "empty": (0, 4), "single": (), "nibbles": (3,)}
    assert header.tensors["b"] == TensorEntry("F16", (1,), 24, 26)
    assert header.data_start == len(data) - 36


def test_the_smallest_file(tmp_path: Path) -> None:
    assert read(tmp_path, safetensors_file(b"{}", 0)) == ({}, {}, 10)
    assert read(tmp_path, safetensors_file(b'{"__metadata__":null}', 0)) == ({}, {}, 29)
    assert "does not fit" in refused(lambda: read(tmp_path, safetensors_file(b"1", 0)))


@pytest.mark.parametrize("metadata", [[], [1], "x", 3, {"a": None}, {"a": 1}])
def test_metadata_is_text(tmp_path: Path, metadata: Any) -> None:
    data = safetensors_file({"__metadata__": metadata, "a": safetensors_entry()})
    if metadata == []:
        assert read(tmp_path, data).metadata == {}
    else:
        with pytest.raises(CheckpointDamaged, match="its metadata is not all text"):
            read(tmp_path, data)


def test_up_to_sixteen_dimensions_and_2_to_the_60_elements(tmp_path: Path) -> None:
    for shape, end in (((1,) * 15 + (2,), 8), ((1 << 60, 0), 0)):
        header = read(tmp_path, safetensors_file({"a": safetensors_entry(0, end, shape)}, end))
        assert header.shapes == {"a": shape}
    for shape, end, why in (((1,) * 16 + (2,), 8, "no dtype, shape"), (((1 << 60) + 1, 0), 0, "impossible shape")):
        data = safetensors_file({"a": safetensors_entry(0, end, shape)}, end)
        with pytest.raises(CheckpointDamaged, match=why):
            read(tmp_path, data)


def test_a_header_may_be_as_long_as_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = safetensors_file({"a": safetensors_entry()})
    monkeypatch.setattr(safetensors_header, "LARGEST_HEADER_BYTES", len(data) - 16)
    assert read(tmp_path, data).shapes == {"a": (2,)}
    monkeypatch.setattr(safetensors_header, "LARGEST_HEADER_BYTES", len(data) - 17)
    with pytest.raises(CheckpointDamaged, match=r"a.safetensors is damaged or not a safetensors file: its header does"):
        read(tmp_path, data)


def test_names_may_be_any_text(tmp_path: Path) -> None:
    """Also what makes the fast check for duplicate keys useless: the words of the format, and escapes."""
    names = ['"dtype"', "shape", "data_offsets", "a\\u0061", "\N{GRINNING FACE}", "caf\u00e9", "__metadata__x"]
    entries = {name: safetensors_entry(8 * index, 8 * index + 8) for index, name in enumerate(names)}
    for ascii_only in (True, False):
        text = json.dumps(entries, ensure_ascii=ascii_only).encode()
        assert list(read(tmp_path, safetensors_file(text, 8 * len(names))).tensors) == names


@pytest.mark.parametrize("automatic", [True, False])
def test_the_garbage_collector_is_as_before(tmp_path: Path, automatic: bool) -> None:
    before = gc.isenabled()
    (gc.enable if automatic else gc.disable)()
    try:
        with gc_paused():
            assert not gc.isenabled()
        assert gc.isenabled() == automatic
        with pytest.raises(CheckpointDamaged):
            read(tmp_path, b"")
        assert gc.isenabled() == automatic
    finally:
        (gc.enable if before else gc.disable)()


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointMissing, match="There is no checkpoint at .*none"):
        read_safetensors_header(tmp_path / "none.safetensors")


ONE = json.dumps(safetensors_entry()).encode()
HEADERS: dict[str, tuple[bytes, str]] = {
    "100 GB": (safetensors_file({}, length=100 << 30), "does not fit"),
    "all there is": (safetensors_file({}, length=(1 << 64) - 1), "does not fit"),
    "negative, if it had a sign": (safetensors_file({}, length=1 << 63), "does not fit"),
    "one byte beyond the file": (safetensors_file({"a": safetensors_entry()}, 0, length=70), "does not fit"),
    "of nothing": (safetensors_file(b"", 0), "does not fit"),
    "cut short": (b"\x10\0\0", "does not fit"),
    "overlapping": (safetensors_file({"a": safetensors_entry(), "b": safetensors_entry(4, 12)}, 12), "overlap"),
    "the same place twice": (safetensors_file({"a": safetensors_entry(), "b": safetensors_entry()}), "overlap"),
    "a hole": (safetensors_file({"a": safetensors_entry(), "b": safetensors_entry(16, 24)}, 24), "gaps"),
    "a hole at the beginning": (safetensors_file({"a": safetensors_entry(8, 16)}, 16), "gaps"),
    "beyond the end": (safetensors_file({"a": safetensors_entry(), "b": safetensors_entry(8, 16)}), "fill the file"),
    "something behind": (safetensors_file({"a": safetensors_entry()}, 9), "fill the file"),
    "two of one name": (safetensors_file(b'{"a":' + ONE + b',"a":' + ONE + b"}"), "occurs twice"),
    "two of one name, one in disguise": (
        safetensors_file(b'{"a":' + ONE + b',"\\u0061":' + ONE + b"}"),
        "occurs twice",
    ),
    "two shapes": (
        safetensors_file(b'{"a":{"dtype":"F32","shape":[2],"shape":[1,2],"data_offsets":[0,8]}}'),
        "occurs twice",
    ),
    "metadata twice": (
        safetensors_file(b'{"__metadata__":{},"__metadata__":{"x":"y"},"a":' + ONE + b"}"),
        "occurs twice",
    ),
    "a product that overflows": (
        safetensors_file({"a": safetensors_entry(shape=(1 << 32, 1 << 32))}),
        "does not have the size",
    ),
    "a product that overflows to what fits": (
        safetensors_file({"a": safetensors_entry(shape=((1 << 63) + 1, 2, 1 << 62, 4))}),
        "does not have the size",
    ),
    "a million sides": (
        safetensors_file({"a": safetensors_entry(shape=(1 << 60,) * 500_000)}),
        "no dtype, shape or offsets",
    ),
    "a side of a thousand digits": (
        safetensors_file({"a": safetensors_entry(shape=(10**1000,))}),
        "does not have the size",
    ),
    "a side of ten thousand digits": (
        safetensors_file(b'{"a":{"dtype":"F32","shape":[' + b"9" * 10_000 + b'],"data_offsets":[0,8]}}'),
        "cannot be read",
    ),
    "an infinite side": (
        safetensors_file(b'{"a":{"dtype":"F32","shape":[1e999],"data_offsets":[0,8]}}'),
        "no dtype, shape or offsets",
    ),
    "half a side": (safetensors_file({"a": safetensors_entry(shape=(2.5,))}), "no dtype, shape or offsets"),
    "a side that is a text": (safetensors_file({"a": safetensors_entry(shape="2")}), "no dtype, shape or offsets"),
    "a side that is true": (
        safetensors_file({"a": safetensors_entry(0, 4, shape=(True,))}, 4),
        "no dtype, shape or offsets",
    ),
    "a negative side": (safetensors_file({"a": safetensors_entry(shape=(-2,))}), "negative"),
    "endless sides of nothing": (
        safetensors_file({"a": safetensors_entry(0, 0, (1 << 40, 1 << 40, 0))}, 0),
        "impossible shape",
    ),
    "two negative sides": (safetensors_file({"a": safetensors_entry(shape=(-1, -2))}), "negative"),
    "a negative place": (safetensors_file({"a": safetensors_entry(-8, 0)}), "negative"),
    "backwards": (safetensors_file({"a": safetensors_entry(8, 0)}), "does not have the size"),
    "an unknown dtype": (safetensors_file({"a": safetensors_entry(dtype="F33")}), "does not have the size"),
    "a dtype that is a list": (safetensors_file({"a": safetensors_entry(dtype=["F32"])}), "does not have the size"),
    "three places": (
        safetensors_file({"a": {**safetensors_entry(), "data_offsets": [0, 8, 9]}}),
        "no dtype, shape or offsets",
    ),
    "no table": (safetensors_file(b"[1,2,3]"), "not a JSON object"),
    "a number": (safetensors_file(b"12"), "not a JSON object"),
    "no description": (safetensors_file({"a": 3}), "no dtype, shape or offsets"),
    "nested without end": (safetensors_file(b"[" * 200_000), "cannot be read"),
    "objects without end": (safetensors_file(b'{"a":' * 200_000), "cannot be read"),
    "no JSON": (safetensors_file(b"\x80\x02}."), "cannot be read"),
    "text that is none": (safetensors_file(b'{"\xff\xfe":' + ONE + b"}"), "cannot be read"),
    "half a letter": (safetensors_file(b'{"\\ud800":' + ONE + b"}"), "cannot be read"),
    "metadata that is no text": (safetensors_file({"__metadata__": {"a": [1]}, "x": safetensors_entry()}), "metadata"),
}
PICKLE = b"\x80\x02cos\nsystem\nX\x05\0\0\0touch\x85R."


@pytest.mark.parametrize("name", HEADERS)
def test_headers(tmp_path: Path, name: str) -> None:
    data, said = HEADERS[name]
    path = tmp_path / "a.safetensors"
    path.write_bytes(data)
    why = refused(lambda: read_safetensors_header(path))
    assert said in why
    for open_it in (read_checkpoint, load_weights):
        with pytest.raises(CheckpointDamaged, match=re.escape(why)):
            open_it(path)


@pytest.mark.parametrize("data", [b"", PICKLE])
def test_files_without_a_header(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.safetensors").write_bytes(data)
    assert "does not fit" in refused(lambda: read_safetensors_header(tmp_path / "a.safetensors"))


def test_a_pickle_under_another_name_is_scanned(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(PICKLE)
    for open_it in (read_checkpoint, load_weights):
        with pytest.raises(CheckpointDangerous, match=r"opening it would have run os\.system\('touch'\)"):
            open_it(tmp_path / "a.safetensors")


def test_a_header_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "a.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", 3 << 30) + b"{")
        file.truncate(4 << 30)
    assert "does not fit" in refused(lambda: read_checkpoint(tmp_path / "a.safetensors"))
