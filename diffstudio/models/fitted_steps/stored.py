"""Reads and writes the fitted steps of a checkpoint. No torch."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from diffstudio import paths
from diffstudio.atomic import atomic_write, free_name, write_text
from diffstudio.atomic import replace as replace_file
from diffstudio.errors import unreadable
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.types import Layout
from diffstudio.models.files.safetensors_header import read_safetensors_header
from diffstudio.models.fitted_steps.ladders import NONE, FittedSteps, Ladder, from_json
from diffstudio.storage_errors import storage_errors

KEY = "diffstudio.fitted_steps"  # in the header
IN_FOLDER, BESIDE = "fitted_steps.json", ".steps.json"
_LARGEST_BYTES = 4 << 20
_ALIGNMENT = 8  # bytes, alignment of the tensor data


def fitted_steps(checkpoint: Checkpoint) -> FittedSteps:
    """The ladders of a checkpoint, from the file next to it and from its header; the file takes precedence.

    Those that the user fitted to an included checkpoint take precedence over those that it came with. Cheap enough for the
    window: a file is read again only if it has changed.
    """
    found = from_json(checkpoint.metadata[KEY]) if KEY in checkpoint.metadata else NONE
    for path in dict.fromkeys((_path_beside(checkpoint), sidecar_path(checkpoint))):
        more = _beside(path)
        found = FittedSteps(found.with_ladders(more.ladders).ladders, found.problem or more.problem)
    return found


def sidecar_path(checkpoint: Checkpoint) -> Path:
    """The file for new ladders that are not stored in the header."""
    beside = _path_beside(checkpoint)
    return paths.steps_of_included() / beside.name if checkpoint.is_included else beside


def _path_beside(checkpoint: Checkpoint) -> Path:
    path = checkpoint.path
    return path / IN_FOLDER if checkpoint.layout is Layout.FOLDER else path.with_name(path.stem + BESIDE)


def is_in_header(checkpoint: Checkpoint) -> bool:
    """Whether new ladders are written into the checkpoint's own file, as for checkpoints trained here.

    Files that are included in the program are not changed, nor is anything put beside them.
    """
    return checkpoint.layout is Layout.OURS and not checkpoint.is_included


def store(checkpoint: Checkpoint, ladders: Iterable[Ladder]) -> Path:
    """Add new ladders to those of a checkpoint; returns the file. StorageProblem if that fails.

    The weights are not changed, byte for byte. A file of ladders that cannot be read is kept as `<name>.damaged`.
    """
    path = sidecar_path(checkpoint)
    if not is_in_header(checkpoint):
        known, failed = _beside(path), _not_kept(checkpoint, path)
        if known.problem:
            with storage_errors(failed, path.parent):
                replace_file(path, free_name(path.with_name(path.name + ".damaged")))
        with storage_errors(failed, path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, known.with_ladders(ladders).to_json() + "\n", failed)
        return path
    header = read_safetensors_header(checkpoint.path)
    known = from_json(header.metadata.get(KEY, NONE.to_json()))
    rewrite_metadata(checkpoint.path, {KEY: known.with_ladders(ladders).to_json()}, _not_kept(checkpoint, path))
    return checkpoint.path


def rewrite_metadata(path: Path, values: dict[str, str], what: str) -> None:
    """Set values in the header of a safetensors file, which is replaced atomically. `what` describes a failure.

    The tensors are copied byte for byte. StorageProblem, CheckpointDamaged.
    """
    begins = read_safetensors_header(path).data_start
    with path.open("rb") as file, atomic_write(path, what) as target:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        header["__metadata__"] = {**header.get("__metadata__", {}), **values}
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        text += b" " * (-len(text) % _ALIGNMENT)
        target.write(struct.pack("<Q", len(text)) + text)
        file.seek(begins)
        shutil.copyfileobj(file, target, 1 << 20)


def _beside(path: Path) -> FittedSteps:
    try:
        stat = path.stat()
    except OSError:  # usually there is no such file
        return NONE
    return _read(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=64)
def _read(path: Path, modified: int, size: int) -> FittedSteps:
    if size > _LARGEST_BYTES:
        return FittedSteps(problem=f"{path.name} is too large")
    try:
        return from_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        return FittedSteps(problem=unreadable(error))
    except UnicodeDecodeError:
        return FittedSteps(problem="they are damaged: not UTF-8 text")


def _not_kept(checkpoint: Checkpoint, path: Path) -> str:
    return f"The fitted steps of {checkpoint.name} cannot be saved in {path.parent}"
