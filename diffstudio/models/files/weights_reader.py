"""Read the tensors of a safetensors file or a pickle by name, each when it is needed.

A pickle is scanned first (`pickle_scan`), and its tensors are built from the scan: nothing in the file is ever called,
not even what PyTorch's own `weights_only` loading would call.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, Self

import safetensors
import torch
from torch import Tensor

from diffstudio.errors import CheckpointUnknown
from diffstudio.models.files.file_access import TRUNCATED, damaged, not_read
from diffstudio.models.files.formats import CHOOSE_ANOTHER_FILE
from diffstudio.models.files.gguf_header import GgufHeader
from diffstudio.models.files.header import Header, read_header
from diffstudio.models.files.pickle_interpreter import Unreadable
from diffstudio.models.files.pickle_scan import PickleScan, scan_pickle
from diffstudio.models.files.pickle_tensors import PickledTensor
from diffstudio.models.files.safetensors_header import SafetensorsHeader, read_safetensors_header
from diffstudio.models.files.zip_archive import ZipArchive

TORCH_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "U16": torch.uint16,
    "U32": torch.uint32,
    "U64": torch.uint64,
    "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E8M0": torch.float8_e8m0fnu,
}


class WeightsFile(Protocol):
    """An open file of tensors. Close it, or use it in a `with`."""

    path: Path
    metadata: Mapping[str, str]

    def __enter__(self) -> WeightsFile: ...

    def __exit__(self, *raised: object) -> None: ...

    def names(self) -> list[str]: ...

    def shape(self, name: str) -> tuple[int, ...]: ...

    def dtype(self, name: str) -> torch.dtype: ...

    def get_tensor(self, name: str) -> Tensor:
        """On the CPU, as stored, memory-mapped if possible. CheckpointDamaged."""

    def close(self) -> None:
        """Tensors that were returned stay valid."""


def open_weights(path: Path, header: Header | None = None) -> WeightsFile:
    """A safetensors file or a pickle, by its content. `header` is the file's, where it was read already.

    CheckpointMissing, CheckpointDamaged, CheckpointUnknown also for a GGUF file, and CheckpointDangerous for a pickle
    that would run something.
    """
    content = (header if header is not None and header.is_of(path) else read_header(path)).content
    if isinstance(content, GgufHeader):
        raise CheckpointUnknown(
            f"{path.name} is a GGUF file", "its packed weights are used for networks only", CHOOSE_ANOTHER_FILE
        )
    return PickleWeights(path, content) if isinstance(content, PickleScan) else SafetensorsWeights(path, content)


def load_weights(path: Path, header: Header | None = None) -> dict[str, Tensor]:
    """All tensors of a small file by name, as stored. Raises as `open_weights` does."""
    with open_weights(path, header) as file:
        return {name: file.get_tensor(name) for name in file.names()}


class _ContextManager(ABC):
    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None: ...


class SafetensorsWeights(_ContextManager):
    def __init__(self, path: Path, header: SafetensorsHeader | None = None) -> None:
        self.path = path
        header = header or read_safetensors_header(path)
        self._entries, self._data_start = header.tensors, header.data_start
        self.metadata: Mapping[str, str] = header.metadata
        try:
            self._file: Any = safetensors.safe_open(str(path), framework="pt")
        except RuntimeError:
            self._file = None  # larger than the address space allows to map: tensors are read one by one
        except (OSError, ValueError, safetensors.SafetensorError) as error:
            raise not_read(path, error) from error

    def names(self) -> list[str]:
        return list(self._entries)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._entries[name].shape

    def dtype(self, name: str) -> torch.dtype:
        if (dtype := TORCH_DTYPES.get(self._entries[name].dtype)) is None:
            raise CheckpointUnknown(
                f"{self.path.name} cannot be used",
                f"PyTorch has no dtype {self._entries[name].dtype}",
                "Download it in another precision",
            )
        return dtype

    def get_tensor(self, name: str) -> Tensor:
        if self._file is None:
            return self._read(name)
        try:
            tensor: Tensor = self._file.get_tensor(name)
        except (OSError, ValueError, KeyError, AttributeError, safetensors.SafetensorError) as error:
            raise not_read(self.path, error) from error
        return tensor

    def _read(self, name: str) -> Tensor:
        entry = self._entries[name]
        data = bytearray(entry.end - entry.start)
        try:
            with self.path.open("rb") as file:
                file.seek(self._data_start + entry.start)
                whole = file.readinto(data) == len(data)
        except OSError as error:
            raise not_read(self.path, error) from error
        if not whole:
            raise damaged(self.path, TRUNCATED)
        return (
            torch.frombuffer(data, dtype=self.dtype(name)).reshape(entry.shape)
            if data
            else torch.empty(entry.shape, dtype=self.dtype(name))
        )

    def close(self) -> None:
        self._file = None


class PickleWeights(_ContextManager):
    def __init__(self, path: Path, scan: PickleScan | None = None) -> None:
        self.path = path
        self.metadata: Mapping[str, str] = {}
        self.scan = scan or scan_pickle(path)
        self.scan.check()
        self._tensors = self.scan.tensors
        self._decompressed: dict[str, torch.UntypedStorage] = {}
        self._mapping: Any = None  # the memory-mapped file

    def names(self) -> list[str]:
        return list(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._tensors[name].shape

    def dtype(self, name: str) -> torch.dtype:
        return TORCH_DTYPES[self._tensors[name].dtype]

    def get_tensor(self, name: str) -> Tensor:
        tensor = self._tensors[name]
        dtype = TORCH_DTYPES[tensor.dtype]
        try:
            storage = self._storage(tensor)
            return torch.empty(0, dtype=dtype).set_(storage, tensor.offset, tensor.shape, tensor.stride)
        except (OSError, RuntimeError, Unreadable) as error:
            raise not_read(self.path, error) from error

    def close(self) -> None:
        self._decompressed.clear()
        self._mapping = None

    def _storage(self, tensor: PickledTensor) -> torch.UntypedStorage:
        stored, length = self.scan.storages[tensor.storage], tensor.storage_elements * tensor.itemsize
        if stored.start < 0:
            if stored.member not in self._decompressed:
                with self.path.open("rb") as file:
                    data = ZipArchive(file, self.path.stat().st_size).read(stored.member, stored.size_bytes)
                self._decompressed[stored.member] = _as_storage(bytearray(data))
            return self._decompressed[stored.member]
        if (whole := self._mapped()) is None:
            numbers = bytearray(length)
            with self.path.open("rb") as file:
                file.seek(stored.start)
                if file.readinto(numbers) != length:
                    raise Unreadable(TRUNCATED)
            return _as_storage(numbers)
        part: torch.UntypedStorage = whole[stored.start : stored.start + length]
        return part if stored.start % tensor.itemsize == 0 else part.clone()

    def _mapped(self) -> Any:
        """The file, mapped privately: writes stay in memory. None if it cannot be mapped."""
        if self._mapping is None:
            size = self.path.stat().st_size
            if any(one.start + one.size_bytes > size for one in self.scan.storages.values()):
                raise Unreadable("it was changed meanwhile")
            try:
                self._mapping = torch.UntypedStorage.from_file(str(self.path), False, size)
            except RuntimeError:
                return None
        return self._mapping


def _as_storage(data: bytearray) -> torch.UntypedStorage:
    return torch.frombuffer(data, dtype=torch.uint8).untyped_storage() if data else torch.UntypedStorage(0)
