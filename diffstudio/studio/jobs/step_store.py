"""The steps of finished images, kept in a cache folder up to a limit: the oldest are deleted first.

They are written in a thread, and may be deleted at any time. Every method may be called from any thread.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from diffstudio.errors import DiffstudioError, StorageProblem
from diffstudio.storage_errors import storage_errors
from diffstudio.studio.jobs.image_steps import NOT_KEPT, ImageSteps, StepsDamaged, read_steps, write_steps
from diffstudio.studio.jobs.recording import STEPS_TOO_LARGE, Recording, not_restartable
from diffstudio.studio.metadata.image_key import ImageKey

_SUFFIX = ".npz"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StepUsage:
    """What the saved steps take on the disk."""

    images: int = 0
    size_bytes: int = 0


def _ignore(sentence: str) -> None:
    """For a store whose failures nobody looks at."""


class StepStore:
    """`limit_bytes` 0 keeps nothing. `close` must be called at the end; it waits until everything is written."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.folder = folder
        self.on_problem: Callable[[str], None] = _ignore  # called with a sentence when steps could not be kept
        self._limit = limit_bytes
        self._lock = threading.RLock()
        self._waiting: dict[ImageKey, ImageSteps] = {}  # to be written
        self._failure = ""  # reported already
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="diffstudio-steps")

    def put(self, key: ImageKey, steps: ImageSteps) -> None:
        """Keep the steps of an image; they can be read at once."""
        with self._lock:
            if self._limit <= 0:
                return
            self._waiting[key] = steps
        self._thread.submit(self._write, key)

    def get(self, key: ImageKey, *, estimates: bool = False) -> ImageSteps | None:
        """The steps of an image; None when they are not kept (any more). Reads a file: not for the window's thread.

        StorageProblem when it cannot be read. Only a damaged file is deleted: one that is in use, or of a newer
        program, stays.
        """
        with self._lock:
            if key in self._waiting:
                return self._waiting[key]
        try:
            return read_steps(self._path(key), estimates=estimates)
        except FileNotFoundError:
            return None
        except StepsDamaged as error:
            with contextlib.suppress(OSError):
                self._path(key).unlink()
            raise StepsDamaged(error.what, error.why, "They were deleted; the image itself is not affected") from error

    def has(self, key: ImageKey) -> bool:
        """Whether the steps of an image are kept, or are being written."""
        with self._lock:
            return key in self._waiting or self._path(key).is_file()

    def recording(self, key: ImageKey) -> tuple[ImageSteps, Recording]:
        """What a restart of an image needs. BadRequest when its estimates are not kept, StorageProblem on damage."""
        steps = self.get(key, estimates=True)
        if steps is None or not steps.estimates:
            raise not_restartable("its steps are no longer kept" if steps is None else STEPS_TOO_LARGE)
        return steps, steps.recording()

    def usage(self) -> StepUsage:
        """How many images' steps are kept, and their size; those that are still to be written not yet."""
        files = self._files()
        return StepUsage(len(files), sum(size for _, size, _ in files))

    def settled_usage(self) -> StepUsage:
        """As `usage`, once everything that waits is written and what is too much is deleted."""
        return self._thread.submit(self.usage).result()

    def set_limit(self, limit_bytes: int) -> None:
        """Keep at most so much from now on; what is too much is deleted in the thread."""
        with self._lock:
            self._limit = limit_bytes
        self._thread.submit(self._trim)

    def remove(self, keys: Iterable[ImageKey]) -> None:
        """Delete the steps of images, where there are any."""
        for key in keys:
            with self._lock, contextlib.suppress(OSError):
                self._waiting.pop(key, None)
                self._path(key).unlink()

    def clear(self) -> None:
        """Delete everything. StorageProblem when a file cannot be deleted."""
        with self._lock, storage_errors("The saved steps could not be deleted", self.folder):
            self._waiting.clear()
            for _, _, path in self._files():
                path.unlink(missing_ok=True)

    def close(self) -> None:
        self._thread.shutdown(wait=True)

    def _write(self, key: ImageKey) -> None:
        with self._lock:
            steps = self._waiting.get(key)
        if steps is None:  # removed meanwhile
            return
        failure = ""
        try:
            with storage_errors(NOT_KEPT, self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
            write_steps(self._path(key), steps)
        except DiffstudioError as error:
            failure = str(error)
        except Exception as error:  # noqa: BLE001 - as for lack of memory: the next image's may be kept again
            _log.exception("The steps of %s could not be kept", key)
            failure = str(StorageProblem(NOT_KEPT, str(error)[:200] or type(error).__name__))
        finally:
            with self._lock:
                if self._waiting.pop(key, None) is None:  # removed while it was written
                    with contextlib.suppress(OSError):
                        self._path(key).unlink()
        if failure and failure != self._failure:
            self.on_problem(failure)
        self._failure = failure
        self._trim()

    def _trim(self) -> None:
        """Delete the oldest files until the others are within the limit."""
        files = self._files()
        used = sum(size for _, size, _ in files)
        for _, size, path in files:
            if used <= self._limit:
                return
            with contextlib.suppress(OSError):
                path.unlink()
                used -= size

    def _files(self) -> list[tuple[int, int, Path]]:
        """(time written in ns, bytes, path) of each file, the oldest first."""
        files = []
        with contextlib.suppress(OSError), os.scandir(self.folder) as entries:
            for entry in entries:
                if entry.name.endswith(_SUFFIX):
                    with contextlib.suppress(OSError):
                        stat = entry.stat()
                        files.append((stat.st_mtime_ns, stat.st_size, Path(entry.path)))
        return sorted(files)

    def _path(self, key: ImageKey) -> Path:
        return self.folder / f"{key}{_SUFFIX}"
