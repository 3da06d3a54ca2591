"""The gallery: images as files in a folder, and their records in an SQLite database.

The files are the truth. Each carries its own settings, and its star, note and tags are also in its sidecar, so that the
database can be lost and is then rebuilt by `rescan`. An image is deleted into `.trash` inside the gallery, from where `undo`
brings it back; `empty_trash` hands those over to the system's own trash.

Every method may be called from any thread.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from PIL import Image

from diffstudio import paths
from diffstudio.atomic import atomic_write, write_numbered
from diffstudio.errors import BadRequest, ImageProblem, StorageProblem, no_image_at
from diffstudio.imaging.exact_files import EXACT_SUFFIX, ExactValues, write_png, write_tiff
from diffstudio.imaging.thumbnail import read_thumbnail
from diffstudio.storage_errors import storage_errors
from diffstudio.studio.gallery.file_names import folder_id, is_gone, slug
from diffstudio.studio.gallery.records import COLUMNS, SEARCH_COLUMNS, GalleryImage, GalleryRecords, search_values
from diffstudio.studio.gallery.sidecar import (
    LONGEST_NOTE,
    Sidecar,
    annotation_columns,
    current_sidecar,
    modified_ns,
    read_sidecar,
    set_aside_if_damaged,
    sidecar_of,
    unusable_values,
    write_sidecar,
)
from diffstudio.studio.gallery.trash import BeforeRemoval, Trash, folder_missing
from diffstudio.studio.metadata import metadata
from diffstudio.studio.metadata.image_text import read_text
from diffstudio.studio.prompts.lora_tags import lora_tags
from diffstudio.studio.requests import PictureRequest, UpscaleRequest

IMAGE_NOT_SAVED = "The image could not be saved"
THUMBNAIL_SIDE = 256  # px
_NEWEST_DAYS = 3  # the last two, and one of them in two folders
_NEWEST_FILES = 50  # in which the images of an interrupted job are looked for

_IN_FOLDER = "substr(path, 1, 1) <> '/' AND substr(path, 2, 2) <> ':/'"  # not elsewhere
_RECORDED = (
    *("path", "created", "modified_ns", "size_bytes", "width", "height", "prompt", "negative", "checkpoint", "request"),
    *("folder_id", *SEARCH_COLUMNS),
)
_UPSERT = (
    f"INSERT INTO images ({', '.join(_RECORDED)}, indexed) VALUES ({'?, ' * len(_RECORDED)}1) "
    f"ON CONFLICT (path) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in _RECORDED[1:])}, "
    f"indexed = 1, missing = 0 RETURNING {COLUMNS}"
)


class Gallery(GalleryRecords):
    """Images below `folder`, their records in `database`, small copies in `thumbnails` (which may be deleted)."""

    def __init__(self, folder: Path, database: Path, thumbnails: Path | None = None) -> None:
        self.thumbnails = thumbnails or paths.cache() / "thumbnails"
        self.before_removal: BeforeRemoval = _nothing_else
        self._files = threading.RLock()  # held while a file and its record differ
        super().__init__(folder, database)
        self._trash = Trash(self.folders, self, self._files)
        try:
            self._make_folder()
        except StorageProblem:
            self.close()
            raise
        with suppress(StorageProblem):  # tried again by the next rescan
            self.recover()

    def _make_folder(self) -> None:
        """Make the folder, unless images are recorded in it: then it may be on a drive that is not connected.

        StorageProblem when that fails, unless there are images elsewhere.
        """
        if self.read(f"SELECT 1 FROM images WHERE {_IN_FOLDER} LIMIT 1"):
            return
        try:
            with storage_errors("The images folder cannot be created", self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
        except StorageProblem:
            if not self.read("SELECT 1 FROM images LIMIT 1"):
                raise

    # Adding

    def add(
        self,
        image: Image.Image,
        request: PictureRequest,
        *,
        extra: Mapping[str, Any] | None = None,
        exact: ExactValues | None = None,
    ) -> GalleryImage:
        """Write an image with its settings as `YYYY-MM-DD/HHMMSS-seed-slug.png`, and record it.

        `exact` are its values where 8 bits do not hold them: in a PNG of 16 bits, or in a TIFF beside it.

        `request` is the whole request and `extra` what else decides the pixels (`index` of this image in the request,
        `torch`, `device`, `dtype`, `batch` …: see `metadata.write`). The file appears whole or not at all, and never
        over another. Raises StorageProblem.
        """
        about = {"width": image.width, "height": image.height} | dict(extra or {})
        this = metadata.of_one(request, about)
        now = datetime.now()
        name = "-".join(part for part in (now.strftime("%H%M%S"), *_name_parts(this)) if part)
        texts = metadata.write(image, request, about)
        failed = IMAGE_NOT_SAVED
        with storage_errors(failed, self.folder):
            day = self.folder / now.strftime("%Y-%m-%d")
            day.mkdir(parents=True, exist_ok=True)
            path = write_numbered(day / f"{name}.png", lambda file: write_png(file, image, texts, exact), failed)
            if exact is not None and not exact.as_png:
                with atomic_write(path.with_suffix(EXACT_SUFFIX), failed, overwrite=False) as beside:
                    write_tiff(beside, exact)
        try:
            return self.record(path, this, image.width, image.height, str(about.get("model") or request.checkpoint))
        except (StorageProblem, OSError) as error:  # the next rescan finds it
            why = error.why if isinstance(error, StorageProblem) else str(error)
            raise StorageProblem(
                f"The image is saved as {path}, but could not be recorded",
                why,
                "Free some space, then rescan the gallery",
            ) from error

    # Looking

    def saved_images(self, token: str) -> int:
        """How many images of a job are saved, from its token in their settings; one without a record is recorded.

        Looks at the newest files: the program was killed while it saved the last of them.
        """
        found = (day for folder in (self.folder, *self.folders.earlier) for day in folder.glob("????-??-??"))
        days = sorted((day for day in found if day.is_dir()), key=lambda day: day.name, reverse=True)[:_NEWEST_DAYS]
        files = [path for day in days for path in day.glob("*.png")]
        saved = 0
        for path in sorted(files, key=_written, reverse=True)[:_NEWEST_FILES]:
            with suppress(
                ImageProblem, BadRequest, OSError, ValueError
            ):  # not ours, gone, or of a name that cannot be kept
                settings = metadata.settings_of(read_text(path), path.name)
                if settings.environment.get("job") == token and settings.asked is not None:
                    saved = max(saved, settings.request.seed - settings.asked.seed + 1)
                    if self.find(path) is None:
                        self.record_file(path)
        return saved

    def thumbnail(self, image: GalleryImage) -> Path:
        """The thumbnail file: a WebP of at most 256 px a side, made if it does not exist. Slow: not for the GUI thread.

        Raises ImageProblem when the image cannot be read, StorageProblem when the thumbnail cannot be written.
        """
        try:
            stat = image.path.stat()
            small = self._thumbnail_of(image.path, stat.st_mtime_ns, stat.st_size)
        except OSError as error:
            for modified, size in self.read("SELECT modified_ns, size_bytes FROM images WHERE id = ?", [image.id]):
                small = self._thumbnail_of(image.path, modified, size)
                if small.exists():  # of a missing image
                    return small
            raise no_image_at(image.path) from error
        if small.exists():
            return small
        smaller = read_thumbnail(image.path, THUMBNAIL_SIDE)
        failed = "The thumbnail could not be saved"
        with storage_errors(failed, self.thumbnails):
            small.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(small, failed) as file:
                smaller.save(file, "WEBP", quality=88)
        return small

    def _thumbnail_of(self, path: Path, modified_ns: int, size_bytes: int) -> Path:
        version = f"{path}|{modified_ns}|{size_bytes}".encode("utf-8", "surrogatepass")
        key = hashlib.sha1(version, usedforsecurity=False).hexdigest()
        return self.thumbnails / key[:2] / f"{key}.webp"

    # Changing

    def star(self, image_id: int, starred: bool = True) -> StorageProblem | None:
        """Star an image, in its sidecar and then in the records.

        Returns what kept the sidecar from being written, as in a folder that is read-only: the star is then in the
        records alone. Raises StorageProblem when it could not be changed at all.
        """
        return self._annotate(image_id, lambda now: replace(now, starred=starred))

    def set_note(self, image_id: int, note: str) -> StorageProblem | None:
        """Write a note about an image, as `star` does."""
        return self._annotate(image_id, lambda now: replace(now, note=metadata.storable(note)[:LONGEST_NOTE]))

    def tag(self, image_id: int, add: Iterable[str] = (), remove: Iterable[str] = ()) -> StorageProblem | None:
        """Add tags to an image and remove others, as `star` does."""
        added, removed = list(add), list(remove)
        return self._annotate(image_id, lambda now: now.with_tags(added, removed))

    def _annotate(self, image_id: int, change: Callable[[Sidecar], Sidecar]) -> StorageProblem | None:
        """Change what is known of an image. Its sidecar is read first: another program may have changed it."""
        problem = None
        statement = "SELECT path, starred, note, tags FROM images WHERE id = ? AND trashed IS NULL"
        with self._files:
            for path, *recorded in self.read(statement, [image_id]):
                image = self.folders.file(path)
                sidecar = change(current_sidecar(image, *recorded))
                failed = f"What you noted about {image.name} could not be changed"
                if not image.exists():
                    raise folder_missing(failed, image.parent) if not image.parent.is_dir() else no_image_at(image)
                try:
                    write_sidecar(image, sidecar)
                except StorageProblem as error:
                    if sidecar_of(image).exists():  # the next rescan would bring back what it says
                        raise StorageProblem(failed, error.why, error.remedy) from error
                    what = f"The star, note and tags of {image.name} are kept in the gallery's database only"
                    problem = StorageProblem(what, error.why, error.remedy)
                self._record_sidecar(image_id, path, sidecar)
        return problem

    def sync_sidecar(self, image_id: int) -> StorageProblem | None:
        """Make the record of an image agree with its sidecar, or write the sidecar if it is missing.

        Returns why it could not be read or written. One that cannot be read is renamed.
        """
        problem = None
        statement = "SELECT path, starred, note, tags FROM images WHERE id = ? AND trashed IS NULL"
        with self._files:
            for path, *recorded in self.read(statement, [image_id]):
                image = self.folders.file(path)
                found = read_sidecar(image)
                try:
                    with storage_errors(_sidecar_not_read(image), image.parent):
                        aside = set_aside_if_damaged(image) if found is None else None
                except StorageProblem as error:
                    return error
                if aside is not None:
                    problem = _damaged_sidecar(image, aside)
                elif unusable := unusable_values(image):
                    problem = StorageProblem(_sidecar_not_read(image, "Some of "), ", ".join(unusable))
                now = current_sidecar(image, *recorded)
                if found is None and now != Sidecar() and image.exists():
                    try:
                        write_sidecar(image, now)
                    except StorageProblem as error:
                        return error
                self._record_sidecar(image_id, path, now)
        return problem

    def _record_sidecar(self, image_id: int, path: str, sidecar: Sidecar) -> None:
        with self.writing() as connection:
            connection.execute(
                "UPDATE images SET starred = ?, note = ?, tags = ?, sidecar_ns = ? WHERE id = ? AND path = ?",
                [*annotation_columns(sidecar), modified_ns(self.folders.file(path)), image_id, path],
            )

    def delete(self, image_ids: Iterable[int]) -> list[int]:
        """Move images to the gallery's own trash; the ids of those that left the gallery. Raises StorageProblem.

        One without a file leaves the gallery for good; it comes back with its file.
        """
        return [image_id for image_id in image_ids if self._trash.put(image_id)]

    def undo(self, image_ids: Iterable[int]) -> list[int]:
        """Bring images back out of the trash to where they were; the ids of those that came back."""
        return [image_id for image_id in image_ids if self._trash.restore(image_id)]

    def purge(self, image_ids: Iterable[int]) -> int:
        """Delete images in the trash permanently, without using the system trash; returns how many. StorageProblem."""
        return sum(self._trash.purge(image_id, self.before_removal) for image_id in image_ids)

    def trash_count(self) -> int:
        return int(self.read("SELECT count(*) FROM images WHERE trashed IS NOT NULL")[0][0])

    def trashed(self) -> list[int]:
        """The ids of what is in the trash, the latest first."""
        return [row[0] for row in self.read("SELECT id FROM images WHERE trashed IS NOT NULL ORDER BY trashed DESC")]

    def empty_trash(self) -> int:
        """Move the gallery's trash to the system trash; returns how many images it held. StorageProblem."""
        return self._trash.empty(self.before_removal)

    def recover(self) -> list[tuple[Path, str]]:
        """Complete or undo every deletion and restoring that a killed program left half done. StorageProblem.

        Returns the files in the trash that were skipped, and why.
        """
        return self._trash.recover(self._add_trashed)

    def _add_trashed(self, path: Path, home: str, sidecar: Sidecar) -> None:
        """Record an image in the trash that has no record."""
        with suppress(ImageProblem, FileNotFoundError):
            self.record_file(path)
            with self.writing() as connection:
                connection.execute(
                    "UPDATE images SET trashed = ?, home = ?, starred = ?, note = ?, tags = ? WHERE path = ?",
                    [sidecar.deleted, home, *annotation_columns(sidecar), self.folders.recorded(path)],
                )

    # For rescan

    def record_file(self, path: Path) -> GalleryImage:
        """Record a file in the folder, with the settings in it. ImageProblem, or OSError when it is gone."""
        text = read_text(path)
        settings: metadata.ImageSettings | None
        try:
            settings = metadata.settings_of(text, path.name)
        except (ImageProblem, BadRequest):
            settings = None  # an image without settings is an image all the same
        request, checkpoint = (settings.request, settings.checkpoint) if settings else (None, "")
        return self.record(path, request, text.width, text.height, checkpoint)

    def record(
        self, path: Path, request: PictureRequest | None, width: int, height: int, checkpoint: str = ""
    ) -> GalleryImage:
        """Insert the row of a file in the folder, or renew it: its star stays. Dated by the file's own time.

        FileNotFoundError when there is no such file (any more).
        """
        stat = path.stat()
        texts = (request.prompt, request.negative, checkpoint) if request else ("", "", checkpoint)
        prompt, negative, checkpoint = (metadata.storable(text) for text in texts)
        values = [
            self.folders.recorded(path),
            stat.st_mtime,
            stat.st_mtime_ns,
            stat.st_size,
            width,
            height,
            prompt,
            negative,
            checkpoint,
            json.dumps(request.to_json()) if request else None,
            folder_id(path.parent),
            *search_values(request, prompt, checkpoint, width, height),
        ]
        with self.writing() as connection:
            if is_gone(path):  # deleted meanwhile, which needs a transaction too
                raise FileNotFoundError(os.fspath(path))
            rows = connection.execute(_UPSERT, values).fetchall()
        return self._image(rows[0])


def _nothing_else(image: Path) -> Callable[[], object]:
    """Before an image leaves the trash for good, where nothing else is removed with it."""
    return lambda: None


def sidecar_unreadable(image: Path, error: ValueError) -> StorageProblem:
    return StorageProblem(_sidecar_not_read(image), str(error)[:200], "Correct the file, or delete it")


def _sidecar_not_read(image: Path, some: str = "") -> str:
    return f"{some}{sidecar_of(image)} cannot be read"


def _damaged_sidecar(image: Path, aside: Path) -> StorageProblem:
    return StorageProblem(
        f"The star, note and tags of {image.name} cannot be read from its sidecar",
        "the file is damaged",
        f"It is kept as {aside.name}",
    )


def _written(path: Path) -> int:
    """When a file was last changed, in ns; 0 when it is gone."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _name_parts(request: PictureRequest) -> tuple[str, str]:
    """What a file is called after."""
    if isinstance(request, UpscaleRequest):
        return slug(request.source.stem), f"{request.scale:g}x"
    return str(request.seed), slug(lora_tags(request.prompt)[0]) or slug(request.prompt)
