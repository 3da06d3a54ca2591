"""Queue: the jobs still to be run, in SQLite, so that neither a crash nor `kill -9` loses them. No torch.

A job is *pending*, then *running*, then deleted. One found running when the queue is opened was interrupted: it becomes
pending again, in its old place, and continues after the images already saved.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from diffstudio.atomic import replace
from diffstudio.errors import BadRequest, StorageProblem
from diffstudio.studio.events import JobId
from diffstudio.studio.requests import PictureRequest, TrainRequest, request_from_json

FORMAT = 1  # of the database: PRAGMA user_version


@dataclass(frozen=True, slots=True)
class QueuedJob:
    job: JobId
    request: PictureRequest
    done: int  # images already saved
    attempts: int  # times it was started without ending


class Queue:
    """The pending and running jobs. With `path` None they are kept in memory, for one command. Thread-safe.

    An unreadable database is renamed to `.damaged` and a new one created; StorageProblem when that fails too.
    """

    def __init__(self, path: Path | None) -> None:
        self._lock = threading.RLock()
        self._path = path
        try:
            self._database = self._open_or_replace()
        except (sqlite3.DatabaseError, OSError) as error:
            raise self._unusable(error) from error

    def _open_or_replace(self) -> sqlite3.Connection:
        try:
            return self._open()
        except sqlite3.DatabaseError as error:
            if self._path is None or isinstance(error, sqlite3.OperationalError):  # locked, or on a full disk: sound
                raise
            replace(self._path, self._path.with_name(self._path.name + ".damaged"))
            return self._open()

    def _open(self) -> sqlite3.Connection:
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(
            self._path or ":memory:", check_same_thread=False, isolation_level=None, timeout=10.0
        )
        try:
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if version > FORMAT:
                raise StorageProblem("The queue was written by a newer diffstudio", remedy="Update the program")
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            database.execute(
                "CREATE TABLE IF NOT EXISTS jobs (id INTEGER PRIMARY KEY AUTOINCREMENT, place REAL NOT NULL, "
                "running INTEGER NOT NULL DEFAULT 0, done INTEGER NOT NULL DEFAULT 0, attempts INTEGER NOT NULL DEFAULT 0, "
                "submitted REAL NOT NULL, request TEXT NOT NULL)"
            )
            database.execute(f"PRAGMA user_version = {FORMAT}")
            database.execute("UPDATE jobs SET running = 0 WHERE running = 1")
        except BaseException:  # whatever happened, an open connection would keep the file locked
            database.close()
            raise
        return database

    def close(self) -> None:
        with self._lock:
            self._database.close()

    def submit(self, request: PictureRequest) -> JobId:
        """Append a job. Ids grow with every submission and are never reused."""
        text = json.dumps(request.to_json())
        with self._transaction() as database:
            (last,) = database.execute("SELECT COALESCE(MAX(place), 0) FROM jobs").fetchone()
            database.execute(
                "INSERT INTO jobs (place, submitted, request) VALUES (?, ?, ?)", (last + 1, time.time(), text)
            )
            job: JobId
            (job,) = database.execute("SELECT last_insert_rowid()").fetchone()
        return job

    def pending(self) -> list[QueuedJob]:
        """The pending jobs in order. Rows that this version cannot read are skipped and kept."""
        with self._transaction() as database:
            rows = database.execute(
                "SELECT id, request, done, attempts FROM jobs WHERE running = 0 ORDER BY place, id"
            ).fetchall()
        return list(_readable(rows))

    def take(self) -> QueuedJob | None:
        """Mark the first pending job as running and return it; None if no job is pending."""
        with self._transaction() as database:
            for queued in self.pending():
                database.execute("UPDATE jobs SET running = 1, attempts = attempts + 1 WHERE id = ?", (queued.job,))
                return queued
        return None

    def saved(self, job: JobId, done: int) -> None:
        """Record that the first `done` images of a job are on disk."""
        with self._transaction() as database:
            database.execute("UPDATE jobs SET done = ? WHERE id = ?", (done, job))

    def put_back(self, job: JobId) -> None:
        """Make a running job pending again, in its old place, without counting the attempt."""
        with self._transaction() as database:
            database.execute(
                "UPDATE jobs SET running = 0, attempts = attempts - 1 WHERE id = ? AND running = 1", (job,)
            )

    def remove(self, job: JobId) -> bool:
        """Delete a job. False if no job has this id."""
        with self._transaction() as database:
            return database.execute("DELETE FROM jobs WHERE id = ?", (job,)).rowcount > 0

    def remove_pending(self, job: JobId) -> bool:
        """Delete a job unless it is running. False if it is running or no job has this id."""
        with self._transaction() as database:
            return database.execute("DELETE FROM jobs WHERE id = ? AND running = 0", (job,)).rowcount > 0

    def reorder(self, jobs: Sequence[JobId]) -> None:
        """Move these pending jobs to the front, in this order; the others follow in their present order."""
        with self._transaction() as database:
            waiting = [row[0] for row in database.execute("SELECT id FROM jobs WHERE running = 0 ORDER BY place, id")]
            first = [job for job in dict.fromkeys(jobs) if job in waiting]
            order = first + [job for job in waiting if job not in first]
            database.executemany(
                "UPDATE jobs SET place = ? WHERE id = ?", [(place, job) for place, job in enumerate(order, 1)]
            )

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            outermost = not self._database.in_transaction
            try:
                if outermost:
                    self._database.execute("BEGIN IMMEDIATE")
                yield self._database
                if outermost:
                    self._database.execute("COMMIT")
            except BaseException as error:
                if outermost and self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                if isinstance(error, sqlite3.Error):
                    raise self._unusable(error) from error
                raise

    def _unusable(self, error: Exception) -> StorageProblem:
        return StorageProblem(
            f"The queue {self._path or 'in memory'} cannot be used",
            str(error),
            "Free some space or close other copies of diffstudio",
        )


def _readable(rows: list[tuple[int, str, int, int]]) -> Iterator[QueuedJob]:
    for row, text, done, attempts in rows:
        try:
            request = request_from_json(json.loads(text))
        except (ValueError, BadRequest, RecursionError, AttributeError):
            continue
        if not isinstance(request, TrainRequest):
            yield QueuedJob(row, request, done, attempts)
