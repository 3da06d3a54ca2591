"""The gallery's trash: images and their exact values are moved to `.trash`, back again, and on to the system trash.

Each folder of the gallery has its own `.trash`, so that no image is moved to another disk.

An image and its record change together or not at all, even on a full disk or when the program is killed. Each change is
announced in a file beside the image in `.trash` first (its sidecar, which says where it came from; a `.restoring` file,
which says where it goes), then the image is moved, then the record is committed. Whatever fails is undone at once;
`recover` completes or undoes what a killed program left.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from diffstudio.atomic import free_name, move_numbered, write_text
from diffstudio.atomic import replace as replace_file
from diffstudio.errors import StorageProblem
from diffstudio.imaging.exact_files import files_beside
from diffstudio.storage_errors import storage_errors
from diffstudio.studio.gallery.database import GalleryDatabase
from diffstudio.studio.gallery.file_names import SUFFIXES, TRASH, folder_id, is_inside, name_not_kept
from diffstudio.studio.gallery.folders import ImageFolders
from diffstudio.studio.gallery.sidecar import (
    SUFFIX,
    Sidecar,
    annotation_columns,
    current_sidecar,
    modified_ns,
    read_sidecar,
    set_aside_if_damaged,
    sidecar_of,
    write_sidecar,
)
from diffstudio.studio.system_trash import move_to_system_trash

NOT_EMPTIED = "The trash could not be emptied"
_NOT_PURGED = "The image could not be deleted permanently"
RESTORING = ".restoring"
_STILL_IN_TRASH = "id = ? AND path = ? AND trashed IS NOT NULL"
_LONGEST_NAME = 200  # bytes; file systems take 255, and the sidecar's name is longer

# Called with each file before it leaves the trash for good; what it returns is called once the file is gone.
BeforeRemoval: TypeAlias = Callable[[Path], Callable[[], object]]


class Trash:
    """Moves images of the gallery in `folders` to the trash of their folder, and back, with their `records`.

    `lock` is held while files and records differ.
    """

    def __init__(self, folders: ImageFolders, records: GalleryDatabase, lock: AbstractContextManager[bool]) -> None:
        self.folders, self.records, self._lock = folders, records, lock

    def put(self, image_id: int) -> bool:
        """Move an image to the trash; False if it is there already. One without a file leaves the records at once."""
        statement = "SELECT path, starred, note, tags FROM images WHERE id = ? AND trashed IS NULL"
        with self._lock:
            for path, *recorded in self.records.read(statement, [image_id]):
                source = self.folders.file(path)
                with storage_errors(f"{source.name} could not be deleted", source.parent):
                    if source.exists():
                        sidecar = current_sidecar(source, *recorded)
                        self._put(
                            image_id,
                            path,
                            replace(sidecar, home=_below(self.folders.of(source), source), deleted=time.time()),
                        )
                    else:
                        with self.records.writing() as connection:
                            connection.execute("DELETE FROM images WHERE id = ? AND path = ?", [image_id, path])
                return True
        return False

    def _put(self, image_id: int, path: str, sidecar: Sidecar) -> None:
        source = self.folders.file(path)
        target = self._new_place(image_id, source)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            write_sidecar(target, sidecar, moved_from=source)
            with self.records.writing() as connection:
                connection.execute(
                    "UPDATE images SET trashed = ?, home = path, path = ?, starred = ?, note = ?, tags = ? "
                    "WHERE id = ? AND path = ?",
                    [sidecar.deleted, self.folders.recorded(target), *annotation_columns(sidecar), image_id, path],
                )
                replace_file(source, target)
                _move_beside(source, target)
        except BaseException:  # not recorded: the file goes back
            with suppress(OSError):
                if target.exists():
                    _move_back(target, source)
                _move_beside(target, source)
                sidecar_of(target).unlink(missing_ok=True)
            raise
        with suppress(OSError):
            set_aside_if_damaged(source)
            sidecar_of(source).unlink(missing_ok=True)

    def restore(self, image_id: int) -> bool:
        """Move an image from the trash to where it was; False if it is not there."""
        statement = "SELECT path, home, starred, note, tags FROM images WHERE id = ? AND trashed IS NOT NULL"
        with self._lock:
            for path, home, *recorded in self.records.read(statement, [image_id]):
                source = self.folders.file(path)
                target = free_name(self.folders.file(home) if home else source.parent.parent / source.name)
                if source.exists():
                    with storage_errors(f"{target.name} could not be brought back", target.parent):
                        target.parent.mkdir(parents=True, exist_ok=True)
                        self._restore(image_id, source, target, current_sidecar(source, *recorded))
                    return True
        return False

    def _restore(self, image_id: int, source: Path, target: Path, sidecar: Sidecar) -> None:
        journal = source.with_name(source.name + RESTORING)
        moved = target
        try:
            write_text(journal, _below(source.parent.parent, target))
            with suppress(StorageProblem):  # a long name, for example: the rescan tries again and says so
                write_sidecar(target, sidecar, moved_from=source)
            with self.records.writing() as connection:
                moved = move_numbered(source, target)
                _move_beside(source, moved)
                connection.execute(
                    "UPDATE images SET trashed = NULL, home = NULL, path = ?, folder_id = ?, sidecar_ns = ?, "
                    "starred = ?, note = ?, tags = ? WHERE id = ?",
                    [
                        self.folders.recorded(moved),
                        folder_id(moved.parent),
                        modified_ns(moved),
                        *annotation_columns(sidecar),
                        image_id,
                    ],
                )
        except BaseException:  # Ctrl+C too: the file goes back to where its record says it is
            with suppress(OSError):
                if not source.exists() and moved.exists():
                    _move_back(moved, source)
                    _move_beside(moved, source)
                sidecar_of(target).unlink(missing_ok=True)
                journal.unlink(missing_ok=True)
            raise
        with suppress(OSError):
            journal.unlink(missing_ok=True)
            sidecar_of(source).unlink(missing_ok=True)

    def purge(self, image_id: int, before: BeforeRemoval) -> bool:
        """Delete an image in the trash and what is known of it, after `before(file)`; False if it is not there.

        A program that is killed in between leaves a record without a file, which `recover` removes.
        """
        with self._lock:
            for (path,) in self.records.read(
                "SELECT path FROM images WHERE id = ? AND trashed IS NOT NULL", [image_id]
            ):
                file = self.folders.file(path)
                _check_present(file, _NOT_PURGED)
                after = before(file)
                with storage_errors(_NOT_PURGED, file.parent):
                    for one in (file, *files_beside(file)):
                        one.unlink(missing_ok=True)
                after()
                with self.records.writing() as connection:
                    connection.execute("DELETE FROM images WHERE id = ? AND path = ?", [image_id, path])
                with suppress(OSError):
                    sidecar_of(file).unlink(missing_ok=True)
                return True
        return False

    def empty(self, before: BeforeRemoval) -> int:
        """Move everything to the system trash; returns how many files there were. StorageProblem."""
        listed = self.records.read("SELECT id, path FROM images WHERE trashed IS NOT NULL")
        return sum(self._hand_over(image_id, path, before) for image_id, path in listed)

    def _hand_over(self, image_id: int, path: str, before: BeforeRemoval) -> bool:
        """Move an image to the system trash, unless it has left ours since it was listed. False without a file."""
        file, after = self.folders.file(path), None
        with self._lock:
            if not self.records.read(f"SELECT 1 FROM images WHERE {_STILL_IN_TRASH}", [image_id, path]):
                return False
            _check_present(file, NOT_EMPTIED)
            if file.exists():
                after = before(file)
                for one in (*files_beside(file), file):
                    move_to_system_trash(one, NOT_EMPTIED, f"Delete the files in {file.parent} yourself")
                after()
            with self.records.writing() as connection:
                connection.execute(f"DELETE FROM images WHERE {_STILL_IN_TRASH}", [image_id, path])
            with suppress(OSError):
                sidecar_of(file).unlink(missing_ok=True)
        return after is not None

    # After a kill

    def recover(self, add: Callable[[Path, str, Sidecar], None]) -> list[tuple[Path, str]]:
        """Complete or undo what a killed program left half done.

        `add(image, home, sidecar)` records an image in the trash that has no record: the database was lost.
        Returns the files that were skipped because no record can hold their names, and why. StorageProblem when
        something else fails, once every folder was tried.
        """
        skipped, problems = list[tuple[Path, str]](), list[StorageProblem]()
        for folder in (self.folders.current, *self.folders.earlier):
            try:
                skipped += self._recover(folder, add)
            except StorageProblem as error:
                problems.append(error)
        if problems:
            raise problems[0]
        return skipped

    def _recover(self, folder: Path, add: Callable[[Path, str, Sidecar], None]) -> list[tuple[Path, str]]:
        skipped: list[tuple[Path, str]] = []
        place = folder / TRASH
        with self._lock, storage_errors("The gallery's trash cannot be read", place):
            try:
                names = set(os.listdir(place))
            except FileNotFoundError:
                return skipped
            for name in sorted(names):
                if name.endswith(RESTORING):
                    with _naming(place / name, skipped):
                        self._recover_restoring(place / name.removesuffix(RESTORING))
            known = dict(self.records.read("SELECT path, id FROM images WHERE trashed IS NOT NULL"))
            names = set(os.listdir(place))
            for name in sorted(names):
                image = place / name
                if name.endswith(SUFFIX) and name.removesuffix(SUFFIX) not in names:
                    image.unlink(missing_ok=True)  # announced, and not moved; or gone to the system trash
                elif name.lower().endswith(SUFFIXES) and self.folders.recorded(image) not in known and image.is_file():
                    with _naming(image, skipped):
                        self._recover_deleting(image, add)
            for path, image_id in known.items():
                if self.folders.file(path).parent == place and Path(path).name not in names:
                    with self.records.writing() as connection:  # it went to the system trash
                        connection.execute("DELETE FROM images WHERE id = ? AND path = ?", [image_id, path])
        return skipped

    def _recover_restoring(self, image: Path) -> None:
        """The image was being restored: complete that if it has arrived, and otherwise leave it in the trash."""
        journal = image.with_name(image.name + RESTORING)
        path = journal.read_text(encoding="utf-8", errors="replace")
        target = image.parent.parent / path
        arrived = is_inside(path) and target.exists() and (not image.exists() or image.samefile(target))
        if arrived:
            image.unlink(missing_ok=True)  # linked in both places
            _move_beside(image, target)
            recorded = self.folders.recorded(image)
            with self.records.writing() as connection:
                connection.execute(
                    "UPDATE OR IGNORE images SET trashed = NULL, home = NULL, path = ?, folder_id = ? WHERE path = ?",
                    [self.folders.recorded(target), folder_id(target.parent), recorded],
                )
                connection.execute("DELETE FROM images WHERE path = ?", [recorded])  # recorded already
        elif is_inside(path):
            if target.exists() and target.stat().st_size == 0:
                target.unlink()  # its name was reserved, where there are no hard links
            if not target.exists():
                sidecar_of(target).unlink(missing_ok=True)
        journal.unlink(missing_ok=True)

    def _recover_deleting(self, image: Path, add: Callable[[Path, str, Sidecar], None]) -> None:
        """The image is in the trash, and its record, if any, says that it is not."""
        number, _, name = image.name.partition("-")
        sidecar = read_sidecar(image) or Sidecar()
        home = sidecar.home or (name if number.isdigit() and name else image.name)
        deleted = sidecar.deleted or time.time()
        before = image.parent.parent / home
        if not before.exists():
            _move_beside(before, image)
            with self.records.writing() as connection:
                changed = connection.execute(
                    "UPDATE images SET trashed = ?, home = path, path = ? WHERE path = ? AND trashed IS NULL",
                    [deleted, self.folders.recorded(image), self.folders.recorded(before)],
                ).rowcount
            if changed:
                sidecar_of(before).unlink(missing_ok=True)
                return
        add(image, self.folders.recorded(before), replace(sidecar, home=home, deleted=deleted))

    def _new_place(self, image_id: int, source: Path) -> Path:
        name = f"{image_id}-{source.name}"
        if len(os.fsencode(name)) > _LONGEST_NAME:
            name = f"{image_id}{source.suffix}"
        return free_name(self.folders.of(source) / TRASH / name)


@contextmanager
def _naming(file: Path, skipped: list[tuple[Path, str]]) -> Iterator[None]:
    """Add a file to `skipped` when its name, or the path in it, is not valid Unicode or holds NUL."""
    try:
        yield
    except ValueError as error:
        skipped.append((file, name_not_kept(error)))


def _move_back(source: Path, target: Path) -> None:
    """Renaming needs no space on the disk, a hard link may. OSError."""
    if os.path.lexists(target):
        move_numbered(source, target)
    else:
        replace_file(source, target)


def _move_beside(source: Path, target: Path) -> None:
    """Move the files with the exact values of the image `source`, even if the image itself is gone. OSError."""
    for file in files_beside(source):
        _move_back(file, target.with_suffix(file.suffix))


def folder_missing(what: str, folder: Path) -> StorageProblem:
    return StorageProblem(what, f"the folder {folder} is missing", "Connect its drive, or put the folder back")


def _check_present(trashed: Path, what: str) -> None:
    """StorageProblem when the folder of an image in the trash is missing: its drive may not be connected."""
    if not (folder := trashed.parent.parent).is_dir():
        raise folder_missing(what, folder)


def _below(folder: Path, file: Path) -> str:
    """The path of a file as it is kept in the trash: below its folder, which may be moved as a whole."""
    return Path(os.path.relpath(file, folder)).as_posix()
