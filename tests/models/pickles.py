"""Pickles as PyTorch writes them, and as nobody should: written instruction by instruction."""

from __future__ import annotations

import os
import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MARK, STOP, REDUCE, TUPLE, EMPTY_TUPLE = b"(", b".", b"R", b"t", b")"
RAN = "a-pickle-ran"  # what those below would leave behind, in the folder where the tests run


class Call:
    """Pickled, it calls `what` with `args` when it is opened."""

    def __init__(self, what: Any, *args: Any) -> None:
        self._reduced = what, args

    def __reduce__(self) -> Any:
        return self._reduced


def attack() -> Call:
    return Call(os.system, f"touch {RAN}")


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def imported(module: str, name: str) -> bytes:
    return b"c" + module.encode() + b"\n" + name.encode() + b"\n"


def called(function: bytes, *args: bytes) -> bytes:
    return function + MARK + b"".join(args) + TUPLE + REDUCE


def zipped(
    path: Path, root: bytes, members: Mapping[str, bytes] | None = None, *, compression: int = zipfile.ZIP_STORED
) -> Path:
    """A zip file laid out as PyTorch's, around any pickle."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", root)
        archive.writestr("archive/version", "3\n")
        for name, data in (members or {}).items():
            archive.writestr(name, data)
    return path


def tensor(
    key: str = "0",
    numbers: int = 4,
    offset: int = 0,
    size: tuple[Any, ...] = (4,),
    stride: tuple[Any, ...] = (1,),
    kind: str = "FloatStorage",
) -> bytes:
    """`_rebuild_tensor_v2(storage, offset, size, stride, False, OrderedDict())`, in protocol 2."""

    def whole(value: Any) -> bytes:
        return pickle.dumps(value, 2)[2:-1]

    storage = MARK + text("storage") + imported("torch", kind) + text(key) + text("cpu") + whole(numbers) + TUPLE + b"Q"
    return called(
        imported("torch._utils", "_rebuild_tensor_v2"),
        storage,
        whole(offset),
        whole(size),
        whole(stride),
        b"\x89",
        imported("collections", "OrderedDict") + EMPTY_TUPLE + REDUCE,
    )


def table(**values: bytes) -> bytes:
    """A whole pickle of one table."""
    return b"\x80\x02}" + MARK + b"".join(text(name) + value for name, value in values.items()) + b"u" + STOP
