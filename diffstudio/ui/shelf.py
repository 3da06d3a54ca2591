"""The checkpoints on this machine as the window knows them: looked for beside it, found again, put into the trash."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PySide6.QtCore import QObject, Signal

from diffstudio.errors import DiffstudioError
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.library import Library
from diffstudio.ui.tasks import Tasks


class Shelf(QObject):
    """Holds what the last scan of the library found."""

    changed = Signal()         # there has been a scan
    failed = Signal(str)       # a sentence for the window

    def __init__(self, folders: Sequence[Path], tasks: Tasks) -> None:
        super().__init__()
        self.library, self._tasks = Library(folders), tasks
        self.checkpoints: list[Checkpoint] = []
        self.problems: list[tuple[Path, DiffstudioError]] = []

    def set_folders(self, folders: Sequence[Path]) -> None:
        self.library.folders = tuple(folders)
        self.rescan()

    def rescan(self) -> None:
        self._tasks.start(self._scan())

    async def find(self, path: Path) -> Checkpoint | None:
        """The checkpoint in that file as it is now, which may be newer than the last scan."""
        await self._scan()
        return next((checkpoint for checkpoint in self.checkpoints if checkpoint.path == path.absolute()), None)

    def delete(self, path: Path) -> None:
        """To the system's trash."""
        self._tasks.start(self._delete(path))

    async def _scan(self) -> None:
        self.checkpoints = await self._tasks.beside(self.library.scan)
        self.problems = list(self.library.problems)
        self.changed.emit()

    async def _delete(self, path: Path) -> None:
        from send2trash import send2trash

        try:
            await self._tasks.beside(send2trash, path)
        except OSError as error:
            self.failed.emit(f"{path.name} could not be put into the trash: {error}. Delete {path} yourself.")
        await self._scan()
