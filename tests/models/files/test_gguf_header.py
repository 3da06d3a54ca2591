"""The header of a GGUF file: names, shapes and types are read, and whatever does not add up is refused."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from diffstudio.errors import CheckpointDamaged, CheckpointMissing, CheckpointProblem, CheckpointUnknown
from diffstudio.models.files import gguf_header
from diffstudio.models.files.gguf_header import GgufHeader, read_gguf_header
from diffstudio.models.files.quantized_reader import open_rows
from diffstudio.models.library.records import read_checkpoint
from tests.models.hostile import gguf_entry, gguf_file, gguf_list, gguf_string, gguf_tensor, refused

ARCHITECTURE, ORIGINAL_SHAPE = b"general.architecture", b"comfy.gguf.orig_shape."


def read(folder: Path, data: bytes) -> GgufHeader:
    path = folder / "a.gguf"
    path.write_bytes(data)
    return read_gguf_header(path)


def why_refused(folder: Path, data: bytes) -> str:
    with pytest.raises(CheckpointDamaged) as raised:
        read(folder, data)
    assert raised.value.what == "a.gguf is damaged or not a GGUF file"
    return raised.value.why


@pytest.mark.parametrize("version", [2, 3])
def test_shapes_are_reversed_and_parameters_counted_by_type(tmp_path: Path, version: int) -> None:
    tensors = (
        gguf_tensor(b"a", (4, 2)),
        gguf_tensor(b"b", (32, 3, 5), kind=8, offset=32),
        gguf_tensor(b"c", (64,), kind=8),
        gguf_tensor(b"d", (), kind=99),
    )
    header = read(tmp_path, gguf_file(4, 0, *tensors, bytes(64), version=version))
    assert header.shapes == {"a": (2, 4), "b": (5, 3, 32), "c": (64,), "d": ()}
    assert header.parameters == {"F32": 8, "Q8_0": 544, "type 99": 1}
    assert (header.architecture, header.metadata, header.is_language_model) == ("", {}, False)


def test_metadata_is_kept_as_text_without_the_lists(tmp_path: Path) -> None:
    numbers = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 10: "<Q", 11: "<q"}
    entries = [gguf_entry(b"n%d" % kind, kind, struct.pack(form, 7)) for kind, form in numbers.items()]
    entries += [
        gguf_entry(ARCHITECTURE, 8, gguf_string(b"flux")),
        gguf_entry(b"half", 6, struct.pack("<f", 0.5)),
        gguf_entry(b"quarter", 12, struct.pack("<d", 0.25)),
        gguf_entry(b"yes", 7, b"\1"),
        gguf_entry(b"text", 8, gguf_string("caf\u00e9".encode() + b"\xff")),
        gguf_entry(ORIGINAL_SHAPE + b"x", 8, gguf_string(b"text")),
        gguf_list(b"words", 8, 2, gguf_string(b"one") + gguf_string(b"two")),
        gguf_list(b"few", 5, 2, bytes(8)),
        gguf_list(b"many", 4, 9, bytes(36)),
        gguf_list(b"floats", 12, 2, bytes(16)),
        gguf_entry(b"last", 0, b"\5"),
    ]
    header = read(tmp_path, gguf_file(1, len(entries), *entries, gguf_tensor(), bytes(32)))
    assert header.metadata == {f"n{kind}": "7" for kind in numbers} | {
        "general.architecture": "flux",
        "half": "0.5",
        "quarter": "0.25",
        "yes": "True",
        "text": "caf\u00e9\ufffd",
        "comfy.gguf.orig_shape.x": "text",
        "last": "5",
    }
    assert header.architecture == "flux" and not header.is_language_model and header.shapes == {"a": (8,)}


def test_the_tensors_of_a_language_model_are_not_read(tmp_path: Path) -> None:
    architecture = gguf_entry(ARCHITECTURE, 8, gguf_string(b"t5encoder"))
    header = read(tmp_path, gguf_file(9, 9, architecture, b"whatever follows"))
    assert header.is_language_model and (header.architecture, header.shapes) == ("t5encoder", {})
    names = gguf_list(ARCHITECTURE, 8, 1, gguf_string(b"t5encoder"))
    assert read(tmp_path, gguf_file(0, 1, names)).architecture == ""


def test_a_reshaped_tensor_has_its_original_shape(tmp_path: Path) -> None:
    original = (
        gguf_list(ORIGINAL_SHAPE + b"conv", 5, 4, struct.pack("<4i", 2, 1, 2, 2)),
        gguf_list(ORIGINAL_SHAPE + b"scalar", 10, 0),
        gguf_list(ORIGINAL_SHAPE + b"empty", 11, 2, struct.pack("<2q", 0, 3)),
        gguf_list(ORIGINAL_SHAPE + b"long", 4, 8, struct.pack("<8I", 2, *[1] * 7)),
        gguf_list(ORIGINAL_SHAPE + b"too long", 4, 9, struct.pack("<9I", 2, *[1] * 8)),
    )
    sides = {b"conv": (4, 2), b"scalar": (1,), b"empty": (0,), b"long": (2,), b"too long": (2,), b"plain": (2, 4)}
    tensors = [gguf_tensor(name, shape) for name, shape in sides.items()]
    header = read(tmp_path, gguf_file(len(tensors), len(original), *original, *tensors, bytes(32)))
    assert header.shapes == {
        "conv": (2, 1, 2, 2),
        "scalar": (),
        "empty": (0, 3),
        "long": (2, *[1] * 7),
        "too long": (2,),
        "plain": (4, 2),
    }
    assert header.parameters == {"F32": 8 + 1 + 0 + 2 + 2 + 8}


def test_an_original_shape_of_another_size(tmp_path: Path) -> None:
    for shape in ((3, 3), (-2, -4)):
        original = gguf_list(ORIGINAL_SHAPE + b"a", 5, 2, struct.pack("<2i", *shape))
        why = why_refused(tmp_path, gguf_file(1, 1, original, gguf_tensor(), bytes(64)))
        assert why == "tensor 'a' cannot have had its original shape"


def test_numbers_of_things_up_to_their_limits(tmp_path: Path) -> None:
    for tensors, entries, why in (
        (50_000, 0, "it was cut short"),
        (50_001, 0, "it declares 50,001 tensors"),
        (0, 20_000, "it was cut short"),
        (0, 20_001, "it declares 20,001 entries"),
    ):
        assert why_refused(tmp_path, gguf_file(tensors, entries)) == why


def test_texts_up_to_their_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, text = b"n" * 4096, gguf_string(b"t" * (1 << 20))
    header = read(tmp_path, gguf_file(1, 1, gguf_entry(name, 8, text), gguf_tensor(name), bytes(32)))
    assert header.shapes == {name.decode(): (8,)} and len(header.metadata[name.decode()]) == 1 << 20
    why = "it declares 4,097 bytes of a string"
    assert why_refused(tmp_path, gguf_file(0, 1, gguf_entry(name + b"n", 8, text))) == why
    assert why_refused(tmp_path, gguf_file(1, 0, gguf_tensor(name + b"n"))) == why
    text = gguf_string(b"t" * ((1 << 20) + 1))
    why = "it declares 1,048,577 bytes of a string"
    assert why_refused(tmp_path, gguf_file(0, 1, gguf_entry(b"a", 8, text))) == why
    monkeypatch.setattr(gguf_header, "_MOST_TEXT_BYTES", 6)
    entry = gguf_entry(b"a", 8, gguf_string(b"bb"))
    assert read(tmp_path, gguf_file(0, 2, entry, entry)).metadata == {"a": "bb"}
    assert why_refused(tmp_path, gguf_file(0, 3, entry, entry, entry)) == "its strings are too long"


def test_lists_of_strings_up_to_their_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf_header, "_MOST_TEXTS", 4)
    words = gguf_list(b"a", 8, 2, gguf_string(b"x") * 2)
    assert read(tmp_path, gguf_file(0, 2, words, words)).metadata == {}
    assert why_refused(tmp_path, gguf_file(0, 3, words, words, words)) == "it declares 2 strings"


def test_a_list_ends_with_the_file_at_the_latest(tmp_path: Path) -> None:
    assert read(tmp_path, gguf_file(0, 1, gguf_list(b"a", 6, 5, bytes(20)))).metadata == {}
    assert why_refused(tmp_path, gguf_file(0, 1, gguf_list(b"a", 6, 5, bytes(19)))) == "it was cut short"
    assert why_refused(tmp_path, gguf_file(0, 1, gguf_list(b"a", 8, 1, gguf_string(b"xy", 3)))) == "it was cut short"


def test_a_tensor_has_at_least_half_a_bit_per_weight_in_the_file(tmp_path: Path) -> None:
    size = len(gguf_file(1, 0, gguf_tensor(sides=(1,)), bytes(8)))
    assert read(tmp_path, gguf_file(1, 0, gguf_tensor(sides=(16 * size + 15,)), bytes(8))).shapes
    assert read(tmp_path, gguf_file(1, 0, gguf_tensor(sides=(1,), offset=size - 1), bytes(8))).shapes
    for data in (gguf_tensor(sides=(16 * size + 16,)), gguf_tensor(sides=(1,), offset=size)):
        assert why_refused(tmp_path, gguf_file(1, 0, data, bytes(8))) == "tensor 'a' does not fit the file"


def test_up_to_eight_dimensions(tmp_path: Path) -> None:
    assert read(tmp_path, gguf_file(1, 0, gguf_tensor(sides=(2,) + (1,) * 7))).shapes == {"a": (*[1] * 7, 2)}
    assert why_refused(tmp_path, gguf_file(1, 0, gguf_tensor(sides=(1,) * 9))) == "it declares 9 dimensions"


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointMissing, match="There is no checkpoint at .*none"):
        read_gguf_header(tmp_path / "none.gguf")


GGUFS: dict[str, tuple[bytes, str]] = {
    "tensors without end": (gguf_file(1 << 63, 0), "declares"),
    "entries without end": (gguf_file(0, 1 << 63), "declares"),
    "a text of 100 GB": (gguf_file(0, 1, gguf_string(b"a", 100 << 30)), "declares"),
    "a list of 100 GB": (gguf_file(0, 1, gguf_string(b"a"), struct.pack("<IIQ", 9, 4, 100 << 30)), "declares"),
    "a list of lists": (gguf_file(0, 1, gguf_string(b"a"), struct.pack("<IIQ", 9, 9, 1)), "invalid type"),
    "texts without end": (
        gguf_file(0, 1, gguf_string(b"a"), struct.pack("<IIQ", 9, 8, 600_000), bytes(5_000_000)),
        "strings",
    ),
    "an entry of no kind": (gguf_file(0, 1, gguf_string(b"a"), struct.pack("<I", 77)), "unknown type 77"),
    "a tensor larger than the file": (gguf_file(1, 0, gguf_tensor(sides=(1 << 40,))), "does not fit"),
    "a product that overflows": (gguf_file(1, 0, gguf_tensor(sides=(1 << 32, 1 << 32))), "does not fit"),
    "beyond the end": (gguf_file(1, 0, gguf_tensor(offset=1 << 40)), "does not fit"),
    "a hundred sides": (gguf_file(1, 0, gguf_tensor(sides=(1,) * 100)), "dimensions"),
    "two of one name": (gguf_file(2, 0, gguf_tensor(), gguf_tensor(), bytes(64)), "two of its tensors"),
    "another shape": (
        gguf_file(
            1,
            1,
            gguf_string(b"comfy.gguf.orig_shape.a"),
            struct.pack("<IIQii", 9, 5, 2, -2, -4),
            gguf_tensor(),
            bytes(64),
        ),
        "shape",
    ),
    "cut short": (gguf_file(3, 0, gguf_tensor())[:-3], "cut short"),
    "no GGUF": (b"\xf0\x9f\xff\xf0", "magic bytes"),
}


def test_another_version_is_not_called_damaged(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(gguf_file(0, 0, version=99))
    with pytest.raises(CheckpointUnknown, match="version 99 of GGUF, and only 2 and 3 are supported"):
        read_checkpoint(tmp_path / "a.gguf")


@pytest.mark.parametrize("name", GGUFS)
def test_gguf_headers(tmp_path: Path, name: str) -> None:
    data, said = GGUFS[name]
    path = tmp_path / "a.gguf"
    path.write_bytes(data)
    why = refused(lambda: read_gguf_header(path))
    assert said in why
    for open_it in (read_checkpoint, open_rows):
        with pytest.raises(CheckpointProblem, match=re.escape(why)):
            open_it(path)
