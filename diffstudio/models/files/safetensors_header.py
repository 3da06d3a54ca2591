"""The header of a safetensors file: tensors and metadata, checked against the file. No weights, no torch."""

from __future__ import annotations

import gc
import json
import re
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from diffstudio.errors import CheckpointDamaged, CheckpointMissing


class TensorEntry(NamedTuple):
    """A tensor as a safetensors header declares it."""

    dtype: str
    shape: tuple[int, ...]
    start: int  # bytes from the end of the header
    end: int


LARGEST_HEADER_BYTES = (
    32 << 20
)  # safetensors allows 100 MB, which no published file comes near and which would take seconds
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


_MOST_SIDES = 16  # of a tensor
_MOST_NUMBERS = 1 << 60  # in one, leaving out sides of nothing, as torch does when it lays out an empty one
_WHOLE = {int}  # the types of what counts, without True and False
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


@contextmanager
def gc_paused() -> Iterator[None]:
    """Thousands of small lists and tables are made, none of them in a circle: to look for circles meanwhile takes as long again."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


@gc_paused()
def read_header(path: Path) -> tuple[dict[str, TensorEntry], dict[str, str]]:
    """The tensors and the metadata that a safetensors file declares, checked against the file's size.

    Raises CheckpointMissing, or CheckpointDamaged for a header that is cut short, too large, not JSON, or whose
    tensors overlap, leave holes, or do not fit the file: https://github.com/huggingface/safetensors#format.
    """
    try:
        size = regular_file_size(path)
        with path.open("rb") as file:
            prefix = file.read(8)
            length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else size
            if length > min(LARGEST_HEADER_BYTES, size - 8) or length < 2:
                raise _damaged(path, "its header does not fit the file")
            header = _table(file.read(length))
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointMissing(
            f"There is no checkpoint at {path}", remedy="Check the name, or choose another"
        ) from None
    except OSError as error:
        raise _damaged(path, f"it cannot be read ({(error.strerror or str(error)).lower()})") from error
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"its header cannot be read ({str(error)[:200]})") from error
    metadata: Any = header.pop("__metadata__", {}) or {}
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _damaged(path, "its metadata is not text")
    tensors = {name: _entry(path, name, value) for name, value in header.items()}
    reached = 0
    for entry in sorted(tensors.values(), key=lambda entry: (entry.start, entry.end)):
        if entry.start != reached:
            raise _damaged(path, "its tensors overlap or leave holes")
        reached = entry.end
    if 8 + length + reached != size:
        raise _damaged(path, "its tensors do not fill the file exactly: it was cut short or added to")
    return tensors, metadata


def _table(text: bytes) -> dict[str, Any]:
    """JSON in which no name of an object occurs twice, and no text is none.

    To look at each name takes half as long again as to read it, so where there can be no doubt it is not done.
    """
    table = json.loads(text)
    if not isinstance(table, dict):
        raise ValueError("it is not a table")
    counts = {text.count(name) for name in (b'"dtype"', b'"shape"', b'"data_offsets"')}
    if counts != {len(table) - (b'"__metadata__"' in text)} or b"\\u" in text or text.count(b'"__metadata__"') > 1:
        table = json.loads(text, object_pairs_hook=_once)
    if _SURROGATE.search(text) is not None:
        json.dumps(table, ensure_ascii=False).encode()
    return table


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a name in it occurs twice")
    return table


def regular_file_size(path: Path) -> int:
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):  # opening a pipe would wait for ever
        raise CheckpointDamaged(
            f"{path.name} is no file of weights",
            "it is a folder" if stat.S_ISDIR(about.st_mode) else "it is not a plain file",
            "Choose another",
        )
    return about.st_size


def _entry(path: Path, name: str, value: Any) -> TensorEntry:
    try:
        dtype, shape, (start, end) = value["dtype"], value["shape"], value["data_offsets"]
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, f"tensor {name[:80]!r} is not described") from error
    if type(shape) is not list or len(shape) > _MOST_SIDES or {type(start), type(end), *map(type, shape)} != _WHOLE:
        raise _damaged(path, f"tensor {name[:80]!r} is not described")
    if start < 0 or shape and min(shape) < 0:
        raise _damaged(path, f"tensor {name[:80]!r} has a negative side")
    if start == end and prod(filter(None, shape)) > _MOST_NUMBERS:
        raise _damaged(path, f"tensor {name[:80]!r} has sides without end")
    bits = DTYPE_BITS.get(dtype) if isinstance(dtype, str) else None
    if bits is None or end < start or (bits * prod(shape) + 7) // 8 != end - start:
        raise _damaged(path, f"tensor {name[:80]!r} does not have the size it declares")
    return TensorEntry(dtype, tuple(shape), start, end)


def _damaged(path: Path, why: str) -> CheckpointDamaged:
    return CheckpointDamaged(
        f"{path.name} is damaged or not a safetensors file", why, "Get it again from where it came"
    )
