"""Files are written whole or not at all; what a killed writer leaves is removed, what a living one writes is not."""

from __future__ import annotations

import ast
import errno
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from diffstudio import atomic
from diffstudio.atomic import (
    atomic_folder,
    atomic_write,
    check_writable,
    free_name,
    link,
    make_database_private,
    make_folder,
    make_private,
    move_numbered,
    remove_part_files,
    rename,
    replace,
    replace_with_copy,
    write_bytes,
    write_numbered,
    write_text,
)
from diffstudio.errors import BadRequest, StorageProblem

ROOT = Path(__file__).resolve().parents[1]
POSIX_ONLY = pytest.mark.skipif(sys.platform == "win32", reason="there is no kill -9, and no folder can be opened")
NAME = ".diffstudio-0123456789abcdef.part"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    folder = tmp_path / "place"
    folder.mkdir()
    return folder


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def refusing(number: int) -> Callable[..., Any]:
    """A function of the system that fails."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return refuse


# ---- writing ---------------------------------------------------------------------------------------------------------


def test_text_and_bytes_replace_what_was_there(place: Path) -> None:
    write_text(place / "a.txt", "größer \udce4")
    assert (place / "a.txt").read_text("utf-8", "surrogatepass") == "größer \udce4"
    write_bytes(place / "a.txt", b"new")
    assert (place / "a.txt").read_bytes() == b"new" and names(place) == ["a.txt"]


def test_a_block_that_raises_leaves_the_old_file(place: Path) -> None:
    write_text(place / "a", "old")
    with pytest.raises(KeyError), atomic_write(place / "a") as file:
        file.write(b"half of the n")
        assert len(names(place)) == 2 and Path(file.name).parent == place
        raise KeyError
    assert (place / "a").read_text() == "old" and names(place) == ["a"]


def test_everything_is_on_the_disk_before_it_gets_its_name(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order that survives a power cut: contents, name, folder."""
    seen: list[tuple[str, bool]] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        seen.append(("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file", (place / "a").exists()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write_bytes(place / "a", b"x")
    if os.path.isdir("/proc/self/fd"):
        assert seen == [("file", False), ("folder", True)]
    assert ("file", False) in seen


def test_without_overwriting(place: Path) -> None:
    with atomic_write(place / "a", overwrite=False) as file:
        file.write(b"first")
    with pytest.raises(BadRequest, match="already exists"), atomic_write(place / "a", overwrite=False) as file:
        file.write(b"second")
    assert (place / "a").read_bytes() == b"first" and names(place) == ["a"]


@pytest.mark.parametrize("meanwhile", [True, False])
def test_without_overwriting_on_a_disk_without_links(
    place: Path, monkeypatch: pytest.MonkeyPatch, meanwhile: bool
) -> None:
    def no_links(source: Path, target: Path) -> None:
        if meanwhile:
            Path(target).write_bytes(b"other")
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    if meanwhile:
        with pytest.raises(BadRequest, match="already exists"), atomic_write(place / "a", overwrite=False):
            pass
    else:
        with atomic_write(place / "a", overwrite=False) as file:
            file.write(b"mine")
    assert (place / "a").read_bytes() == (b"other" if meanwhile else b"mine") and names(place) == ["a"]


def test_numbered(place: Path) -> None:
    made = [write_numbered(place / "a.b.png", lambda file: file.write(b"x") and None) for _ in range(3)]
    assert [path.name for path in made] == ["a.b.png", "a.b-2.png", "a.b-3.png"] and len(names(place)) == 3
    with pytest.raises(StorageProblem, match="not saved: the disk is full"):
        write_numbered(place / "c.png", refusing(errno.ENOSPC), "It was not saved")
    assert len(names(place)) == 3


def test_a_folder_appears_with_all_that_is_in_it(place: Path) -> None:
    with atomic_folder(place / "made") as folder:
        (folder / "inside").mkdir()
        (folder / "inside" / "file").write_text("x")
        assert not (place / "made").exists()
    assert (place / "made" / "inside" / "file").read_text() == "x" and names(place) == ["made"]
    with pytest.raises(BadRequest, match="already exists"), atomic_folder(place / "made") as folder:
        (folder / "file").write_text("y")
    with pytest.raises(KeyError), atomic_folder(place / "other") as folder:
        (folder / "file").write_text("y")
        raise KeyError
    assert names(place) == ["made"] and names(place / "made") == ["inside"]


def test_two_writers_of_one_file_never_share_a_part(place: Path) -> None:
    """Threads, each writing one letter many times: what is read is always one writer's."""
    path, wrong, over = place / "a", [], threading.Event()
    write_bytes(path, b"a" * 5000)

    def write(letter: bytes) -> None:
        for _ in range(20):
            write_bytes(path, letter * 5000)

    def read() -> None:
        while not over.is_set():
            data = path.read_bytes()
            if len(data) != 5000 or len(set(data)) != 1:
                wrong.append(data)

    writers = [threading.Thread(target=write, args=(bytes([letter]),)) for letter in b"bcde"]
    reader = threading.Thread(target=read)
    for thread in (*writers, reader):
        thread.start()
    for thread in writers:
        thread.join()
    over.set()
    reader.join()
    assert not wrong and names(place) == ["a"]


def test_whether_a_place_can_be_written(place: Path) -> None:
    check_writable(place / "new" / "a.png")
    assert names(place / "new") == []
    (place / "file").write_text("")
    with pytest.raises(OSError):
        check_writable(place / "file" / "a.png")


# ---- errors ----------------------------------------------------------------------------------------------------------


def test_a_folder_is_made_with_those_above_it(place: Path) -> None:
    assert make_folder(place / "one" / "two").is_dir() and make_folder(place / "one" / "two").is_dir()
    (place / "file").write_text("")
    with pytest.raises(StorageProblem, match="three cannot be created: .* is not a folder"):
        make_folder(place / "file" / "three")


def test_a_disk_that_fills_up_leaves_nothing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", refusing(errno.ENOSPC))
    with pytest.raises(StorageProblem, match=r"a\.txt cannot be written: the disk is full"):
        write_text(place / "a.txt", "x")
    assert names(place) == []


# ---- moving ----------------------------------------------------------------------------------------------------------


def test_moving_never_overwrites(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b", "c"):
        (place / name).write_text(name)
    assert move_numbered(place / "a", place / "b") == place / "b-2"
    monkeypatch.setattr(os, "link", refusing(errno.EPERM))  # FAT
    assert move_numbered(place / "c", place / "b") == place / "b-3"
    assert {name: (place / name).read_text() for name in names(place)} == {"b": "b", "b-2": "a", "b-3": "c"}
    with pytest.raises(FileNotFoundError):
        monkeypatch.setattr(os, "link", refusing(errno.ENOENT))
        move_numbered(place / "gone", place / "d")
    monkeypatch.setattr(os, "link", refusing(errno.EPERM))
    monkeypatch.setattr(atomic.shutil, "move", refusing(errno.ENOSPC))
    with pytest.raises(OSError):
        move_numbered(place / "b", place / "d")
    assert names(place) == ["b", "b-2", "b-3"]


@pytest.mark.parametrize("has_links", [True, False])
@POSIX_ONLY
def test_renaming_never_overwrites(place: Path, monkeypatch: pytest.MonkeyPatch, has_links: bool) -> None:
    """Also where the file appears between a check and the renaming: nothing is checked first."""
    if not has_links:
        monkeypatch.setattr(os, "link", refusing(errno.EPERM))  # FAT
    for name in ("a", "b"):
        (place / name).write_text(name)
        (place / f"folder {name}").mkdir()
        (place / f"folder {name}" / name).write_text(name)
    for name in ("a", "folder a"):
        with pytest.raises(FileExistsError):
            rename(place / name, place / name.replace("a", "b"))
        rename(place / name, place / name.replace("a", "c"))
    assert names(place) == ["b", "c", "folder b", "folder c"] and (place / "c").read_text() == "a"
    assert names(place / "folder b") == ["b"] and names(place / "folder c") == ["a"]
    (place / "link").symlink_to(place / "c")
    rename(place / "link", place / "other")
    assert (place / "other").is_symlink() and not (place / "link").is_symlink()
    with pytest.raises(FileNotFoundError):
        rename(place / "none", place / "d")
    monkeypatch.setattr(os, "link", refusing(errno.EPERM))
    monkeypatch.setattr(os, "replace", refusing(errno.EACCES))
    for name in ("c", "folder c"):
        with pytest.raises(PermissionError):
            rename(place / name, place / "d")
    assert names(place) == ["b", "c", "folder b", "folder c", "other"]


def test_only_the_case_of_a_name_can_change(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the file system ignores case: both names are the same file."""
    (place / "ink").write_text("x")
    monkeypatch.setattr(os.path, "samefile", lambda first, second: True)
    rename(place / "ink", place / "Ink")
    assert names(place) == ["Ink"]


def test_the_same_file_under_another_name(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_text(place / "a", "new")
    write_text(place / "latest", "old")
    replace_with_copy(place / "a", place / "latest")
    replace_with_copy(place / "a", place / "latest")  # it is the same file by now
    assert (place / "latest").read_text() == "new" and names(place) == ["a", "latest"]
    monkeypatch.setattr(os, "link", refusing(errno.EPERM))
    write_text(place / "a", "newer")
    assert not link(place / "a", place / "x") and (place / "latest").read_text() == "new"
    replace_with_copy(place / "a", place / "latest")
    assert (place / "latest").read_text() == "newer" and names(place) == ["a", "latest"]


def test_windows_refuses_while_someone_reads(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[int] = []
    real = os.replace

    def busy(source: Path, target: Path) -> None:
        tries.append(1)
        if len(tries) < 3:
            raise PermissionError(errno.EACCES, "in use")
        real(source, target)

    (place / "a").write_text("x")
    monkeypatch.setattr(os, "replace", busy)
    with pytest.raises(PermissionError):
        replace(place / "a", place / "b")
    monkeypatch.setattr(atomic, "_WINDOWS", True)
    monkeypatch.setattr(atomic.time, "sleep", lambda seconds: None)
    replace(place / "a", place / "b")
    assert names(place) == ["b"] and len(tries) == 3
    monkeypatch.setattr(os, "replace", refusing(errno.EACCES))
    with pytest.raises(PermissionError):
        replace(place / "b", place / "c")


# ---- part files ------------------------------------------------------------------------------------------------------

WRITER = """
import sys, time
from pathlib import Path
from diffstudio.atomic import atomic_folder, atomic_write
place = Path(sys.argv[1])
with atomic_write(place / "a.safetensors") as file, atomic_folder(place / "exported") as folder:
    file.write(b"half")
    file.flush()
    (folder / "unet").mkdir()
    (folder / "unet" / "weights").write_bytes(b"half")
    print("writing", flush=True)
    time.sleep(60)
"""


@POSIX_ONLY
def test_what_a_killed_writer_left_is_removed_and_a_living_one_is_not(place: Path) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(place)], cwd=ROOT, stdout=subprocess.PIPE, env=dict(os.environ)
    )
    try:
        assert writer.stdout is not None and writer.stdout.readline() == b"writing\n"
        assert len(names(place)) == 2 and remove_part_files([place]) == 0 and len(names(place)) == 2
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()  # type: ignore[union-attr]
    assert len(names(place)) == 2
    assert remove_part_files([place, place / "not there"]) == 2 and names(place) == []


@POSIX_ONLY
def test_a_writer_in_this_process_keeps_its_part(place: Path) -> None:
    with atomic_write(place / "a") as file, atomic_folder(place / "b"):
        assert remove_part_files([place]) == 0
        file.write(b"x")
    assert names(place) == ["a", "b"]


def test_only_what_is_ours_is_removed(place: Path) -> None:
    """Other programs' part files, names that only look alike, links, and what another version wrote today."""
    kept = ["movie.mkv.part", "a.safetensors.part", ".diffstudio-xyz.part", "x" + NAME, NAME + ".png", "m.7.part"]
    for name in (*kept, "k.12-140000000000.part"):
        (place / name).write_text("x")
    (place / "folder.part").mkdir()
    (place / "folder.part" / NAME).write_text("inside what is another program's")
    gone = [".12-140000000000.part", "a.npy.12.part"]
    long_ago = time.time() - 2 * 86_400
    for name in gone:
        (place / name).write_text("x")
        os.utime(place / name, (long_ago, long_ago))
    (place / "deep").mkdir()
    (place / "deep" / NAME).write_text("x")
    if sys.platform != "win32":
        (place / NAME).symlink_to(place / "m.7.part")
        kept.append(NAME)
    assert remove_part_files([place], cancelled=lambda: True) == 0
    assert remove_part_files([place]) == 3
    assert set(names(place)) == {*kept, "k.12-140000000000.part", "folder.part", "deep"}
    assert (place / "folder.part" / NAME).exists() and names(place / "deep") == []


@POSIX_ONLY
def test_without_locks_age_decides(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some network shares lock nothing: a day without a change, also inside a folder, and it has no writer."""
    monkeypatch.setattr(atomic.fcntl, "flock", refusing(errno.EOPNOTSUPP))
    write_text(place / "a", "x")
    with atomic_folder(place / "b"):
        pass
    long_ago = time.time() - 2 * 86_400
    for number in "0123":
        part = place / NAME.replace("0", number, 1)
        if number in "01":
            part.write_text("x")
        else:
            part.mkdir()
            (part / "file").write_text("x")
            if number == "2":
                os.utime(part / "file", (long_ago, long_ago))
        if number != "1":
            os.utime(part, (long_ago, long_ago))
    assert remove_part_files([place]) == 2
    assert len(names(place)) == 4 and names(place)[-2:] == ["a", "b"]


@POSIX_ONLY
def test_a_part_that_was_removed_before_it_was_locked_is_made_again(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The start of another process comes in the moment between creating a part file and locking it."""
    real, calls = atomic._locked, []

    def interrupted(descriptor: int) -> bool | None:
        calls.append(1)
        if len(calls) == 1:
            return False  # the other holds it now
        if len(calls) == 2:
            monkeypatch.setattr(atomic, "_locked", real)
            assert remove_part_files([place]) >= 1
            return real(descriptor)
        return real(descriptor)

    for number, make in enumerate((lambda: write_text(place / "a", "x"), lambda: _folder(place / "b"))):
        calls.clear()
        monkeypatch.setattr(atomic, "_locked", interrupted)
        make()
        assert number < 2
    remove_part_files([place])
    assert names(place) == ["a", "b"]


def _folder(path: Path) -> None:
    with atomic_folder(path):
        pass


@POSIX_ONLY
def test_what_cannot_be_removed_is_left(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / NAME).write_text("x")
    monkeypatch.setattr(os, "open", refusing(errno.EACCES))
    assert remove_part_files([place]) == 0 and names(place) == [NAME]


# ---- nobody else -----------------------------------------------------------------------------------------------------

ELSEWHERE = {
    "diffstudio/models/components/download.py": {".part"},  # a download that is resumed later has a fixed name
    "diffstudio/ui/gallery/room.py": {"replace"},  # a row of an item model
    "diffstudio/ui/generate/canvas/filmstrip.py": {"replace"},  # the frames that are shown
    "diffstudio/ui/generate/viewer.py": {"replace"},  # likewise
    "diffstudio/models/library/model_folders.py": {".part"},  # scans leave out what other programs are downloading
}
_CALLS = {"replace", "rename", "renames", "link", "hardlink_to", "fsync", "mkstemp", "NamedTemporaryFile"}


@pytest.mark.parametrize("path", sorted((ROOT / "diffstudio").rglob("*.py")), ids=lambda path: path.stem)
def test_nobody_else_renames_files(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.endswith(".part"):
            found.add(".part")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _CALLS:
            of_os = isinstance(node.func.value, ast.Name) and node.func.value.id in ("os", "tempfile")
            of_a_path = node.func.attr in ("replace", "rename", "hardlink_to") and len(node.args) == 1
            if of_os or of_a_path and not node.keywords:  # the `replace` of texts takes two, that of times keywords
                found.add(node.func.attr)
    if name != "diffstudio/atomic.py":
        assert found == ELSEWHERE.get(name, set()), "use diffstudio.atomic"


# ---- private files ---------------------------------------------------------------------------------------------------

MODES = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@MODES
def test_a_private_file_is_private_from_the_start(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with atomic_write(tmp_path / "private", private=True) as file:
            assert mode(Path(file.name)) == 0o600
        write_text(tmp_path / "open", "text")
        (tmp_path / "open").chmod(0o664)
        write_text(tmp_path / "open", "text", private=True)
        write_text(tmp_path / "other", "text")
    finally:
        os.umask(before)
    assert [mode(tmp_path / name) for name in ("private", "open", "other")] == [0o600, 0o600, 0o666]


@MODES
def test_a_database_and_its_files_become_private(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite"
    before = os.umask(0)
    try:
        make_database_private(path)
        assert mode(path) == 0o600 and path.stat().st_size == 0
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE t (x)")
    finally:
        os.umask(before)
    files = sorted(path.name for path in tmp_path.glob("x*"))
    assert files == ["x.sqlite", "x.sqlite-shm", "x.sqlite-wal"]
    assert {mode(tmp_path / name) for name in files} == {0o600}
    for name in files:
        (tmp_path / name).chmod(0o644)
    make_database_private(path)
    assert {mode(tmp_path / name) for name in files} == {0o600}
    connection.close()
    make_private(tmp_path / "none")  # nothing to do


def test_a_free_name_is_numbered(tmp_path: Path) -> None:
    assert free_name(tmp_path / "x.png") == tmp_path / "x.png"
    (tmp_path / "x.png").touch()
    (tmp_path / "x-2.png").symlink_to(tmp_path / "nowhere")
    assert free_name(tmp_path / "x.png") == tmp_path / "x-3.png"
