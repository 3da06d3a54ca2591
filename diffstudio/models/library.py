"""Library: the folders of checkpoints on disk, as a list of Checkpoints. Headers only: no weights, no torch."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from diffstudio import paths
from diffstudio.errors import CheckpointMissing, DiffstudioError
from diffstudio.models.checkpoint import Checkpoint, Origin, read_checkpoint

STARTER = "starter"  # the name that always means the checkpoint that ships with the program

_Stamp = tuple[Path, int, int]  # path, ns of its last change, bytes: while these stand, its header is not read again


class Library:
    """The starter, what was trained here, and every `.safetensors` file below `folders` (none given: the usual one).

    Safe to scan from another thread than the one that finds: each result is put in place whole.
    """

    def __init__(self, folders: Sequence[Path] = ()) -> None:
        self.folders = tuple(folders) or (paths.checkpoints(),)
        self.problems: list[tuple[Path, DiffstudioError]] = []
        self._checkpoints: list[Checkpoint] | None = None
        self._seen: dict[_Stamp, Checkpoint | DiffstudioError] = {}

    def scan(self) -> list[Checkpoint]:
        """Every checkpoint that can be read, each under a name of its own: the starter, then the newest first.

        Afterwards `problems` names the files that cannot be read, with why.
        """
        found: list[Checkpoint] = []
        problems: list[tuple[Path, DiffstudioError]] = []
        seen: dict[_Stamp, Checkpoint | DiffstudioError] = {}
        for path, origin, name in self._files():
            try:
                stat = path.stat()
            except OSError:
                continue  # gone since the folder was listed
            stamp = (path, stat.st_mtime_ns, stat.st_size)
            read = seen[stamp] = self._seen.get(stamp) or _read(path, origin)
            if isinstance(read, Checkpoint):
                found.append(replace(read, name=name))
            else:
                problems.append((path, read))
        found.sort(key=lambda checkpoint: (checkpoint.origin is not Origin.STARTER, -checkpoint.modified, checkpoint.path))
        self._seen, self.problems, self._checkpoints = seen, problems, _with_own_names(found)
        return list(self._checkpoints)

    def find(self, name_or_path: str | Path) -> Checkpoint:
        """The checkpoint of that name, or at that path.

        CheckpointMissing names those that sound alike; CheckpointDamaged when the file is there and cannot be read.
        """
        wanted = str(name_or_path)
        if wanted == STARTER:
            return _starter()
        if self._checkpoints is not None and (known := self._named(wanted)) is not None and known.path.exists():
            return replace(read_checkpoint(known.path, origin=known.origin), name=known.name)
        path = _as_path(wanted)
        if path is not None and (path.suffix == ".safetensors" or path.is_file()):
            for checkpoint in self.scan():
                if checkpoint.path == path.absolute():
                    return checkpoint
            return read_checkpoint(path)
        self.scan()
        if (known := self._named(wanted)) is not None:
            return known
        for damaged, error in self.problems:
            if wanted in (damaged.stem, _run_name(damaged)):
                raise error
        names = [checkpoint.name for checkpoint in self._checkpoints or ()]
        near = difflib.get_close_matches(wanted, names, n=3, cutoff=0.5) or names[:5]
        raise CheckpointMissing(
            f"There is no checkpoint called {wanted[:80]!r}",
            remedy=f"Choose one of: {', '.join(near)}" if near else "Train one, or put one into the models folder")

    def _named(self, name: str) -> Checkpoint | None:
        return next((checkpoint for checkpoint in self._checkpoints or () if checkpoint.name == name), None)

    def _files(self) -> Iterator[tuple[Path, Origin | None, str]]:
        """Each file once, with where it came from and the name it would like."""
        given: set[Path] = set()
        candidates = [(paths.starter(), Origin.STARTER, STARTER)] if paths.starter().is_file() else []
        runs = paths.runs()
        candidates += [(path, Origin.TRAINED, _run_name(path))
                       for path in sorted(runs.glob("*/checkpoints/latest.safetensors"))]
        for path, origin, name in candidates:
            given.add(path.resolve())
            yield path.absolute(), origin, name
        for folder in self.folders:
            for path in sorted(folder.rglob("*.safetensors")):
                if path.resolve() not in given and path.is_file() and runs not in path.parents:
                    given.add(path.resolve())
                    yield path.absolute(), None, path.stem


def _as_path(name: str) -> Path | None:
    """None for what no file can be called: too long, or below the home of somebody who is not there."""
    try:
        path = Path(name).expanduser()
        path.exists()
    except (OSError, ValueError, RuntimeError):
        return None
    return path


def _starter() -> Checkpoint:
    path = paths.starter()
    if not path.is_file():
        raise CheckpointMissing("The starter checkpoint is not installed", f"{path} is not there",
                                "Install diffstudio again, or choose a checkpoint of your own")
    return replace(read_checkpoint(path, origin=Origin.STARTER), name=STARTER)


def _run_name(latest: Path) -> str:
    return latest.parent.parent.name


def _read(path: Path, origin: Origin | None) -> Checkpoint | DiffstudioError:
    try:
        return read_checkpoint(path, origin=origin)
    except DiffstudioError as error:
        return error


def _with_own_names(checkpoints: list[Checkpoint]) -> list[Checkpoint]:
    """Where two would have one name, the run keeps it, then the first path, so that a name goes on meaning one file."""
    names: dict[Path, str] = {}
    taken = {STARTER}
    for checkpoint in sorted(checkpoints, key=lambda checkpoint: (checkpoint.origin is not Origin.TRAINED, checkpoint.path)):
        name, number = checkpoint.name, 1
        while name in taken and checkpoint.origin is not Origin.STARTER:
            number += 1
            name = f"{checkpoint.name}-{number}"
        taken.add(name)
        names[checkpoint.path] = name
    return [replace(checkpoint, name=names[checkpoint.path]) for checkpoint in checkpoints]
