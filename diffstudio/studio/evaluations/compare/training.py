"""Trains the runs of a comparison, one after the other, and goes on where an earlier process ended."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

import psutil
import torch

from diffstudio import paths
from diffstudio.atomic import make_folder
from diffstudio.errors import DiffstudioError, Interrupted, StorageProblem
from diffstudio.studio.evaluations.compare.plan import PlannedRun, State
from diffstudio.studio.evaluations.folders import OnProgress
from diffstudio.training.loop import train
from diffstudio.training.run.events import RunEvent, RunStep, RunWaiting
from diffstudio.training.run.run_folder import Command, RunFolder

_POLL_SECONDS = 0.2


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
    """Train what is not finished yet; returns the peak memory in bytes of each run that was trained now, by its name.

    A run that fails is left as it is: its events say why, and it is tried again in the next call. Interrupted when the
    comparison is ended: what was trained is kept. StorageProblem, and what fails before a run has started.
    """
    memory = {}
    for number, planned in enumerate(runs, 1):
        if planned.state() is State.FINISHED:
            continue
        _show_in_train_room(planned, out)
        with _Watch(planned.run, RunFolder(out), cancelled) as watch:

            def on_event(event: RunEvent, planned: PlannedRun = planned, number: int = number) -> None:
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
            raise Interrupted("The comparison was stopped", f"Start it again with --out {out}, and it goes on")
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
    except Interrupted:  # during the setup; afterwards a run that is stopped returns
        if not cancelled():
            raise
    except DiffstudioError:
        if planned.state() is not State.FAILED:  # nothing in its folder says so
            raise


class _Watch:
    """Passes the commands in the comparison's folder on to the run that trains, and measures the memory meanwhile."""

    def __init__(self, run: RunFolder, control: RunFolder, cancelled: Callable[[], bool]) -> None:
        self._run, self._control, self._cancelled = run, control, cancelled
        self._last = Command.RUN
        self._end = threading.Event()
        self._process = psutil.Process()
        self._thread = threading.Thread(target=self._watch, name="comparison", daemon=True)
        self.stopped = False
        self.peak_bytes = 0

    def __enter__(self) -> _Watch:
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()
        self._look()
        if torch.cuda.is_available():
            self.peak_bytes = torch.cuda.max_memory_allocated()

    def _watch(self) -> None:
        while not self._end.wait(_POLL_SECONDS):
            self._look()

    def _look(self) -> None:
        self.peak_bytes = max(self.peak_bytes, self._process.memory_info().rss)
        command = Command.STOP if self._cancelled() else self._control.command()
        self.stopped = self.stopped or command is Command.STOP
        again = command is Command.STOP and self._run.command() is not Command.STOP  # a start overwrites a command
        if (command is not self._last or again) and self._run.recipe_file.is_file():
            with contextlib.suppress(StorageProblem):
                self._run.send(command)
                self._last = command


def _show_in_train_room(planned: PlannedRun, out: Path) -> None:
    """Link the run into the folder of runs, where the window looks for them, unless it lies there."""
    runs = paths.runs()
    if planned.run.path.absolute().parent == runs.absolute():
        return
    link = runs / f"{out.absolute().name}, {planned.name}"
    with contextlib.suppress(OSError, StorageProblem):  # no links on this disk: the run can be trained without one
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
