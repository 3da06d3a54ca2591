"""Read the tensors of any checkpoint lazily, and write safetensors files one tensor at a time, whatever their size.

Files are written atomically and never overwrite another file.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import struct
from collections.abc import Generator, Mapping, Sequence
from functools import partial
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import torch
from torch import Tensor

from diffstudio.atomic import atomic_write
from diffstudio.errors import FREE_SPACE_OR_FOLDER, BadRequest, CheckpointDamaged, CheckpointUnknown, StorageProblem
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.types import Layout
from diffstudio.models.files.file_access import refused
from diffstudio.models.files.folder_check import check_folder
from diffstudio.models.files.formats import PICKLES, SAFETENSORS, WeightsFormat, variant, weights_format
from diffstudio.models.files.lazy_tensor import lazy, materialize
from diffstudio.models.files.safetensors_header import TensorEntry, read_safetensors_header
from diffstudio.models.files.weights_reader import TORCH_DTYPES, PickleWeights
from diffstudio.models.state_dicts.to_original import State
from diffstudio.models.tools.spec import SPARE_BYTES
from diffstudio.paths import valid_utf8
from diffstudio.plurals import human_bytes
from diffstudio.storage_errors import already_exists, storage_errors

Metadata = Mapping[str, str]
_NAMES = {dtype: name for name, dtype in TORCH_DTYPES.items()}


# ---- reading ---------------------------------------------------------------------------------------------------------


class Weights:
    """The tensors of a checkpoint, lazy until `lazy_tensor.materialize` reads them. A context manager."""

    def __init__(self, tensors: State, metadata: Metadata, files: contextlib.ExitStack) -> None:
        self.tensors, self.metadata, self._files = tensors, metadata, files

    def __enter__(self) -> Weights:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.close()


def open_checkpoint(checkpoint: Checkpoint) -> Weights:
    """Open a file or a diffusers folder, whose keys get `unet.` and the like as prefixes.

    CheckpointUnknown for GGUF files and unknown number formats, and whatever reading the file raises.
    """
    match checkpoint.layout:
        case Layout.GGUF:
            raise CheckpointUnknown(
                f"{checkpoint.name} is a GGUF file",
                "tools cannot change packed weights",
                "Use the safetensors file it was made from",
            )
        case Layout.PICKLE:
            files = contextlib.ExitStack()
            return Weights(_pickled(checkpoint.path, files), {}, files)
        case Layout.FOLDER:
            check_folder(checkpoint.path)
            return _opened(_component_files(checkpoint.path))
        case _:
            return _opened([("", checkpoint.path)])


def _pickled(path: Path, files: contextlib.ExitStack, prefix: str = "") -> State:
    file = files.enter_context(contextlib.closing(PickleWeights(path)))
    return {
        prefix + name: lazy(entry.shape, TORCH_DTYPES[entry.dtype], partial(file.get_tensor, name))
        for name, entry in file.scan.tensors.items()
    }


def _opened(paths: Sequence[tuple[str, Path]]) -> Weights:
    tensors: dict[str, Tensor] = {}
    metadata: dict[str, str] = {}
    with contextlib.ExitStack() as files:
        for prefix, path in paths:
            if weights_format(path) is WeightsFormat.PICKLE:
                tensors |= _pickled(path, files, prefix)
                continue
            header = read_safetensors_header(path)
            metadata |= {} if prefix else header.metadata
            try:
                file = files.enter_context(FileIO(path))
            except OSError as error:
                raise refused(path, error) from error
            for name, entry in header.tensors.items():
                if entry.dtype not in TORCH_DTYPES:
                    raise CheckpointUnknown(f"{path.name} uses an unsupported number format", entry.dtype)
                tensors[prefix + name] = lazy(
                    entry.shape, TORCH_DTYPES[entry.dtype], partial(_read, path, file, header.data_start, entry)
                )
        return Weights(tensors, metadata, files.pop_all())


def _component_files(folder: Path) -> list[tuple[str, Path]]:
    """Each component's weight files: all shards of the plain variant, else of the first; pickles only without
    safetensors.
    """
    found: list[tuple[str, Path]] = []
    for component in sorted(path for path in folder.iterdir() if path.is_dir()):
        every = sorted(component.iterdir())
        files = [path for path in every if path.suffix in SAFETENSORS] or [
            path for path in every if path.suffix in PICKLES
        ]
        chosen = min((variant(path) for path in files), default="")
        found += [(f"{component.name}.", path) for path in files if variant(path) == chosen]
    if not found:
        raise CheckpointUnknown(
            f"{folder.name} holds no weights", "it has neither safetensors files nor pickles", "Download it again"
        )
    return found


def _read(path: Path, file: FileIO, start: int, entry: TensorEntry) -> Tensor:
    """One tensor, read rather than mapped into memory, so that it is freed with the tensor."""
    raw = torch.empty(entry.end - entry.start, dtype=torch.uint8)
    view, done = _bytes(raw), 0
    try:
        file.seek(start + entry.start)
        while done < len(view):
            count = file.readinto(view[done:])
            if not count:
                raise OSError("it ends too early")
            done += count
    except OSError as error:
        raise refused(path, error) from error
    return raw.view(TORCH_DTYPES[entry.dtype]).reshape(entry.shape)


# ---- writing ---------------------------------------------------------------------------------------------------------


def size_of(tensors: State) -> int:
    """Bytes of all tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def check_target(target: Path, size_bytes: int) -> None:
    """Check that a file of this size can be written. BadRequest where `target` exists; StorageProblem."""
    with storage_errors(f"{target} cannot be written", target.parent):
        if os.path.lexists(target):
            raise already_exists(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(target.parent).free
    if free < size_bytes + SPARE_BYTES:
        raise StorageProblem(
            f"{target.name} would not fit on the disk",
            f"it takes {human_bytes(size_bytes)}, and {human_bytes(free)} are free at {target.parent}",
            FREE_SPACE_OR_FOLDER,
        )


def write_file(path: Path, tensors: State, metadata: Metadata) -> Generator[float, None, None]:
    """Write a safetensors file, and yield the share that is written, 0 to 1. Closing it early leaves nothing behind.

    BadRequest, StorageProblem; CheckpointDamaged for NaN values.
    """
    check_target(path, size_of(tensors))
    with atomic_write(path, overwrite=False) as file:
        yield from write_tensors(file, path.name, tensors, metadata)


def write_tensors(file: BinaryIO, name: str, tensors: State, metadata: Metadata) -> Generator[float, None, None]:
    """Write the contents of a safetensors file, named `name` in errors; the widest dtypes first, so that all are
    aligned.

    Yields the share that is written, 0 to 1.
    """
    order = sorted(tensors, key=lambda key: (-tensors[key].element_size(), key))
    header: dict[str, object] = (
        {"__metadata__": {key: valid_utf8(value) for key, value in metadata.items()}} if metadata else {}
    )
    end, whole = 0, max(1, size_of(tensors))
    for key in order:
        start, end = end, end + tensors[key].numel() * tensors[key].element_size()
        header[key] = {
            "dtype": _NAMES[tensors[key].dtype],
            "shape": list(tensors[key].shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write(struct.pack("<Q", len(text)) + text)
    done = 0
    for key in order:
        yield done / whole
        real = materialize(tensors[key])
        if real.is_floating_point() and bool(_is_nan(real)):
            raise CheckpointDamaged(
                f"{name} was not written",
                f"{key[:200]} contains NaN values",
                "Choose another file: this one is damaged, or its training diverged",
            )
        file.write(_bytes(real))
        done += real.numel() * real.element_size()
    yield 1.0


def within_range(name: str, before: Tensor, exact: Tensor, others: Sequence[Tensor] = ()) -> Tensor:
    """What a tool has computed from `before` and `others`, in the dtype of `before`. BadRequest for values beyond its range.

    NaN that is in one of them already is refused where it is written.
    """
    fits = exact.abs() <= torch.finfo(before.dtype).max
    if not fits.all():
        fits |= ~torch.isfinite(_computable(before))
        for other in others:
            fits |= _computable(other).isnan()
    if not fits.all():
        raise BadRequest(
            "The checkpoint was not written",
            f"values of {name[:200]} would be beyond the range of {str(before.dtype).removeprefix('torch.')}",
            "Choose a share or a weight nearer to 0",
        )
    return exact.to(before.dtype)


def _bytes(tensor: Tensor) -> memoryview:
    numbers: Any = tensor.contiguous().reshape(-1).view(torch.uint8).numpy()
    return memoryview(numbers)


def _is_nan(tensor: Tensor) -> Tensor:
    return torch.isnan(_computable(tensor)).any()


def _computable(tensor: Tensor) -> Tensor:
    """The tensor, or an equal one of a type that torch computes with."""
    return tensor.half() if tensor.element_size() == 1 else tensor
