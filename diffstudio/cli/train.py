"""The verb `diffstudio train`."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from diffstudio import paths
from diffstudio.cli.arguments import Parser, as_number, as_path, as_text, as_whole_number
from diffstudio.cli.terminal import duration, print_message, printable, progress, stop_signals
from diffstudio.errors import BadRequest, FolderProblem, Interrupted
from diffstudio.studio.number_text import formatted
from diffstudio.studio.requests import TrainRequest
from diffstudio.training.distributed.cluster import ALL_DEVICES, PORT, Address, torchrun_rank

if TYPE_CHECKING:
    from diffstudio.training.run.events import RunEvent


def add_arguments(verb: Parser) -> None:
    verb.description = (
        "Train a model on a folder of images, from scratch or from a checkpoint. Ctrl+C stops after writing a checkpoint; --resume "
        "continues from there."
    )
    _add_run(verb)
    _add_starting_point(verb)
    verb.add_argument("--disk", action="store_true", help="show the disk space that runs and caches use, and exit")
    verb.add_argument(
        "--clear-cache", action="store_true", help="delete prepared images, which are made again when needed, and exit"
    )
    _add_processes(verb)
    verb.set_defaults(do=_train)


def _add_run(verb: Parser) -> None:
    verb.add_argument(
        "folder",
        metavar="FOLDER",
        nargs="?",
        type=as_path,
        help="folder of images, with captions beside them or with one subfolder for each class",
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


def _add_starting_point(verb: Parser) -> None:
    verb.add_argument(
        "--continue",
        dest="continued",
        metavar="RUN",
        type=as_path,
        help="train a run, also a finished one, for --steps or --minutes longer",
    )
    verb.add_argument(
        "--folder",
        dest="moved_to",
        metavar="NEW",
        type=as_path,
        help="where the images of a resumed run are now, if their folder was moved or renamed",
    )
    verb.add_argument(
        "--from",
        dest="start_from",
        metavar="CHECKPOINT",
        type=as_text,
        help="fine-tune a checkpoint trained here, the latest one of a run's folder, `starter` or `four-styles`; `none` trains "
        "from scratch (default: the recipe's)",
    )


def _add_processes(verb: Parser) -> None:
    verb.add_argument(
        "--processes",
        metavar="N",
        type=_as_processes,
        default=1,
        help="train with this many processes on this machine, or `all`: one for each GPU (default 1)",
    )
    verb.add_argument(
        "--machines",
        metavar="N",
        type=as_whole_number,
        default=1,
        help="wait for other machines, which join with --join, so that there are this many (default 1)",
    )
    verb.add_argument("--port", metavar="P", type=as_whole_number, help="where they join (default 29500)")
    verb.add_argument(
        "--join",
        metavar="HOST:PORT",
        type=as_text,
        help="help to train a run that waits at this address; FOLDER has the images on this machine",
    )


def _train(arguments: argparse.Namespace) -> int:
    from diffstudio.training.run.events import RunStarted, RunStopped
    from diffstudio.training.run.run_folder import Command, RunFolder

    if arguments.disk or arguments.clear_cache:
        return _show_disk(clear=arguments.clear_cache)
    if arguments.join is not None or (torchrun_rank() or 0) > 0:
        return _join(arguments)
    request = _request(arguments)
    if arguments.json and not arguments.dry_run:
        raise BadRequest("--json prints the report of --dry-run", remedy="Add --dry-run, or omit --json")
    if arguments.dry_run:
        return _dry_run(request, as_json=arguments.json)
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
        if isinstance(event, RunStarted) and event.step == 0 and (path / "folder.json").exists():
            print(
                f"What is left out of the folder, and why: {printable(str(path / 'folder.json'))}",
                file=sys.stderr,
                flush=True,
            )

    cluster = request.cluster
    with stop_signals(ask_to_stop) as stop:
        from diffstudio.training.loop import train

        with _folder_can_be_given(request):
            run = train(
                path,
                request.folder,
                recipe=request.recipe,
                steps=request.steps,
                minutes=request.minutes,
                resume=request.resume,
                start_from=request.start_from,
                on_event=on_event,
                cancelled=lambda: stop.requested,
                cluster=cluster,
            )
    progress("", last=True)
    if run.latest_checkpoint.exists():
        print(run.latest_checkpoint, flush=True)
    if stop.requested and seen and isinstance(seen[-1], RunStopped):
        raise Interrupted(
            f"Stopped at step {seen[-1].step:,}",
            remedy=f"Resume it with `diffstudio train --resume --run {shlex.quote(str(run.path))}`",
        )
    return 0


@contextlib.contextmanager
def _folder_can_be_given(request: TrainRequest) -> Iterator[None]:
    """Names the option in the remedy of a resumed run whose images are not found."""
    try:
        yield
    except FolderProblem as error:
        if not request.resume or request.run is None or request.folder is not None or _images_are_there(request.run):
            raise
        raise FolderProblem(error.what, error.why, f"{error.remedy}: give it with --folder") from error


def _join(arguments: argparse.Namespace) -> int:
    from diffstudio.training.loop import join

    address = Address.parse(arguments.join) if arguments.join is not None else None
    folder, stops = arguments.folder or arguments.moved_to, contextlib.ExitStack()

    def stop_by_signal(ask: Callable[[], None]) -> None:
        """From now on Ctrl+C stops the whole run; before, it ends the waiting."""
        print("Training begins. Ctrl+C stops it on all machines.", file=sys.stderr, flush=True)
        stops.enter_context(stop_signals(ask))

    with stops:
        join(address, folder, processes=arguments.processes, on_event=_TrainingProgress(), on_ready=stop_by_signal)
    return 0


def _as_processes(text: str) -> int:
    return ALL_DEVICES if text == "all" else as_whole_number(text)


def _dry_run(request: TrainRequest, *, as_json: bool) -> int:
    from diffstudio.cli.dry_run import dry_run

    if request.folder is None or request.resume:
        raise BadRequest("--dry-run inspects a folder of images", remedy="Give the folder, without --resume")
    return dry_run(
        request.folder, request.recipe, request.minutes, request.start_from, steps=request.steps, as_json=as_json
    )


def _request(arguments: argparse.Namespace) -> TrainRequest:
    """BadRequest for options that contradict each other."""
    resume = arguments.resume or arguments.continued is not None
    if arguments.moved_to is not None and not resume:
        raise BadRequest(
            "--folder is for a run that is resumed",
            remedy="Give the folder of a new run without it, as the first argument",
        )
    if arguments.resume and arguments.continued is not None:
        raise BadRequest("Both --resume and --continue were given", remedy="Use --continue alone to train for longer")
    if resume and arguments.start_from is not None:
        raise BadRequest("--from is for a new run", "a resumed run has weights of its own", "Omit --from")
    request = TrainRequest(
        folder=arguments.moved_to if resume else arguments.folder,
        recipe=arguments.recipe,
        run=arguments.continued or arguments.run,
        steps=arguments.steps,
        minutes=arguments.minutes,
        resume=resume,
        start_from=arguments.start_from,
        processes=arguments.processes,
        machines=arguments.machines,
        port=arguments.port if arguments.port is not None else PORT,
    )
    if request.resume and request.run is None:
        raise BadRequest("--resume needs a run", remedy="Give its folder with --run")
    if request.resume and request.run is not None and arguments.folder is not None and not arguments.dry_run:
        _check_its_folder(request.run, arguments.folder)
    is_longer = request.steps is not None or request.minutes is not None
    if arguments.resume and is_longer:
        raise BadRequest(
            "The length of a resumed run cannot be changed",
            "its learning-rate schedule depends on it",
            "Omit --steps and --minutes, or train it for longer with --continue",
        )
    if arguments.continued is not None and not is_longer:
        raise BadRequest("It was not said for how long to train", remedy="Give --steps or --minutes")
    return request


def _show_disk(clear: bool) -> int:
    from diffstudio.studio.runs.disk import clear_prepared_images, disk_use

    cleared = clear_prepared_images() if clear else None
    if cleared is not None and (cleared.freed or cleared.problem is None):
        print(f"{cleared.freed / 2**20:,.0f} MiB of prepared images deleted")
    used = disk_use(paths.runs())
    for path, size in used.runs:
        print(f"{size / 2**20:>10,.0f} MiB  {path}")
    print(f"{used.prepared / 2**20:>10,.0f} MiB  prepared images ({paths.cache() / 'pictures'})")
    print(f"{used.free / 2**20:>10,.0f} MiB  free")
    if cleared is not None and cleared.problem is not None:
        return print_message(str(cleared.problem), cleared.problem.exit_code)
    return 0


def _images_are_there(path: Path) -> bool:
    from diffstudio.studio.evaluations.subjects import folder_of
    from diffstudio.training.run.run_folder import RunFolder

    folder = folder_of(RunFolder.open(path))
    return folder is None or folder.is_dir()


def _check_its_folder(path: Path, images: Path) -> None:
    """BadRequest where a run that is resumed was started on another folder than this one. RunProblem without a run."""
    from diffstudio.studio.evaluations.subjects import folder_of
    from diffstudio.training.run.run_folder import RunFolder

    known = folder_of(RunFolder.open(path))
    if known != images.resolve():
        raise BadRequest(
            f"The run {path.name} was not started on {images}",
            f"its images are in {known}",
            f"Omit the folder or, if they were moved there, give it as --folder {shlex.quote(str(images))}",
        )


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
        self._measure = "held-out loss"

    def __call__(self, event: RunEvent) -> None:
        from diffstudio.training.run import events as run
        from diffstudio.training.run.verdict import held_out_measure

        match event:
            case run.RunStep(
                step=step, steps=steps, loss=loss, images_per_second=speed, left_seconds=left, splits=splits
            ):
                if sys.stderr.isatty() or time.monotonic() - self._last >= 30 or step == steps:
                    self._last = time.monotonic()
                    what = "cross-validation, step" if splits else "step"
                    progress(
                        f"{what} {step:,} of {steps:,}, loss {formatted(loss, '.4f')}, {speed:.0f} images/s, {duration(left)} left"
                    )
            case run.RunPreparing(done=done, images=images):
                if sys.stderr.isatty() or time.monotonic() - self._last >= 30:
                    self._last = time.monotonic()
                    progress(f"decoding image {done:,} of {images:,}", last=done == images)
            case run.RunComparing(done=done, images=images):
                if sys.stderr.isatty() or done in (0, images) or time.monotonic() - self._last >= 30:
                    self._last = time.monotonic()
                    progress(f"comparing checkpoints, image {done:,} of {images:,}", last=done == images)
            case run.RunStarted(why=why, images=images, parameters=parameters, objective=objective):
                self._measure = held_out_measure(objective).removeprefix("the ")
                self._line(f"{images:,} image{'s' if images != 1 else ''}, {parameters / 1e6:.1f} M parameters. {why}")
            case run.RunHeldOut(step=step, loss=loss, upper_loss=upper, splits=splits):
                more = "" if upper is None else f", of the upper level {upper:.4f}"
                what = f"cross-validated loss of {splits} folds" if splits else self._measure
                self._line(f"step {step:,}: {what} {formatted(loss, '.4f')}{more}")
            case run.RunSamples(step=step, ema=ema):
                self._line(f"step {step:,}: samples in {ema}")
            case run.RunVerdict(step=step, sentence=sentence):
                self._line(f"step {step:,}: {sentence}")
            case (
                run.RunRolledBack(why=why)
                | run.RunEarlyDecay(why=why)
                | run.RunEarlyStop(why=why)
                | run.RunCheckpointChosen(why=why)
                | run.RunCrossValidated(why=why)
            ):
                self._line(why)
            case run.RunWaiting(holder=holder, machines=machines, join_command=command):
                from diffstudio.studio.runs.status import waiting_text

                self._line("; enter there: ".join(filter(None, (waiting_text(holder, machines), command))))
            case run.RunPaused():
                self._line("paused")
            case run.RunResumed():
                self._line("resumed")
            case run.RunFinished(verdict=verdict, evidence=evidence):
                self._line("\n".join([verdict, *(f"  {sentence}" for sentence in evidence)]))

    def _line(self, text: str) -> None:
        progress("", last=True)
        print(text, file=sys.stderr, flush=True)
