"""Read the header of a safetensors file: its tensors and metadata, checked against the file's size.

No weights, no torch.
"""

from __future__ import annotations

import gc
import json
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from diffstudio.errors import NOT_A_JSON_OBJECT, CheckpointDamaged, UnexpectedValue, why_unreadable
from diffstudio.models.files.file_access import CHOOSE_OR_DOWNLOAD, DOWNLOAD_AGAIN, damaged, reading, regular_file_size


class TensorEntry(NamedTuple):
    """A tensor as a safetensors header declares it."""

    dtype: str
    shape: tuple[int, ...]
    start: int  # bytes from the end of the header
    end: int


class SafetensorsHeader(NamedTuple):
    """What a safetensors file declares."""

    tensors: dict[str, TensorEntry]
    metadata: dict[str, str]
    data_start: int  # bytes from the beginning of the file to the end of the header

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: entry.shape for name, entry in self.tensors.items()}


LARGEST_HEADER_BYTES = 32 << 20  # safetensors allows 100 MB, which takes seconds to parse and no published file needs
DTYPE_BITS = {
    "F64": 64,
    "F32": 32,
    "F16": 16,
    "BF16": 16,
    "I64": 64,
    "I32": 32,
    "I16": 16,
    "I8": 8,
    "U8": 8,
    "U16": 16,
    "U32": 32,
    "U64": 64,
    "BOOL": 8,
    "F8_E4M3": 8,
    "F8_E5M2": 8,
    "F8_E8M0": 8,
    "F4": 4,
}
_FORMAT = "safetensors"
_MOST_DIMENSIONS = 16
_MOST_ELEMENTS = 1 << 60  # not counting empty dimensions, like torch when it lays out an empty tensor
_INTEGERS = {int}  # the only type of sizes and offsets; True and False are not sizes
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


@contextmanager
def gc_paused() -> Iterator[None]:
    """Parsing makes thousands of small lists and none of them is part of a cycle: collecting meanwhile would double the
    time.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


@gc_paused()
def read_safetensors_header(path: Path) -> SafetensorsHeader:
    """The tensors and metadata that a safetensors file declares: https://github.com/huggingface/safetensors#format.

    CheckpointMissing, or CheckpointDamaged for a header that is truncated, too large or not JSON, or whose tensors
    overlap, leave gaps or do not fill the file.
    """
    try:
        with reading(path):
            size = regular_file_size(path)
            with path.open("rb") as file:
                prefix = file.read(8)
                length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else size
                is_header = file.read(1) == b"{"
                if length > min(LARGEST_HEADER_BYTES, size - 8) or length < 2:
                    remedy = DOWNLOAD_AGAIN if is_header else CHOOSE_OR_DOWNLOAD
                    raise damaged(path, "its header does not fit the file", _FORMAT, remedy)
                file.seek(8)
                header = _json_object(file.read(length))
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"its header cannot be read: {why_unreadable(error)}") from error
    metadata: Any = header.pop("__metadata__", {}) or {}
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _damaged(path, "its metadata is not all text")
    tensors = {name: _entry(path, name, value) for name, value in header.items()}
    reached = 0
    for entry in sorted(tensors.values(), key=lambda entry: (entry.start, entry.end)):
        if entry.start != reached:
            raise _damaged(path, "its tensors overlap or leave gaps")
        reached = entry.end
    if 8 + length + reached != size:
        raise _damaged(path, "its tensors do not fill the file exactly: it is truncated or has extra bytes")
    return SafetensorsHeader(tensors, metadata, 8 + length)


def _json_object(text: bytes) -> dict[str, Any]:
    """A JSON object without duplicate keys and without lone surrogates.

    Checking every key takes half as long again as parsing, so it is done only where there may be a duplicate.
    """
    parsed: object = json.loads(text)
    if not isinstance(parsed, dict):
        raise UnexpectedValue(NOT_A_JSON_OBJECT)
    table: dict[str, Any] = parsed
    counts = {text.count(name) for name in (b'"dtype"', b'"shape"', b'"data_offsets"')}
    if counts != {len(table) - (b'"__metadata__"' in text)} or b"\\u" in text or text.count(b'"__metadata__"') > 1:
        table = json.loads(text, object_pairs_hook=_without_duplicates)
    if _SURROGATE.search(text) is not None:
        json.dumps(table, ensure_ascii=False).encode()
    return table


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise UnexpectedValue("a key in it occurs twice")
    return table


def _entry(path: Path, name: str, value: Any) -> TensorEntry:
    incomplete = f"tensor {name[:80]!r} has no dtype, shape or offsets"
    try:
        dtype, shape, (start, end) = value["dtype"], value["shape"], value["data_offsets"]
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, incomplete) from error
    if (
        type(shape) is not list
        or len(shape) > _MOST_DIMENSIONS
        or {type(start), type(end), *map(type, shape)} != _INTEGERS
    ):
        raise _damaged(path, incomplete)
    if start < 0 or shape and min(shape) < 0:
        raise _damaged(path, f"tensor {name[:80]!r} has a negative dimension")
    if start == end and prod(filter(None, shape)) > _MOST_ELEMENTS:
        raise _damaged(path, f"tensor {name[:80]!r} has an impossible shape")
    bits = DTYPE_BITS.get(dtype) if isinstance(dtype, str) else None
    if bits is None or end < start or (bits * prod(shape) + 7) // 8 != end - start:
        raise _damaged(path, f"tensor {name[:80]!r} does not have the size that it declares")
    return TensorEntry(dtype, tuple(shape), start, end)


def _damaged(path: Path, why: str) -> CheckpointDamaged:
    return damaged(path, why, _FORMAT)
