"""Trains the runs of a comparison one after the other, and resumes where an earlier process stopped."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
import torch

from diffstudio import paths
from diffstudio.atomic import make_folder
from diffstudio.errors import DiffstudioError, Interrupted, StorageProblem
from diffstudio.studio.evaluations.compare.plan import PlannedRun
from diffstudio.studio.evaluations.job_runs import RunControl, State, resume_remedy
from diffstudio.studio.evaluations.progress import OnProgress
from diffstudio.training.loop import train
from diffstudio.training.run.events import RunEvent, RunStep, RunWaiting
from diffstudio.training.run.run_folder import RunFolder


def train_runs(
    runs: Sequence[PlannedRun],
    folder: Path,
    minutes: float,
    out: Path,
    *,
    on_progress: OnProgress,
    on_wait: Callable[[], None],
    cancelled: Callable[[], bool],
) -> dict[str, int]:
    """Train the unfinished runs; returns the peak memory in bytes of each run that was trained now, by its name.

    A failed run is left as it is: its events say why, and the next call tries again. Interrupted when the comparison is
    stopped; finished training is kept. StorageProblem, and errors before a run has started.
    """
    memory = {}
    for number, planned in enumerate(runs, 1):
        if planned.state() is State.FINISHED:
            continue
        _show_in_train_room(planned, out)
        with _Watch(planned.run, out, cancelled) as watch:

            def on_event(
                event: RunEvent, planned: PlannedRun = planned, number: int = number, watch: _Watch = watch
            ) -> None:
                watch.show(event)
                if isinstance(event, RunWaiting):
                    on_wait()
                seconds = event.elapsed_seconds if isinstance(event, RunStep) else 0.0
                on_progress(
                    f"Run {number} of {len(runs)}, {planned.name}, seconds of training",
                    round(seconds),
                    round(60 * minutes),
                )

            _train(planned, folder, minutes, on_event, lambda watch=watch: watch.stopped)  # type: ignore[misc]
        memory[planned.name] = watch.peak_bytes
        if watch.stopped:
            raise Interrupted("The comparison was stopped", resume_remedy(out))
    return memory


def _train(
    planned: PlannedRun,
    folder: Path,
    minutes: float,
    on_event: Callable[[RunEvent], None],
    cancelled: Callable[[], bool],
) -> None:
    try:
        if planned.state() is not State.NEW:
            train(planned.run.path, resume=True, on_event=on_event, cancelled=cancelled)
        else:
            recipe = str(planned.recipe_file)
            train(planned.run.path, folder, recipe=recipe, minutes=minutes, on_event=on_event, cancelled=cancelled)
    except StorageProblem:
        raise
    except Interrupted:  # during setup; later a stopped run returns normally
        if not cancelled():
            raise
    except DiffstudioError:
        if planned.state() is not State.FAILED:  # its folder does not record the failure yet
            raise


class _Watch(RunControl):
    """A RunControl that also measures the memory of the process."""

    def __init__(self, run: RunFolder, job: Path, cancelled: Callable[[], bool]) -> None:
        super().__init__(run, job, cancelled)
        self._process = psutil.Process()
        self.peak_bytes = 0

    def __enter__(self) -> Self:
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        if torch.cuda.is_available():
            self.peak_bytes = torch.cuda.max_memory_allocated()

    def look(self) -> None:
        self.peak_bytes = max(self.peak_bytes, self._process.memory_info().rss)
        super().look()


def _show_in_train_room(planned: PlannedRun, out: Path) -> None:
    """Link the run into the folder of runs, so that the Train room lists it, unless it is there already."""
    runs = paths.runs()
    if planned.run.path.absolute().parent == runs.absolute():
        return
    link = runs / f"{out.absolute().name}, {planned.name}"
    with contextlib.suppress(OSError, StorageProblem):  # the disk has no links: the run trains without one
        make_folder(runs)
        make_folder(planned.run.path)
        if link.is_symlink() and not link.exists():
            link.unlink()
        if not os.path.lexists(link):
            _link(planned.run.path.resolve(), link)


def _link(target: Path, link: Path) -> None:
    if sys.platform == "win32":  # pragma: no cover - a symbolic link needs a privilege there, a junction does not
        import _winapi

        _winapi.CreateJunction(str(target), str(link))
    else:
        link.symlink_to(target, target_is_directory=True)
