"""Changes of folders that the operating system watches, and of those that it does not."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from PySide6.QtCore import QByteArray, QFileSystemWatcher
from pytestqt.qtbot import QtBot

from diffstudio.ui.shell import folder_watcher
from diffstudio.ui.shell.folder_watcher import FolderWatcher, folders_below, is_remote
from diffstudio.ui.tasks import Tasks
from tests.ui.conftest import waiting_loop  # noqa: F401 - used by every test


@pytest.fixture
def models(tmp_path: Path) -> Path:
    (tmp_path / "models" / "below").mkdir(parents=True)
    return tmp_path / "models"


@pytest.fixture
def watch(qtbot: QtBot) -> Iterator[Callable[[Sequence[Path]], FolderWatcher]]:
    tasks = Tasks("folders")
    watcher = FolderWatcher(tasks)

    def watch(roots: Sequence[Path]) -> FolderWatcher:
        tasks.start(watcher.watch(lambda: roots))
        qtbot.waitUntil(lambda: not tasks.busy())
        return watcher

    yield watch
    watcher.close()
    tasks.close()
    watcher.deleteLater()


def later(folder: Path) -> None:
    """As if another computer had put a file there some time later."""
    changed = folder.stat().st_mtime_ns + 10**9
    os.utime(folder, ns=(changed, changed))


def test_folders_and_those_below_are_watched(
    watch: Callable[[Sequence[Path]], FolderWatcher], qtbot: QtBot, models: Path
) -> None:
    watcher = watch([models])
    assert watcher.watched() == {str(models), str(models / "below")} and not watcher.compared()
    assert not watcher._timer.isActive()
    with qtbot.waitSignal(watcher.changed):
        (models / "below" / "a.safetensors").touch()
    watch([models / "below"])
    assert watcher.watched() == {str(models / "below")}


def test_a_folder_created_while_the_folders_are_listed_is_watched(
    watch: Callable[[Sequence[Path]], FolderWatcher], models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def list_and_create(roots: Sequence[Path]) -> list[str]:
        listed = folders_below(roots)
        (models / "new").mkdir(exist_ok=True)
        return listed

    monkeypatch.setattr(folder_watcher, "folders_below", list_and_create)
    assert str(models / "new") in watch([models]).watched()


def test_a_folder_that_the_system_refuses_to_watch_is_looked_at_by_a_timer(
    watch: Callable[[Sequence[Path]], FolderWatcher], qtbot: QtBot, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(QFileSystemWatcher, "addPaths", lambda watcher, paths: paths)
    watcher = watch([models])
    assert watcher.compared() == {str(models), str(models / "below")} and not watcher.watched()
    assert watcher._timer.isActive() and watcher._timer.interval() >= 10_000, "slow enough for a drive to sleep"
    changes: list[None] = []
    watcher.changed.connect(lambda: changes.append(None))
    watcher.compare()
    watcher.compare()  # while the first one runs
    qtbot.waitUntil(lambda: not watcher._tasks.busy())
    assert not changes
    later(models / "below")
    watcher._timer.setInterval(10)
    qtbot.waitUntil(lambda: len(changes) == 1)
    (models / "below").rmdir()
    qtbot.waitUntil(lambda: len(changes) > 1)
    monkeypatch.undo()
    watch([models])  # the system has room for it again
    assert watcher.watched() == {str(models)} and not watcher.compared() and not watcher._timer.isActive()


def test_folders_above_the_limit_are_compared(
    watch: Callable[[Sequence[Path]], FolderWatcher], models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_watcher, "MAX_WATCHED", 1)
    watcher = watch([models])
    assert watcher.watched() == {str(models)} and watcher.compared() == {str(models / "below")}
    monkeypatch.setattr(folder_watcher, "MAX_COMPARED", 1)
    assert folders_below([models]) == [str(models)]


def test_a_network_drive_is_watched_and_compared(
    watch: Callable[[Sequence[Path]], FolderWatcher], models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_watcher, "is_remote", lambda folder: folder == models / "below")
    watcher = watch([models, models / "below"])
    assert watcher.watched() == {str(models), str(models / "below")} and watcher.compared() == {str(models / "below")}


class Drive:
    def __init__(self, kind: str, device: str) -> None:
        self._kind, self._device = kind, device

    def fileSystemType(self) -> QByteArray:  # noqa: N802 - as in QStorageInfo
        return QByteArray(self._kind.encode())

    def device(self) -> QByteArray:
        return QByteArray(self._device.encode())


@pytest.mark.parametrize(
    ("kind", "device", "remote"),
    [
        ("ext4", "/dev/sda1", False),
        ("NTFS", "\\\\?\\Volume{1}", False),
        ("apfs", "/dev/disk1", False),
        ("nfs4", "server:/models", True),
        ("cifs", "//server/models", True),
        ("fuse.sshfs", "me@server:", True),
        ("NTFS", "\\\\server\\models", True),
        ("smbfs", "//server/models", True),
    ],
)
def test_drives_of_other_computers(kind: str, device: str, remote: bool, tmp_path: Path) -> None:
    assert is_remote(tmp_path, lambda path: Drive(kind, device)) is remote  # type: ignore[arg-type,return-value]


def test_the_nearest_folder_above_a_missing_one(tmp_path: Path) -> None:
    assert folders_below([tmp_path / "drive" / "models"]) == [str(tmp_path)]
