"""The verb `diffstudio models ema`: a run's checkpoint with an average of another length."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from diffstudio.cli.arguments import as_number, as_path, as_whole_number
from diffstudio.cli.terminal import print_message, printable, progress, stop_signals
from diffstudio.cli.weights import Add
from diffstudio.errors import BadRequest
from diffstudio.plurals import count_of

if TYPE_CHECKING:
    from diffstudio.studio.evaluations.averages import Averages
    from diffstudio.studio.evaluations.job_recording import JobRecording
    from diffstudio.training.post_hoc_ema import AveragedRun


_MOST_SAMPLES = 1000


def add_post_hoc_ema(add: Add) -> None:
    verb = add("ema", "write a run's checkpoint with an EMA of another length, rebuilt from its snapshots", _ema)
    verb.description = (
        "Rebuild the average of a run's weights with any length after training (post-hoc EMA, arXiv 2312.02696). Its recipe "
        "must have stored snapshots (run.ema_snapshots). The length, sigma_rel, is the standard deviation of the averaged "
        "times relative to the training time: 0.05 averages mostly the last tenth."
    )
    verb.add_argument(
        "run", metavar="RUN|CHECKPOINT", type=as_path, help="the folder of a run, or one of its checkpoints"
    )
    chosen = verb.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--length", metavar="X", type=as_number, help="sigma_rel, from 0.005 to 0.25")
    chosen.add_argument("--best", action="store_true", help="the length with the lowest held-out loss")
    instead = verb.add_mutually_exclusive_group()
    instead.add_argument("--measure", action="store_true", help="measure the held-out loss and write no checkpoint")
    instead.add_argument(
        "--samples", metavar="N", type=as_whole_number, help="generate N samples in --out and write no checkpoint"
    )
    verb.add_argument(
        "--out",
        metavar="PATH",
        type=as_path,
        help="the new file (default: RUN-ema-LENGTH in the models folder); with --measure or --samples, a folder",
    )


def _ema(arguments: argparse.Namespace) -> int:
    from diffstudio.atomic import write_text
    from diffstudio.studio.evaluations.averages import RESULT
    from diffstudio.studio.evaluations.job_folder import JobFolder, is_job
    from diffstudio.studio.evaluations.job_recording import recorded
    from diffstudio.studio.requests.checks import check_numbers
    from diffstudio.training.run.run_folder import Command

    out: Path | None = arguments.out
    if arguments.samples is not None:
        check_numbers(("number of samples", arguments.samples, 1, _MOST_SAMPLES))
    if arguments.samples is not None and out is None:
        raise BadRequest("There is no folder for the samples", remedy="Name one with --out")
    folder = out if out is not None and (arguments.measure or arguments.samples or is_job(out)) else None
    verb, *rest = arguments.argv
    with stop_signals() as stop, recorded(verb, rest, folder, (), print_message) as recording:

        def cancelled() -> bool:
            return stop.requested or (folder is not None and JobFolder(folder).command() is Command.STOP)

        found = _found(arguments, None if folder is not None else out, folder, recording, cancelled)
        if folder is not None:
            write_text(folder / RESULT, json.dumps(found.to_json(), indent=1))
        recording.finish()
    progress("", last=True)
    if arguments.best or arguments.measure:
        print("length  held-out loss")
        for one, loss in found.losses.items():
            lowest = len(found.losses) > 1 and one == found.length
            print(f"{one:6g}  {loss:.5f}{'  the lowest' if lowest else ''}")
    if found.checkpoint:
        print(printable(found.checkpoint))
    for name in found.samples:
        print(printable(str((folder or Path()) / name)))
    return 0


def _found(
    arguments: argparse.Namespace,
    target: Path | None,
    folder: Path | None,
    recording: JobRecording,
    cancelled: Callable[[], bool],
) -> Averages:
    """Measure, and write what was asked for."""
    from diffstudio import paths
    from diffstudio.studio.evaluations.averages import Averages
    from diffstudio.training.post_hoc_ema import CANDIDATES, averaged_run, check_length, write_checkpoint

    length: float | None = arguments.length
    if length is not None:
        check_length(length)
    if target is not None and target.exists():
        raise BadRequest(f"{target} exists already", remedy="Choose another name with --out")
    of = averaged_run(arguments.run)
    print(printable(f"{of.run.name}, averages at step {of.step:,}"))
    losses: dict[float, float] = {}
    if length is None or arguments.measure:
        losses = _losses(of, CANDIDATES if length is None else (length,), recording, cancelled)
        length = min(losses, key=lambda one: losses[one])
    if arguments.samples:
        assert folder is not None
        return Averages(losses, length, samples=_drawn(of, length, arguments.samples, folder, recording, cancelled))
    if arguments.measure:
        return Averages(losses, length)
    target = target or paths.checkpoints() / f"{of.run.name}-ema-{length:g}.safetensors"
    return Averages(losses, length, str(write_checkpoint(of, length, target)))


def _losses(
    of: AveragedRun, lengths: Sequence[float], recording: JobRecording, cancelled: Callable[[], bool]
) -> dict[float, float]:
    from diffstudio.training.post_hoc_ema import held_out_losses

    losses: dict[float, float] = {}
    recording.progress("Opening the run", 0, len(lengths))
    for one, loss in held_out_losses(of, lengths, cancelled):
        losses[one] = loss
        progress(f"measured {len(losses)} of {count_of(len(lengths), 'length')}")
        recording.progress("Measuring the held-out loss", len(losses), len(lengths))
    return losses


def _drawn(
    of: AveragedRun, length: float, count: int, folder: Path, recording: JobRecording, cancelled: Callable[[], bool]
) -> tuple[str, ...]:
    """The names of the samples' files in the folder."""
    from diffstudio.training.post_hoc_ema import averaging
    from diffstudio.training.run.sample_sheets import write_sheet

    recording.progress("Opening the run", 0, 0)
    with averaging(of, cancelled) as average:
        images = average.samples(length, count, lambda: recording.progress("Drawing samples", 0, 0))
    names = tuple(f"sample-{index}.png" for index in range(1, len(images) + 1))
    for name, image in zip(names, images, strict=True):
        write_sheet(image, folder / name)
    return names
