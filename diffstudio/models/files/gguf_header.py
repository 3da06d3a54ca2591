"""Read the header of a GGUF file: names, shapes and quantization types of its tensors, and its metadata.

No weights, no torch.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Numbers are little-endian; the dimensions of a
shape are stored in reverse.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import BinaryIO

from diffstudio.errors import CheckpointUnknown
from diffstudio.models.files.file_access import CHOOSE_OR_DOWNLOAD, TRUNCATED, damaged, reading, regular_file_size

TYPES = {
    0: "F32",
    1: "F16",
    2: "Q4_0",
    3: "Q4_1",
    6: "Q5_0",
    7: "Q5_1",
    8: "Q8_0",
    9: "Q8_1",
    10: "Q2_K",
    11: "Q3_K",
    12: "Q4_K",
    13: "Q5_K",
    14: "Q6_K",
    15: "Q8_K",
    16: "IQ2_XXS",
    17: "IQ2_XS",
    18: "IQ3_XXS",
    19: "IQ1_S",
    20: "IQ4_NL",
    21: "IQ3_S",
    22: "IQ2_S",
    23: "IQ4_XS",
    24: "I8",
    25: "I16",
    26: "I32",
    27: "I64",
    28: "F64",
    29: "IQ1_M",
    30: "BF16",
    34: "TQ1_0",
    35: "TQ2_0",
    39: "MXFP4",
}
_NUMBERS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_LANGUAGE_MODELS = (
    "t5",
    "t5encoder",
    "llama",
    "clip",
    "gemma2",
    "gemma3",
    "qwen2",
    "qwen2vl",
    "qwen25vl",
    "qwen3",
    "qwen3vl",
)
_MOST_TENSORS, _MOST_ENTRIES, _LONGEST_NAME, _LONGEST_TEXT = 50_000, 20_000, 4096, 1 << 20
_MOST_TEXTS = 400_000  # in all lists together; the largest vocabularies have 260,000 tokens
_MOST_TEXT_BYTES = 32 << 20  # that are kept
_ORIGINAL_SHAPE = "comfy.gguf.orig_shape."  # of a convolution that was reshaped to fit into blocks


@dataclass(slots=True)
class GgufHeader:
    architecture: str = ""
    metadata: dict[str, str] = field(default_factory=dict)  # strings, and numbers as strings; no lists
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    parameters: dict[str, int] = field(default_factory=dict)  # how many are stored in each quantization type

    @property
    def is_language_model(self) -> bool:
        """Then its tensors were not read: its vocabulary comes before them."""
        return self.architecture in _LANGUAGE_MODELS


def read_gguf_header(path: Path) -> GgufHeader:
    """CheckpointMissing, CheckpointDamaged for a header that is truncated or invalid, CheckpointUnknown for a version."""
    try:
        with reading(path):
            size = regular_file_size(path)
            with path.open("rb") as file:
                return _Reader(path, file, size).header()
    except (ValueError, struct.error) as error:
        raise damaged(path, str(error), "GGUF") from error


class _Reader:
    """Reads field after field. Every length is checked before anything is allocated for it."""

    def __init__(self, path: Path, file: BinaryIO, size: int) -> None:
        self._path, self._file, self._size = path, file, size
        self._texts_left, self._bytes_left = _MOST_TEXTS, _MOST_TEXT_BYTES

    def header(self) -> GgufHeader:
        if self._file.read(4) != b"GGUF":
            raise damaged(self._path, "it does not start with the magic bytes of GGUF", "GGUF", CHOOSE_OR_DOWNLOAD)
        if (version := self._number("<I")) not in (2, 3):
            raise CheckpointUnknown(
                f"{self._path.name} cannot be used",
                f"it has version {version} of GGUF, and only 2 and 3 are supported",
                "Download it in one of these versions",
            )
        tensors = self._limited(self._number("<Q"), _MOST_TENSORS, "tensors")
        entries = self._limited(self._number("<Q"), _MOST_ENTRIES, "entries")
        header, original = GgufHeader(), {}
        for _ in range(entries):
            key, value = self._text(_LONGEST_NAME), self._value(self._number("<I"))
            if key.startswith(_ORIGINAL_SHAPE) and isinstance(value, list):
                original[key.removeprefix(_ORIGINAL_SHAPE)] = tuple(value)
            elif isinstance(value, str):
                header.metadata[key] = value
            if key == "general.architecture" and isinstance(value, str):
                header.architecture = value
                if header.is_language_model:
                    return header
        for _ in range(tensors):
            name, shape, kind, count = self._tensor()
            if name in header.shapes:
                raise ValueError(f"two of its tensors have the name {name[:80]!r}")
            if name in original and (prod(original[name]) != count or min(original[name], default=0) < 0):
                raise ValueError(f"tensor {name[:80]!r} cannot have had its original shape")
            header.shapes[name] = original.get(name, shape)
            header.parameters[kind] = header.parameters.get(kind, 0) + count
        return header

    def _tensor(self) -> tuple[str, tuple[int, ...], str, int]:
        name = self._text(_LONGEST_NAME)
        sides = self._limited(self._number("<I"), 8, "dimensions")
        shape = tuple(self._number("<Q") for _ in range(sides))[::-1]
        kind, offset = self._number("<I"), self._number("<Q")
        count = prod(shape)
        if offset >= self._size or count >= 16 * self._size + 16:  # no type stores a weight in less than half a bit
            raise ValueError(f"tensor {name[:80]!r} does not fit the file")
        return name, shape, TYPES.get(kind, f"type {kind}"), count

    def _value(self, kind: int) -> str | list[int] | None:
        """A string, or a number as a string; a short list of integers; None for other lists."""
        if kind == _STRING:
            return self._text(_LONGEST_TEXT)
        if kind in _NUMBERS:
            return str(self._number(_NUMBERS[kind]))
        if kind != _ARRAY:
            raise ValueError(f"an entry has the unknown type {kind}")
        inner = self._number("<I")
        count = self._limited(self._number("<Q"), self._size, "list items")
        if inner == _STRING:
            self._texts_left -= count
            if self._texts_left < 0:
                raise ValueError(f"it declares {count:,} strings")
            for _ in range(count):
                self._skip(self._number("<Q"))
        elif inner in (4, 5, 10, 11) and count <= 8:
            return [self._number(_NUMBERS[inner]) for _ in range(count)]
        elif inner in _NUMBERS:
            self._skip(count * struct.calcsize(_NUMBERS[inner]))
        else:
            raise ValueError("a list has items of an invalid type")
        return None

    def _number(self, form: str) -> int:
        length = struct.calcsize(form)
        value: int = struct.unpack(form, self._bytes(length))[0]
        return value

    def _text(self, longest: int) -> str:
        length = self._limited(self._number("<Q"), longest, "bytes of a string")
        self._bytes_left -= length
        if self._bytes_left < 0:
            raise ValueError("its strings are too long")
        return self._bytes(length).decode("utf-8", "replace")

    def _bytes(self, length: int) -> bytes:
        data = self._file.read(length)
        if len(data) != length:
            raise ValueError(TRUNCATED)
        return data

    def _skip(self, length: int) -> None:
        if self._file.seek(self._limited(length, self._size, "bytes"), 1) > self._size:
            raise ValueError(TRUNCATED)

    def _limited(self, count: int, most: int, what: str) -> int:
        if count > most:
            raise ValueError(f"it declares {count:,} {what}")
        return count
