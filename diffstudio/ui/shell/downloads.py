"""Downloads of components that a checkpoint lacks: confirmed in a dialog, with progress, and stoppable at any time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from PySide6.QtCore import QObject, Signal
from PySide6.QtWidgets import QMessageBox, QWidget

from diffstudio.errors import DiffstudioError, Interrupted
from diffstudio.models.components.download import download_bytes, download_component, source_repositories
from diffstudio.models.components.requirements import COMPONENT_KINDS
from diffstudio.ui.tasks import Tasks
from diffstudio.ui.widgets import dialogs
from diffstudio.ui.widgets.formatting import human_bytes


class Downloads(QObject):
    """One download at a time. Nothing is downloaded without a confirmation."""

    progress = Signal(str)  # a message: which component, and how much of it
    finished = Signal(str)  # a message
    failed = Signal(str)  # a message; empty when the user stopped it
    _progressed = Signal(object, object, object)  # piece, bytes, total bytes: from the download thread

    def __init__(self, tasks: Tasks) -> None:
        super().__init__()
        self._tasks, self._stop, self._busy = tasks, threading.Event(), False
        self._progressed.connect(self._show_progress)

    def confirm(self, parent: QWidget, pieces: Sequence[str], home: Path) -> QMessageBox | None:
        """Ask before downloading; None while another download is under way."""
        if self._busy:
            return None
        return dialogs.confirm(
            parent,
            button_text(pieces),
            f"Download {_titles(pieces)}?",
            f"About {human_bytes(download_bytes(pieces))} from {' and '.join(source_repositories(pieces))} on huggingface.co "
            f"will be saved to {home}. No account is needed, and nothing about you is sent.",
            lambda: self.start(pieces, home),
        )

    def start(self, pieces: Sequence[str], home: Path) -> None:
        self._stop.clear()
        self._busy = True
        self._tasks.start(self._fetch(tuple(pieces), home))

    def stop(self) -> None:
        """Stop; what has been downloaded is kept, and the next download resumes from it."""
        self._stop.set()

    async def _fetch(self, pieces: tuple[str, ...], home: Path) -> None:
        try:
            for piece in pieces:
                self._show_progress(piece, 0, 0)
                await self._tasks.to_thread(
                    download_component, piece, home, self._report_progress(piece), self._stop.is_set
                )
        except Interrupted:
            self.failed.emit("")
        except DiffstudioError as error:
            self.failed.emit(str(error))
        else:
            several = len(pieces) > 1
            self.finished.emit(
                f"{_titles(pieces)[0].upper()}{_titles(pieces)[1:]} {'have' if several else 'has'} been downloaded."
            )
        finally:
            self._stop.set()  # also stops a thread that is still running when the window closes
            self._busy = False

    def _report_progress(self, piece: str) -> Callable[[int, int], None]:
        return lambda done, of: self._progressed.emit(piece, done, of)

    def _show_progress(self, piece: str, done: int, of: int) -> None:
        if not self._stop.is_set():
            how_much = f"{human_bytes(done)} of {human_bytes(of)}" if of else "connecting"
            self.progress.emit(f"Downloading {COMPONENT_KINDS[piece].title}: {how_much}")


def button_text(pieces: Sequence[str]) -> str:
    return f"Download ({human_bytes(download_bytes(pieces))})"


def _titles(pieces: Sequence[str]) -> str:
    titles = [COMPONENT_KINDS[piece].title for piece in pieces]
    return titles[0] if len(titles) == 1 else f"{', '.join(titles[:-1])} and {titles[-1]}"
