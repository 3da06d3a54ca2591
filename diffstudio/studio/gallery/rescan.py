"""Make the gallery's records agree with its folder, after other programs have changed it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from diffstudio.atomic import storage_errors
from diffstudio.errors import BadRequest, ImageProblem
from diffstudio.studio.gallery.gallery import Gallery
from diffstudio.studio.metadata import metadata
from diffstudio.studio.metadata.image_text import read_text

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True, slots=True)
class RescanReport:
    """How the folder differed from the gallery's records."""

    added: int = 0
    changed: int = 0
    moved: int = 0
    removed: int = 0
    unreadable: tuple[tuple[Path, str], ...] = ()  # the file, and why

    @property
    def anything(self) -> bool:
        return bool(self.added or self.changed or self.moved or self.removed)


@dataclass(frozen=True, slots=True)
class _File:
    modified_ns: int
    size_bytes: int


def rescan(gallery: Gallery, cancelled: Callable[[], bool] = lambda: False) -> RescanReport:
    """Make the gallery's records agree with its folder: files that other programs added, moved, changed or deleted.

    A file that was moved keeps its star: it is recognised by its time and size. StorageProblem when the folder cannot
    be read; the records stay as they are.
    """
    report = _rescan(gallery, cancelled)
    gallery.needs_rescan = gallery.needs_rescan and cancelled()
    return report


def _rescan(gallery: Gallery, cancelled: Callable[[], bool]) -> RescanReport:
    with storage_errors("The images folder cannot be read", gallery.folder):
        files = dict(_files(gallery.folder, gallery.folder, cancelled))
    if cancelled():
        return RescanReport()
    known = {
        path: (row_id, _File(modified, size))
        for row_id, path, modified, size in gallery.read(
            "SELECT id, path, modified_ns, size_bytes FROM images WHERE trashed IS NULL"
        )
    }
    missing = {path: entry for path, entry in known.items() if path not in files}
    new = sorted((path for path in files if path not in known), key=lambda path: files[path].modified_ns)
    changed = [path for path in files if path in known and known[path][1] != files[path]]

    moved = 0
    homeless = {entry[1]: entry[0] for entry in missing.values()}
    for path in list(new):
        row_id = homeless.pop(files[path], None)
        if row_id is not None:
            with gallery.writing() as connection:
                connection.execute("UPDATE images SET path = ? WHERE id = ?", [path, row_id])
            missing = {old: entry for old, entry in missing.items() if entry[0] != row_id}
            new.remove(path)
            moved += 1

    unreadable: list[tuple[Path, str]] = []
    added = _record_all(gallery, new, unreadable, cancelled)
    renewed = _record_all(gallery, changed, unreadable, cancelled)
    with gallery.writing() as connection:
        connection.executemany("DELETE FROM images WHERE id = ?", [[entry[0]] for entry in missing.values()])
    return RescanReport(added, renewed, moved, len(missing), tuple(unreadable))


def _files(folder: Path, root: Path, cancelled: Callable[[], bool]) -> Iterator[tuple[str, _File]]:
    """Images below a folder by their path below `root`; nothing whose name starts with a dot."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if cancelled():
                return
            if entry.name.startswith("."):
                continue
            with suppress(FileNotFoundError):  # gone since it was listed
                if entry.is_dir(follow_symlinks=False):
                    yield from _files(Path(entry.path), root, cancelled)
                elif entry.name.lower().endswith(SUFFIXES) and entry.is_file():
                    stat = entry.stat()
                    yield Path(entry.path).relative_to(root).as_posix(), _File(stat.st_mtime_ns, stat.st_size)


def _record_all(
    gallery: Gallery, found: list[str], unreadable: list[tuple[Path, str]], cancelled: Callable[[], bool]
) -> int:
    taken = 0
    for name in found:
        if cancelled():
            break
        path = gallery.folder / name
        try:
            image = read_text(path)
            settings: metadata.ImageSettings | None
            try:
                settings = metadata.settings_of(image, path.name)
            except (ImageProblem, BadRequest):
                settings = None  # an image without settings is an image all the same
            gallery.record(
                path,
                settings.request if settings else None,
                image.width,
                image.height,
                settings.checkpoint if settings else "",
            )
        except ImageProblem as problem:
            unreadable.append((path, str(problem)))
        except (UnicodeEncodeError, FileNotFoundError) as error:
            unreadable.append((path, f"its name cannot be kept: {error}"))
        else:
            taken += 1
    return taken
