"""What hostile weights files are built from, byte by byte, and how they have to be refused."""

from __future__ import annotations

import json
import struct
import sys
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from diffstudio.errors import CheckpointDamaged, DiffstudioError

# Of the processor, a few times what is needed: that there is a bound, not how fast it is. Coverage slows bytecode down.
SECONDS, MEGABYTES = 3.0 if sys.gettrace() is None else 15.0, 64


def refused(act: Callable[[], object], kind: type[DiffstudioError] = CheckpointDamaged) -> str:
    """The message of the error, which has to come soon and in little memory."""
    began = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(kind) as raised:
            act()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert time.process_time() - began < SECONDS and peak < MEGABYTES << 20
    return str(raised.value)


def safetensors_entry(begin: int = 0, end: int = 8, shape: Any = (2,), dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape) if isinstance(shape, tuple) else shape, "data_offsets": [begin, end]}


def safetensors_file(text: bytes | dict[str, Any], data: int = 8, length: int | None = None) -> bytes:
    """With `data` zero bytes after the header; `length` is the declared length of the header."""
    written = text if isinstance(text, bytes) else json.dumps(text).encode()
    return struct.pack("<Q", len(written) if length is None else length) + written + bytes(data)


def gguf_string(value: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(value) if length is None else length) + value


def gguf_file(tensors: int, entries: int, *parts: bytes, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, entries) + b"".join(parts)


def gguf_entry(key: bytes, kind: int, value: bytes) -> bytes:
    return gguf_string(key) + struct.pack("<I", kind) + value


def gguf_list(key: bytes, kind: int, count: int, values: bytes = b"") -> bytes:
    return gguf_entry(key, 9, struct.pack("<IQ", kind, count) + values)


def gguf_tensor(name: bytes = b"a", sides: tuple[int, ...] = (8,), kind: int = 0, offset: int = 0) -> bytes:
    return gguf_string(name) + struct.pack(f"<I{len(sides)}QIQ", len(sides), *sides, kind, offset)
