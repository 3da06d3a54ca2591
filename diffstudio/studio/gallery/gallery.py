"""The gallery: images as files in a folder, and their records in an SQLite database.

The files are the truth. Each carries its own settings, so that the database can be lost and is then rebuilt by
`rescan`; only stars live in the database alone. An image is deleted into `.trash` inside the gallery, from where
`undo` brings it back; `empty_trash` hands those over to the system's own trash.

Every method may be called from any thread: each thread has its own connection, and SQLite (in WAL mode) orders them.
"""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image

from diffstudio import paths
from diffstudio.atomic import atomic_write, move_numbered, storage_errors, write_numbered
from diffstudio.atomic import replace as replace_file
from diffstudio.errors import BadRequest, StorageProblem, no_image_at
from diffstudio.imaging.thumbnail import read_thumbnail
from diffstudio.studio.gallery.files import slug
from diffstudio.studio.metadata import metadata
from diffstudio.studio.prompts.lora_tags import lora_tags
from diffstudio.studio.requests import PictureRequest, TrainRequest, UpscaleRequest, request_from_json

IMAGE_NOT_SAVED = "The image could not be saved"
FORMAT = 1  # of the database, in its user_version
THUMBNAIL_SIDE = 256  # px
TRASH = ".trash"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS images (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    path TEXT NOT NULL UNIQUE,          -- below the gallery's folder, with forward slashes
    created REAL NOT NULL,              -- seconds since the epoch
    modified_ns INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    width INTEGER NOT NULL,             -- px
    height INTEGER NOT NULL,
    prompt TEXT NOT NULL,
    negative TEXT NOT NULL,
    checkpoint TEXT NOT NULL,
    request TEXT,                       -- JSON; NULL when the image holds no settings
    starred INTEGER NOT NULL DEFAULT 0,
    trashed REAL,                       -- when; NULL while it is shown
    home TEXT                           -- where it goes back to from the trash
);
CREATE INDEX IF NOT EXISTS newest ON images (created DESC, id DESC) WHERE trashed IS NULL;
CREATE INDEX IF NOT EXISTS newest_starred ON images (created DESC, id DESC) WHERE trashed IS NULL AND starred = 1;
CREATE INDEX IF NOT EXISTS newest_of ON images (checkpoint, created DESC, id DESC) WHERE trashed IS NULL;
CREATE INDEX IF NOT EXISTS in_trash ON images (trashed) WHERE trashed IS NOT NULL;
"""
_WORDS = """
CREATE VIRTUAL TABLE words USING fts5(prompt, negative, checkpoint, content='images', content_rowid='id',
                                      tokenize='trigram');
CREATE TRIGGER words_in AFTER INSERT ON images BEGIN
    INSERT INTO words (rowid, prompt, negative, checkpoint) VALUES (new.id, new.prompt, new.negative, new.checkpoint);
END;
CREATE TRIGGER words_out AFTER DELETE ON images BEGIN
    INSERT INTO words (words, rowid, prompt, negative, checkpoint)
    VALUES ('delete', old.id, old.prompt, old.negative, old.checkpoint);
END;
CREATE TRIGGER words_changed AFTER UPDATE OF prompt, negative, checkpoint ON images BEGIN
    INSERT INTO words (words, rowid, prompt, negative, checkpoint)
    VALUES ('delete', old.id, old.prompt, old.negative, old.checkpoint);
    INSERT INTO words (rowid, prompt, negative, checkpoint) VALUES (new.id, new.prompt, new.negative, new.checkpoint);
END;
INSERT INTO words (words) VALUES ('rebuild');
"""
_UPSERT = """
INSERT INTO images (path, created, modified_ns, size_bytes, width, height, prompt, negative, checkpoint, request)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (path) DO UPDATE SET
    created = excluded.created, modified_ns = excluded.modified_ns, size_bytes = excluded.size_bytes,
    width = excluded.width, height = excluded.height, prompt = excluded.prompt, negative = excluded.negative,
    checkpoint = excluded.checkpoint, request = excluded.request"""
_COLUMNS = "images.id, path, request, created, width, height, starred, checkpoint"


@dataclass(frozen=True, slots=True)
class GalleryImage:
    """One image of the gallery."""

    id: int
    path: Path
    created: float  # seconds since the epoch
    width: int  # px
    height: int
    starred: bool
    checkpoint: str  # the name of what made it; "" when unknown
    request_json: str | None  # as recorded: read when asked for, for there may be 100,000 of these

    @property
    def request(self) -> PictureRequest | None:
        """The request for this image alone; None when it holds no settings, or a newer program's."""
        return _request(self.request_json) if self.request_json else None


@lru_cache(maxsize=2048)
def _request(text: str) -> PictureRequest | None:
    try:
        request = request_from_json({"kind": "generate"} | json.loads(text))
    except (BadRequest, ValueError, TypeError):
        return None
    return None if isinstance(request, TrainRequest) else request


class Gallery:
    """Images below `folder`, their records in `database`, small copies in `thumbnails` (which may be deleted)."""

    def __init__(self, folder: Path, database: Path, thumbnails: Path | None = None) -> None:
        self.folder, self.database = folder, database
        self.thumbnails = thumbnails or paths.cache() / "thumbnails"
        self.needs_rescan = not database.exists()
        self._connections: list[tuple[threading.Thread, sqlite3.Connection]] = []
        self._lock = threading.Lock()
        self._words = False
        with storage_errors("The gallery's records cannot be opened", database):
            folder.mkdir(parents=True, exist_ok=True)
            database.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._prepare()
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError:  # damaged: the files hold everything but the stars
                self._set_aside()
                self._prepare()

    # Adding

    def add(
        self, image: Image.Image, request: PictureRequest, *, extra: Mapping[str, Any] | None = None
    ) -> GalleryImage:
        """Write an image with its settings as `YYYY-MM-DD/HHMMSS-seed-slug.png`, and record it.

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
            path = write_numbered(day / f"{name}.png", lambda file: image.save(file, "PNG", pnginfo=texts), failed)
        with storage_errors(f"The image is saved as {path}, but could not be recorded", self.database):
            return self.record(path, this, image.width, image.height, str(about.get("model") or request.checkpoint))

    # Looking

    def images(self, offset: int = 0, limit: int = 200, search: str = "", starred: bool = False) -> list[GalleryImage]:
        """A page of images, the newest first; each word of `search` occurs in a prompt or the checkpoint's name."""
        where, values = self._where(search, starred)
        rows = self.read(
            f"SELECT {_COLUMNS} FROM images WHERE {where} ORDER BY created DESC, images.id DESC LIMIT ? OFFSET ?",
            [*values, limit, offset],
        )
        return [self._image(row) for row in rows]

    def count(self, search: str = "", starred: bool = False) -> int:
        where, values = self._where(search, starred)
        return int(self.read(f"SELECT count(*) FROM images WHERE {where}", values)[0][0])

    def fits(self, image_id: int, search: str = "", starred: bool = False) -> bool:
        """Whether an image is among those that `images` shows for this search."""
        where, values = self._where(search, starred)
        return bool(self.read(f"SELECT 1 FROM images WHERE {where} AND id = ?", [*values, image_id]))

    def get(self, image_id: int) -> GalleryImage | None:
        rows = self.read(f"SELECT {_COLUMNS} FROM images WHERE id = ? AND trashed IS NULL", [image_id])
        return self._image(rows[0]) if rows else None

    def find(self, path: Path) -> GalleryImage | None:
        """The record of a file of the gallery."""
        if not path.is_relative_to(self.folder):
            return None
        rows = self.read(f"SELECT {_COLUMNS} FROM images WHERE path = ? AND trashed IS NULL", [self._relative(path)])
        return self._image(rows[0]) if rows else None

    def newest_of(self, checkpoint: str) -> GalleryImage | None:
        """The newest image made with a checkpoint."""
        return next(iter(self.made_with(checkpoint, 1)), None)

    def made_with(self, checkpoint: str, most: int) -> list[GalleryImage]:
        """The newest images made with a checkpoint, the newest first."""
        rows = self.read(
            f"SELECT {_COLUMNS} FROM images WHERE checkpoint = ? AND trashed IS NULL "
            "ORDER BY created DESC, id DESC LIMIT ?",
            [checkpoint, most],
        )
        return [self._image(row) for row in rows]

    def thumbnail(self, image: GalleryImage) -> Path:
        """The thumbnail file: a WebP of at most 256 px a side, made if it does not exist. Slow: not for the GUI thread.

        Raises ImageProblem when the image cannot be read, StorageProblem when the thumbnail cannot be written.
        """
        try:
            stat = image.path.stat()
        except OSError as error:
            raise no_image_at(image.path) from error
        version = f"{image.path}|{stat.st_mtime_ns}|{stat.st_size}".encode("utf-8", "surrogatepass")
        key = hashlib.sha1(version, usedforsecurity=False).hexdigest()
        small = self.thumbnails / key[:2] / f"{key}.webp"
        if small.exists():
            return small
        smaller = read_thumbnail(image.path, THUMBNAIL_SIDE)
        failed = "The thumbnail could not be saved"
        with storage_errors(failed, self.thumbnails):
            small.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(small, failed) as file:
                smaller.save(file, "WEBP", quality=88)
        return small

    # Changing

    def star(self, image_id: int, starred: bool = True) -> None:
        with self.writing() as connection:
            connection.execute("UPDATE images SET starred = ? WHERE id = ?", [int(starred), image_id])

    def delete(self, image_ids: Iterable[int]) -> list[int]:
        """Move images to the gallery's own trash; the ids of those that went there. Raises StorageProblem."""
        gone = []
        for image_id in image_ids:
            for (path,) in self.read("SELECT path FROM images WHERE id = ? AND trashed IS NULL", [image_id]):
                source, target = self.folder / path, self.folder / TRASH / f"{image_id}-{Path(path).name}"
                with storage_errors(f"{source.name} could not be deleted", source.parent), self.writing() as connection:
                    connection.execute(
                        "UPDATE images SET trashed = ?, home = path, path = ? WHERE id = ?",
                        [time.time(), self._relative(target), image_id],
                    )
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with suppress(FileNotFoundError):  # already gone from the folder: it leaves the gallery too
                        replace_file(source, target)
                gone.append(image_id)
        return gone

    def undo(self, image_ids: Iterable[int]) -> list[int]:
        """Bring images back out of the trash to where they were; the ids of those that came back."""
        back = []
        for image_id in image_ids:
            where = "id = ? AND trashed IS NOT NULL"
            for path, home in self.read(f"SELECT path, home FROM images WHERE {where}", [image_id]):
                source, target = self.folder / path, self.folder / home
                if not source.exists():
                    continue
                with (
                    storage_errors(f"{target.name} could not be brought back", target.parent),
                    self.writing() as connection,
                ):
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target = move_numbered(source, target)
                    connection.execute(
                        "UPDATE images SET trashed = NULL, home = NULL, path = ? WHERE id = ?",
                        [self._relative(target), image_id],
                    )
                back.append(image_id)
        return back

    def trash_count(self) -> int:
        return int(self.read("SELECT count(*) FROM images WHERE trashed IS NOT NULL")[0][0])

    def trashed(self) -> list[int]:
        """The ids of what is in the trash, the latest first."""
        return [row[0] for row in self.read("SELECT id FROM images WHERE trashed IS NOT NULL ORDER BY trashed DESC")]

    def empty_trash(self) -> int:
        """Move the gallery's trash to the system's trash; returns how many images it held. StorageProblem."""
        from send2trash import send2trash

        gone = 0
        for image_id, path in self.read("SELECT id, path FROM images WHERE trashed IS NOT NULL"):
            file = self.folder / path
            if file.exists():
                try:
                    send2trash(file)
                except OSError as error:
                    raise StorageProblem(
                        "The trash could not be emptied",
                        f"the system's trash did not take {file.name}",
                        f"Delete the files in {file.parent} yourself",
                    ) from error
                gone += 1
            with self.writing() as connection:
                connection.execute("DELETE FROM images WHERE id = ?", [image_id])
        return gone

    def close(self) -> None:
        """Close every thread's connection. The gallery may be used again afterwards."""
        with self._lock:
            for _, connection in self._connections:
                connection.close()
            self._connections.clear()

    # For rescan

    def record(
        self, path: Path, request: PictureRequest | None, width: int, height: int, checkpoint: str = ""
    ) -> GalleryImage:
        """Insert the row of a file in the folder, or renew it: its star stays. Dated by the file's own time."""
        stat = path.stat()
        words = (request.prompt, request.negative, checkpoint) if request else ("", "", checkpoint)
        values = [
            self._relative(path),
            stat.st_mtime,
            stat.st_mtime_ns,
            stat.st_size,
            width,
            height,
            *(metadata.storable(text) for text in words),
            json.dumps(request.to_json()) if request else None,
        ]
        with self.writing() as connection:
            rows = connection.execute(f"{_UPSERT} RETURNING {_COLUMNS}", values).fetchall()
        return self._image(rows[0])

    def read(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with storage_errors("The gallery's records cannot be read", self.database):
            return self._connection().execute(statement, values).fetchall()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction of this thread's connection."""
        with storage_errors("The gallery's records cannot be changed", self.database):
            connection = self._connection()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:  # the transaction would stay open, and block every other thread
                connection.rollback()
                raise
            connection.commit()

    # Inside

    def _prepare(self) -> None:
        connection = self._connection()
        stored = connection.execute("PRAGMA user_version").fetchone()[0]
        if stored > FORMAT:
            raise StorageProblem(
                f"The gallery's records in {self.database} were made by a newer diffstudio", remedy="Update the program"
            )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(_SCHEMA)
        present = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'words'").fetchone() is not None
        if not present:
            with suppress(sqlite3.OperationalError):  # an SQLite without FTS5: search then reads every prompt
                connection.executescript(f"BEGIN; {_WORDS} COMMIT;")
                present = True
        if connection.in_transaction:
            connection.rollback()
        self._words = present
        connection.execute(f"PRAGMA user_version = {FORMAT}")

    def _set_aside(self) -> None:
        self.close()
        self.needs_rescan = True
        aside = self.database.with_name(f"{self.database.name}.damaged-{int(time.time())}")
        replace_file(self.database, aside)
        for ending in ("-wal", "-shm"):
            self.database.with_name(self.database.name + ending).unlink(missing_ok=True)

    def _connection(self) -> sqlite3.Connection:
        thread = threading.current_thread()
        with self._lock:
            for owner, connection in self._connections:
                if owner is thread:
                    return connection
            for owner, connection in self._connections:
                if not owner.is_alive():
                    connection.close()
            self._connections = [entry for entry in self._connections if entry[0].is_alive()]
            connection = sqlite3.connect(self.database, timeout=30.0, isolation_level=None, check_same_thread=False)
            connection.execute("PRAGMA synchronous = NORMAL")
            self._connections.append((thread, connection))
            return connection

    def _where(self, search: str, starred: bool) -> tuple[str, list[Any]]:
        conditions, values = ["trashed IS NULL"], []
        if starred:
            conditions.append("starred = 1")
        terms = metadata.storable(search).split()[:32]
        long = [term for term in terms if len(term) >= 3] if self._words else []  # what trigrams can find
        if long:
            quoted = " AND ".join('"' + term.replace('"', '""') + '"' for term in long)
            # the plus keeps SQLite on the index by time: nothing is sorted however many words match
            conditions.append("+images.id IN (SELECT rowid FROM words WHERE words MATCH ?)")
            values.append(quoted)
        for term in terms:
            if term not in long:
                like = "%" + re.sub(r"([\\%_])", r"\\\1", term) + "%"
                conditions.append(r"prompt || ' ' || negative || ' ' || checkpoint LIKE ? ESCAPE '\'")
                values.append(like)
        return " AND ".join(conditions), values

    def _relative(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    def _image(self, row: tuple[Any, ...]) -> GalleryImage:
        image_id, path, text, created, width, height, starred, checkpoint = row
        return GalleryImage(image_id, self.folder / path, created, width, height, bool(starred), checkpoint, text)


def _name_parts(request: PictureRequest) -> tuple[str, str]:
    """What a file is called after."""
    if isinstance(request, UpscaleRequest):
        return slug(request.source.stem), f"{request.scale:g}x"
    return str(request.seed), slug(lora_tags(request.prompt)[0]) or slug(request.prompt)
