"""What the command line needs of a terminal: a line of progress, the one sentence of a problem, signals, a log file."""

from __future__ import annotations

import contextlib
import io
import logging
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from diffstudio import paths

_unfinished_line = False  # whether the terminal's cursor stands behind a progress line
_last_line = ""  # of progress, where it is written line by line


def progress(text: str, *, last: bool = False) -> None:
    """A line that the next one overwrites at a terminal; plain lines elsewhere."""
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


def one_line(text: str) -> str:
    """Names from files may hold anything: nothing in them is to move the terminal's cursor or change its colours."""
    return "".join(letter if letter.isprintable() or "\udc80" <= letter <= "\udcff" else "\ufffd" for letter in text)


def take_any_name() -> None:
    """Standard output takes names that are no text as the bytes they are, and what it has no letter for as an escape."""
    for stream, errors in ((sys.stdout, "surrogateescape"), (sys.stderr, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            utf_8 = stream.encoding.lower().replace("-", "") == "utf8"
            stream.reconfigure(errors=errors if utf_8 else "backslashreplace")


def duration(seconds: float) -> str:
    if not 0 <= seconds < 1e9:
        return "?"
    minutes, hours = int(seconds // 60) % 60, int(seconds // 3600)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{seconds:.0f} s"


def say(sentence: str, code: int) -> int:
    """Never raises, whatever the terminal can show."""
    progress("", last=True)
    shown = " ".join(f"diffstudio: {sentence}".split())
    encoding = sys.stderr.encoding or "utf-8"
    with contextlib.suppress(OSError, ValueError):
        print(shown.encode(encoding, "backslashreplace").decode(encoding), file=sys.stderr, flush=True)
    return code


def log_file() -> Path:
    return paths.data() / "log.txt"


class _LogFile(logging.Handler):
    """Warnings and worse go to a file that is made when there is something to say: standard error is for sentences."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):  # nowhere to write: the sentence on standard error has to do
            file = log_file()
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("a", encoding="utf-8", errors="backslashreplace") as log:
                log.write(self.format(record) + "\n")


def keep_the_log_in_a_file() -> None:
    root = logging.getLogger()
    if not any(isinstance(handler, _LogFile) for handler in root.handlers):
        handler = _LogFile(logging.WARNING)
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s: %(message)s"))
        root.addHandler(handler)


class StopWanted:
    """Whether the end was asked for; `take` is true once for each time it was."""

    def __init__(self) -> None:
        self.wanted = False
        self._new = False

    def set(self) -> None:
        self.wanted = self._new = True

    def take(self) -> bool:
        taken, self._new = self._new, False
        return taken


@contextlib.contextmanager
def stop_signals(also: Callable[[], None] | None = None) -> Iterator[StopWanted]:
    """SIGINT and SIGTERM ask for a clean end; a second one ends at once. `also` runs in the handler."""
    stop = StopWanted()

    def asked(number: int, frame: FrameType | None) -> None:
        if stop.wanted:
            raise KeyboardInterrupt
        stop.set()
        if also is not None:
            with contextlib.suppress(OSError):
                also()

    before = {}
    with contextlib.suppress(ValueError):  # not the main thread: whoever runs us there has signals of their own
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, asked)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
