"""Uncaught exceptions: logged with their traceback, and shown in the window in one sentence."""

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
    """While installed, emits `reported` with a message for each uncaught exception of any thread."""

    reported = Signal(str)
    _caught = Signal(str)

    def __init__(self, log_file: Path) -> None:
        super().__init__()
        self.log_file = log_file
        self._handler: logging.Handler | None = None
        self._hooks = (sys.excepthook, threading.excepthook)
        self._caught.connect(self.reported, Qt.ConnectionType.QueuedConnection)

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
            self._handler = None  # not writable: standard error still shows the exception
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
        _log.error("Uncaught exception", exc_info=(kind, error, trace))
        if not isinstance(error, DiffstudioError):
            self._hooks[0](kind, error, trace)
        self._caught.emit(self.sentence(error))

    def _other_thread(self, args: threading.ExceptHookArgs) -> None:
        if args.exc_value is None or issubclass(args.exc_type, SystemExit):
            return
        name = args.thread.name if args.thread else "a thread"
        _log.error("Uncaught exception in %s", name, exc_info=(args.exc_type, args.exc_value, args.exc_traceback))
        self._caught.emit(self.sentence(args.exc_value))

    def sentence(self, error: BaseException) -> str:
        if isinstance(error, DiffstudioError):
            return str(error)
        text = " ".join(str(error).split())[:200]
        what = f"{type(error).__name__}: {text}" if text else type(error).__name__
        return (
            f"An internal error occurred ({what}). Your images and models are safe. You can carry on; if diffstudio "
            f"misbehaves, restart it. Details are in {self.log_file}."
        )
