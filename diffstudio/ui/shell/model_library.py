"""The models on this machine as the window knows them: looked for beside it, watched, brought in, put into the trash."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from PySide6.QtCore import QFileSystemWatcher, QObject, QTimer, Signal

from diffstudio.errors import DiffstudioError
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.library.library import Library
from diffstudio.studio.library.importing import import_file
from diffstudio.ui.tasks import Tasks

WATCH_DELAY_MS = 1_500  # after a change in a folder: others may be under way
STILL_WRITTEN_SECONDS = 10  # a file that cannot be read and changed so lately is looked at again
MOST_WATCHED = 1_000  # folders: systems allow only so many


class ModelLibrary(QObject):
    """Holds what the last scan of the library found, and scans again when a folder changes."""

    changed = Signal()  # there has been a scan
    failed = Signal(str)  # a sentence for the window
    bringing = Signal(
        str, object
    )  # the name of a file that is being brought in; how much of it, 0 to 1, None when it ended
    brought = Signal(object)  # the Path at which a file lies now

    def __init__(self, folders: Sequence[Path], tasks: Tasks) -> None:
        super().__init__()
        self.library, self._tasks = Library(folders), tasks
        self.checkpoints: list[Checkpoint] = []
        self.problems: list[tuple[Path, DiffstudioError]] = []
        self._watcher = QFileSystemWatcher(self)
        self._closed = False
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.setInterval(WATCH_DELAY_MS)
        self._soon.timeout.connect(self.rescan)
        self._watcher.directoryChanged.connect(self._changed)

    def close(self) -> None:
        """Watch no more."""
        self._closed = True
        self._soon.stop()
        if watched := self._watcher.directories():
            self._watcher.removePaths(watched)

    def set_folders(self, folders: Sequence[Path]) -> None:
        self.library.folders = tuple(folders)
        self.rescan()

    def rescan(self) -> None:
        self._tasks.start(self._scan())

    async def find(self, path: Path) -> Checkpoint | None:
        """The checkpoint in that file as it is now, which may be newer than the last scan."""
        await self._scan()
        return next((checkpoint for checkpoint in self.checkpoints if checkpoint.path == path.absolute()), None)

    def _changed(self, folder: str) -> None:
        if not self._closed:
            self._soon.start()

    def bring(self, files: Sequence[Path]) -> None:
        """Into the person's own folder of models; `brought` for each, `failed` for what is no file of weights."""
        self._tasks.start(self._bring(list(files)))

    def delete(self, path: Path) -> None:
        """To the system's trash."""
        self._tasks.start(self._delete(path))

    async def _scan(self) -> None:
        self.checkpoints = await self._tasks.to_thread(self.library.scan)
        self.problems = list(self.library.problems)
        await self._watch()
        self.changed.emit()

    async def _watch(self) -> None:
        folders = await self._tasks.to_thread(_folders_below, self.library.folders)
        if self._closed:
            return
        watched = set(self._watcher.directories())
        if gone := sorted(watched - folders):
            self._watcher.removePaths(gone)
        if new := sorted(folders - watched):
            self._watcher.addPaths(new)
        if any(_changed_lately(path) for path, _ in self.problems):
            self._soon.start()

    async def _bring(self, files: list[Path]) -> None:
        for path in files:
            try:
                async for item in self._tasks.iterate_in_thread(import_file(path, self.library.folders[0])):
                    if isinstance(item, Path):
                        await self._scan()
                        self.brought.emit(item)
                    else:
                        self.bringing.emit(path.name, item)
            except DiffstudioError as problem:
                self.failed.emit(str(problem))
            finally:
                self.bringing.emit(path.name, None)

    async def _delete(self, path: Path) -> None:
        from send2trash import send2trash

        try:
            await self._tasks.to_thread(send2trash, path)
        except OSError as error:
            self.failed.emit(f"{path.name} could not be put into the trash: {error}. Delete {path} yourself.")
        await self._scan()


def _folders_below(folders: Sequence[Path]) -> set[str]:
    """As many as may be watched, the outer ones first."""
    found: list[str] = []
    for folder in folders:
        for path, below, _ in os.walk(folder):
            below.sort()
            found.append(path)
            if len(found) >= MOST_WATCHED:
                return set(found)
    return set(found)


def _changed_lately(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime < STILL_WRITTEN_SECONDS
    except OSError:
        return False
