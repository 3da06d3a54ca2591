"""The denoising steps of one finished image, in a file: its previews, and the estimates that a restart replays.

The file is an `.npz`: a ZIP archive, whose checksums tell damage, of NumPy arrays. `about` is JSON as bytes,
`preview-0001` a WebP image as bytes (after step 1), `estimate-0001` the x_0 estimate [C,h,w] of the first network call.
"""

from __future__ import annotations

import errno
import io
import json
import math
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diffstudio.atomic import atomic_write
from diffstudio.errors import BadRequest, StorageProblem, UnexpectedValue, why_unreadable, wrong_format
from diffstudio.studio.events import Picture
from diffstudio.studio.jobs.recording import BatchRecord, Recording
from diffstudio.studio.requests import GenerateRequest, PictureRequest, TrainRequest, request_from_json

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1
NOT_KEPT = "The steps of this image could not be kept"
_LOSSLESS_SIDE = 128  # px; larger previews are compressed with losses that nobody sees
_LARGEST_SIDE = 1024  # px of a preview that is read; they are written with at most 512
_LARGEST_BYTES = 2 << 30  # of all arrays; a recording has at most 512 MiB, doubled where it is written as float32
_MOST_STEPS = 100_000
_NOT_READ = "The steps of this image cannot be read"
_OF_THE_CONTENT = (
    ArithmeticError,
    AttributeError,
    EOFError,
    Image.DecompressionBombError,
    LookupError,
    RuntimeError,  # RecursionError and NotImplementedError too
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


class StepsDamaged(StorageProblem):
    """The file holds something else than what this program wrote."""


@dataclass(frozen=True, slots=True)
class ImageSteps:
    """How one image came to be, step by step."""

    request: PictureRequest  # for this image alone: its own seed, count 1, files by their paths
    steps: int  # over all passes
    previews: tuple[Picture | None, ...]  # after steps 1, 2, …, or None
    calls_after: tuple[int, ...] = ()  # [i]: the number of estimates up to step i + 1
    estimates: tuple[Tensor, ...] = ()  # each [C,h,w]; empty where they were not read, or not kept

    def recording(self) -> Recording:
        """The recording of a job that makes this image alone."""
        batch = BatchRecord(0, 1, self.steps, [each[None] for each in self.estimates], list(self.calls_after))
        batch.complete = bool(self.estimates)
        return Recording([batch])


def steps_of(recording: Recording, request: PictureRequest, index: int) -> ImageSteps | None:
    """The steps of image `index` of a job that made it just now; None when they were not recorded."""
    batch = next((each for each in recording.batches if each.first <= index < each.first + each.count), None)
    steps = recording.preview_history.steps()
    previews = tuple(each[index] if index < len(each) else None for each in steps)
    if batch is None or not any(preview is not None for preview in previews):
        return None
    row = index - batch.first
    alone = request
    if isinstance(request, GenerateRequest):
        alone = replace(request, seed=request.seed + index, count=1)
    estimates = tuple(estimate[row] for estimate in batch.estimates)
    return ImageSteps(alone, batch.steps, previews, tuple(batch.calls_after) if estimates else (), estimates)


def write_steps(path: Path, steps: ImageSteps) -> None:
    """Write the file, private; whole or not at all. StorageProblem."""
    about = {
        "format": FORMAT,
        "request": steps.request.to_json(),
        "steps": steps.steps,
        "calls_after": list(steps.calls_after),
    }
    arrays: dict[str, NDArray[Any]] = {"about": _as_bytes(json.dumps(about).encode())}
    for number, preview in enumerate(steps.previews, 1):
        if preview is not None:
            arrays[f"preview-{number:04}"] = _as_bytes(_webp(preview))
    for number, estimate in enumerate(steps.estimates, 1):
        arrays[f"estimate-{number:04}"] = _as_array(estimate)
    with atomic_write(path, NOT_KEPT, private=True) as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def read_steps(path: Path, *, estimates: bool) -> ImageSteps:
    """Read the file, without its `estimates` unless they are asked for: torch reads those.

    FileNotFoundError without a file; StepsDamaged when it is damaged, and another StorageProblem when it is of a newer
    program, or cannot be read just now.
    """
    try:
        with path.open("rb") as file, _damage(), zipfile.ZipFile(file) as archive:
            _check_sizes(archive, os.fstat(file.fileno()).st_size)
            return _read(archive, estimates)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StorageProblem(_NOT_READ, error.strerror or str(error), "Try again") from error
    except MemoryError as error:
        raise StorageProblem(_NOT_READ, "there is not enough memory", "Close other programs") from error


def _read(archive: zipfile.ZipFile, estimates: bool) -> ImageSteps:
    about = json.loads(_array(archive, "about").tobytes())
    stored_format = _whole(about["format"], 1, _MOST_STEPS)
    if stored_format > FORMAT:
        raise StorageProblem(_NOT_READ, wrong_format(stored_format, FORMAT), "Update the program")
    request, count = request_from_json(about["request"]), _whole(about["steps"], 1, _MOST_STEPS)
    if isinstance(request, TrainRequest):
        raise UnexpectedValue("it is not about an image")
    stored = sum(name.startswith("estimate-") for name in archive.namelist())
    calls_after = tuple(_whole(calls, 0, stored) for calls in about["calls_after"])
    previews = _previews(archive, count)
    return ImageSteps(request, count, previews, calls_after, _estimates(archive, stored) if estimates else ())


def _check_sizes(archive: zipfile.ZipFile, size_bytes: int) -> None:
    """Refuse what unpacks to more than the file itself holds: it is written without compression. ValueError."""
    entries = archive.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise UnexpectedValue("it is compressed")
    if sum(entry.file_size for entry in entries) > min(size_bytes, _LARGEST_BYTES):
        raise UnexpectedValue("its arrays are too large")


def _array(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    """An array of the archive, whose shape is checked before NumPy makes room for it. ValueError, or what NumPy raises."""
    with archive.open(f"{name}.npy") as file:
        if np.lib.format.read_magic(file) != (1, 0):
            raise UnexpectedValue(f"{name} is not an array that this program wrote")
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        if dtype.hasobject:
            raise UnexpectedValue(f"{name} holds Python objects, which are never loaded")
        if math.prod(shape) * dtype.itemsize > archive.getinfo(f"{name}.npy").file_size:
            raise UnexpectedValue(f"{name} is not complete")
        file.seek(0)
        array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    return array


def _previews(archive: zipfile.ZipFile, count: int) -> tuple[Picture | None, ...]:
    names = set(archive.namelist())
    kept = {number for number in range(1, count + 1) if f"preview-{number:04}.npy" in names}
    if not kept:
        raise UnexpectedValue("it holds no previews")
    return tuple(
        _picture(_array(archive, f"preview-{number:04}").tobytes()) if number in kept else None
        for number in range(1, max(kept) + 1)
    )


def _estimates(archive: zipfile.ZipFile, count: int) -> tuple[Tensor, ...]:
    import torch

    return tuple(torch.from_numpy(_array(archive, f"estimate-{number:04}")) for number in range(1, count + 1))


def _picture(data: bytes) -> Picture:
    if max(_webp_size(data)) > _LARGEST_SIDE:
        raise UnexpectedValue("a preview is too large")
    try:
        with Image.open(io.BytesIO(data), formats=("WEBP",)) as image:
            return np.array(image.convert("RGB"))
    except OSError as error:  # of the content: no file is read here
        raise UnexpectedValue(str(error)) from error


def _webp_size(data: bytes) -> tuple[int, int]:
    """Width and height in the header of a WebP image (RFC 9649), before Pillow makes room for its pixels. ValueError."""
    if data[:4] == b"RIFF" and data[8:16] == b"WEBPVP8 ":
        width, height = data[26:28], data[28:30]
        return int.from_bytes(width, "little") & 0x3FFF, int.from_bytes(height, "little") & 0x3FFF
    if data[:4] == b"RIFF" and data[8:16] == b"WEBPVP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    raise UnexpectedValue("a preview is not a WebP image without extensions")


def _webp(preview: Picture) -> bytes:
    buffer = io.BytesIO()
    lossless = max(preview.shape[:2]) <= _LOSSLESS_SIDE
    Image.fromarray(preview).save(buffer, "WEBP", quality=90, method=2, lossless=lossless)
    return buffer.getvalue()


def _as_bytes(data: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(data, np.uint8)


def _as_array(estimate: Tensor) -> NDArray[Any]:
    if str(estimate.dtype) == "torch.bfloat16":  # NumPy has none; every value of it is a float32 too
        estimate = estimate.float()
    array: NDArray[Any] = estimate.contiguous().numpy()
    return array


def _whole(value: object, lowest: int, highest: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
        raise UnexpectedValue(f"{str(value)[:40]} is not a number from {lowest} to {highest}")
    return value


@contextmanager
def _damage() -> Iterator[None]:
    """Whatever NumPy, Pillow, zipfile or JSON raise for what a file holds, as StepsDamaged. Not what reading it raises."""
    try:
        yield
    except BadRequest as error:
        raise StepsDamaged(_NOT_READ, str(error).rstrip(".")) from error
    except _OF_THE_CONTENT as error:
        raise StepsDamaged(_NOT_READ, why_unreadable(error)) from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # a position in the archive that cannot be
            raise
        raise StepsDamaged(_NOT_READ, "it is damaged") from error
