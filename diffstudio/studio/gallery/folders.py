"""The folders that the gallery's images are in: the one that new images go to, and those that were chosen before it.

Paths in the records are relative to the current folder for images in it, so that it can be moved as a whole, and absolute
for all others. When another folder is chosen, the records are written anew, and no file is moved: `use_folder`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from diffstudio.studio.gallery.database import GalleryDatabase
from diffstudio.studio.gallery.file_names import TRASH
from diffstudio.studio.metadata.metadata import storable


@dataclass(frozen=True, slots=True)
class ImageFolders:
    """Where paths in the records are."""

    current: Path
    earlier: tuple[Path, ...] = ()

    def file(self, recorded: str) -> Path:
        return self.current / recorded

    def recorded(self, file: Path) -> str:
        """The path of a file as the records have it."""
        return _recorded(file, self.current) or file.as_posix()

    def of(self, file: Path) -> Path:
        """The innermost of the folders that a file is in, whose trash it goes to; for a file in none, where it is."""
        found = [folder for folder in (self.current, *self.earlier) if file.is_relative_to(folder)]
        return max(found, key=lambda folder: len(folder.parts), default=file.parent)


def is_elsewhere(recorded: str) -> bool:
    """Whether the file of a record is not in the current folder."""
    return os.path.isabs(recorded)


def use_folder(records: GalleryDatabase, folder: Path, usual: Path) -> ImageFolders:
    """Make the records name the same files as before, if they were relative to another folder than `folder`.

    Files that were moved or copied into `folder` under the same names are the same images. Earlier versions did not
    record their folder: then files that are not in `folder` are looked for in `usual`. A folder whose path no record
    can hold is used, and nothing is recorded. StorageProblem.
    """
    here = Path(os.path.abspath(folder))
    stored = [(Path(path), bool(current)) for path, current in records.read("SELECT path, current FROM folders")]
    before = next((path for path, current in stored if current), None)
    if before != here and _storable(str(here)):
        others = {path: None for path, _ in stored} | {before or usual: None}
        _move_records(records, here, before, usual, [path for path in others if path != here])
    earlier = records.read("SELECT path FROM folders WHERE current = 0 ORDER BY path")
    return ImageFolders(folder, tuple(Path(path) for (path,) in earlier))


def _move_records(
    records: GalleryDatabase, here: Path, before: Path | None, usual: Path, others: Iterable[Path]
) -> None:
    real, resolved = here.resolve(), lru_cache(maxsize=None)(Path.resolve)
    source = before or usual

    def moved(path: str) -> str:
        file = source / path
        return _recorded(resolved(file.parent) / file.name, real) or file.as_posix()

    with records.writing() as connection:
        rows = connection.execute("SELECT id, path, home, size_bytes FROM images").fetchall()
        changed, taken = list[tuple[str, str | None, int]](), set[str]()
        for image_id, path, home, size in rows:
            if not is_elsewhere(path) and _stays(here / path, source / path, size, known=before is not None):
                new, new_home = path, home
            else:
                new, new_home = moved(path), home and moved(home)
                if not _storable(new + (new_home or "")):
                    new, new_home = path, home
            if new in taken:
                connection.execute("DELETE FROM images WHERE id = ?", [image_id])  # a second record of the same file
            elif (new, new_home) != (path, home):
                changed.append((new, new_home, image_id))
            taken.add(new)
        connection.executemany("UPDATE images SET path = '?' || id WHERE id = ?", [[row[-1]] for row in changed])
        connection.executemany("UPDATE images SET path = ?, home = ? WHERE id = ?", changed)
        connection.execute("DELETE FROM folders")
        with_images = {(here / path).parent for path in taken}
        used = [other for other in others if any(each.is_relative_to(other) for each in with_images)]
        connection.executemany(
            "INSERT INTO folders (path, current) VALUES (?, ?)", [(str(here), 1), *((str(each), 0) for each in used)]
        )


def _stays(here: Path, there: Path, size: int, *, known: bool) -> bool:
    """Whether a relative path names the file `here` and not the one `there`. `known`: it did name that one."""
    return _size(here) == size or (not known and _size(there) is None)


def _storable(path: str) -> bool:
    """Whether a record can hold a path: not one that is not valid Unicode."""
    return path == storable(path)


def _size(file: Path) -> int | None:
    try:
        return file.stat().st_size
    except (OSError, ValueError):
        return None


def _recorded(file: Path, folder: Path) -> str | None:
    """A path below a folder and in its trash or in no hidden folder, which rescans do not enter; None for others."""
    if not file.is_relative_to(folder):
        return None
    relative = file.relative_to(folder)
    folders = relative.parts[:-1]
    hidden = folders != (TRASH,) and any(part.startswith(".") for part in folders)
    return None if hidden else relative.as_posix()
