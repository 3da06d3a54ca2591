"""Find a model in the library by its name or path, and suggest similar names if it is not found. No torch."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from diffstudio import paths
from diffstudio.errors import CheckpointMissing, unknown_name
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.types import Role

_LONGEST_NAME = 80  # characters of it that a message repeats
_MOST_OFFERED = 5  # names that a message offers; of more, the similar ones or the first


class Models(Protocol):
    """What is searched: a Library."""

    def find(self, name_or_path: str | Path) -> Checkpoint: ...

    def scan(self) -> list[Checkpoint]: ...


def find_model(
    library: Models | None,
    name: str,
    roles: Sequence[Role],
    kind: str,
    *,
    built_in: Sequence[str] = (),
    install: str = "Put its file into a models folder",
    accepts: Callable[[Checkpoint], bool] = lambda checkpoint: True,
) -> Checkpoint:
    """The model with one of these roles that has this name, in any case, or that is stored at this path.

    `kind` is what messages call such a model: `LoRA`. `built_in` names are offered too. CheckpointMissing suggests
    similar names; where the library has no such model, its remedy is `install`. CheckpointDamaged for a file that
    cannot be read. `accepts` says which models with these roles will do.
    """
    found = None
    with suppress(CheckpointMissing):
        found = library.find(name) if name and library is not None else None
    if found is not None and found.role in roles and accepts(found):
        return found
    scanned = library.scan() if library is not None else []
    models = [model for model in scanned if model.role in roles and accepts(model)]
    models.sort(key=lambda model: roles.index(model.role))
    if (match := match_name(models, name)) is not None:
        return match
    why = f"{found.name[:_LONGEST_NAME]} is not {_article(kind)} {kind}" if found is not None else ""
    if found is not None and found.role is Role.UNKNOWN:
        why = found.reason.rstrip(".") or why
    raise no_such_model(kind, name, [model.name for model in models], why, built_in=built_in, install=install)


def find_vae(library: Models | None, name: str) -> Checkpoint:
    """The VAE of that name or at that path, or a checkpoint that holds one. CheckpointMissing, CheckpointDamaged."""
    return find_model(library, name, (Role.VAE, Role.CHECKPOINT), "VAE")


def match_name(models: Iterable[Checkpoint], name: str) -> Checkpoint | None:
    """The model of this name, in any case: its name in the library, its file's name, or its `ss_output_name`."""
    folded, models = name.casefold(), tuple(models)
    if not folded:
        return None
    for model in models:
        if folded in (model.name.casefold(), model.path.stem.casefold()):
            return model
    return next((model for model in models if model.metadata.get("ss_output_name", "").casefold() == folded), None)


def no_such_model(
    kind: str, name: str, names: Sequence[str], why: str = "", *, built_in: Sequence[str] = (), install: str = ""
) -> CheckpointMissing:
    """The error for a name that is not among `names`."""
    similar = similar_names(name, names)
    known = list(dict.fromkeys([*similar, *names]))
    if len(known) <= _MOST_OFFERED:
        offered = [*known, *built_in]
        remedy = f"Choose one of: {', '.join(offered)}" if offered else install
    else:
        some = list(dict.fromkeys(similar)) or known[:_MOST_OFFERED]
        remedy = f"Choose another one, such as {', '.join([*some, *built_in])} ({len(known) - len(some):,} more)"
    return CheckpointMissing(unknown_name(kind, name), why, remedy)


def no_checkpoint_yet(run: Path) -> CheckpointMissing:
    """The error for a run that was to be used before it wrote a checkpoint, or whose checkpoint was deleted."""
    return CheckpointMissing(
        f"The run {run.name} has no checkpoint",
        f"there is no {paths.latest_checkpoint(Path()).as_posix()} in its folder",
        "Resume the run: it writes a checkpoint when it stops",
    )


def similar_names(name: str, names: Sequence[str], *, most: int = 3, cutoff: float = 0.5) -> list[str]:
    """The names most similar to this one, the most similar first. `cutoff` is difflib's ratio, from 0 to 1."""
    return difflib.get_close_matches(name, names, n=most, cutoff=cutoff)


def stem_of(name_or_path: str) -> str:
    """`ink` of `loras/ink.safetensors`, with any system's separators."""
    return name_or_path.replace("\\", "/").rpartition("/")[2].removesuffix(".safetensors").strip()


def _article(kind: str) -> str:
    return "an" if kind[0].lower() in "aeiou" else "a"
