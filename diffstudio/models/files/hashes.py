"""SHA-256 of weights files, cached while a file is unchanged. No torch.

Other programs identify a model by it, or by its first ten digits (AUTOMATIC1111's `AutoV2`), so it is stored in images'
metadata.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Callable, Generator
from pathlib import Path

from diffstudio import paths
from diffstudio.atomic import write_text
from diffstudio.errors import CheckpointMissing, Interrupted, StorageProblem
from diffstudio.models.files.file_access import FileStamp, file_stamp

FORMAT = 1
_CHUNK_BYTES = 8 << 20
_SHORT = 10
_lock = threading.Lock()  # of the cache file; other processes may write it too, and the last one wins


def autov2(sha256: str) -> str:
    """The first ten digits, as AUTOMATIC1111 and Civitai show them."""
    return sha256[:_SHORT]


def cached_sha256(path: Path) -> str:
    """The hash of the unchanged file, if it was computed before; else empty."""
    stamp = file_stamp(path)
    entry = _read().get(str(path.absolute()))
    return entry[2] if entry is not None and stamp is not None and (entry[0], entry[1]) == stamp else ""


def file_sha256(path: Path) -> str:
    """The hash of a file that is there only for a while, so that it is not remembered. OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def known_file(sha256: str) -> Path | None:
    """A file that had this hash when it was computed, and has not changed since; None if none is known."""
    for path, (*stamp, known) in _read().items():
        if known == sha256 and file_stamp(Path(path)) == tuple(stamp):
            return Path(path)
    return None


def sha256_of(
    path: Path, progress: Callable[[float], None] | None = None, cancelled: Callable[[], bool] | None = None
) -> str:
    """The hash of the file, in hexadecimal digits. `progress` is called with fractions from 0 to 1.

    CheckpointMissing for a file that cannot be read, Interrupted soon after `cancelled()` returns true.
    """
    steps = sha256_steps(path)
    try:
        while True:
            done = next(steps)
            if cancelled is not None and cancelled():
                raise Interrupted("Stopped while the checkpoint's hash was worked out")
            if progress is not None and done:
                progress(done)
    except StopIteration as ended:
        return str(ended.value)
    finally:
        steps.close()


def sha256_steps(path: Path) -> Generator[float, None, str]:
    """The same as a generator: yields fractions from 0 to 1 and returns the hash. CheckpointMissing."""
    if known := cached_sha256(path):
        return known
    digest, done = hashlib.sha256(), 0
    try:
        stamp, size = file_stamp(path), max(1, path.stat().st_size)
        with path.open("rb") as file:
            yield 0.0
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
                done += len(chunk)
                yield min(1.0, done / size)
    except OSError as error:
        raise CheckpointMissing(
            f"{path} cannot be read", error.strerror or str(error), "Check the disk, or choose another checkpoint"
        ) from error
    if stamp is not None and stamp == file_stamp(path):  # else it changed meanwhile, and the hash is of neither version
        _store(path, stamp, digest.hexdigest())
    return digest.hexdigest()


def _file() -> Path:
    return paths.cache() / "hashes.json"


def _read() -> dict[str, tuple[int, int, str]]:
    """The cache; empty if the file is damaged or has another format."""
    try:
        stored = json.loads(_file().read_text(encoding="utf-8"))
        if stored["format"] != FORMAT:
            return {}
        return {
            path: (int(size), int(changed), str(sha256)) for path, (size, changed, sha256) in stored["files"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _store(path: Path, stamp: FileStamp, sha256: str) -> None:
    """If it cannot be written, the hash is computed again next time."""
    with _lock, contextlib.suppress(OSError, StorageProblem):
        entries = {known: entry for known, entry in _read().items() if Path(known).exists()}
        entries[str(path.absolute())] = (*stamp, sha256)
        _file().parent.mkdir(parents=True, exist_ok=True)
        write_text(_file(), json.dumps({"format": FORMAT, "files": entries}))
