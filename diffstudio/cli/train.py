"""The verb `diffstudio train`."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from diffstudio import paths
from diffstudio.cli.arguments import Verbs, as_number, as_path, as_text, as_whole_number
from diffstudio.cli.terminal import duration, progress, stop_signals
from diffstudio.errors import BadRequest, Interrupted
from diffstudio.studio.requests import TrainRequest

if TYPE_CHECKING:
    from diffstudio.training.run.events import RunEvent


def add_train(verbs: Verbs) -> None:
    verb = verbs.add_parser(
        "train",
        help="train a model from scratch on a folder of images",
        allow_abbrev=False,
        description="Train a model from scratch on a folder of images. Ctrl+C stops after writing a checkpoint; --resume "
        "continues from there.",
    )
    verb.add_argument(
        "folder",
        metavar="FOLDER",
        nargs="?",
        type=as_path,
        help="folder of images, with captions beside them or with one sub-folder for each class",
    )
    verb.add_argument(
        "--recipe",
        metavar="NAME|FILE.toml",
        default="auto",
        type=as_text,
        help="a recipe that ships with diffstudio or a .toml file (default auto: chosen to suit the folder)",
    )
    verb.add_argument("--run", metavar="PATH", type=as_path, help="run folder (default: a new one)")
    verb.add_argument("--steps", metavar="N", type=as_whole_number, help="training steps (default: the recipe's)")
    verb.add_argument("--minutes", metavar="M", type=as_number, help="train for this time instead of a number of steps")
    verb.add_argument("--resume", action="store_true", help="resume the run in --run")
    verb.add_argument(
        "--dry-run",
        "--inspect",
        action="store_true",
        help="print what the folder holds, what is left out and why, and the recipe; train nothing",
    )
    verb.add_argument("--json", action="store_true", help="with --dry-run: print it as JSON")
    verb.set_defaults(do=_train)


def _train(arguments: argparse.Namespace) -> int:
    from diffstudio.training.run.events import RunStarted, RunStopped
    from diffstudio.training.run.run_folder import Command, RunFolder

    request = TrainRequest(
        folder=arguments.folder,
        recipe=arguments.recipe,
        run=arguments.run,
        steps=arguments.steps,
        minutes=arguments.minutes,
        resume=arguments.resume,
    )
    if arguments.json and not arguments.dry_run:
        raise BadRequest("--json prints the report of --dry-run", remedy="Add --dry-run, or omit --json")
    if arguments.dry_run:
        return _dry_run(request, as_json=arguments.json)
    if request.resume and request.run is None:
        raise BadRequest("--resume needs a run", remedy="Give its folder with --run")
    if request.resume and (request.steps is not None or request.minutes is not None):
        raise BadRequest(
            "The length of a resumed run cannot be changed",
            "its learning-rate schedule depends on it",
            "Omit --steps and --minutes, or start a new run",
        )
    path = request.run if request.run is not None else _new_run(request.folder or Path())
    seen: list[RunEvent] = []
    show = _TrainingProgress()

    def ask_to_stop() -> None:
        if (path / "control.json").exists():  # before it exists, `cancelled` ends the setup
            RunFolder(path).send(Command.STOP)

    def on_event(event: RunEvent) -> None:
        seen[:] = [event]
        if stop.requested and isinstance(event, RunStarted):  # starting the run has overwritten an earlier command
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
            cancelled=lambda: stop.requested,
        )
    progress("", last=True)
    if run.latest_checkpoint.exists():
        print(run.latest_checkpoint, flush=True)
    if stop.requested and seen and isinstance(seen[-1], RunStopped):
        raise Interrupted(
            f"Stopped at step {seen[-1].step:,}", remedy=f"Resume it with `diffstudio train --resume --run {run.path}`"
        )
    return 0


def _dry_run(request: TrainRequest, *, as_json: bool) -> int:
    from diffstudio.cli.dry_run import dry_run

    if request.folder is None or request.resume:
        raise BadRequest("--dry-run inspects a folder of images", remedy="Give the folder, without --resume")
    return dry_run(request.folder, request.recipe, request.minutes, as_json=as_json)


def _new_run(folder: Path) -> Path:
    name = f"{folder.resolve().name or 'run'}-{time.strftime('%Y%m%d-%H%M%S')}"
    run, number = paths.runs() / name, 1
    while run.exists():
        number += 1
        run = paths.runs() / f"{name}-{number}"
    return run


# Progress


class _TrainingProgress:
    """Prints training events: steps on one updated line at a terminal, twice a minute in a log; others on their own."""

    def __init__(self) -> None:
        self._last = 0.0

    def __call__(self, event: RunEvent) -> None:
        from diffstudio.training.run import events as run

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
                self._line("waiting: images are being generated")
            case run.RunPaused():
                self._line("paused")
            case run.RunResumed():
                self._line("resumed")
            case run.RunFinished(verdict=verdict):
                self._line(verdict)

    def _line(self, text: str) -> None:
        progress("", last=True)
        print(text, file=sys.stderr, flush=True)
