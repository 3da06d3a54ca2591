"""The disk that runs and their caches take, and whether there is room for a new one."""

from __future__ import annotations

import shutil
from pathlib import Path

from diffstudio.errors import StorageProblem
from diffstudio.training.power_ema import LENGTHS
from diffstudio.training.recipe import Recipe
from diffstudio.training.trainer import Trainer

_SHEETS_BYTES = 64 * 2**20  # of samples and events, in a long run
_STATES = 3  # the state, the one to go back to, and the one being written


def bytes_needed(trainer: Trainer, recipe: Recipe) -> int:
    """What the run folder takes at most, roughly."""
    weights = sum(parameter.numel() for parameter in trainer.network.parameters())
    others = sum(sum(each.numel() for each in one.parameters()) for one in trainer.objective.others.values())
    state = 4 * (weights + others) * 4  # the weights, their EMA, and up to two optimiser values for each
    checkpoints = (recipe.run.keep_checkpoints + 3) * 2 * weights  # float16; the best, the newest, one being written
    averages = len(LENGTHS) * weights if recipe.run.ema_snapshots else 0
    snapshots = 2 * averages * recipe.run.ema_snapshots  # float16
    folds = 2 * recipe.data.cross_splits * state  # of a cross-validation, and the one being written
    return folds + _STATES * (state + 4 * averages) + checkpoints + snapshots + _SHEETS_BYTES


def check_room(path: Path, trainer: Trainer, recipe: Recipe) -> None:
    """StorageProblem where the disk has no room for a new run in the folder `path`."""
    existing = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    needed, free = bytes_needed(trainer, recipe), shutil.disk_usage(existing).free
    if free < needed:
        raise StorageProblem(
            f"There is no room for the run in {path.parent}",
            f"its states and checkpoints need up to {needed / 2**20:,.0f} MiB and {free / 2**20:,.0f} MiB are free",
            "Free some space, choose another folder for the run, or keep fewer checkpoints or EMA snapshots",
        )
