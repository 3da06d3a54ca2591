"""Fetching what a checkpoint lacks: asked for with a button, agreed to in a question, shown while it comes, stopped at any time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from PySide6.QtCore import QObject, Signal
from PySide6.QtWidgets import QMessageBox, QWidget

from diffstudio.errors import DiffstudioError, Interrupted
from diffstudio.models.components.download import about_bytes, fetch, repositories
from diffstudio.models.components.requirements import COMPONENT_KINDS
from diffstudio.ui.tasks import Tasks
from diffstudio.ui.widgets.confirm_dialog import confirm
from diffstudio.ui.widgets.formatting import human_bytes


class Downloads(QObject):
    """One order at a time. Nothing is fetched that was not agreed to."""

    coming = Signal(str)  # a sentence: which piece, and how much of it
    fetched = Signal(str)  # all of them; a sentence
    failed = Signal(str)  # a sentence; empty where a person stopped it
    _heard = Signal(object, object, object)  # piece, bytes, of how many: from the thread that fetches

    def __init__(self, tasks: Tasks) -> None:
        super().__init__()
        self._tasks, self._stop, self._busy = tasks, threading.Event(), False
        self._heard.connect(self._say)

    def ask(self, parent: QWidget, pieces: Sequence[str], home: Path) -> QMessageBox | None:
        """None while something else is being fetched."""
        if self._busy:
            return None
        return confirm(
            parent,
            button_text(pieces),
            f"Get {_titles(pieces)}?",
            f"About {human_bytes(about_bytes(pieces))} from {' and '.join(repositories(pieces))} on huggingface.co, "
            f"into {home}. Nothing else is sent, and no account is needed.",
            lambda: self.start(pieces, home),
        )

    def start(self, pieces: Sequence[str], home: Path) -> None:
        self._stop.clear()
        self._busy = True
        self._tasks.start(self._fetch(tuple(pieces), home))

    def stop(self) -> None:
        """What is there already is kept for the next time."""
        self._stop.set()

    async def _fetch(self, pieces: tuple[str, ...], home: Path) -> None:
        try:
            for piece in pieces:
                self._say(piece, 0, 0)
                await self._tasks.to_thread(fetch, piece, home, self._hears(piece), self._stop.is_set)
        except Interrupted:
            self.failed.emit("")
        except DiffstudioError as error:
            self.failed.emit(str(error))
        else:
            several = len(pieces) > 1
            self.fetched.emit(
                f"{_titles(pieces)[0].upper()}{_titles(pieces)[1:]} {'are' if several else 'is'} there now."
            )
        finally:
            self._stop.set()  # also for a thread that goes on when the window closes
            self._busy = False

    def _hears(self, piece: str) -> Callable[[int, int], None]:
        return lambda done, of: self._heard.emit(piece, done, of)

    def _say(self, piece: str, done: int, of: int) -> None:
        if not self._stop.is_set():
            how_much = f"{human_bytes(done)} of {human_bytes(of)}" if of else "asking for it"
            self.coming.emit(f"Getting {COMPONENT_KINDS[piece].title}: {how_much}")


def button_text(pieces: Sequence[str]) -> str:
    return f"Get {'it' if len(pieces) == 1 else 'them'} ({human_bytes(about_bytes(pieces))})"


def _titles(pieces: Sequence[str]) -> str:
    titles = [COMPONENT_KINDS[piece].title for piece in pieces]
    return titles[0] if len(titles) == 1 else f"{', '.join(titles[:-1])} and {titles[-1]}"
