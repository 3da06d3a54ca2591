"""The library: every model in the model folders as a Checkpoint. Reads headers only: no weights, no torch."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from diffstudio import paths
from diffstudio.errors import CheckpointMissing, DiffstudioError
from diffstudio.models.adapters.adapter_config import ADAPTER_CONFIG, adapter_weights
from diffstudio.models.checkpoint import Checkpoint, Origin
from diffstudio.models.detection.types import Layout, Role
from diffstudio.models.files.formats import INDEX, SUFFIXES
from diffstudio.models.library.lookup import no_checkpoint_yet, no_such_model
from diffstudio.models.library.model_folders import search_roots, walk_models
from diffstudio.models.library.overrides import Overrides
from diffstudio.models.library.record_cache import RecordCache, Stamp
from diffstudio.models.library.records import read_checkpoint

STARTER = "starter"  # the name of the checkpoint that the program begins with


class Library:
    """The checkpoints that ship with the program, those trained here, and all models in `folders` (by default the
    program's own), of every role.

    In the folders of other programs (AUTOMATIC1111, ComfyUI) only their model folders are searched. One thread may scan
    while another finds: results are replaced as a whole.
    """

    def __init__(self, folders: Sequence[Path] = ()) -> None:
        self.folders = tuple(folders) or (paths.checkpoints(),)
        self.problems: list[tuple[Path, DiffstudioError]] = []
        self._checkpoints: list[Checkpoint] | None = None
        self._seen: dict[Stamp, Checkpoint | DiffstudioError] = {}

    def scan(self) -> list[Checkpoint]:
        """Every model that can be read, under a unique name: the starter, what else is included, then the newest first.

        Afterwards `problems` lists the files that cannot be read, with why.
        """
        return self._scan("")

    def _scan(self, requested: str) -> list[Checkpoint]:
        """As `scan`; the model that may be the `requested` one keeps its headers."""
        found: list[Checkpoint] = []
        problems: list[tuple[Path, DiffstudioError]] = []
        seen: dict[Stamp, Checkpoint | DiffstudioError] = {}
        overrides = self._overrides(problems)
        known, new = self._cached(), list[tuple[Stamp, str, Checkpoint]]()
        for path, stamp, origin, name, role in self._files(problems):
            suggested = f"{role} {origin} {_config_modified(path)}"
            read = self._seen.get(stamp) or known.get((stamp, suggested)) or _read(path, origin, role)
            seen[stamp] = _without_headers(read) if isinstance(read, Checkpoint) else read
            if isinstance(read, Checkpoint) and not _may_be(replace(read, name=name or read.name), requested):
                read = _without_headers(read)
            if (
                isinstance(read, Checkpoint)
                and read.layout is not Layout.FOLDER
                and stamp not in self._seen
                and (stamp, suggested) not in known
            ):
                new.append((stamp, suggested, read))  # a folder's stamp is its index's; its files may change without it
            if isinstance(read, Checkpoint):
                found.append(replace(overrides.applied(read) if overrides else read, name=name or read.name))
            else:
                problems.append((path, read))
        found.sort(key=_place)
        gone = {path for path, _, _ in {*self._seen, *(stamp for stamp, _ in known)}} - {path for path, _, _ in seen}
        if new or gone:
            RecordCache().keep(new, [path for path in gone if not path.exists()])
        found = _with_unique_names(found)
        self._seen, self.problems, self._checkpoints = seen, problems, [_without_headers(one) for one in found]
        return found

    def _cached(self) -> dict[tuple[Stamp, str], Checkpoint]:
        """Records from earlier runs of the program, for the first scan in this one."""
        return RecordCache().records() if self._checkpoints is None else {}

    def find(self, name_or_path: str | Path) -> Checkpoint:
        """The model of that name, or at that path: a file or a diffusers folder.

        Its record has its headers, where they were read now.

        CheckpointMissing suggests similar names; CheckpointDamaged for a file that cannot be read.
        """
        requested = str(name_or_path)
        if requested == STARTER:
            return _starter()
        if self._checkpoints is not None and (known := self._named(requested)) is not None and known.path.exists():
            return self._read_again(known)
        path = _as_path(requested)
        path = None if path is None else adapter_weights(path) or path
        if path is not None and (path.suffix.lower() in SUFFIXES or path.is_file() or (path / INDEX).is_file()):
            for checkpoint in self._scan(str(path.absolute())):
                if checkpoint.path == path.absolute():
                    return checkpoint
            return Overrides().applied(read_checkpoint(path))
        for checkpoint in self._scan(requested):
            if checkpoint.name == requested:
                return checkpoint
        for damaged, error in self.problems:
            if requested in (damaged.stem, _run_name(damaged)):
                raise error
        for run in (path, paths.runs() / requested) if path is not None else ():
            if paths.is_run(run) and not paths.latest_checkpoint(run).exists():
                raise no_checkpoint_yet(run)
        names = [checkpoint.name for checkpoint in self._checkpoints or () if checkpoint.can_generate]
        raise no_such_model("checkpoint", requested, names, install="Train one, or put one into a models folder")

    def _read_again(self, known: Checkpoint) -> Checkpoint:
        """Its record as it is on the disk now, under the same name."""
        role = known.role if known.path.is_file() else Role.UNKNOWN
        read = read_checkpoint(known.path, origin=known.origin, role=role)
        return replace(Overrides().applied(read), name=known.name)

    @staticmethod
    def _overrides(problems: list[tuple[Path, DiffstudioError]]) -> Overrides | None:
        try:
            return Overrides()
        except DiffstudioError as error:
            problems.append((paths.overrides(), error))
            return None

    def _named(self, name: str) -> Checkpoint | None:
        return next((checkpoint for checkpoint in self._checkpoints or () if checkpoint.name == name), None)

    def _files(
        self, problems: list[tuple[Path, DiffstudioError]]
    ) -> Iterator[tuple[Path, Stamp, Origin | None, str, Role]]:
        """Each file and diffusers folder once: its stamp, its origin, the name it prefers, the role of its folder."""
        seen: set[tuple[int, int]] = set()
        for path, origin, name, role in self._candidates(problems):
            try:
                about = os.stat(path)
                if stat.S_ISDIR(about.st_mode):
                    about = os.stat(path / INDEX)
                elif not stat.S_ISREG(about.st_mode):
                    continue
            except OSError:
                continue  # gone since the folder was listed
            identity = (about.st_dev, about.st_ino)  # under any name and through any link
            if identity not in seen:
                seen.add(identity)
                path = path.absolute()
                yield path, (path, about.st_mtime_ns, about.st_size), origin, name, role

    def _candidates(
        self, problems: list[tuple[Path, DiffstudioError]]
    ) -> Iterator[tuple[Path, Origin | None, str, Role]]:
        for path in paths.included_checkpoints():
            yield path, Origin.STARTER if path == paths.starter() else Origin.INCLUDED, path.stem, Role.UNKNOWN
        runs = paths.runs()
        for path in sorted(runs.glob(paths.latest_checkpoint(Path("*")).as_posix())):
            yield path, Origin.TRAINED, _run_name(path), Role.UNKNOWN
        for folder in self.folders:
            for root in search_roots(folder, problems):
                for path, role in walk_models(root.absolute(), runs):
                    yield path, None, "", role


def _place(checkpoint: Checkpoint) -> tuple[bool, bool, float, Path]:
    """The key by which models are sorted."""
    included = checkpoint.is_included
    return not included, checkpoint.path != paths.starter(), 0.0 if included else -checkpoint.modified, checkpoint.path


def _as_path(name: str) -> Path | None:
    """The name as a path; None if it cannot be one: too long, or in the home folder of an unknown user."""
    try:
        path = Path(name).expanduser()
        path.exists()
    except (OSError, ValueError, RuntimeError):
        return None
    return path


def _starter() -> Checkpoint:
    path = paths.starter()
    if not path.is_file():
        raise CheckpointMissing(
            "The starter checkpoint is not installed",
            f"{path} does not exist",
            "Install diffstudio again, or choose a checkpoint of your own",
        )
    return replace(read_checkpoint(path, origin=Origin.STARTER), name=STARTER)


def _may_be(checkpoint: Checkpoint, requested: str) -> bool:
    """Whether this may be the requested model: by its path, or by its name, to which a number may be added to make it
    unique.
    """
    return bool(requested) and (requested.startswith(checkpoint.name) or str(checkpoint.path) == requested)


def _without_headers(checkpoint: Checkpoint) -> Checkpoint:
    """The record without its headers, which take gigabytes for a thousand models; an embedding keeps its small one."""
    return checkpoint if checkpoint.role is Role.EMBEDDING else replace(checkpoint, headers=())


def _run_name(latest: Path) -> str:
    return latest.parent.parent.name


def _config_modified(path: Path) -> int:
    """Time of the last change of the `.yaml` config next to a checkpoint (see prediction_type.py), or of PEFT's config of
    an adapter, in ns; 0 without a file.
    """
    changed = 0
    for config in (path.with_suffix(".yaml"), path.with_name(ADAPTER_CONFIG)):
        with suppress(OSError, ValueError):
            changed = max(changed, os.stat(config).st_mtime_ns)
    return changed


def _read(path: Path, origin: Origin | None, role: Role) -> Checkpoint | DiffstudioError:
    try:
        return read_checkpoint(path, origin=origin, role=role)
    except DiffstudioError as error:
        return error


def _with_unique_names(checkpoints: list[Checkpoint]) -> list[Checkpoint]:
    """Where several have one name, a run's checkpoint keeps it, else one that generates, else the first path: names
    stay stable.
    """
    names: dict[Path, str] = {}
    taken = {path.stem for path in paths.included_checkpoints()}
    for checkpoint in sorted(
        checkpoints, key=lambda one: (one.origin is not Origin.TRAINED, not one.can_generate, one.path)
    ):
        name, number = checkpoint.name, 1
        while name in taken and not checkpoint.is_included:
            number += 1
            name = f"{checkpoint.name}-{number}"
        taken.add(name)
        names[checkpoint.path] = name
    return [replace(checkpoint, name=names[checkpoint.path]) for checkpoint in checkpoints]
