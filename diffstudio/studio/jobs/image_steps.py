"""The denoising steps of one finished image, in a file: its previews, and the estimates that a restart replays.

The file is an `.npz`: a ZIP archive, whose checksums tell damage, of NumPy arrays. `about` is JSON as bytes,
`preview-0001` a WebP image as bytes (after step 1), `estimate-0001` the x_0 estimate [C,h,w] of the first network call.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diffstudio.atomic import atomic_write
from diffstudio.errors import BadRequest, StorageProblem, wrong_format
from diffstudio.studio.events import Picture
from diffstudio.studio.jobs.recording import BatchRecord, Recording
from diffstudio.studio.requests import GenerateRequest, PictureRequest, TrainRequest, request_from_json

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1
NOT_KEPT = "The steps of this image could not be kept"
_LOSSLESS_SIDE = 128  # px; larger previews are compressed with losses that nobody sees
_LARGEST_SIDE = 1024  # px of a preview that is read; they are written with at most 512
_MOST_STEPS = 100_000


@dataclass(frozen=True, slots=True)
class ImageSteps:
    """How one image came to be, step by step."""

    request: PictureRequest  # for this image alone: its own seed, count 1, files by their paths
    steps: int  # over all passes
    previews: tuple[Picture | None, ...]  # after step 1, 2, …; None where there is none
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

    FileNotFoundError without a file; StorageProblem when it is damaged, or of a newer program.
    """
    path.stat()  # FileNotFoundError
    with _damage(), _open(path) as archive:
        about = json.loads(archive["about"].tobytes())
        if about["format"] != FORMAT:
            raise ValueError(wrong_format(about["format"], FORMAT))
        request, count = request_from_json(about["request"]), _whole(about["steps"], 1, _MOST_STEPS)
        if isinstance(request, TrainRequest):
            raise ValueError("it is not about an image")
        stored = sum(name.startswith("estimate-") for name in archive.files)
        calls_after = tuple(_whole(calls, 0, stored) for calls in about["calls_after"])
        previews = _previews(archive, count)
        return ImageSteps(request, count, previews, calls_after, _estimates(archive, stored) if estimates else ())


def _open(path: Path) -> np.lib.npyio.NpzFile:
    if not zipfile.is_zipfile(path):
        raise ValueError("it is damaged")
    archive: np.lib.npyio.NpzFile = np.load(path, allow_pickle=False)
    return archive


def _previews(archive: Mapping[str, NDArray[Any]], count: int) -> tuple[Picture | None, ...]:
    names = {f"preview-{number:04}": number for number in range(1, count + 1)}
    kept = [number for name, number in names.items() if name in archive]
    if not kept:
        raise ValueError("it holds no previews")
    return tuple(
        _picture(archive[f"preview-{number:04}"]) if number in kept else None for number in range(1, max(kept) + 1)
    )


def _estimates(archive: Mapping[str, NDArray[Any]], count: int) -> tuple[Tensor, ...]:
    import torch

    return tuple(torch.from_numpy(archive[f"estimate-{number:04}"]) for number in range(1, count + 1))


def _picture(data: NDArray[Any]) -> Picture:
    with Image.open(io.BytesIO(data.tobytes()), formats=("WEBP",)) as image:
        if max(image.size) > _LARGEST_SIDE:
            raise ValueError("a preview is too large")
        return np.array(image.convert("RGB"))


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
        raise ValueError(f"{str(value)[:40]} is not a number from {lowest} to {highest}")
    return value


@contextmanager
def _damage() -> Iterator[None]:
    """Whatever NumPy, Pillow or JSON say about a damaged file, as a StorageProblem."""
    try:
        yield
    except FileNotFoundError:
        raise
    except BadRequest as error:
        raise _unreadable(str(error).rstrip(".")) from error
    except (OSError, ValueError, KeyError, TypeError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise _unreadable(str(error)[:200] or type(error).__name__) from error


def _unreadable(why: str) -> StorageProblem:
    return StorageProblem("The steps of this image cannot be read", why)
