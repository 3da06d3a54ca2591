"""The held-out losses of a training run by noise level, from its events. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diffstudio import paths
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.studio.curves.schedules import RECTIFIED_FLOW, schedule_arrays
from diffstudio.training.run.events import RunHeldOut, RunStarted
from diffstudio.training.run.run_folder import RunFolder

DIFFUSION = "diffusion"


@dataclass(frozen=True, slots=True)
class LevelLosses:
    """Of the EMA weights, at rising noise levels."""

    run: str  # its name
    step: int
    log_snr: tuple[float, ...]  # falling
    held_out: tuple[float, ...]  # loss at each of them
    training: tuple[float, ...] = ()  # on as many training images; empty in earlier runs


def run_folders(folder: Path | None = None) -> list[Path]:
    """The runs of a folder, by default the user's, the newest first."""
    folder = folder or paths.runs()
    if not folder.is_dir():
        return []
    found = [(path, path / "recipe.toml") for path in folder.iterdir()]
    newest_first = sorted((-recipe.stat().st_mtime, path) for path, recipe in found if recipe.is_file())
    return [path for _, path in newest_first]


def run_of(checkpoint: Checkpoint, runs: list[Path]) -> Path | None:
    """The run that a checkpoint lies in; None for one that lies elsewhere."""
    return next((run for run in runs if run in checkpoint.path.parents), None)


def level_losses(run: Path) -> LevelLosses | None:
    """The newest held-out losses by noise level; None for a run without any, such as that of a VAE or GAN."""
    events, _ = RunFolder(run).events()
    started = [event for event in events if isinstance(event, RunStarted)]
    measured = [event for event in events if isinstance(event, RunHeldOut) and event.levels]
    if not measured or any(event.objective != DIFFUSION for event in started):
        return None
    newest = measured[-1]
    if len(newest.level_losses) != len(newest.levels):
        return None
    levels = np.clip(np.array(newest.levels), 1e-4, 1 - 1e-4)  # t of a rectified flow
    log_snr = schedule_arrays(RECTIFIED_FLOW).log_snr(levels)
    training = newest.training_level_losses if len(newest.training_level_losses) == len(newest.levels) else ()
    return LevelLosses(run.name, newest.step, tuple(log_snr.tolist()), newest.level_losses, training)
