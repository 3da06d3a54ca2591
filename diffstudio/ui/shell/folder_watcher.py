"""FolderWatcher: says when a folder or one below it changes, those that the operating system does not watch included."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from PySide6.QtCore import QFileSystemWatcher, QObject, QStorageInfo, QTimer, Signal

from diffstudio.ui.tasks import Tasks

MAX_WATCHED = 1_000  # folders: operating systems limit the number
MAX_COMPARED = 10_000  # folders whose modification times are compared
COMPARE_MS = 30_000  # between two comparisons
_REMOTE = ("nfs", "cifs", "smb", "fuse.sshfs", "fuse.rclone", "9p", "afpfs", "webdav", "davfs", "vboxsf")
_WINDOWS_VOLUME = b"\\\\?\\"


class FolderWatcher(QObject):
    """Watches folders and all folders below them.

    Some are not watched: the operating system refuses them or watches a limited number, and does not see what other
    computers change on a network drive. Their modification times are compared by a slow timer, in a thread.
    """

    changed = Signal()

    def __init__(self, tasks: Tasks) -> None:
        super().__init__()
        self._tasks = tasks
        self._watcher = QFileSystemWatcher(self)
        self._watcher.directoryChanged.connect(lambda _: self._report())
        self._compared: dict[str, int] = {}  # modification time in ns of each folder that is not watched
        self._comparing = self._closed = False
        self._timer = QTimer(self, interval=COMPARE_MS)
        self._timer.timeout.connect(self.compare)

    def close(self) -> None:
        """Stop watching."""
        self._closed = True
        self._timer.stop()
        if watched := self._watcher.directories():
            self._watcher.removePaths(watched)

    def watched(self) -> set[str]:
        """The folders that the operating system watches."""
        return set(self._watcher.directories())

    def compared(self) -> set[str]:
        """The folders whose modification times are compared."""
        return set(self._compared)

    async def watch(self, find_roots: Callable[[], Sequence[Path]]) -> None:
        """Watch the folders that `find_roots` returns, called in a thread, and those below them; no others any more."""
        tried: set[str] = set()
        while True:
            roots, listed = await self._tasks.to_thread(_list, find_roots)
            folders, to_watch = set(listed), listed[:MAX_WATCHED]
            if gone := sorted(self.watched() - set(to_watch)):
                self._watcher.removePaths(gone)
            new = folders - self.watched() - tried
            if not new or self._closed:
                break
            if to_watch := [folder for folder in to_watch if folder in new]:
                self._watcher.addPaths(to_watch)
            tried |= new  # one created while they were listed is found by listing them again
        local = await self._tasks.to_thread(_local, roots, self.watched())
        compared = await self._tasks.to_thread(_modification_times, folders - local)
        if not self._closed:
            self._compared = compared
            self._timer.start() if compared else self._timer.stop()

    def compare(self) -> None:
        """Compare the modification times of the folders that are not watched, unless that is in progress."""
        if not self._comparing:
            self._tasks.start(self._compare())

    async def _compare(self) -> None:
        self._comparing = True
        try:
            before = self._compared
            now = await self._tasks.to_thread(_modification_times, before)
        finally:
            self._comparing = False
        if before is self._compared and now != before:
            self._compared = now
            self._report()

    def _report(self) -> None:
        if not self._closed:
            self.changed.emit()


def folders_below(roots: Sequence[Path]) -> list[str]:
    """These folders and their subfolders, at most MAX_COMPARED.

    For a folder that does not exist, the nearest one above it: it may be created, or its drive connected.
    """
    found: dict[str, None] = {}
    for root in roots:
        if not root.is_dir():
            found[str(next(parent for parent in root.absolute().parents if parent.is_dir()))] = None
        for path, below, _ in os.walk(root):
            below[:] = sorted(name for name in below if not name.startswith("."))
            found[path] = None
            if len(found) >= MAX_COMPARED:
                return list(found)
    return list(found)


def _list(find_roots: Callable[[], Sequence[Path]]) -> tuple[Sequence[Path], list[str]]:
    roots = find_roots()
    return roots, folders_below(roots)


def _modification_times(folders: Iterable[str]) -> dict[str, int]:
    return {folder: _modified(folder) for folder in folders}


def _modified(folder: str) -> int:
    try:
        return os.stat(folder).st_mtime_ns
    except OSError:
        return -1


def _local(roots: Sequence[Path], folders: set[str]) -> set[str]:
    """Those that are not on a network drive."""
    drives = [os.path.join(root, "") for root in roots if is_remote(root)]
    return {folder for folder in folders if not any(os.path.join(folder, "").startswith(drive) for drive in drives)}


def is_remote(folder: Path, drive_of: Callable[[str], QStorageInfo] = QStorageInfo) -> bool:
    """Whether a folder is on a drive of another computer, whose changes are not reported here."""
    drive = drive_of(str(folder))
    kind = bytes(drive.fileSystemType().data()).decode("ascii", "replace").lower()
    device = bytes(drive.device().data())
    return kind.startswith(_REMOTE) or (device.startswith((b"\\\\", b"//")) and not device.startswith(_WINDOWS_VOLUME))
