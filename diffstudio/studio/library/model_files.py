"""The files of a model in a model folder: which belong together, and renaming them together. No torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from diffstudio import atomic, paths
from diffstudio.errors import BadRequest, StorageProblem
from diffstudio.models.adapters.adapter_config import adapter_config_path
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.files.formats import INDEX, SUFFIXES
from diffstudio.models.library.model_folders import ROLES, search_roots, walk_models
from diffstudio.models.library.overrides import Overrides
from diffstudio.storage_errors import already_exists
from diffstudio.studio.settings import load_settings

LONGEST_NAME = 200  # bytes in UTF-8: file systems allow 255, and sidecars have longer endings
_NOT_IN_NAMES = '/\\:*?"<>|'
RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10))}
_TRAINER_FILES = {
    "training_args.bin",
    "optimizer.pt",
    "optimizer.bin",
    "scheduler.pt",
    "rng_state.pth",
}  # Hugging Face's
_COMPONENT_ENDINGS = tuple(f".vae{suffix}" for suffix in SUFFIXES)  # `model.vae.pt` is the VAE of `model.ckpt`


def own_path(path: Path) -> Path:
    """What carries a model's name: its file or diffusers folder, or the folder of a PEFT adapter that holds nothing else."""
    return path.parent if _config_of(path) is not None and _is_folder_of(path) else path


def _config_of(path: Path) -> Path | None:
    """PEFT's config of an adapter's weights."""
    return adapter_config_path(path) if path.is_file() else None


def _is_folder_of(adapter: Path) -> bool:
    """Whether the folder of a PEFT adapter is only for it: neither a model folder or one for a kind of model, nor with
    other models in it or below it.
    """
    folder = adapter.parent.resolve()
    searched = (root.resolve() for added in load_settings().folders for root in search_roots(added, []))
    if folder.name.lower() in ROLES or any(root.is_relative_to(folder) for root in (*searched, paths.runs().resolve())):
        return False
    others = (path for path, _ in walk_models(adapter.parent, Path()) if path != adapter)
    return all(path.parent == adapter.parent and path.name in _TRAINER_FILES for path in others)


def sidecars_of(path: Path) -> list[Path]:
    """The files that are moved with a model: those whose names begin like its own (previews, notes, its VAE, its config),
    and the config of a PEFT adapter.

    A file whose name begins like that of two models belongs to the one with the longer name; where both have the same
    name, it stays. None where a folder is moved, which has them inside.
    """
    if own_path(path) != path:
        return []
    stem = _stem(path)
    try:
        entries = sorted(entry.name for entry in os.scandir(path.parent) if entry.is_file())
    except OSError:
        return []
    models = [name for name in entries if _is_model(name) and name != path.name]
    stems = {Path(name).stem for name in models}
    if stem in stems or (path.is_file() and (path.with_name(stem) / INDEX).is_file()):
        return []
    config = _config_of(path)
    return [
        path.with_name(name)
        for name in entries
        if name != path.name
        and not _is_model(name)
        and (
            path.with_name(name) == config
            or max((one for one in (stem, *stems) if name.startswith(f"{one}.")), key=len, default="") == stem
        )
    ]


def run_of(checkpoint_path: Path) -> Path | None:
    """The folder of the training run that a checkpoint belongs to; None if it is elsewhere."""
    runs = paths.runs().absolute()
    return runs / checkpoint_path.relative_to(runs).parts[0] if checkpoint_path.is_relative_to(runs) else None


def why_not_renamed(checkpoint: Checkpoint) -> str:
    """Why a model cannot be renamed, in a sentence, or an empty string if it can."""
    if checkpoint.is_included:
        return "It comes with the program and keeps its name."
    if (run := run_of(checkpoint.path)) is not None:
        return f"It is the checkpoint of the run {run.name}, and has the run's name."
    path = checkpoint.path
    if (config := _config_of(path)) is not None and own_path(path) == path and _has_others(path):
        return f"Its settings are in {config.name}, which belongs to {path.name}: move both to a folder of their own first."
    return ""


def _has_others(path: Path) -> bool:
    """Whether there are other models in the folder: PEFT's config belongs to a file of any name only where it is alone."""
    return any(_is_model(name) and name != path.name for name in os.listdir(path.parent))


def file_name_problem(name: str) -> str:
    """Why a new file of weights cannot have this name, in a sentence, or an empty string if it can."""
    name = name.strip()
    if not name:
        return "Enter a name."
    if any(letter in _NOT_IN_NAMES or ord(letter) < 32 for letter in name) or name.strip(".") != name:
        return 'The name must not contain / \\ : * ? " < > | or begin or end with a full stop.'
    if len(name.encode(errors="replace")) > LONGEST_NAME or name.partition(".")[0].rstrip().casefold() in RESERVED:
        return "This name cannot be used for a file."
    return ""


def name_problem(checkpoint: Checkpoint, name: str) -> str:
    """Why a model cannot get this name, in a sentence, or an empty string if it can."""
    if problem := file_name_problem(name):
        return problem
    name = name.strip()
    taken = next(
        (
            new
            for old, new in _moves(checkpoint, name)
            if os.path.lexists(new) and not atomic.is_same_but_for_case(old, new)
        ),
        None,
    )
    return f"{taken.name} already exists. Choose another name." if taken is not None else ""


def rename(checkpoint: Checkpoint, name: str) -> Path:
    """Rename a model with its sidecars and its type set by hand; returns its new path.

    BadRequest for a name that cannot be used or has just been taken, StorageProblem when a file cannot be renamed: nothing
    has changed then.
    """
    name = name.strip()
    if problem := why_not_renamed(checkpoint) or name_problem(checkpoint, name):
        raise BadRequest(f"{checkpoint.name} cannot be renamed", problem.rstrip("."), "Choose another name")
    old, moves = own_path(checkpoint.path), _moves(checkpoint, name)
    overrides = Overrides()
    done: list[tuple[Path, Path]] = []
    try:
        for source, target in moves:
            atomic.rename(source, target)
            done.append((source, target))
    except FileExistsError:
        _undo(done)
        raise already_exists(target) from None
    except OSError as error:
        _undo(done)
        raise StorageProblem(
            f"{old.name} could not be renamed",
            error.strerror or str(error),
            "Close programs that use it, then try again",
        ) from error
    new = moves[0][1]
    path = new if old == checkpoint.path else new / checkpoint.path.name
    try:
        overrides.moved(checkpoint.path, path)
    except StorageProblem:
        _undo(done)
        raise
    return path


def _undo(done: Sequence[tuple[Path, Path]]) -> None:
    for source, target in reversed(done):
        with suppress(OSError):
            atomic.rename(target, source)


def _moves(checkpoint: Checkpoint, name: str) -> list[tuple[Path, Path]]:
    """The old and the new path of every file, the model's own first."""
    old = own_path(checkpoint.path)
    if old != checkpoint.path:  # a PEFT adapter: its folder has the name
        return [(old, old.with_name(name))]
    stem, suffix = _stem(old), "" if old.is_dir() else old.suffix
    moves = [(old, old.with_name(name + suffix))]
    config = _config_of(old)  # keeps its name
    sidecars = [one for one in sidecars_of(old) if one != config]
    return moves + [(one, one.with_name(name + one.name.removeprefix(stem))) for one in sidecars]


def _stem(path: Path) -> str:
    return path.name if path.is_dir() else path.stem


def _is_model(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not name.lower().endswith(_COMPONENT_ENDINGS) and name != INDEX
