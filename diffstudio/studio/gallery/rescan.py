"""Make the gallery's records agree with its folder, after other programs have changed it.

Images that were made before another folder was chosen are looked for where they are; new ones are found in the current
folder only.

The records are read before the folder is listed, so that an image that is saved meanwhile is never taken for a deleted
one. A record is dropped only when its file is gone from the very folder that it was last seen in. While that folder is
missing, cannot be read, or is another one (the mount point of a drive that is not connected), the record stays and is
marked as missing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from diffstudio.atomic import replace as replace_file
from diffstudio.errors import ImageProblem, StorageProblem
from diffstudio.storage_errors import storage_errors
from diffstudio.studio.gallery.file_names import SUFFIXES, is_gone, name_not_kept
from diffstudio.studio.gallery.file_names import folder_id as id_of
from diffstudio.studio.gallery.folders import is_elsewhere
from diffstudio.studio.gallery.gallery import Gallery, sidecar_unreadable
from diffstudio.studio.gallery.sidecar import SUFFIX, sidecar_of
from diffstudio.studio.metadata.metadata import storable

_MOST_UPDATES = 500  # rows in one transaction, so that other threads need not wait


@dataclass(frozen=True, slots=True)
class RescanReport:
    """How the folder differed from the gallery's records."""

    added: int = 0
    changed: int = 0
    moved: int = 0
    removed: int = 0
    unreadable: tuple[tuple[Path, str], ...] = ()  # the file or folder, and why
    missing: int = 0  # images whose folder is missing since the last rescan
    returned: int = 0  # images whose folder was missing
    unsaved: tuple[StorageProblem, ...] = ()  # sidecars that could not be read or written
    annotated: int = 0  # images whose sidecar another program has changed
    indexed: int = 0  # images of an earlier version that can be searched for by seed, sampler and LoRA from now on

    times: Mapping[Path, int | None] = field(default_factory=dict, compare=False, repr=False)  # of its folders then

    @property
    def anything(self) -> bool:
        return bool(self.summary)

    @property
    def summary(self) -> str:
        """How many images were added, changed and so on, in words."""
        found = {
            "added": self.added,
            "changed": self.changed,
            "moved": self.moved,
            "gone": self.removed,
            "missing with their folder": self.missing,
            "back with their folder": self.returned,
            "annotated by another program": self.annotated,
        }
        return ", ".join(f"{count:,} {word}" for word, count in found.items() if count)


@dataclass(frozen=True, slots=True)
class _File:
    modified_ns: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class _Row:
    id: int
    path: str
    file: _File
    folder_id: str | None
    missing: bool
    noted: bool  # it has a star, a note or tags
    sidecar_ns: int

    @property
    def folder(self) -> str:
        return PurePosixPath(self.path).parent.as_posix()


@dataclass(slots=True)
class _Listing:
    """What is in the gallery's folders, by paths as the records have them."""

    files: dict[str, _File] = field(default_factory=dict)
    sidecars: dict[str, int] = field(default_factory=dict)  # of each image that has one: when it was changed
    folders: dict[str, str] = field(default_factory=dict)  # the identity of each folder that could be read
    times: dict[Path, int | None] = field(default_factory=dict)
    unreadable: list[tuple[Path, str]] = field(default_factory=list)


def times_of(folders: Iterable[Path]) -> dict[Path, int | None]:
    """When files were last added to folders or removed from them, in ns; None for those that are not there."""
    times: dict[Path, int | None] = {}
    for folder in folders:
        try:
            times[folder] = folder.stat().st_mtime_ns
        except OSError:
            times[folder] = None
    return times


def rescan(gallery: Gallery, cancelled: Callable[[], bool] = lambda: False) -> RescanReport:
    """Make the gallery's records agree with its folder: files that other programs added, moved, changed or deleted.

    First the database is checked, and what a killed program left half done is completed or undone. An image that was
    moved keeps its star: it is recognised by its time and size. StorageProblem when the folder cannot be read; the
    records stay, marked as missing.
    """
    gallery.check()
    reread = gallery.needs_rescan
    skipped: list[tuple[Path, str]] = []
    with suppress(StorageProblem):  # as of a folder that is read-only: then nothing is half done either
        skipped = gallery.recover()
    report = _rescan(gallery, reread, cancelled)
    report = replace(report, unreadable=(*report.unreadable, *skipped))
    gallery.needs_rescan = gallery.needs_rescan and cancelled()
    return report


def _rescan(gallery: Gallery, reread: bool, cancelled: Callable[[], bool]) -> RescanReport:
    rows = _rows(gallery)
    listing = _Listing()
    try:
        with storage_errors("The images folder cannot be read", gallery.folder):
            _list(gallery.folder, ".", listing, cancelled)
    except StorageProblem:
        _mark_missing(gallery, (row for row in rows if not row.missing and not is_elsewhere(row.path)))
        raise
    for folder in {row.folder for row in rows if is_elsewhere(row.path)}:
        _list_one(Path(folder), folder, listing, cancelled, False)
    if cancelled():
        return RescanReport()
    found = [row for row in rows if row.path in listing.files]
    lost = [row for row in rows if row.path not in listing.files]
    known = {row.path for row in rows}
    new = sorted(
        (path for path in listing.files if path not in known), key=lambda path: listing.files[path].modified_ns
    )

    moved = _record_moved(gallery, lost, new, listing)
    lost = [row for row in lost if row.id not in moved]
    same = {(row.folder, row.folder_id) for row in found if row.file == listing.files[row.path]}
    gone = [
        row
        for row in lost
        if row.folder in listing.folders
        and (row.folder_id == listing.folders[row.folder] or (row.folder, row.folder_id) in same)
    ]
    removed = _remove(gallery, gone)
    absent = {row.id for row in lost} - {row.id for row in gone}
    newly_absent = [row for row in lost if row.id in absent and not row.missing]
    _mark_missing(gallery, newly_absent)
    _mark_found(gallery, found, listing)

    unreadable = listing.unreadable
    unknown = (path for path in new if path not in moved.values() and not is_elsewhere(path))
    added = _record_all(gallery, unknown, unreadable, cancelled)
    changed = [row.path for row in found if row.file != listing.files[row.path]]
    renewed = _record_all(gallery, changed, unreadable, cancelled)
    if reread:
        others = (row.path for row in found if row.file == listing.files[row.path])
        _record_all(gallery, others, [], cancelled)
    unsaved, annotated = _sync_sidecars(gallery, listing, {row.id for row in found}, cancelled)
    _remove_left_sidecars(gallery, listing)
    return RescanReport(
        added,
        renewed,
        len(moved),
        removed,
        tuple(unreadable),
        len(newly_absent),
        sum(row.missing for row in found),
        tuple(unsaved),
        annotated,
        gallery.index_requests(cancelled),
        listing.times,
    )


def _rows(gallery: Gallery) -> list[_Row]:
    return [
        _Row(row_id, path, _File(modified, size), folder_id, bool(missing), bool(noted), sidecar_ns)
        for row_id, path, modified, size, folder_id, missing, noted, sidecar_ns in gallery.read(
            "SELECT id, path, modified_ns, size_bytes, folder_id, missing, "
            "starred = 1 OR note <> '' OR tags <> '[]', sidecar_ns FROM images WHERE trashed IS NULL"
        )
    ]


def _list_one(folder: Path, name: str, listing: _Listing, cancelled: Callable[[], bool], below: bool = True) -> None:
    """As `_list`; the images of a folder that cannot be read stay, marked as missing."""
    try:
        _list(folder, name, listing, cancelled, below)
    except (FileNotFoundError, NotADirectoryError):  # gone, or not connected
        pass
    except OSError as error:
        listing.unreadable.append((folder, f"{folder.name}: {error.strerror or error}."))


def _list(folder: Path, name: str, listing: _Listing, cancelled: Callable[[], bool], below: bool = True) -> None:
    """List a folder, which is `name` in the records, and what is `below`. Nothing whose name starts with a dot."""
    listing.times |= times_of([folder])
    identity = id_of(folder)
    with os.scandir(folder) as entries:
        for entry in entries:
            if cancelled():
                return
            path = entry.name if name == "." else f"{name}/{entry.name}"
            if entry.name.startswith("."):
                continue
            with suppress(FileNotFoundError):  # gone since it was listed
                if entry.is_dir(follow_symlinks=False):
                    if below:
                        _list_one(Path(entry.path), path, listing, cancelled)
                elif entry.name.lower().endswith(SUFFIXES) and entry.is_file():
                    stat = entry.stat()
                    listing.files[path] = _File(stat.st_mtime_ns, stat.st_size)
                elif entry.name.endswith(SUFFIX) and entry.is_file():
                    listing.sidecars[path.removesuffix(SUFFIX)] = entry.stat().st_mtime_ns
    listing.folders[name] = identity


def _record_moved(gallery: Gallery, lost: list[_Row], new: list[str], listing: _Listing) -> dict[int, str]:
    """Give rows without a file the new file of the same time and size, if there is one: the paths, by row."""
    candidates: dict[_File, list[_Row]] = {}
    for row in lost:
        candidates.setdefault(row.file, []).append(row)
    moved: dict[int, str] = {}
    for path in new:
        rows = candidates.get(listing.files[path], [])
        if not rows:
            continue
        name = PurePosixPath(path).name
        if name != storable(name):  # no record can hold it: `_record_all` reports it
            continue
        row = next((row for row in rows if PurePosixPath(row.path).name == name), rows[0])
        folder = PurePosixPath(path).parent.as_posix()
        with gallery.writing() as connection:
            changed = connection.execute(
                "UPDATE OR IGNORE images SET path = ?, folder_id = ?, missing = 0, sidecar_ns = 0 "
                "WHERE id = ? AND path = ? AND trashed IS NULL",
                [path, listing.folders.get(folder), row.id, row.path],
            ).rowcount
        if changed:
            rows.remove(row)
            moved[row.id] = path
            old = gallery.folders.file(row.path)
            left_behind = row.path in listing.sidecars and not old.exists()
            if path not in listing.sidecars:
                if left_behind:
                    with suppress(OSError):  # on another disk, for example: then it is written from the record
                        replace_file(sidecar_of(old), sidecar_of(gallery.folders.file(path)))
                gallery.sync_sidecar(row.id)
            if left_behind:
                with suppress(OSError):
                    sidecar_of(old).unlink(missing_ok=True)
    return moved


def _remove(gallery: Gallery, gone: list[_Row]) -> int:
    """Drop the rows of files that other programs deleted."""
    removed = 0
    for batch in _batches(gone):
        with gallery.writing() as connection:
            for row in batch:
                file = gallery.folders.file(row.path)
                if is_gone(file):  # looked at again, while nothing else can change the records
                    removed += connection.execute(
                        "DELETE FROM images WHERE id = ? AND path = ? AND trashed IS NULL", [row.id, row.path]
                    ).rowcount
    return removed


def _mark_missing(gallery: Gallery, rows: Iterable[_Row]) -> None:
    for batch in _batches(list(rows)):
        with gallery.writing() as connection:
            connection.executemany(
                "UPDATE images SET missing = 1 WHERE id = ? AND path = ?", [[row.id, row.path] for row in batch]
            )


def _mark_found(gallery: Gallery, found: list[_Row], listing: _Listing) -> None:
    """Record the folders of files that are there; those that have changed are recorded again anyway."""
    outdated = [row for row in found if row.missing or row.folder_id != listing.folders.get(row.folder)]
    for batch in _batches([row for row in outdated if row.folder in listing.folders]):
        with gallery.writing() as connection:
            connection.executemany(
                "UPDATE images SET missing = 0, folder_id = ? WHERE id = ? AND path = ?",
                [[listing.folders[row.folder], row.id, row.path] for row in batch],
            )


def _batches(rows: list[_Row]) -> Iterable[list[_Row]]:
    return (rows[start : start + _MOST_UPDATES] for start in range(0, len(rows), _MOST_UPDATES))


def _record_all(
    gallery: Gallery, names: Iterable[str], unreadable: list[tuple[Path, str]], cancelled: Callable[[], bool]
) -> int:
    taken = 0
    for name in names:
        if cancelled():
            break
        path = gallery.folders.file(name)
        try:
            gallery.record_file(path)
        except ImageProblem as problem:
            if not is_gone(path):  # deleted meanwhile
                unreadable.append((path, str(problem)))
        except OSError as error:
            if not is_gone(path):
                unreadable.append((path, f"{path.name}: {error.strerror or error}."))
        except UnicodeEncodeError as error:
            unreadable.append((path, name_not_kept(error)))
        else:
            taken += 1
    return taken


def _sync_sidecars(
    gallery: Gallery, listing: _Listing, known: set[int], cancelled: Callable[[], bool]
) -> tuple[list[StorageProblem], int]:
    """Read the sidecars that have changed, and write those that are missing.

    Returns what could not be read or written, and how many of the images `known` have other stars, notes or tags now.
    """
    unsaved, annotated = [], 0
    for row in _rows(gallery):
        if cancelled():
            break
        if row.path in listing.files and (
            listing.sidecars.get(row.path, 0) != row.sidecar_ns or (row.noted and row.path not in listing.sidecars)
        ):
            before = gallery.get(row.id)
            try:
                problem = gallery.sync_sidecar(row.id)
            except ValueError as error:  # one that cannot be kept does not keep the others from being read
                problem = sidecar_unreadable(gallery.folders.file(row.path), error)
            annotated += row.id in known and gallery.get(row.id) != before
            if problem is not None:
                unsaved.append(problem)
    return unsaved, annotated


def _remove_left_sidecars(gallery: Gallery, listing: _Listing) -> None:
    """Delete the sidecars that images in the trash left behind when the program was killed: they have others there."""
    left = listing.sidecars.keys() - listing.files.keys()
    homes = gallery.read("SELECT home, path FROM images WHERE trashed IS NOT NULL") if left else []
    for home, path in homes:
        if home in left and sidecar_of(gallery.folders.file(path)).exists() and is_gone(gallery.folders.file(home)):
            with suppress(OSError):
                sidecar_of(gallery.folders.file(home)).unlink(missing_ok=True)
