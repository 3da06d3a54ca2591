"""What the verbs of the Lab have in common: progress, Ctrl+C, the record in the folder of `--out`, and the printed result."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from diffstudio.cli.terminal import print_message, printable, progress, stop_signals
from diffstudio.errors import DiffstudioError

OnProgress: TypeAlias = Callable[[str, int, int], None]  # what is being done, how much is done, of how much
Work: TypeAlias = "Callable[[OnProgress, Callable[[], None], Callable[[], bool]], LabResult]"


SEED_HELP = "of all random numbers (default 0)"
JSON_HELP = "print everything as JSON instead of the table"


class LabResult(Protocol):
    """What the engine of a verb returns."""

    @property
    def problem(self) -> DiffstudioError | None:
        """What could not be measured: it decides the exit code."""

    def to_json(self) -> dict[str, Any]: ...

    def text(self) -> str: ...


def add_device_option(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--device", metavar="NAME", help="cpu, cuda or mps (default: as in the settings)")


def run_verb(arguments: argparse.Namespace, work: Work, folders: Sequence[Path]) -> int:
    """Run the engine of a verb, print its result, and return the exit code.

    `work(on_progress, on_wait, cancelled)` makes the request and calls the engine, so that a mistake in the request is
    recorded too. Nothing is written into the `folders`, whose images it reads. `arguments` has `json`, `out`, and `argv`,
    the arguments of the whole command.
    """
    from diffstudio.studio.evaluations.job_recording import recorded

    verb, *rest = arguments.argv
    shown = _Progress()
    with stop_signals() as stop, recorded(verb, rest, arguments.out, folders) as recording:

        def on_progress(what: str, done: int, total: int) -> None:
            shown(what, done, total)
            recording.progress(what, done, total)

        result = work(on_progress, _show_waiting, lambda: stop.requested)
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

    progress(waiting_text(Lease().holder() or ""), last=True)


class _Progress:
    """One updated line at a terminal; a line for each kind of work, and twice a minute, in a log."""

    def __init__(self) -> None:
        self._last, self._what = -float("inf"), ""

    def __call__(self, what: str, done: int, total: int) -> None:
        if what == self._what and done != total and not self._is_due():
            return
        self._what, self._last = what, time.monotonic()
        progress(f"{printable(what)}, {done:,} of {total:,}" if total else printable(what))

    def _is_due(self) -> bool:
        return time.monotonic() - self._last >= (0.1 if sys.stderr.isatty() else 30)
