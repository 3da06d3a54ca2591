"""Queue: the jobs still to be run, in SQLite, so that neither a crash nor `kill -9` loses them. No torch.

A job is *pending*, then *running*, then deleted. A running job belongs to the Queue object that took it, which holds a
lock file as long as it is open. When the queue is opened, running jobs whose owner is gone were interrupted: they become
pending again, in their old places, and continue after the images already saved.

Each job has a kind, see JobKind. Those of kinds that this version does not run are kept and never taken. The queue as a
whole can be paused, which is stored.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice, pairwise
from pathlib import Path

from filelock import FileLock, Timeout

from diffstudio.atomic import make_database_private
from diffstudio.errors import StorageProblem
from diffstudio.plurals import by_number, count_of
from diffstudio.studio.events import JobId
from diffstudio.studio.jobs.job_records import (
    REMOVED,
    RUN_HERE,
    CountedRows,
    PendingJobs,
    QueuedJob,
    RemovedJob,
    RestartPoint,
    kind_of,
    readable,
    restart_text,
)
from diffstudio.studio.jobs.queue_rescue import rescued_file, swap_in_rescued, text_or_bytes, write_rescued
from diffstudio.studio.requests import PictureRequest

FORMAT = 1  # of the database: PRAGMA user_version
_COLUMNS = {  # added since version 0.1, which ignores them
    "owner": "TEXT NOT NULL DEFAULT ''",  # of a running job: the id of the Queue object that took it
    "paused": "INTEGER NOT NULL DEFAULT 0",
    "token": "TEXT NOT NULL DEFAULT ''",  # identifies the job's images in the gallery
    "kind": "TEXT NOT NULL DEFAULT ''",  # a JobKind; empty in rows that version 0.1 wrote
    "restart": "TEXT NOT NULL DEFAULT ''",  # a RestartPoint as JSON; empty in jobs that begin with their first step
}
_RUN_HERE = "running = 0 AND kind IN ('', " + ", ".join(f"'{kind}'" for kind in RUN_HERE) + ")"
_JOBS = (
    f"SELECT id, request, done, attempts, paused, token, kind, restart FROM jobs WHERE {_RUN_HERE} ORDER BY place, id"
)
_IDS = f"SELECT id FROM jobs WHERE {_RUN_HERE} ORDER BY place, id"


class Queue:
    """The pending and running jobs. With `path` None they are kept in memory, for one command. Thread-safe.

    A damaged database is renamed to `.damaged`, and its readable jobs are put into a new one; `damage` says so.
    StorageProblem when that fails too.
    """

    def __init__(self, path: Path | None) -> None:
        self._lock = threading.RLock()
        self._path = path
        self._owner = uuid.uuid4().hex
        self._owner_lock: FileLock | None = None
        self.held_back: JobId | None = None  # a pending job that `take` passes over
        self.damage = ""  # what the user should know about a damaged database
        try:
            self._database = self._open_or_replace()
        except (sqlite3.DatabaseError, OSError) as error:
            raise self._unusable(error) from error

    def _open_or_replace(self) -> sqlite3.Connection:
        if self._path is not None and rescued_file(self._path).exists():  # the program was killed during a rescue
            return self._open_rescued(self._path)
        try:
            return self._open()
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # the latter: SQLite quotes what is damaged
            if self._path is None or isinstance(error, sqlite3.OperationalError):  # locked, or on a full disk: sound
                raise
            write_rescued(self._path, _make_tables)
            return self._open_rescued(self._path)

    def _open_rescued(self, path: Path) -> sqlite3.Connection:
        damaged = swap_in_rescued(path)
        database = self._open()
        (count,) = database.execute("SELECT COUNT(*) FROM jobs").fetchone()
        self.damage = (
            f"The queue was damaged: {count_of(count, 'waiting job')} could be read and {by_number(count, 'is', 'are')} kept. "
            f"The damaged file is {damaged.name}"
        )
        return database

    def _open(self) -> sqlite3.Connection:
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            make_database_private(self._path)  # it holds prompts
        database = sqlite3.connect(
            self._path or ":memory:", check_same_thread=False, isolation_level=None, timeout=10.0
        )
        database.text_factory = text_or_bytes
        try:
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if version > FORMAT:
                raise StorageProblem("The queue was written by a newer diffstudio", remedy="Update the program")
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            _make_tables(database)
            (state,) = database.execute("PRAGMA quick_check(1)").fetchone()
            if state != "ok":
                raise sqlite3.DatabaseError(state)
            database.execute("BEGIN IMMEDIATE")
            self._recover(database)
            database.execute("COMMIT")
        except BaseException:  # whatever happened, an open connection would keep the file locked
            database.close()
            raise
        return database

    def _recover(self, database: sqlite3.Connection) -> None:
        """Make the running jobs of owners that are gone pending again, and lock this owner's file."""
        if self._path is None:
            return
        for (owner,) in database.execute("SELECT DISTINCT owner FROM jobs WHERE running = 1").fetchall():
            if not owner or self._is_gone(owner):
                database.execute("UPDATE jobs SET running = 0, owner = '' WHERE running = 1 AND owner = ?", (owner,))
        for file in self._path.parent.glob(f"{self._path.name}.*.lock"):
            self._is_gone(file.name.split(".")[-2])  # deletes it if so
        self._owner_lock = FileLock(self._lock_file(self._owner))
        self._owner_lock.acquire(blocking=False)

    def _is_gone(self, owner: str) -> bool:
        """Whether no open queue has this id; the lock file of one that is gone is deleted."""
        lock = FileLock(self._lock_file(owner))
        try:
            lock.acquire(blocking=False)
        except Timeout:
            return False
        lock.release()
        self._lock_file(owner).unlink(missing_ok=True)
        return True

    def _lock_file(self, owner: str) -> Path:
        assert self._path is not None
        return self._path.with_name(f"{self._path.name}.{owner}.lock")

    def close(self) -> None:
        with self._lock:
            self._database.close()
            if self._owner_lock is not None:
                self._owner_lock.release()
                self._lock_file(self._owner).unlink(missing_ok=True)

    def submit(self, request: PictureRequest, restart: RestartPoint | None = None) -> JobId:
        """Append a job. Ids grow with every submission and are never reused."""
        text = json.dumps(request.to_json())
        token = uuid.uuid4().hex if self._path is not None else ""
        with self._transaction() as database:
            (last,) = database.execute("SELECT COALESCE(MAX(place), 0) FROM jobs").fetchone()
            database.execute(
                "INSERT INTO jobs (place, submitted, request, token, kind, restart) VALUES (?, ?, ?, ?, ?, ?)",
                (last + 1, time.time(), text, token, kind_of(request), restart_text(restart)),
            )
            job: JobId
            (job,) = database.execute("SELECT last_insert_rowid()").fetchone()
        return job

    def duplicate(self, job: JobId) -> JobId | None:
        """Add a copy of a pending job right behind it. None when it is not pending."""
        with self._transaction() as database:
            queued = next(readable(database.execute(f"SELECT * FROM ({_JOBS}) WHERE id = ?", (job,))), None)
            if queued is None:
                return None
            copy = self.submit(queued.request, queued.restart)
            self._put_behind([(copy, job)])
        return copy

    def replace_request(self, job: JobId, request: PictureRequest, restart: RestartPoint | None = None) -> bool:
        """Change what a pending job makes; it keeps its place. False when it is not pending.

        All its images are made with the new request: none that were saved with the old one are counted.
        """
        token = uuid.uuid4().hex if self._path is not None else ""
        with self._transaction() as database:
            return (
                database.execute(
                    f"UPDATE jobs SET request = ?, kind = ?, token = ?, restart = ?, done = 0, attempts = 0, paused = 0 "
                    f"WHERE id = ? AND {_RUN_HERE}",
                    (json.dumps(request.to_json()), kind_of(request), token, restart_text(restart), job),
                ).rowcount
                > 0
            )

    def pending(self) -> list[QueuedJob]:
        """The pending jobs in order. Rows that this version cannot read are skipped and kept."""
        with self._transaction() as database:
            return list(readable(database.execute(_JOBS)))

    def first_pending(self, limit: int) -> PendingJobs:
        """The first `limit` pending jobs in order, without reading the others."""
        with self._transaction() as database:
            (count,) = database.execute(f"SELECT COUNT(*) FROM jobs WHERE {_RUN_HERE}").fetchone()
            rows = CountedRows(database.execute(_JOBS))
            jobs = list(islice(readable(rows), limit))
            others = database.execute(
                f"SELECT kind, COUNT(*) FROM jobs WHERE running = 0 AND NOT ({_RUN_HERE}) GROUP BY kind"
            ).fetchall()
            paused = self.is_queue_paused()
        unreadable = rows.count - len(jobs)
        other_kinds = tuple((str(kind), number) for kind, number in others)
        return PendingJobs(jobs, count - unreadable, unreadable, other_kinds, paused)

    def is_queue_paused(self) -> bool:
        """Whether the queue as a whole is paused: `take` returns no job."""
        with self._transaction() as database:
            return bool(database.execute("SELECT MAX(paused) FROM queue").fetchone()[0])

    def set_queue_paused(self, paused: bool) -> None:
        """Pause the queue as a whole, or let it go on; kept until it is changed. A running job is not affected."""
        with self._transaction() as database:
            database.execute("UPDATE queue SET paused = ?", (paused,))

    def take(self) -> QueuedJob | None:
        """Mark the first pending job as running and return it; None if no job is pending, or the queue is paused.

        The job `held_back` is passed over.
        """
        with self._transaction() as database:
            if self.is_queue_paused():
                return None
            queued = next((each for each in readable(database.execute(_JOBS)) if each.job != self.held_back), None)
            if queued is not None:
                database.execute(
                    "UPDATE jobs SET running = 1, owner = ?, attempts = attempts + 1 WHERE id = ?",
                    (self._owner, queued.job),
                )
        return queued

    def saved(self, job: JobId, done: int) -> None:
        """Record that the first `done` images of a job are on disk. The attempt no longer counts as failed."""
        with self._transaction() as database:
            database.execute("UPDATE jobs SET done = ?, attempts = 0 WHERE id = ?", (done, job))

    def set_paused(self, job: JobId, paused: bool) -> None:
        """Record that a running job is paused: it stays so when the program ends meanwhile."""
        with self._transaction() as database:
            database.execute("UPDATE jobs SET paused = ? WHERE id = ?", (paused, job))

    def put_back(self, job: JobId) -> None:
        """Make a running job pending again, in its old place, without counting the attempt."""
        with self._transaction() as database:
            database.execute(
                "UPDATE jobs SET running = 0, owner = '', attempts = MAX(attempts - 1, 0) WHERE id = ? AND running = 1",
                (job,),
            )

    def remove(self, job: JobId) -> bool:
        """Delete a job. False if no job has this id."""
        with self._transaction() as database:
            return database.execute("DELETE FROM jobs WHERE id = ?", (job,)).rowcount > 0

    def remove_pending(self, job: JobId) -> RemovedJob | None:
        """Delete a job unless it is running. None if it is running or no job has this id."""
        with self._transaction() as database:
            waiting = self._waiting()
            if job not in waiting:
                return None
            position = waiting.index(job)
            removed = self._removed(job, waiting[position - 1] if position else None)
            database.execute("DELETE FROM jobs WHERE id = ?", (job,))
        return removed

    def clear_pending(self) -> list[RemovedJob]:
        """Delete every pending job that this version can run, and return them in order."""
        with self._transaction() as database:
            jobs = [queued.job for queued in readable(database.execute(_JOBS))]
            removed = [self._removed(job, before) for before, job in pairwise([None, *jobs]) if job is not None]
            database.executemany("DELETE FROM jobs WHERE id = ?", [(job,) for job in jobs])
        return removed

    def restore(self, removed: Sequence[RemovedJob]) -> None:
        """Put removed jobs back, each behind the job that it followed; at the front if that one is gone."""
        columns, values = ", ".join(REMOVED), ", ".join("?" * len(REMOVED))
        with self._transaction() as database:
            database.executemany(
                f"INSERT OR IGNORE INTO jobs ({columns}, place) "
                f"VALUES ({values}, (SELECT COALESCE(MAX(place), 0) + 1 FROM jobs))",
                [each.values for each in removed],
            )
            self._put_behind([(each.job, each.after) for each in removed])

    def _waiting(self) -> list[JobId]:
        return [row[0] for row in self._database.execute(_IDS)]

    def _removed(self, job: JobId, after: JobId | None) -> RemovedJob:
        values = self._database.execute(f"SELECT {', '.join(REMOVED)} FROM jobs WHERE id = ?", (job,)).fetchone()
        return RemovedJob(job, after, values)

    def _put_behind(self, places: Sequence[tuple[JobId, JobId | None]]) -> None:
        """Move each of these pending jobs behind another one, or to the front where that one is not pending."""
        order = self._waiting()
        for job, before in places:
            if job in order:
                order.remove(job)
                order.insert(order.index(before) + 1 if before in order else 0, job)
        self.reorder(order)

    def change(self, job: JobId, request: PictureRequest) -> bool:
        """Change how a pending job names its models; its saved images still count. False when it is not pending."""
        values = json.dumps(request.to_json()), job
        with self._transaction() as database:
            return database.execute("UPDATE jobs SET request = ? WHERE id = ? AND running = 0", values).rowcount > 0

    def move(self, job: JobId, offset: int) -> None:
        """Move a pending job by `offset` places, up if negative, but not beyond the ends; no effect when not pending."""
        with self._transaction():
            waiting = self._waiting()
            if job in waiting:
                position = waiting.index(job)
                waiting.insert(min(max(position + offset, 0), len(waiting) - 1), waiting.pop(position))
                self.reorder(waiting)

    def reorder(self, jobs: Sequence[JobId]) -> None:
        """Move these pending jobs to the front, in this order; the others follow in their present order.

        Jobs of kinds that this version does not run stay where they are among them, and running jobs before all.
        """
        with self._transaction() as database:
            waiting = self._waiting()
            first = [job for job in dict.fromkeys(jobs) if job in waiting]
            order = iter(first + [job for job in waiting if job not in first])
            mine = set(waiting)
            every = [row[0] for row in database.execute("SELECT id FROM jobs WHERE running = 0 ORDER BY place, id")]
            merged = [next(order) if job in mine else job for job in every]
            (last,) = database.execute("SELECT COALESCE(MAX(place), 0) FROM jobs WHERE running = 1").fetchone()
            database.executemany(
                "UPDATE jobs SET place = ? WHERE id = ?", [(last + place, job) for place, job in enumerate(merged, 1)]
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


def _make_tables(database: sqlite3.Connection) -> None:
    """Create the tables, or add what those of an older version lack."""
    database.execute(
        "CREATE TABLE IF NOT EXISTS jobs (id INTEGER PRIMARY KEY AUTOINCREMENT, place REAL NOT NULL, "
        "running INTEGER NOT NULL DEFAULT 0, done INTEGER NOT NULL DEFAULT 0, attempts INTEGER NOT NULL DEFAULT 0, "
        "submitted REAL NOT NULL, request TEXT NOT NULL)"
    )
    there = {row[1] for row in database.execute("PRAGMA table_info(jobs)")}
    for name, declaration in _COLUMNS.items():
        if name not in there:
            database.execute(f"ALTER TABLE jobs ADD COLUMN {name} {declaration}")
    database.execute("CREATE INDEX IF NOT EXISTS jobs_in_order ON jobs (running, place, id)")
    database.execute("CREATE TABLE IF NOT EXISTS queue (id INTEGER PRIMARY KEY, paused INTEGER NOT NULL)")
    database.execute("INSERT OR IGNORE INTO queue VALUES (1, 0)")
    database.execute(f"PRAGMA user_version = {FORMAT}")
