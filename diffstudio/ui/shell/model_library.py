"""The models on this computer as the window knows them: scanned in a thread, watched, imported, renamed, trashed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from PySide6.QtCore import QObject, QTimer, Signal

from diffstudio.errors import DiffstudioError, StorageProblem
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.library.library import Library
from diffstudio.models.library.model_folders import search_roots
from diffstudio.studio.library.importing import import_file
from diffstudio.studio.library.model_files import own_path, rename, sidecars_of
from diffstudio.studio.library.references import ModelRenamed
from diffstudio.studio.system_trash import move_to_system_trash
from diffstudio.ui.shell.folder_watcher import FolderWatcher
from diffstudio.ui.tasks import Tasks

WATCH_DELAY_MS = 1_500  # after a change in a folder, for more changes to settle
STILL_WRITTEN_SECONDS = 10  # an unreadable file changed this recently may still be being written: it is scanned again


class ModelLibrary(QObject):
    """Holds the result of the last scan of the model folders, and scans again when a folder changes."""

    changed = Signal()  # a scan has ended
    failed = Signal(str)  # a message for the window
    import_progress = Signal(str, object)  # file name; fraction 0 to 1, or None when it has ended
    imported = Signal(object)  # Path of the imported copy
    renaming = Signal(object)  # ModelRenamed: its files have their new names, and the scan that lists it follows
    renamed = Signal(object)  # ModelRenamed, once it is listed
    trashed = Signal(
        object, int
    )  # Path of a model's file or folder that was moved to the trash, and how many files went with it

    def __init__(self, folders: Sequence[Path], tasks: Tasks) -> None:
        super().__init__()
        self.library, self._tasks = Library(folders), tasks
        self.checkpoints: list[Checkpoint] = []
        self.problems: list[tuple[Path, DiffstudioError]] = []
        self._watcher = FolderWatcher(tasks)
        self._closed = False
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.setInterval(WATCH_DELAY_MS)
        self._soon.timeout.connect(self.rescan)
        self._watcher.changed.connect(self._soon.start)

    def close(self) -> None:
        """Stop watching."""
        self._closed = True
        self._soon.stop()
        self._watcher.close()

    def set_folders(self, folders: Sequence[Path]) -> None:
        self.library.folders = tuple(folders)
        self.rescan()

    def rescan(self) -> None:
        self._tasks.start(self._scan())

    async def find(self, path: Path) -> Checkpoint | None:
        """The checkpoint in that file, read again: it may be newer than the last scan."""
        await self._scan()
        return next((checkpoint for checkpoint in self.checkpoints if checkpoint.path == path.absolute()), None)

    def import_files(self, files: Sequence[Path]) -> None:
        """Copy files into the first model folder; emits `imported` for each, `failed` once for those that are not models."""
        self._tasks.start(self._import(list(files)))

    def delete(self, path: Path) -> None:
        """Move a model with its sidecars to the system trash."""
        self._tasks.start(self._delete(path))

    def rename(self, checkpoint: Checkpoint, name: str) -> None:
        """Rename a model with its sidecars, in every folder but that of a training run."""
        self._tasks.start(self._rename(checkpoint, name))

    async def _scan(self) -> None:
        await self._watcher.watch(self._roots)  # before the scan: what changes from here on is noticed
        try:
            self.checkpoints = await self._tasks.to_thread(self.library.scan)
        except (DiffstudioError, OSError) as error:  # what the last scan found stays
            self.failed.emit(f"The model folders could not be scanned: {str(error).rstrip('.')}.")
        else:
            self.problems = list(self.library.problems)
        self.changed.emit()  # at once: settings that name a checkpoint are loaded by what the panel lists
        problems = [path for path, _ in self.problems]
        if await self._tasks.to_thread(lambda: any(map(_changed_recently, problems))) and not self._closed:
            self._soon.start()

    def _roots(self) -> list[Path]:
        return [root for folder in self.library.folders for root in search_roots(folder, [])]

    async def _import(self, files: list[Path]) -> None:
        problems: list[str] = []
        for path in files:
            try:
                async for item in self._tasks.iterate_in_thread(import_file(path, self.library.folders[0])):
                    if isinstance(item, Path):
                        await self._scan()
                        self.imported.emit(item)
                    else:
                        self.import_progress.emit(path.name, item)
            except DiffstudioError as problem:
                problems.append(str(problem))
            finally:
                self.import_progress.emit(path.name, None)
        if problems:  # together: a message of its own for each would hide the one before
            self.failed.emit("\n".join(problems))

    async def _delete(self, path: Path) -> None:
        def move() -> tuple[Path, int]:
            own, sidecars = own_path(path), sidecars_of(path)
            for each in (own, *sidecars):
                move_to_system_trash(each, f"{each.name} could not be moved to the trash")
            return own, len(sidecars)

        try:
            own, sidecars = await self._tasks.to_thread(move)
        except StorageProblem as problem:
            self.failed.emit(str(problem))
            await self._scan()
        else:
            await self._scan()
            self.trashed.emit(own, sidecars)

    async def _rename(self, checkpoint: Checkpoint, name: str) -> None:
        try:
            path = await self._tasks.to_thread(rename, checkpoint, name)
            listed = await self._tasks.to_thread(self.library.scan)
        except DiffstudioError as problem:
            self.failed.emit(str(problem))
            await self._scan()
            return
        new_name = next((one.name for one in listed if one.path == path), name.strip())  # another may have that name
        change = ModelRenamed(checkpoint.role, checkpoint.name, checkpoint.path, new_name, path)
        self.renaming.emit(change)
        await self._scan()
        self.renamed.emit(change)


def _changed_recently(path: Path) -> bool:
    try:
        age = time.time() - path.stat().st_mtime
        return abs(age) < STILL_WRITTEN_SECONDS  # a clock that was set back makes files of the future
    except OSError:
        return False
