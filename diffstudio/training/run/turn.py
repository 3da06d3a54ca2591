"""Turn: a first-come, first-served lock that one training run or evaluation holds at a time. No torch.

Each waiting run locks a numbered file in the folder `waiting`; the lowest number is next. The operating system releases
the lock of a process that dies, and the next process that finds its file deletes it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from diffstudio.models.memory.lease import Lease, locks_not_writable

_LOOK_SECONDS = 0.25  # between two checks whether earlier runs are still waiting


class Turn:
    """The lock as seen by one run. StorageProblem if the folder cannot be written to. Not thread-safe."""

    def __init__(self, folder: Path) -> None:
        self._lease = Lease(folder)
        self._waiting = folder / "waiting"
        self._order = FileLock(folder / "waiting.lock", thread_local=False)
        self._looked = 0.0

    @property
    def is_held(self) -> bool:
        return self._lease.is_held

    def holder(self) -> str | None:
        """The name of the run that holds the lock, for display; None if it is free."""
        return self._lease.holder()

    def release(self) -> None:
        self._lease.release()

    def acquire(
        self, by: str, cancelled: Callable[[], bool] | None = None, *, on_wait: Callable[[], None] | None = None
    ) -> None:
        """Wait until all earlier runs have finished; `on_wait` is called once before waiting.

        Interrupted if `cancelled()` becomes true while waiting.
        """
        with self._ticket() as number:
            self._looked = 0.0
            self._lease.acquire(by, cancelled, on_wait=on_wait, ready=lambda: self._is_first(number))

    @contextmanager
    def _ticket(self) -> Iterator[int]:
        """Lock a file with a number above those of all waiting runs, and yield the number."""
        try:
            self._waiting.mkdir(parents=True, exist_ok=True)
            with self._order:
                number = max(self._numbers(), default=0) + 1
                lock = FileLock(self._file(number), thread_local=False)
                lock.acquire(blocking=False)
        except OSError as error:
            raise locks_not_writable(self._waiting, error) from error
        try:
            yield number
        finally:
            with suppress(OSError), self._order:
                lock.release()
                self._file(number).unlink(missing_ok=True)

    def _is_first(self, number: int) -> bool:
        before = [other for other in self._numbers() if other < number]
        if before and time.monotonic() - self._looked >= _LOOK_SECONDS:
            self._looked = time.monotonic()
            self._remove_dead(before)
        return not before

    def _remove_dead(self, numbers: list[int]) -> None:
        with suppress(OSError), self._order:
            for number in numbers:
                lock = FileLock(self._file(number), thread_local=False)
                with suppress(Timeout):
                    lock.acquire(blocking=False)
                    lock.release()
                    self._file(number).unlink(missing_ok=True)

    def _numbers(self) -> list[int]:
        return sorted(int(file.stem) for file in self._waiting.glob("*.lock") if file.stem.isdecimal())

    def _file(self, number: int) -> Path:
        return self._waiting / f"{number:08d}.lock"
