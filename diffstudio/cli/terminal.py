"""Terminal output of the command line: a progress line, messages, signals, and the log file."""

from __future__ import annotations

import codecs
import contextlib
import io
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from diffstudio import paths

if TYPE_CHECKING:
    from diffstudio.studio.settings import Settings

_STANDARD_ERROR = 2  # the number of its file
_PLAINER = "diffstudio-plainer"  # the name of what replaces characters that cannot be encoded
_PLAIN_SIGNS = {"−": "-", "×": "x", "∞": "inf", "–": "-", "…": "...", "·": "-", "≈": "about ", "“": '"', "”": '"'}
_unfinished_line = False  # whether the cursor is at the end of a progress line
_last_line = ""  # of progress, when not at a terminal
_settings_problem = ""  # that was printed


def open_closed_streams() -> None:
    """Let what is printed vanish where the caller has closed a standard stream, for which Python has None.

    No file that is opened later takes a closed stream's number, which would mix what libraries print into it.
    """
    if None not in (sys.stdin, sys.stdout, sys.stderr):
        return
    while (number := os.open(os.devnull, os.O_RDWR)) <= _STANDARD_ERROR:
        os.set_inheritable(number, True)
    os.close(number)
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def progress(text: str, *, last: bool = False) -> None:
    """A line that the next one overwrites at a terminal; plain lines otherwise."""
    global _unfinished_line, _last_line
    if sys.stderr.isatty():
        if text:
            sys.stderr.write(f"\r\x1b[K{text}")
            _unfinished_line = True
        if last and _unfinished_line:
            sys.stderr.write("\n")
            _unfinished_line = False
        sys.stderr.flush()
    elif text and text != _last_line:
        print(text, file=sys.stderr, flush=True)
        _last_line = text


def printable(text: str) -> str:
    """Text from files without control characters, which could move the cursor or change colours."""
    return "".join(letter if letter.isprintable() or "\udc80" <= letter <= "\udcff" else "\ufffd" for letter in text)


def allow_undecodable_names() -> None:
    """Print undecodable file names as their bytes on standard output, and unencodable characters as plainer ones."""
    for stream, errors in ((sys.stdout, "surrogateescape"), (sys.stderr, _PLAINER)):
        if isinstance(stream, io.TextIOWrapper):
            utf_8 = stream.encoding.lower().replace("-", "") == "utf8"
            stream.reconfigure(errors=errors if utf_8 else _PLAINER)


def _plainer(error: UnicodeError) -> tuple[str | bytes, int]:
    """`-0.3` and `0.5 x` where the encoding of a terminal has no minus and multiplication signs; escapes for the rest."""
    if isinstance(error, UnicodeEncodeError) and (found := _PLAIN_SIGNS.get(error.object[error.start])):
        return found, error.start + 1
    return codecs.backslashreplace_errors(error)


codecs.register_error(_PLAINER, _plainer)


def duration(seconds: float) -> str:
    if not 0 <= seconds < 1e9:
        return "?"
    minutes, hours = int(seconds // 60) % 60, int(seconds // 3600)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{seconds:.0f} s"


def print_message(sentence: str, exit_code: int = 0) -> int:
    """Print a sentence on standard error; returns `exit_code`. Never raises."""
    progress("", last=True)
    shown = " ".join(f"diffstudio: {sentence}".split())
    encoding = sys.stderr.encoding or "utf-8"
    with contextlib.suppress(OSError, ValueError):
        print(shown.encode(encoding, _PLAINER).decode(encoding), file=sys.stderr, flush=True)
    return exit_code


def read_user_settings() -> Settings:
    """The user's settings; what of them could not be read is printed, once."""
    from diffstudio.studio.settings import read_settings

    global _settings_problem
    loaded = read_settings()
    if loaded.problem and loaded.problem != _settings_problem:
        print_message(loaded.problem)
    _settings_problem = loaded.problem
    return loaded.state


def log_file() -> Path:
    return paths.data() / "log.txt"


class _LogFile(logging.Handler):
    """Writes warnings and errors to the log file, creating it on the first one; standard error is for messages."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):  # not writable; the message on standard error has to suffice
            file = log_file()
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("a", encoding="utf-8", errors="backslashreplace") as log:
                log.write(self.format(record) + "\n")


def set_up_log_file() -> None:
    root = logging.getLogger()
    if not any(isinstance(handler, _LogFile) for handler in root.handlers):
        handler = _LogFile(logging.WARNING)
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s: %(message)s"))
        root.addHandler(handler)


class StopFlag:
    """Whether the user asked to stop; `take` returns True once for each request."""

    def __init__(self) -> None:
        self.requested = False
        self._new = False

    def set(self) -> None:
        self.requested = self._new = True

    def take(self) -> bool:
        taken, self._new = self._new, False
        return taken


@contextlib.contextmanager
def stop_signals(also: Callable[[], None] | None = None) -> Iterator[StopFlag]:
    """SIGINT and SIGTERM request a clean stop; a second one raises KeyboardInterrupt. `also` runs in the handler."""
    stop = StopFlag()

    def on_signal(number: int, frame: FrameType | None) -> None:
        if stop.requested:
            raise KeyboardInterrupt
        stop.set()
        if also is not None:
            with contextlib.suppress(OSError):
                also()

    before = {}
    with contextlib.suppress(ValueError):  # not in the main thread: signal handlers cannot be set
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, on_signal)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
