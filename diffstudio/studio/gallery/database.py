"""The gallery's SQLite database: a connection for each thread, and the repair of a damaged file.

Every method may be called from any thread; SQLite, in WAL mode, orders them. A database that is found damaged, when it
is opened or later, is kept aside, and a new one is filled with the rows that can still be read. `needs_rescan` is then
true: the image files hold the rest.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from diffstudio.atomic import free_name, make_database_private
from diffstudio.atomic import replace as replace_file
from diffstudio.errors import StorageProblem
from diffstudio.storage_errors import sqlite_code, storage_errors
from diffstudio.studio.gallery.salvage import SALVAGED_COLUMNS, salvaged_folders, salvaged_rows

FORMAT = 1  # of the database, in its user_version
CHECKED_WHEN_OPENED_BYTES = 8 << 20  # larger databases are checked by the first rescan, in a thread

_SCHEMA = """
CREATE TABLE IF NOT EXISTS images (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    path TEXT NOT NULL UNIQUE,          -- below the gallery's folder or absolute, with forward slashes
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
"""
# The folders that images were saved in. Relative paths are below the current one.
_FOLDERS = """
CREATE TABLE IF NOT EXISTS folders (
    path TEXT PRIMARY KEY,
    current INTEGER NOT NULL            -- 1 for that one
);
"""
_NUMBER = "INTEGER NOT NULL DEFAULT 0"
_ADDED_COLUMNS = {  # since version 0.1, which still opens a database that has them
    "note": "TEXT NOT NULL DEFAULT ''",
    "missing": _NUMBER,  # 1 while the folder of the image is missing
    "folder_id": "TEXT",  # device and inode of that folder when the image was last seen
    "sidecar_ns": _NUMBER,  # modification time of its sidecar when that was last read; 0: none
    "tags": "TEXT NOT NULL DEFAULT '[]'",  # a JSON list
    # What is searched and sorted by, made of the request and of the columns above.
    "seed": "INTEGER",  # NULL without a request
    "sampler": "TEXT",
    "loras": "TEXT NOT NULL DEFAULT '[]'",  # the names in the prompt, a JSON list
    "prompt_key": "TEXT NOT NULL DEFAULT ''",
    "checkpoint_key": "TEXT NOT NULL DEFAULT ''",
    "pixels": _NUMBER,
    "indexed": _NUMBER,  # 1 when these are filled in
}
# What images are filtered by stands at the end of each index of an order, so that no row is read for it.
_FILTERED_BY = "starred, sampler, checkpoint, width, height"
_ORDERS = {
    "by_time": "created DESC, id DESC",
    "by_star": "starred DESC, created DESC, id DESC",
    "by_prompt": "prompt_key, created DESC, id DESC",
    "by_checkpoint": "checkpoint_key, created DESC, id DESC",
    "by_seed": "seed, created DESC, id DESC",
    "by_pixels": "pixels DESC, created DESC, id DESC",
    "by_bytes": "size_bytes DESC, created DESC, id DESC",
}
_INDEXES = """
DROP INDEX IF EXISTS newest;
CREATE INDEX IF NOT EXISTS newest_starred ON images (created DESC, id DESC) WHERE trashed IS NULL AND starred = 1;
CREATE INDEX IF NOT EXISTS newest_of ON images (checkpoint, created DESC, id DESC) WHERE trashed IS NULL;
CREATE INDEX IF NOT EXISTS in_trash ON images (trashed) WHERE trashed IS NOT NULL;
CREATE INDEX IF NOT EXISTS not_indexed ON images (id) WHERE indexed = 0;
""" + "".join(
    f"CREATE INDEX IF NOT EXISTS {name} ON images ({columns}, {_FILTERED_BY}) WHERE trashed IS NULL;\n"
    for name, columns in _ORDERS.items()
)
# The LoRAs and tags of images one by one. Triggers keep it, whichever program and version changes an image.
_LABELS = """
CREATE TABLE IF NOT EXISTS labels (
    kind TEXT NOT NULL,                 -- lora or tag
    name TEXT NOT NULL,
    image INTEGER NOT NULL,
    PRIMARY KEY (kind, name, image)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS labels_of ON labels (image);
CREATE TRIGGER IF NOT EXISTS labels_in AFTER INSERT ON images WHEN new.loras <> '[]' OR new.tags <> '[]' BEGIN
    INSERT OR IGNORE INTO labels SELECT 'lora', value, new.id FROM json_each(new.loras);
    INSERT OR IGNORE INTO labels SELECT 'tag', value, new.id FROM json_each(new.tags);
END;
CREATE TRIGGER IF NOT EXISTS labels_out AFTER DELETE ON images BEGIN
    DELETE FROM labels WHERE image = old.id;
END;
CREATE TRIGGER IF NOT EXISTS labels_changed AFTER UPDATE OF loras, tags ON images
WHEN new.loras <> old.loras OR new.tags <> old.tags BEGIN
    DELETE FROM labels WHERE image = new.id;
    INSERT OR IGNORE INTO labels SELECT 'lora', value, new.id FROM json_each(new.loras);
    INSERT OR IGNORE INTO labels SELECT 'tag', value, new.id FROM json_each(new.tags);
END;
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
_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
# Errors of a sound database: it is in use, or the disk, its permissions or the memory are at fault.
_CIRCUMSTANCES = {
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
}


class _Damaged(sqlite3.DatabaseError):
    """The integrity check failed."""


class GalleryDatabase:
    """The records in the file `database`. StorageProblem if it cannot be opened."""

    def __init__(self, database: Path) -> None:
        self.database = database
        self.needs_rescan = False
        self.damaged_copy: Path | None = None  # where a damaged database was kept
        self.on_damage: Callable[[Path], None] | None = None  # called with that path, from any thread
        self._connections: list[tuple[threading.Thread, sqlite3.Connection]] = []
        self._lock = threading.RLock()
        self._generation = 0  # counts the databases that were found damaged
        self._checked = self._has_text_index = False
        with storage_errors("The gallery's records cannot be opened", database):
            database.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._prepare()
            except sqlite3.Error as error:
                self.close()
                if not self._is_damage(error):
                    raise
                self._rebuild(0)

    def read(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with storage_errors("The gallery's records cannot be read", self.database):
            generation = self._generation
            try:
                return self._connection().execute(statement, values).fetchall()
            except sqlite3.Error as error:
                if not self._repaired(error, generation):
                    raise
            return self._connection().execute(statement, values).fetchall()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction of this thread's connection. StorageProblem for SQLite's errors; others pass."""
        generation = self._generation
        try:
            connection = self._connection()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.commit()
            except BaseException:  # the transaction would stay open, and block every other thread
                with suppress(sqlite3.Error):
                    connection.rollback()
                raise
        except sqlite3.Error as error:
            with storage_errors("The gallery's records cannot be changed", self.database):
                if not self._repaired(error, generation):
                    raise
                raise StorageProblem(
                    "The change was not recorded", "the gallery's database was damaged and is rebuilt", "Try again"
                ) from error

    def check(self) -> None:
        """Read the whole database once, and rebuild it if it is damaged anywhere. Slow: for a thread."""
        if self._checked:
            return
        generation = self._generation
        with storage_errors("The gallery's records cannot be checked", self.database):
            try:
                _check(self._connection())
                self._checked = True
            except sqlite3.Error as error:
                if not self._repaired(error, generation):
                    raise

    def close(self) -> None:
        """Close every thread's connection. The gallery may be used again afterwards."""
        with self._lock:
            for _, connection in self._connections:
                connection.close()
            self._connections.clear()

    # Opening

    def _prepare(self) -> None:
        make_database_private(self.database)
        connection = self._connection()
        stored = connection.execute("PRAGMA user_version").fetchone()[0]
        if stored > FORMAT:
            _check(connection)  # a damaged header may hold any number
            self.close()
            raise StorageProblem(
                f"The gallery's records in {self.database} were made by a newer diffstudio", remedy="Update the program"
            )
        connection.execute("PRAGMA journal_mode = WAL")
        new = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'images'").fetchone() is None
        self.needs_rescan = self.needs_rescan or new
        connection.executescript(_SCHEMA + _FOLDERS)
        present = {row[1] for row in connection.execute("PRAGMA table_info (images)")}
        for name, declaration in _ADDED_COLUMNS.items():
            if name not in present:
                connection.execute(f"ALTER TABLE images ADD COLUMN {name} {declaration}")
        connection.executescript(_INDEXES + _LABELS)
        self._has_text_index = _prepare_text_index(connection)
        if not new and self.database.stat().st_size <= CHECKED_WHEN_OPENED_BYTES:
            _check(connection)
            self._checked = True
        if stored != FORMAT:
            connection.execute(f"PRAGMA user_version = {FORMAT}")

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
            try:
                connection.execute("PRAGMA synchronous = NORMAL")
                connection.create_function("has_folded", 2, _has_folded, deterministic=True)
            except UnicodeDecodeError as error:  # of SQLite's message, which quotes a damaged schema
                connection.close()
                raise _Damaged("the schema is damaged") from error
            self._connections.append((thread, connection))
            return connection

    # Damage

    def _repaired(self, error: sqlite3.Error, generation: int) -> bool:
        """Whether the error came from a damaged database that has been replaced, now or by another thread."""
        with self._lock:
            if generation != self._generation:
                return True
            if not self._is_damage(error):
                return False
            self._rebuild(generation)
        if self.on_damage is not None and self.damaged_copy is not None:
            self.on_damage(self.damaged_copy)
        return True

    def _is_damage(self, error: sqlite3.Error) -> bool:
        code = sqlite_code(error)
        if isinstance(error, _Damaged) or code in _DAMAGE or str(error).startswith("Could not decode"):
            return True
        if isinstance(error, sqlite3.ProgrammingError) or code in _CIRCUMSTANCES:
            return False
        try:  # a wrong schema, or a header that claims to be read-only
            _check(self._connection())
        except sqlite3.Error as found:
            return sqlite_code(found) not in _CIRCUMSTANCES
        return False

    def _rebuild(self, generation: int) -> None:
        """Keep the damaged database aside, and fill a new one with the rows that can still be read."""
        self.close()
        aside = free_name(self.database.with_name(f"{self.database.name}.damaged-{int(time.time())}"))
        for ending in ("-wal", ""):
            with suppress(FileNotFoundError):
                replace_file(self.database.with_name(self.database.name + ending), aside.with_name(aside.name + ending))
        self.database.with_name(self.database.name + "-shm").unlink(missing_ok=True)
        self._prepare()
        rows, folders = salvaged_rows(aside), salvaged_folders(aside)
        places = ", ".join("?" * len(SALVAGED_COLUMNS))
        with self.writing() as connection:
            connection.executemany(
                f"INSERT OR IGNORE INTO images ({', '.join(SALVAGED_COLUMNS)}) VALUES ({places})", rows
            )
            connection.executemany("INSERT OR IGNORE INTO folders (path, current) VALUES (?, ?)", folders)
        self.damaged_copy, self.needs_rescan, self._checked = aside, True, True
        self._generation = generation + 1


def _has_folded(text: object, word: str) -> bool:
    """Whether a text has a word without regard to case, in any script. SQLite's LIKE folds ASCII only."""
    return isinstance(text, str) and word in text.casefold()


def _prepare_text_index(connection: sqlite3.Connection) -> bool:
    """Create the full-text index unless it exists; False for an SQLite without FTS5: search then reads every prompt."""
    present = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'words'").fetchone() is not None
    if not present:
        try:
            connection.executescript(f"BEGIN; {_WORDS} COMMIT;")
            present = True
        except sqlite3.OperationalError as error:
            if sqlite_code(error) != sqlite3.SQLITE_ERROR:
                raise
        if connection.in_transaction:
            connection.rollback()
    return present


def _check(connection: sqlite3.Connection) -> None:
    """Raise an SQLite error if any page is damaged."""
    found = connection.execute("PRAGMA integrity_check (1)").fetchall()
    if found != [("ok",)]:
        raise _Damaged(str(found[0][0]) if found else "")
