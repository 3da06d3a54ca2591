"""Lease: who may use the accelerator, told by two operating-system locks. No torch.

Pictures go first: whoever makes them holds `accelerator.wanted.lock` from the moment they ask until they end. A
training run holds `accelerator.lock` alone, looks at every step boundary whether somebody wants it, and steps aside if
so. The system lets go of the locks of a process that dies, so nothing is ever left behind.

    with lease.held("training emoji", cancelled=...):                  # a run
        for batch in batches:
            step(batch)
            lease.yield_if_wanted(on_wait=..., cancelled=...)

    with lease.held("making pictures", cancelled=..., pictures=True):  # goes first
        ...
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from diffstudio import paths
from diffstudio.errors import Interrupted, StorageProblem

_POLL_SECONDS = 0.02


class Lease:
    """One holder's side of the lease; several processes, or several of these in one process, compete through `folder`.

    Not for two threads at once. StorageProblem when the folder cannot be written to.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder if folder is not None else paths.data()
        self._pictures = False
        self._by = ""
        self._accelerator = self._lock("accelerator.lock")
        self._wanted = self._lock("accelerator.wanted.lock")

    @contextmanager
    def held(
        self,
        by: str,
        cancelled: Callable[[], bool] | None = None,
        *,
        pictures: bool = False,
        on_wait: Callable[[], None] | None = None,
    ) -> Iterator[None]:
        """Hold the accelerator inside the `with`. `pictures` goes before whoever is training.

        `on_wait` is called once if another holds it. Raises Interrupted when `cancelled()` becomes true while waiting.
        """
        self.acquire(by, cancelled, pictures=pictures, on_wait=on_wait)
        try:
            yield
        finally:
            self.release()

    def acquire(
        self,
        by: str,
        cancelled: Callable[[], bool] | None = None,
        *,
        pictures: bool = False,
        on_wait: Callable[[], None] | None = None,
    ) -> None:
        """What `held` does first; for a holder that lets go for a while, as a paused job does."""
        self._by, self._pictures = by, pictures
        told = False
        try:
            while not self._try():
                if not told and on_wait is not None:
                    on_wait()
                told = True
                if cancelled is not None and cancelled():
                    raise Interrupted("Stopped while waiting for the accelerator")
                time.sleep(_POLL_SECONDS)
        except BaseException:
            self._wanted.release()
            raise
        with suppress(OSError):  # for showing only
            self._holder_file.write_text(json.dumps({"by": by, "pid": os.getpid()}), encoding="utf-8")

    def release(self) -> None:
        """Let go; nothing happens when it is not held."""
        self._accelerator.release()
        self._wanted.release()

    def wanted_by_other(self) -> bool:
        """Whether pictures are waiting for, or being made with, the accelerator elsewhere: about 50 microseconds."""
        if self._wanted.is_locked:
            return False
        if not self._taken(self._wanted):
            return True
        self._wanted.release()
        return False

    def yield_if_wanted(
        self, *, on_wait: Callable[[], None] | None = None, cancelled: Callable[[], bool] | None = None
    ) -> bool:
        """At a step boundary: step aside while pictures want the accelerator. True when it waited.

        `on_wait` is called before waiting. Raises Interrupted, without the lease, when `cancelled()` becomes true.
        """
        if not self.wanted_by_other():
            return False
        if on_wait is not None:
            on_wait()
        self.release()
        self.acquire(self._by, cancelled)
        return True

    def holder(self) -> str | None:
        """Who holds the accelerator, for showing; None when it is free."""
        if not self._accelerator.is_locked and self._taken(self._accelerator):
            self._accelerator.release()
            return None
        try:
            return str(json.loads(self._holder_file.read_text(encoding="utf-8"))["by"])
        except (OSError, ValueError, KeyError, TypeError):
            return "another job"

    @property
    def _holder_file(self) -> Path:
        return self._folder / "accelerator.json"

    def _try(self) -> bool:
        if self._pictures:
            return (self._wanted.is_locked or self._taken(self._wanted)) and self._taken(self._accelerator)
        return not self.wanted_by_other() and self._taken(self._accelerator)

    def _lock(self, name: str) -> FileLock:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unwritable(error) from error
        return FileLock(self._folder / name, thread_local=False, blocking=False)

    def _taken(self, lock: FileLock) -> bool:
        try:
            lock.acquire(blocking=False)
        except Timeout:
            return False
        except OSError as error:
            raise self._unwritable(error) from error
        return True

    def _unwritable(self, error: OSError) -> StorageProblem:
        return StorageProblem(
            f"The folder {self._folder} cannot be written to",
            error.strerror or str(error),
            "Free some space or set DIFFSTUDIO_HOME to another folder",
        )
