"""The queue: its order, and what is left of it after the worst."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest

from diffstudio.errors import StorageProblem
from diffstudio.studio.jobs.queue import Queue
from diffstudio.studio.requests import GenerateRequest, SamplerName, SpacingName, TrainRequest

SUBMITS_AND_TAKES = """
import sys, time
from pathlib import Path
from diffstudio.studio.jobs.queue import Queue
from diffstudio.studio.requests import GenerateRequest
queue = Queue(Path(sys.argv[1]))
for prompt in ("first", "second"):
    queue.submit(GenerateRequest(prompt=prompt, count=8, seed=2**62))
job = queue.take()
queue.saved(job.job, 3)
print("taken", flush=True)
time.sleep(60)
"""


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    queue = Queue(tmp_path / "queue.sqlite")
    yield queue
    queue.close()


def prompts(queue: Queue) -> list[str]:
    return [queued.request.prompt for queued in queue.pending()]


def submitted(queue: Queue, *wanted: str) -> list[int]:
    return [queue.submit(GenerateRequest(prompt=prompt)) for prompt in wanted]


def test_first_in_first_out_and_what_is_taken_waits_no_more(queue: Queue) -> None:
    submitted(queue, "one", "two")
    taken = queue.take()
    assert taken is not None and taken.request.prompt == "one" and (taken.done, taken.attempts) == (0, 0)
    assert prompts(queue) == ["two"]
    assert queue.remove(taken.job) and not queue.remove(taken.job)
    assert queue.take() is not None and queue.take() is None


def test_requests_come_back_whole(queue: Queue, tmp_path: Path) -> None:
    request = GenerateRequest(
        prompt="赤い 🍎",
        negative="x",
        seed=2**63 - 9,
        count=8,
        init=tmp_path / "a.png",
        mask=tmp_path / "b.png",
        sampler=SamplerName.UNIPC,
        spacing=SpacingName.KARRAS,
        guidance=1.5,
        width=72,
        strength=0.25,
    )
    queue.submit(request)
    assert queue.pending()[0].request == request


def test_a_number_is_never_used_again(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "queue.sqlite")
    (first,) = submitted(queue, "one")
    queue.remove(first)
    queue.close()
    queue = Queue(tmp_path / "queue.sqlite")
    (second,) = submitted(queue, "two")
    queue.close()
    assert second > first


def test_reordering(queue: Queue) -> None:
    one, two, three = submitted(queue, "one", "two", "three")
    queue.reorder([three, 999, one, three])
    assert prompts(queue) == ["three", "one", "two"]
    submitted(queue, "four")
    assert prompts(queue)[-1] == "four"


def test_only_what_waits_can_be_taken_out_as_waiting(queue: Queue) -> None:
    one, two = submitted(queue, "one", "two")
    queue.take()
    assert not queue.remove_pending(one)
    assert queue.remove_pending(two) and not queue.remove_pending(two)
    assert queue.pending() == []


def test_put_back_is_first_again_as_if_never_begun(queue: Queue) -> None:
    one, _ = submitted(queue, "one", "two")
    queue.take()
    queue.saved(one, 5)
    queue.put_back(one)
    again = queue.take()
    assert again is not None and (again.job, again.done, again.attempts) == (one, 5, 0)


def test_a_killed_program_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "queue.sqlite"
    process = subprocess.Popen([sys.executable, "-c", SUBMITS_AND_TAKES, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "taken\n"
    process.kill()
    process.wait()
    process.stdout.close()
    queue = Queue(path)
    pending = queue.pending()
    queue.close()
    assert [(queued.request.prompt, queued.done, queued.attempts) for queued in pending] == [
        ("first", 3, 1),
        ("second", 0, 0),
    ]
    assert pending[0].request.seed == 2**62


def test_a_damaged_database_is_kept_aside(tmp_path: Path) -> None:
    path = tmp_path / "queue.sqlite"
    path.write_bytes(b"this was never a database" * 100)
    queue = Queue(path)
    submitted(queue, "goes on")
    queue.close()
    assert path.with_name("queue.sqlite.damaged").read_bytes().startswith(b"this was never")


def test_a_place_that_cannot_be_written_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageProblem, match="cannot be used"):
        Queue(tmp_path / "file" / "queue.sqlite")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageProblem, match="cannot be used"):
        Queue(tmp_path / "folder")


def test_a_damaged_database_that_cannot_be_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "queue.sqlite"
    path.write_bytes(b"this was never a database" * 100)
    path.with_name("queue.sqlite.damaged").mkdir()
    with pytest.raises(StorageProblem, match=r"The queue .*queue.sqlite cannot be used: .*[Dd]irectory"):
        Queue(path)
    path.with_name("queue.sqlite.damaged").rmdir()
    monkeypatch.setattr(Queue, "_open", Mock(side_effect=sqlite3.DatabaseError("file is not a database")))
    with pytest.raises(StorageProblem, match="cannot be used: file is not a database. Free some space or close other"):
        Queue(path)
    assert path.with_name("queue.sqlite.damaged").read_bytes().startswith(b"this was never")


def test_a_queue_that_another_program_holds_is_left_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "queue.sqlite"
    queue = Queue(path)
    submitted(queue, "one")
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **more: connect(*args, **more | {"timeout": 0}))
    other = connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageProblem, match="cannot be used: database is locked"):
        Queue(path)
    queue._database.execute("PRAGMA busy_timeout = 0")
    with pytest.raises(
        StorageProblem, match="cannot be used: database is locked. Free some space or close other copies"
    ):
        queue.take()
    other.execute("ROLLBACK")
    other.close()
    assert prompts(queue) == ["one"] and sorted(found.name for found in tmp_path.glob("*.damaged")) == []
    queue.close()


def test_a_change_that_fails_is_undone(queue: Queue) -> None:
    one, two = submitted(queue, "one", "two")
    (pages,) = queue._database.execute("PRAGMA page_count").fetchone()
    queue._database.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StorageProblem, match="queue.sqlite cannot be used: database or disk is full. Free some space"):
        queue.submit(GenerateRequest(prompt="x" * 10_000))
    assert prompts(queue) == ["one", "two"]
    with pytest.raises(OverflowError), queue._transaction() as database:
        database.execute("DELETE FROM jobs")
        queue.remove(2**70)  # within the outer transaction, which is undone as a whole
    assert prompts(queue) == ["one", "two"]
    assert queue.take() is not None and queue.remove(one) and queue.remove_pending(two)


def test_a_queue_in_memory_that_is_full() -> None:
    queue = Queue(None)
    queue._database.execute("PRAGMA max_page_count = 1")
    with pytest.raises(StorageProblem, match="The queue in memory cannot be used: database or disk is full"):
        queue.submit(GenerateRequest(prompt="x" * 10_000))
    queue.close()


def test_training_requests_are_not_jobs_of_this_queue(queue: Queue, tmp_path: Path) -> None:
    one, two = submitted(queue, "one", "two")
    train = json.dumps(TrainRequest(tmp_path).to_json())
    queue._database.execute("UPDATE jobs SET request = ? WHERE id = ?", (train, one))
    taken = queue.take()
    assert taken is not None and taken.job == two and queue.take() is None


def test_a_newer_queue_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "queue.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    before = path.read_bytes()
    with pytest.raises(StorageProblem, match="The queue was written by a newer diffstudio. Update the program"):
        Queue(path)
    assert path.read_bytes() == before and list(tmp_path.glob("*.damaged")) == []


def test_rows_that_cannot_be_read_are_passed_over_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "queue.sqlite"
    queue = Queue(path)
    one, two, three, four = submitted(queue, "one", "two", "three", "four")
    queue.close()
    newer = json.dumps(GenerateRequest().to_json() | {"format": 99})
    with sqlite3.connect(path) as database:
        for job, text in ((one, "{"), (two, newer), (three, '{"kind": "generate", "format": 1, "steps": "many"}')):
            database.execute("UPDATE jobs SET request = ? WHERE id = ?", (text, job))
    database.close()
    queue = Queue(path)
    assert prompts(queue) == ["four"]
    taken = queue.take()
    assert taken is not None and taken.job == four
    queue.close()
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT COUNT(*) FROM jobs").fetchone() == (4,)
    database.close()


def test_many_threads_at_once(queue: Queue) -> None:
    taken: list[int] = []

    def work() -> None:
        for _ in range(20):
            queue.submit(GenerateRequest())
            job = queue.take()
            assert job is not None
            taken.append(job.job)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(1, 81))


def test_in_memory() -> None:
    queue = Queue(None)
    submitted(queue, "one")
    assert prompts(queue) == ["one"]
    queue.close()
