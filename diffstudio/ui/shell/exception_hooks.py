"""What nobody caught: written to the log with all its detail, and told in the window in one sentence."""

from __future__ import annotations

import logging
import sys
import threading
from logging.handlers import RotatingFileHandler
from pathlib import Path
from types import TracebackType

from PySide6.QtCore import QObject, Qt, Signal

from diffstudio.errors import DiffstudioError

_log = logging.getLogger("diffstudio")


class ExceptionHooks(QObject):
    """While installed, `told` carries a sentence for each exception that reached the top of any thread."""

    told = Signal(str)
    _heard = Signal(str)

    def __init__(self, log_file: Path) -> None:
        super().__init__()
        self.log_file = log_file
        self._handler: logging.Handler | None = None
        self._hooks = (sys.excepthook, threading.excepthook)
        self._heard.connect(self.told, Qt.ConnectionType.QueuedConnection)

    def install(self) -> None:
        try:
            self.log_file.parent.mkdir(parents=True, exist_ok=True)
            self._handler = RotatingFileHandler(
                self.log_file, maxBytes=1 << 20, backupCount=1, delay=True, encoding="utf-8"
            )
            self._handler.setFormatter(
                logging.Formatter("%(asctime)s %(levelname)s %(name)s %(threadName)s: %(message)s")
            )
            logging.getLogger().addHandler(self._handler)
        except OSError:
            self._handler = None  # a place that cannot be written to: standard error still has it
        self._hooks = (sys.excepthook, threading.excepthook)
        sys.excepthook = self._main_thread
        threading.excepthook = self._other_thread

    def remove(self) -> None:
        sys.excepthook, threading.excepthook = self._hooks
        if self._handler is not None:
            logging.getLogger().removeHandler(self._handler)
            self._handler.close()
            self._handler = None

    def _main_thread(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            self._hooks[0](kind, error, trace)
            return
        _log.error("Not caught", exc_info=(kind, error, trace))
        if not isinstance(error, DiffstudioError):
            self._hooks[0](kind, error, trace)
        self._heard.emit(self.sentence(error))

    def _other_thread(self, args: threading.ExceptHookArgs) -> None:
        if args.exc_value is None or issubclass(args.exc_type, SystemExit):
            return
        name = args.thread.name if args.thread else "a thread"
        _log.error("Not caught in %s", name, exc_info=(args.exc_type, args.exc_value, args.exc_traceback))
        self._heard.emit(self.sentence(args.exc_value))

    def sentence(self, error: BaseException) -> str:
        if isinstance(error, DiffstudioError):
            return str(error)
        said = " ".join(str(error).split())[:200]
        what = f"{type(error).__name__}: {said}" if said else type(error).__name__
        return (
            f"Something in diffstudio went wrong ({what}). Your pictures and models are safe. Go on, or restart the "
            f"program if it misbehaves; the details are in {self.log_file}."
        )
