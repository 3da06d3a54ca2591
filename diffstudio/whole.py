"""Small files written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path

from diffstudio.errors import StorageProblem

_TRIES = 20  # at 10 ms each


def write_whole(path: Path, text: str) -> None:
    """Writes `text` as UTF-8 beside `path` and renames it: a reader, or a crash, meets the old file or the new one.

    StorageProblem, with the old file as it was and nothing left beside it, when that cannot be done.
    """
    beside = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.part")  # two may write at once
    try:
        with beside.open("w", encoding="utf-8", errors="surrogatepass") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        _rename(beside, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise StorageProblem(
            f"{path} cannot be written", error.strerror or str(error), "Free some space, or choose another place"
        ) from error


def _rename(beside: Path, path: Path) -> None:
    """Windows refuses to replace a file while someone reads it, which nobody does for long."""
    for _ in range(_TRIES - 1):
        try:
            beside.replace(path)
            return
        except PermissionError:
            if os.name != "nt":
                raise
            time.sleep(0.01)
    beside.replace(path)
