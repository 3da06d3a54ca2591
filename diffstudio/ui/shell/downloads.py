"""Downloads of components that a checkpoint lacks: confirmed in a dialog, with progress, and stoppable at any time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
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

    def __init__(self, tasks: Tasks) -> None:
        super().__init__()
        self._tasks, self._stop, self._busy = tasks, threading.Event(), False

    def confirm(self, parent: QWidget, components: Sequence[str], folder: Path) -> QMessageBox | None:
        """Ask before downloading; None while another download is under way."""
        if self._busy:
            return None
        return dialogs.confirm(
            parent,
            button_text(components),
            f"Download {_titles(components)}?",
            f"About {human_bytes(download_bytes(components))} from {' and '.join(source_repositories(components))} on huggingface.co "
            f"will be saved to {folder}. No account is needed.",
            lambda: self.start(components, folder),
        )

    def start(self, components: Sequence[str], folder: Path) -> None:
        self._stop.clear()
        self._busy = True
        self._tasks.start(self._fetch(tuple(components), folder))

    def stop(self) -> None:
        """Stop; what has been downloaded is kept, and the next download resumes from it."""
        self._stop.set()

    async def _fetch(self, components: tuple[str, ...], folder: Path) -> None:
        try:
            for component in components:
                self._show_progress(component, 0, 0)
                await self._tasks.to_thread_with_progress(
                    partial(_download, component, folder, self._stop), partial(self._show_progress, component)
                )
        except Interrupted:
            self.failed.emit("")
        except DiffstudioError as error:
            self.failed.emit(str(error))
        else:
            several = len(components) > 1
            self.finished.emit(
                f"{_titles(components)[0].upper()}{_titles(components)[1:]} {'have' if several else 'has'} been downloaded."
            )
        finally:
            self._stop.set()  # also stops a thread that is still running when the window closes
            self._busy = False

    def _show_progress(self, component: str, done: int, of: int) -> None:
        if not self._stop.is_set():
            how_much = f"{human_bytes(done)} of {human_bytes(of)}" if of else "connecting"
            self.progress.emit(f"Downloading {COMPONENT_KINDS[component].title}: {how_much}")


def _download(component: str, folder: Path, stop: threading.Event, progress: Callable[[int, int], None]) -> None:
    download_component(component, folder, progress, stop.is_set)


def button_text(components: Sequence[str]) -> str:
    return f"Download ({human_bytes(download_bytes(components))})"


def _titles(components: Sequence[str]) -> str:
    titles = [COMPONENT_KINDS[component].title for component in components]
    return titles[0] if len(titles) == 1 else f"{', '.join(titles[:-1])} and {titles[-1]}"
