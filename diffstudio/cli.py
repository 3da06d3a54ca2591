"""The command line: the same verbs and the same requests as the window, without a screen.

Results go to standard output, progress and problems to standard error. Whatever a person can get wrong ends in a
sentence and a non-zero exit. Nothing heavy is imported before a verb needs it.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import diffstudio
from diffstudio import paths
from diffstudio.cli_control import add_controls, controls_of
from diffstudio.cli_models import add_models
from diffstudio.cli_pictures import add_upscale, make
from diffstudio.errors import BadRequest, DiffstudioError, Stopped
from diffstudio.studio.requests import (
    LANCZOS,
    LATENT,
    FillName,
    GenerateRequest,
    ResizeName,
    SamplerName,
    SpacingName,
    TrainRequest,
)
from diffstudio.terminal import duration, keep_the_log_in_a_file, log_file, progress, say, stop_signals, take_any_name

if TYPE_CHECKING:
    from diffstudio.training.run_folder import RunEvent


def main(argv: Sequence[str]) -> int:
    """Do what the arguments say; the exit code. Without a verb the window opens."""
    keep_the_log_in_a_file()
    take_any_name()
    try:
        arguments = _parser().parse_args(argv)
        return int(arguments.do(arguments))
    except DiffstudioError as error:
        return say(str(error), error.exit_code)
    except KeyboardInterrupt:
        return say("Stopped.", Stopped.exit_code)
    except BrokenPipeError:  # whoever read our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except MemoryError:
        return say("There was not enough memory. Close other programs, or make fewer or smaller pictures.", 1)
    except OSError as error:
        return say(f"A file could not be read or written: {error}. Check the place and the space on the disk.", 1)
    except Exception as error:  # noqa: BLE001 - the roof: whatever else it is, a person gets a sentence
        return say(_reported(error), 1)


def _reported(error: Exception) -> str:
    """A mistake of ours: keep all there is to know in the log, and say where it is."""
    logging.getLogger(__name__).error("Unexpected", exc_info=error)
    return (
        f"Something went wrong inside diffstudio ({type(error).__name__}: {str(error)[:300]}). "
        f"Please report it with the end of {log_file()}."
    )


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="diffstudio",
        description="Make images on your own machine with diffusion models. Without a verb the window opens.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"diffstudio {diffstudio.__version__}")
    parser.set_defaults(do=_window)
    verbs = parser.add_subparsers(title="verbs", metavar="VERB")
    _add_generate(verbs)
    add_upscale(verbs, _text, _path, _whole, _number)
    _add_train(verbs)
    add_models(verbs, _text, _path, _number)
    return parser


def _add_generate(verbs: Any) -> None:
    usual = GenerateRequest()
    verb = verbs.add_parser(
        "generate",
        help="make pictures from a prompt",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
        description="Make pictures from a prompt and print where they were written.",
    )
    verb.add_argument("prompt", metavar="PROMPT", type=_text, help="what the picture shows")
    verb.add_argument("--negative", metavar="T", type=_text, help="what it should not show")
    verb.add_argument(
        "--checkpoint",
        metavar="NAME|PATH",
        type=_text,
        help=f"a name from `models list`, or a file (default {usual.checkpoint})",
    )
    verb.add_argument(
        "--vae", metavar="NAME|PATH", type=_text, help="an autoencoder to use in place of the checkpoint's own"
    )
    verb.add_argument("--seed", metavar="N", type=_whole, help="the same seed makes the same picture (default 0)")
    verb.add_argument("--steps", metavar="N", type=_whole, help=f"default {usual.steps}")
    verb.add_argument("--sampler", metavar="NAME", help=f"{', '.join(SamplerName)} (default {usual.sampler})")
    verb.add_argument("--spacing", metavar="NAME", help=f"{', '.join(SpacingName)} (default {usual.spacing})")
    verb.add_argument(
        "--guidance", metavar="X", type=_number, help=f"how closely the prompt is followed (default {usual.guidance:g})"
    )
    verb.add_argument(
        "--guide-last-call",
        action="store_true",
        help="guide the last call of the network too, as version 0.1 did for checkpoints trained here (grainier)",
    )
    verb.add_argument("--width", metavar="N", type=_whole, help="px; the checkpoint's own unless given")
    verb.add_argument("--height", metavar="N", type=_whole, help="px; the checkpoint's own unless given")
    verb.add_argument("--count", metavar="N", type=_whole, help="how many pictures; image i has seed + i (default 1)")
    verb.add_argument("--init", metavar="IMAGE", type=_path, help="a picture to start from")
    verb.add_argument(
        "--strength", metavar="X", type=_number, help="how far from that picture: just above 0 to 1 (default 1)"
    )
    verb.add_argument("--mask", metavar="IMAGE", type=_path, help="white is painted anew, black is kept")
    verb.add_argument(
        "--resize", metavar="NAME", help=f"how the picture comes to its size: {', '.join(ResizeName)} (default crop)"
    )
    verb.add_argument(
        "--fill", metavar="NAME", help=f"what lies under the mask: {', '.join(FillName)} (default original)"
    )
    verb.add_argument("--feather", metavar="PX", type=_whole, help="px over which what is painted fades in (default 0)")
    verb.add_argument(
        "--masked-only", action="store_true", help="make the part around the mask at full size; the rest keeps its own"
    )
    verb.add_argument(
        "--padding", metavar="PX", type=_whole, help=f"what is seen around the mask then (default {usual.padding})"
    )
    verb.add_argument(
        "--outpaint", metavar="L,T,R,B", type=_sides, help="px to paint around the picture: left, top, right, bottom"
    )
    add_controls(verb, _text, _path, _number)
    verb.add_argument("--enlarge", metavar="X", type=_number, help="make each so many times larger in a second pass")
    verb.add_argument(
        "--upscaler",
        metavar="NAME",
        type=_text,
        help=f"what enlarges it: {LANCZOS}, {LATENT}, or an upscaler's name (default {usual.upscaler})",
    )
    verb.add_argument(
        "--enlarge-strength",
        metavar="X",
        type=_number,
        help=f"how far that pass goes from it: just above 0 to 1 (default {usual.enlarge_strength:g})",
    )
    verb.add_argument(
        "--enlarge-steps", metavar="N", type=_whole, help="steps of that pass (default: as many as --steps)"
    )
    verb.add_argument(
        "--enlarge-guidance",
        metavar="X",
        type=_number,
        help="guidance of that pass (default: as --guidance; 0 for checkpoints trained here: by what is there)",
    )
    verb.add_argument(
        "--tiled", action="store_true", help="that pass in windows, also where the checkpoint could do it whole"
    )
    verb.add_argument(
        "--out",
        metavar="PATH",
        type=_path,
        required=True,
        help="a .png, a pattern with {seed} or {number}, or a folder",
    )
    verb.set_defaults(do=_generate)


def _add_train(verbs: Any) -> None:
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
        type=_path,
        help="pictures, with .txt captions beside them or in sub-folders that name their class",
    )
    verb.add_argument(
        "--recipe",
        metavar="NAME|FILE.toml",
        default="auto",
        type=_text,
        help="default auto: chosen from what the folder holds",
    )
    verb.add_argument("--run", metavar="PATH", type=_path, help="the run's own folder; a new one unless given")
    verb.add_argument("--steps", metavar="N", type=_whole, help="how long, in steps; the recipe's own unless given")
    verb.add_argument("--minutes", metavar="M", type=_number, help="how long, in minutes")
    verb.add_argument("--resume", action="store_true", help="go on with the run in --run")
    verb.set_defaults(do=_train)


# The verbs


def _window(arguments: argparse.Namespace) -> int:
    try:
        from diffstudio.ui.app import main as open_window
    except ImportError as error:
        raise DiffstudioError(
            "The window cannot open",
            f"{error}",
            "Run `python3 packaging/bootstrap.py run`, which installs what is missing",
        ) from error
    return open_window([])


def _generate(arguments: argparse.Namespace) -> int:
    from diffstudio.models.library import Library
    from diffstudio.studio.settings import load_settings

    names = {field.name for field in dataclasses.fields(GenerateRequest)}
    asked = {name: value for name, value in vars(arguments).items() if name in names}
    if "strength" in asked and "init" not in asked:
        raise BadRequest(
            "A strength was given without a picture",
            "it says how far to go from one",
            "Give the picture to start from with --init",
        )
    about_mask = sorted({"fill", "feather", "masked_only", "padding"} & asked.keys())
    if about_mask and not {"mask", "outpaint"} & asked.keys():
        raise BadRequest(
            f"--{about_mask[0].replace('_', '-')} was given without a mask",
            remedy="Give one with --mask, or --outpaint",
        )
    about_larger = sorted({"upscaler", "enlarge_strength", "enlarge_steps", "enlarge_guidance", "tiled"} & asked.keys())
    if about_larger and not asked.get("enlarge", 1) > 1:
        raise BadRequest(
            f"--{about_larger[0].replace('_', '-')} was given, and nothing is enlarged",
            remedy="Say how many times larger with --enlarge",
        )
    request = GenerateRequest(**asked, controls=controls_of(arguments))
    settings = load_settings()
    library = Library(settings.folders)
    for name in filter(None, (request.checkpoint, request.vae)):
        library.find(name)  # before anything heavy is loaded
    return make(request, arguments.out, library, settings)


def _train(arguments: argparse.Namespace) -> int:
    from diffstudio.training.run_folder import Command, RunFolder, RunStarted, RunStopped

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
        raise Stopped(
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
        from diffstudio.training import run_folder as run

        match event:
            case run.RunStep(step=step, steps=steps, loss=loss, pictures_per_second=speed, left_seconds=left):
                if sys.stderr.isatty() or time.monotonic() - self._last >= 30 or step == steps:
                    self._last = time.monotonic()
                    progress(
                        f"step {step:,} of {steps:,}, loss {loss:.4f}, {speed:.0f} pictures a second, "
                        f"{duration(left)} left"
                    )
            case run.RunPreparing(done=done, pictures=pictures):
                if sys.stderr.isatty() or time.monotonic() - self._last >= 30:
                    self._last = time.monotonic()
                    progress(f"preparing picture {done:,} of {pictures:,}", last=done == pictures)
            case run.RunStarted(why=why, pictures=pictures, parameters=parameters):
                self._line(
                    f"{pictures:,} picture{'s' if pictures != 1 else ''}, {parameters / 1e6:.1f} M parameters. {why}"
                )
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


# Arguments


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, without repeating the usage."""

    def error(self, message: str) -> NoReturn:
        verb = self.prog.removeprefix("diffstudio").strip()
        ask = f"diffstudio {verb} --help".replace("  ", " ")
        raise BadRequest(message[:1].upper() + message[1:300].rstrip("."), remedy=f"`{ask}` tells more")


def _text(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(f"{text[:40]!a} is not text in UTF-8") from None
    return text


def _path(text: str) -> Path:
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError("a path is needed and there is none")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise argparse.ArgumentTypeError(f"the home folder in {text[:80]!r} is not known here") from None


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        if len(text) > 40 and text.isdecimal():
            raise argparse.ArgumentTypeError(f"a number of {len(text):,} digits is too large") from None
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a whole number") from None


def _sides(text: str) -> tuple[int, ...]:
    sides = tuple(_whole(side) for side in text.split(","))
    if len(sides) != 4:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not four numbers with commas between them")
    return sides


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a number") from None
