"""The verb `diffstudio train`."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffstudio import paths
from diffstudio.cli.arguments import as_number, as_path, as_text, as_whole_number
from diffstudio.cli.terminal import duration, progress, stop_signals
from diffstudio.errors import BadRequest, Interrupted
from diffstudio.studio.requests import TrainRequest

if TYPE_CHECKING:
    from diffstudio.training.run.run_folder import RunEvent


def add_train(verbs: Any) -> None:
    verb = verbs.add_parser(
        "train",
        help="train a checkpoint on a folder of pictures",
        allow_abbrev=False,
        description="Train a checkpoint on a folder of pictures. Stopping (Ctrl+C) keeps what was "
        "learnt; --resume goes on from there.",
    )
    verb.add_argument(
        "folder",
        metavar="FOLDER",
        nargs="?",
        type=as_path,
        help="pictures, with .txt captions beside them or in sub-folders that name their class",
    )
    verb.add_argument(
        "--recipe",
        metavar="NAME|FILE.toml",
        default="auto",
        type=as_text,
        help="default auto: chosen from what the folder holds",
    )
    verb.add_argument("--run", metavar="PATH", type=as_path, help="the run's own folder; a new one unless given")
    verb.add_argument(
        "--steps", metavar="N", type=as_whole_number, help="how long, in steps; the recipe's own unless given"
    )
    verb.add_argument("--minutes", metavar="M", type=as_number, help="how long, in minutes")
    verb.add_argument("--resume", action="store_true", help="go on with the run in --run")
    verb.set_defaults(do=_train)


def _train(arguments: argparse.Namespace) -> int:
    from diffstudio.training.run.run_folder import Command, RunFolder, RunStarted, RunStopped

    request = TrainRequest(
        folder=arguments.folder,
        recipe=arguments.recipe,
        run=arguments.run,
        steps=arguments.steps,
        minutes=arguments.minutes,
        resume=arguments.resume,
    )
    if request.resume and request.run is None:
        raise BadRequest("Which run to resume was not said", remedy="Name its folder with --run")
    if request.resume and (request.steps is not None or request.minutes is not None):
        raise BadRequest(
            "A resumed run keeps the length it was begun with",
            "its learning rate falls towards that end",
            "Leave --steps and --minutes out, or start a new run",
        )
    path = request.run if request.run is not None else _new_run(request.folder or Path())
    seen: list[RunEvent] = []
    show = _TrainingProgress()

    def ask_to_stop() -> None:
        if (path / "control.json").exists():  # before that, `cancelled` ends the preparations
            RunFolder(path).send(Command.STOP)

    def on_event(event: RunEvent) -> None:
        seen[:] = [event]
        if stop.wanted and isinstance(event, RunStarted):  # the start forgot what was asked before it
            ask_to_stop()
        show(event)

    with stop_signals(ask_to_stop) as stop:
        from diffstudio.training.loop import train

        run = train(
            path,
            request.folder,
            recipe=request.recipe,
            steps=request.steps,
            minutes=request.minutes,
            resume=request.resume,
            on_event=on_event,
            cancelled=lambda: stop.wanted,
        )
    progress("", last=True)
    if run.latest_checkpoint.exists():
        print(run.latest_checkpoint, flush=True)
    if stop.wanted and seen and isinstance(seen[-1], RunStopped):
        raise Interrupted(
            f"Stopped at step {seen[-1].step:,}", remedy=f"Go on with `diffstudio train --resume --run {run.path}`"
        )
    return 0


def _new_run(folder: Path) -> Path:
    name = f"{folder.resolve().name or 'run'}-{time.strftime('%Y%m%d-%H%M%S')}"
    run, number = paths.runs() / name, 1
    while run.exists():
        number += 1
        run = paths.runs() / f"{name}-{number}"
    return run


# What is said on the way


class _TrainingProgress:
    """One line for a person at a terminal; in a log, a line twice a minute and one for whatever else happens."""

    def __init__(self) -> None:
        self._last = 0.0

    def __call__(self, event: RunEvent) -> None:
        from diffstudio.training.run import run_folder as run

        match event:
            case run.RunStep(step=step, steps=steps, loss=loss, images_per_second=speed, left_seconds=left):
                if sys.stderr.isatty() or time.monotonic() - self._last >= 30 or step == steps:
                    self._last = time.monotonic()
                    progress(
                        f"step {step:,} of {steps:,}, loss {loss:.4f}, {speed:.0f} images/s, {duration(left)} left"
                    )
            case run.RunPreparing(done=done, images=images):
                if sys.stderr.isatty() or time.monotonic() - self._last >= 30:
                    self._last = time.monotonic()
                    progress(f"decoding image {done:,} of {images:,}", last=done == images)
            case run.RunStarted(why=why, images=images, parameters=parameters):
                self._line(f"{images:,} image{'s' if images != 1 else ''}, {parameters / 1e6:.1f} M parameters. {why}")
            case run.RunHeldOut(step=step, loss=loss):
                self._line(f"step {step:,}: held-out loss {loss:.4f}")
            case run.RunSamples(step=step, ema=ema):
                self._line(f"step {step:,}: samples in {ema}")
            case run.RunWaiting():
                self._line("waiting: pictures are being made")
            case run.RunPaused():
                self._line("paused")
            case run.RunResumed():
                self._line("going on")
            case run.RunFinished(verdict=verdict):
                self._line(verdict)

    def _line(self, text: str) -> None:
        progress("", last=True)
        print(text, file=sys.stderr, flush=True)
