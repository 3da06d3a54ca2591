"""Lease: exclusive use of the accelerator, shared between processes by two lock files. No torch is imported here.

Generating has priority: it holds `accelerator.wanted.lock` from its request until its release. A training run holds
`accelerator.lock` alone, checks between steps whether the other lock is held, and releases the accelerator if so. The
operating system releases the locks of a process that dies, so that no lock is left behind.

    with lease.held("training emoji", cancelled=...):                    # a run
        for batch in batches:
            step(batch)
            lease.yield_if_wanted(on_wait=..., cancelled=...)

    with lease.held("generating images", cancelled=..., priority=True):  # a job
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
from diffstudio.storage_errors import storage_problem

_POLL_SECONDS = 0.02
_HOLDER, _WANTED = "accelerator.json", "accelerator.wanted.json"  # who has the lock of this name


def locks_not_writable(folder: Path, error: OSError) -> StorageProblem:
    """The error for a folder of lock files that cannot be written to."""
    what, elsewhere = f"The folder {folder} cannot be written to", "Set DIFFSTUDIO_HOME to another folder"
    when_full = "Free some space or set DIFFSTUDIO_HOME to another folder"
    return storage_problem(what, folder, error, when_full=when_full, elsewhere=elsewhere)


class Lease:
    """One client of the lease. All clients with the same `folder` compete, in one process or in several.

    Not thread-safe. StorageProblem when the folder cannot be written to.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder if folder is not None else paths.data()
        self._priority = False
        self._by = ""
        self._accelerator = self._lock("accelerator.lock")
        self._wanted = self._lock("accelerator.wanted.lock")

    @contextmanager
    def held(
        self,
        by: str,
        cancelled: Callable[[], bool] | None = None,
        *,
        priority: bool = False,
        on_wait: Callable[[], None] | None = None,
    ) -> Iterator[None]:
        """Hold the accelerator inside the `with`. With `priority`, training runs release it at their next step.

        `by` says who holds it, for display. `on_wait` is called once before waiting. Raises Interrupted when
        `cancelled()` becomes true while waiting.
        """
        self.acquire(by, cancelled, priority=priority, on_wait=on_wait)
        try:
            yield
        finally:
            self.release()

    def acquire(
        self,
        by: str,
        cancelled: Callable[[], bool] | None = None,
        *,
        priority: bool = False,
        on_wait: Callable[[], None] | None = None,
        ready: Callable[[], bool] | None = None,
    ) -> None:
        """Acquire without `with`, for a job that releases the accelerator while paused; arguments as in `held`.

        It does not try to acquire before `ready()` is true.
        """
        self._by, self._priority = by, priority
        waiting = False
        try:
            while not ((ready is None or ready()) and self._try()):
                if not waiting and on_wait is not None:
                    on_wait()
                waiting = True
                if cancelled is not None and cancelled():
                    raise Interrupted("Stopped while waiting for the accelerator")
                time.sleep(_POLL_SECONDS)
        except BaseException:  # Interrupted too: training would wait for us for ever
            self._wanted.release()
            raise
        self._write_name(_HOLDER)

    def release(self) -> None:
        """Release the accelerator; no effect when it is not held."""
        self._accelerator.release()
        self._wanted.release()

    @property
    def is_held(self) -> bool:
        """Whether this client holds the accelerator."""
        return bool(self._accelerator.is_locked)

    def wanted_by_other(self) -> bool:
        """Whether another client with priority holds or waits for the accelerator. Takes about 50 microseconds."""
        if self._wanted.is_locked:
            return False
        if not self._taken(self._wanted):
            return True
        self._wanted.release()
        return False

    def yield_if_wanted(
        self, *, on_wait: Callable[[], None] | None = None, cancelled: Callable[[], bool] | None = None
    ) -> bool:
        """Between steps: release the accelerator while a client with priority wants it. True when it was released.

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
        """Who holds the accelerator, for display; None when it is free."""
        if not self._accelerator.is_locked and self._taken(self._accelerator):
            self._accelerator.release()
            return None
        return self._read_name(_HOLDER)

    def waits_for(self) -> str | None:
        """Whom this client has to wait for, for display, also when it holds the accelerator still; None for nobody."""
        if self.wanted_by_other():
            return self._read_name(_WANTED)
        return None if self.is_held else self.holder()

    def _read_name(self, file: str) -> str:
        try:
            return str(json.loads((self._folder / file).read_text(encoding="utf-8"))["by"])
        except (OSError, ValueError, KeyError, TypeError):
            return "another job"

    def _write_name(self, file: str) -> None:
        with suppress(OSError):  # for display only
            (self._folder / file).write_text(json.dumps({"by": self._by, "pid": os.getpid()}), encoding="utf-8")

    def _try(self) -> bool:
        if not self._priority:
            return not self.wanted_by_other() and self._taken(self._accelerator)
        if not self._wanted.is_locked:
            if not self._taken(self._wanted):
                return False
            self._write_name(_WANTED)
        return self._taken(self._accelerator)

    def _lock(self, name: str) -> FileLock:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise locks_not_writable(self._folder, error) from error
        return FileLock(self._folder / name, thread_local=False, blocking=False)

    def _taken(self, lock: FileLock) -> bool:
        try:
            lock.acquire(blocking=False)
        except Timeout:
            return False
        except OSError as error:
            raise locks_not_writable(self._folder, error) from error
        return True
