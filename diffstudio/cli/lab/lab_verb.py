"""What the verbs of the Lab share: progress, Ctrl+C, the record in the folder of `--out`, and the printed result."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from diffstudio.cli.arguments import as_path, as_text, as_whole_number
from diffstudio.cli.terminal import print_message, printable, progress, read_user_settings, stop_signals
from diffstudio.errors import DiffstudioError

if TYPE_CHECKING:
    from diffstudio.models.library.library import Library

OnProgress: TypeAlias = Callable[[str, int, int], None]  # the current work, items done, items in total


class LabResult(Protocol):
    """The result that the engine of a verb returns."""

    @property
    def problem(self) -> DiffstudioError | None:
        """The error that decides the exit code, if anything could not be measured."""

    def to_json(self) -> dict[str, Any]: ...

    def text(self) -> str: ...


class Engine(Protocol):
    """The function that carries out a verb, with its request already bound by `functools.partial`."""

    def __call__(
        self, library: Library, *, on_progress: OnProgress, on_wait: Callable[[], None], cancelled: Callable[[], bool]
    ) -> LabResult: ...


def add_checkpoint_argument(verb: argparse.ArgumentParser) -> None:
    what = "a name from `models list`, its file, or a run's folder"
    verb.add_argument("checkpoint", metavar="CHECKPOINT", type=as_text, help=what)


def add_json_option(verb: argparse.ArgumentParser, what: str = "print everything as JSON instead of the table") -> None:
    verb.add_argument("--json", action="store_true", help=what)


def add_count_option(verb: argparse.ArgumentParser, what: str, default: int | None = None) -> None:
    verb.add_argument("--count", metavar="N", type=as_whole_number, default=default, help=what)


def add_seed_option(verb: argparse.ArgumentParser, what: str = "random seed (default 0)") -> None:
    verb.add_argument("--seed", metavar="N", type=as_whole_number, default=0, help=what)


def add_features_option(verb: argparse.ArgumentParser, what: str) -> None:
    verb.add_argument("--features", metavar="NAME|PATH", default="auto", type=as_text, help=what)


def add_device_option(verb: argparse.ArgumentParser, use: str = "") -> None:
    verb.add_argument("--device", metavar="NAME", help=f"cpu, cuda or mps{use} (default: as in the settings)")


def add_out_option(verb: argparse.ArgumentParser, what: str, *, required: bool = False) -> None:
    verb.add_argument("--out", metavar="PATH", type=as_path, required=required, help=what)


def run_verb(arguments: argparse.Namespace, prepare: Callable[[str], Engine], inputs: Sequence[Path]) -> int:
    """Run the engine of a verb, print its result, and return the exit code.

    `prepare(device)` builds the request and then imports the engine, which may take seconds; an invalid request is
    recorded too. The engine reads the `inputs`, files and folders, so nothing is written there. `arguments` has `device`, `json`,
    `out`, and `argv`, the whole command line.
    """
    from diffstudio.models.library.library import Library
    from diffstudio.studio.evaluations.job_recording import recorded

    verb, *rest = arguments.argv
    shown = _Progress()
    with stop_signals() as stop, recorded(verb, rest, arguments.out, inputs, print_message) as recording:

        def on_progress(what: str, done: int, total: int) -> None:
            shown(what, done, total)
            recording.progress(what, done, total)

        settings = read_user_settings()
        engine = prepare(arguments.device or settings.device)
        result = engine(
            Library(settings.folders), on_progress=on_progress, on_wait=_show_waiting, cancelled=lambda: stop.requested
        )
        recording.finish(result.problem)
    progress("", last=True)
    if arguments.json:
        print(json.dumps(result.to_json(), indent=1), flush=True)
    else:
        print("\n".join(printable(line) for line in result.text().split("\n")), flush=True)
    if result.problem is not None:
        return print_message(str(result.problem), result.problem.exit_code)
    return 0


def _show_waiting() -> None:
    from diffstudio.models.memory.lease import Lease
    from diffstudio.studio.runs.status import waiting_text

    progress(waiting_text(Lease().waits_for() or ""), last=True)


class _Progress:
    """Progress: one updated line in a terminal; in a log, a line for each kind of work and then two a minute."""

    def __init__(self) -> None:
        self._last, self._what = -float("inf"), ""

    def __call__(self, what: str, done: int, total: int) -> None:
        if what == self._what and done != total and not self._is_due():
            return
        self._what, self._last = what, time.monotonic()
        progress(f"{printable(what)}, {done:,} of {total:,}" if total else printable(what))

    def _is_due(self) -> bool:
        return time.monotonic() - self._last >= (0.1 if sys.stderr.isatty() else 30)
