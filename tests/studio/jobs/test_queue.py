"""The queue: its order, and what is left of it after the worst."""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest

from diffstudio.errors import StorageProblem
from diffstudio.studio.jobs import queue_rescue
from diffstudio.studio.jobs.job_records import REMOVED, JobKind, PendingJobs, RemovedJob, RestartPoint
from diffstudio.studio.jobs.queue import Queue
from diffstudio.studio.requests import (
    GenerateRequest,
    SamplerName,
    SpacingName,
    TrainRequest,
    UpscaleRequest,
    request_from_json,
)

SUBMITS_AND_TAKES = """
import sys, time
from pathlib import Path
from diffstudio.studio.jobs.queue import Queue
from diffstudio.studio.requests.generate_request import GenerateRequest
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


def test_the_request_of_a_removed_job_can_be_changed() -> None:
    """One of another model, of a training run or of a later version stays as it is."""

    def removed(request: str) -> RemovedJob:
        return RemovedJob(1, None, tuple(request if name == "request" else "" for name in REMOVED))

    job = removed(json.dumps(GenerateRequest("a", checkpoint="ink").to_json()))
    changed = job.with_request(lambda request: replace(request, checkpoint="pen"))
    assert json.loads(str(changed.values[REMOVED.index("request")]))["checkpoint"] == "pen"
    training = removed(json.dumps(TrainRequest(folder=Path("/photos")).to_json()))
    assert job.with_request(lambda request: request) is job
    for other in (training, removed("{}")):
        assert other.with_request(lambda request: replace(request, seed=1)) is other


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


def test_a_copy_waits_right_behind_its_original(queue: Queue) -> None:
    one, _ = submitted(queue, "one", "two")
    copy = queue.duplicate(one)
    assert prompts(queue) == ["one", "one", "two"] and copy is not None and queue.pending()[1].job == copy
    tokens = {queued.token for queued in queue.pending()}
    assert len(tokens) == 3, "images of the copy are not those of the original"
    queue.take()
    assert queue.duplicate(one) is None, "a running job is not copied"
    assert queue.duplicate(999) is None


def test_an_edited_job_keeps_its_place_and_starts_with_its_first_image(queue: Queue, tmp_path: Path) -> None:
    one, two, _ = submitted(queue, "one", "two", "three")
    queue.take()
    queue.saved(one, 5)
    queue.set_paused(one, True)
    queue.put_back(one)
    (before, *_) = queue.pending()
    assert queue.replace_request(one, GenerateRequest("other", count=3))
    assert queue.replace_request(two, UpscaleRequest(tmp_path / "a.png"))
    first, second, _ = queue.pending()
    assert (first.job, first.request.prompt, first.done, first.paused) == (one, "other", 0, False)
    assert first.token not in ("", before.token), "the images saved before do not count"
    assert (second.job, second.kind) == (two, JobKind.UPSCALE)
    queue.take()
    assert not queue.replace_request(one, GenerateRequest("too late"))
    assert not queue.replace_request(999, GenerateRequest("never there"))


def test_removed_jobs_come_back_where_they_were(queue: Queue) -> None:
    one, two, three, _ = submitted(queue, "one", "two", "three", "four")
    queue.take()
    queue.saved(one, 2)
    queue.put_back(one)
    before = queue.pending()
    second, third = queue.remove_pending(two), queue.remove_pending(three)
    assert second is not None and third is not None and prompts(queue) == ["one", "four"]
    queue.restore([third])
    assert prompts(queue) == ["one", "three", "four"]
    queue.restore([second])
    assert queue.pending() == before
    first = queue.remove_pending(one)
    assert first is not None
    queue.restore([first])
    assert queue.pending() == before, "with the images that it had saved"


def test_a_cleared_queue_comes_back_before_what_was_added_since(queue: Queue) -> None:
    submitted(queue, "one", "two", "three")
    before = queue.pending()
    removed = queue.clear_pending()
    assert prompts(queue) == [] and [each.job for each in removed] == [queued.job for queued in before]
    submitted(queue, "new")
    queue.restore(removed)
    assert prompts(queue) == ["one", "two", "three", "new"]
    taken = queue.take()
    queue.restore(removed)  # twice, when one of them runs already
    assert taken is not None and prompts(queue) == ["two", "three", "new"]
    assert queue.clear_pending() and queue.clear_pending() == []


def test_behind_a_job_that_is_gone_is_the_front(queue: Queue) -> None:
    one, two, _ = submitted(queue, "one", "two", "three")
    removed = queue.remove_pending(two)
    assert removed is not None and removed.after == one
    queue.take()
    queue.restore([removed])
    assert prompts(queue) == ["two", "three"]


def test_a_paused_queue_starts_nothing_and_stays_paused(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "queue.sqlite")
    submitted(queue, "one", "two")
    assert queue.take() is not None
    queue.set_queue_paused(True)
    assert queue.take() is None and queue.is_queue_paused()
    assert queue.first_pending(9).paused
    queue.close()
    queue = Queue(tmp_path / "queue.sqlite")
    assert queue.take() is None
    queue.set_queue_paused(False)
    taken = queue.take()
    assert taken is not None and taken.request.prompt == "one" and not queue.first_pending(9).paused
    queue.close()


def test_a_job_can_be_passed_over(queue: Queue) -> None:
    one, two = submitted(queue, "one", "two")
    queue.held_back = one
    taken = queue.take()
    assert taken is not None and taken.job == two and queue.take() is None
    assert prompts(queue) == ["one"]


def test_a_job_says_what_it_makes(queue: Queue, tmp_path: Path) -> None:
    submitted(queue, "one")
    queue.submit(UpscaleRequest(tmp_path / "a.png"))
    assert [queued.kind for queued in queue.pending()] == [JobKind.IMAGE, JobKind.UPSCALE]
    stored = [kind for (kind,) in queue._database.execute("SELECT kind FROM jobs ORDER BY id")]
    assert stored == ["image", "upscale"]


def test_jobs_of_other_kinds_are_named_and_kept(queue: Queue) -> None:
    """Of a newer program, and those that join the list later: training runs and evaluations."""
    submitted(queue, "one", "two", "three", "four", "five")
    for job, kind in ((1, "training"), (2, "video"), (3, "video"), (4, "evaluation")):
        queue._database.execute("UPDATE jobs SET kind = ?, request = '{}' WHERE id = ?", (kind, job))
    pending = queue.first_pending(50)
    assert [queued.request.prompt for queued in pending.jobs] == ["five"]
    assert (pending.count, pending.unreadable) == (1, 0)
    assert pending.other_kinds == (("evaluation", 1), ("training", 1), ("video", 2))
    queue.move(5, -1)
    assert queue.take() is not None and queue.take() is None
    assert queue.clear_pending() == [] and queue.first_pending(50).other_kinds == pending.other_kinds


def test_a_queue_without_kinds_opens(tmp_path: Path) -> None:
    """As version 0.1 wrote it, and as that version writes into a queue of today."""
    path = tmp_path / "queue.sqlite"
    with sqlite3.connect(path) as database:
        database.execute(
            "CREATE TABLE jobs (id INTEGER PRIMARY KEY AUTOINCREMENT, place REAL NOT NULL, "
            "running INTEGER NOT NULL DEFAULT 0, done INTEGER NOT NULL DEFAULT 0, attempts INTEGER NOT NULL DEFAULT 0, "
            "submitted REAL NOT NULL, request TEXT NOT NULL)"
        )
        insert = "INSERT INTO jobs (place, submitted, request) VALUES (1, 0, ?)"
        database.execute(insert, (json.dumps(GenerateRequest("old").to_json()),))
    database.close()
    queue = Queue(path)
    queue._database.execute(insert, (json.dumps(UpscaleRequest(tmp_path / "a.png").to_json()),))
    assert [queued.kind for queued in queue.pending()] == [JobKind.IMAGE, JobKind.UPSCALE]
    removed = queue.clear_pending()
    queue.restore(removed)
    assert [queued.kind for queued in queue.pending()] == [JobKind.IMAGE, JobKind.UPSCALE]
    assert not queue.is_queue_paused()
    queue.close()


def test_a_kind_that_does_not_fit_its_request_is_not_run(queue: Queue, tmp_path: Path) -> None:
    (one,) = submitted(queue, "one")
    queue._database.execute("UPDATE jobs SET kind = 'upscale' WHERE id = ?", (one,))
    assert queue.take() is None and queue.first_pending(9).unreadable == 1


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
        ("first", 3, 0),
        ("second", 0, 0),
    ]
    assert pending[0].request.seed == 2**62


def test_an_attempt_that_saved_an_image_has_not_failed(tmp_path: Path) -> None:
    """Killed three times during a job of 60 images: each time some were made."""
    path = tmp_path / "queue.sqlite"
    queue = Queue(path)
    queue.submit(GenerateRequest(prompt="many", count=60))
    for done in (10, 30, 50):
        taken = queue.take()
        assert taken is not None and taken.attempts <= 1
        queue.saved(taken.job, done)
        queue = reopened_after_kill(queue, path)
    assert [(queued.done, queued.attempts) for queued in queue.pending()] == [(50, 0)]
    for attempts in range(3):
        taken = queue.take()
        assert taken is not None and taken.attempts == attempts
        queue = reopened_after_kill(queue, path)
    assert [queued.attempts for queued in queue.pending()] == [3]
    queue.close()


def reopened_after_kill(queue: Queue, path: Path) -> Queue:
    """The lock of a process that is killed is released, and its file stays."""
    assert queue._owner_lock is not None
    queue._owner_lock.release()
    queue._database.close()
    return Queue(path)


def test_a_job_that_was_paused_stays_paused(queue: Queue, tmp_path: Path) -> None:
    submitted(queue, "one")
    taken = queue.take()
    assert taken is not None and not taken.paused
    queue.set_paused(taken.job, True)
    queue.put_back(taken.job)
    taken = queue.take()
    assert taken is not None and taken.paused
    queue.set_paused(taken.job, False)
    queue.put_back(taken.job)
    assert [queued.paused for queued in queue.pending()] == [False]


def test_a_running_job_belongs_to_the_queue_that_took_it(queue: Queue, tmp_path: Path) -> None:
    submitted(queue, "one", "two")
    mine = queue.take()
    other = Queue(tmp_path / "queue.sqlite")
    assert mine is not None and mine.request.prompt == "one" and prompts(other) == ["two"]
    theirs = other.take()
    assert theirs is not None and theirs.request.prompt == "two" and other.take() is None
    other.close()  # without putting it back
    third = Queue(tmp_path / "queue.sqlite")
    assert prompts(third) == ["two"]  # the first is still running
    third.close()
    locks = list(tmp_path.glob("queue.sqlite.*.lock"))
    assert len(locks) == 1 and queue._owner in locks[0].name


def test_tokens_are_unique_and_stay(queue: Queue, tmp_path: Path) -> None:
    submitted(queue, "one", "one")
    one, two = queue.pending()
    assert one.token and two.token and one.token != two.token
    taken = queue.take()
    assert taken is not None and taken.token == one.token


def test_moving_up_and_down(queue: Queue) -> None:
    one, two, three = submitted(queue, "one", "two", "three")
    queue.move(three, -1)
    assert prompts(queue) == ["one", "three", "two"]
    queue.move(one, 1)
    assert prompts(queue) == ["three", "one", "two"]
    for job, offset in ((three, -1), (two, 1), (999, 1)):  # at the ends, and a job that is not there
        queue.move(job, offset)
    assert prompts(queue) == ["three", "one", "two"]


def test_thousands_of_waiting_jobs_are_not_read(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    text = json.dumps(GenerateRequest(prompt="x").to_json())
    queue._database.executemany(
        "INSERT INTO jobs (place, submitted, request) VALUES (?, 0, ?)", [(place, text) for place in range(5000)]
    )
    read: list[object] = []

    def counted(values: dict[str, object]) -> object:
        read.append(values)
        return request_from_json(values)

    monkeypatch.setattr("diffstudio.studio.jobs.job_records.request_from_json", counted)
    first = queue.first_pending(50)
    assert len(first.jobs) == 50 and (first.count, first.unreadable) == (5000, 0) and len(read) == 50
    assert queue.take() is not None and len(read) == 51


def test_the_count_leaves_out_rows_that_cannot_be_read(queue: Queue) -> None:
    one, _, _ = submitted(queue, "one", "two", "three")
    queue._database.execute("UPDATE jobs SET request = '{' WHERE id = ?", (one,))
    assert queue.first_pending(50) == PendingJobs(queue.pending(), 2, unreadable=1)
    assert queue.first_pending(1) == PendingJobs(queue.pending()[:1], 2, unreadable=1)


@pytest.mark.parametrize("page", [1, 2, 5, 9, -1])
def test_jobs_of_a_damaged_database_are_rescued(tmp_path: Path, page: int) -> None:
    """Random bytes over one page of 4 KiB: the first with the schema, the second with the root of the table, or one with jobs."""
    path = tmp_path / "queue.sqlite"
    queue = Queue(path)
    submitted(queue, *(f"{index} " + "x" * 900 for index in range(60)))
    queue.close()
    data = bytearray(path.read_bytes())
    start = 4096 * (page - 1) if page > 0 else len(data) - 4096
    data[start : start + 4096] = random.Random(page).randbytes(4096)
    path.write_bytes(data)
    queue = Queue(path)
    kept = [int(prompt.split()[0]) for prompt in prompts(queue)]
    assert kept == sorted(kept) and len(kept) >= (0 if page in (1, 2) else 40)
    assert f"{len(kept):,} waiting jobs could be read" in queue.damage and "queue.sqlite.damaged" in queue.damage
    submitted(queue, "new")
    queue.close()
    queue = Queue(path)
    assert queue.damage == "" and len(prompts(queue)) == len(kept) + 1
    queue.close()


def test_a_text_that_is_not_utf_8_costs_its_own_job_only(tmp_path: Path) -> None:
    path = tmp_path / "queue.sqlite"
    queue = Queue(path)
    submitted(queue, "first", "damaged", "last")
    queue.close()
    path.write_bytes(path.read_bytes().replace(b'"damaged"', b'"dam\xffged"'))
    queue = Queue(path)
    assert prompts(queue) == ["first", "last"]
    assert queue.first_pending(10).unreadable == 1
    queue.close()


def test_a_damaged_schema_that_is_not_utf_8(tmp_path: Path) -> None:
    """SQLite quotes it, and Python cannot decode its message."""
    path = tmp_path / "queue.sqlite"
    queue = Queue(path)
    submitted(queue, "first")
    queue.close()
    path.write_bytes(path.read_bytes().replace(b"CREATE TABLE jobs", b"CREATE \xe2ABLE jobs"))
    queue = Queue(path)
    assert "0 waiting jobs could be read" in queue.damage
    queue.close()


def test_a_log_left_behind_by_a_damaged_database_is_not_read_into_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "queue.sqlite"
    path.write_bytes(b"this was never a database" * 400)
    Path(f"{path}-wal").write_bytes(b"a log")
    real = Queue._open
    monkeypatch.setattr(Queue, "_open", Mock(side_effect=[sqlite3.DatabaseError("malformed"), real(Queue(None))]))
    Queue(path).close()
    assert Path(f"{path}.damaged").is_file() and not Path(f"{path}-wal").exists()


def test_a_damaged_database_is_kept_aside(tmp_path: Path) -> None:
    path = tmp_path / "queue.sqlite"
    path.write_bytes(b"this was never a database" * 100)
    queue = Queue(path)
    submitted(queue, "goes on")
    queue.close()
    assert path.with_name("queue.sqlite.damaged").read_bytes().startswith(b"this was never")


def test_a_second_damaged_database_does_not_replace_the_first_copy(tmp_path: Path) -> None:
    path = tmp_path / "queue.sqlite"
    for text, name in ((b"first", "queue.sqlite.damaged"), (b"second", "queue.sqlite-2.damaged")):
        path.write_bytes(text * 1000)
        queue = Queue(path)
        queue.close()
        assert name in queue.damage and path.with_name(name).read_bytes().startswith(text)
    assert path.with_name("queue.sqlite.damaged").read_bytes().startswith(b"first")


def test_a_rescued_job_stays_paused_and_keeps_the_token_of_its_images(tmp_path: Path) -> None:
    path = tmp_path / "queue.sqlite"
    queue = Queue(path)
    submitted(queue, *(f"{index} " + "x" * 900 for index in range(60)))
    before = queue.pending()
    queue.set_paused(before[0].job, True)
    queue.set_queue_paused(True)
    queue.close()
    data = bytearray(path.read_bytes())
    data[-4096:] = random.Random(0).randbytes(4096)
    path.write_bytes(data)
    queue = Queue(path)
    rescued = {queued.job: queued for queued in queue.pending()}
    assert queue.damage and rescued[before[0].job].paused and queue.is_queue_paused()
    assert all(rescued[one.job].token == one.token for one in before if one.job in rescued)
    queue.close()


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
    with monkeypatch.context() as patch:
        patch.setattr(
            "diffstudio.studio.jobs.queue_rescue.replace", Mock(side_effect=PermissionError(13, "Permission denied"))
        )
        with pytest.raises(StorageProblem, match=r"The queue .*queue.sqlite cannot be used: .*Permission denied"):
            Queue(path)
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


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_the_queue_is_private_and_an_old_one_is_made_so(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "queue.sqlite")
    queue.submit(GenerateRequest("a secret"))
    files = [tmp_path / f"queue.sqlite{ending}" for ending in ("", "-wal", "-shm")]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    queue.close()
    (tmp_path / "queue.sqlite").chmod(0o644)
    Queue(tmp_path / "queue.sqlite").close()
    assert (tmp_path / "queue.sqlite").stat().st_mode & 0o777 == 0o600


def test_a_pending_job_can_be_changed_and_a_running_one_cannot(queue: Queue) -> None:
    first, second = queue.submit(GenerateRequest("one")), queue.submit(GenerateRequest("two"))
    queue.take()
    assert queue.change(second, GenerateRequest("three")) and not queue.change(first, GenerateRequest("four"))
    assert not queue.change(second + 1, GenerateRequest("five"))
    assert [(each.job, each.request.prompt) for each in queue.pending()] == [(second, "three")]


def test_a_running_job_that_is_put_back_is_first_after_others_were_moved(queue: Queue) -> None:
    one, two, three = submitted(queue, "one", "two", "three")
    queue.take()
    queue.reorder([three, two])
    copy = queue.duplicate(three)
    queue.put_back(one)
    assert [queued.job for queued in queue.pending()] == [one, three, copy, two]


def test_jobs_of_other_kinds_keep_their_places_when_others_move(queue: Queue) -> None:
    submitted(queue, "one", "training", "three", "video", "five")
    for job, kind in ((2, "training"), (4, "video")):
        queue._database.execute("UPDATE jobs SET kind = ?, request = '{}' WHERE id = ?", (kind, job))

    def order() -> list[int]:
        return [row[0] for row in queue._database.execute("SELECT id FROM jobs ORDER BY place, id")]

    queue.move(5, -1)
    assert order() == [1, 2, 5, 4, 3]
    queue.reorder([3])
    assert order() == [3, 2, 1, 4, 5]
    removed = queue.remove_pending(5)
    assert removed is not None
    queue.restore([removed])
    assert order() == [3, 2, 1, 4, 5]


def test_the_point_of_a_restart_is_kept_with_the_job(queue: Queue, tmp_path: Path) -> None:
    point = RestartPoint(3, "0123456789abcdef" * 2, 1)
    plain, restart = queue.submit(GenerateRequest("plain")), queue.submit(GenerateRequest("again"), point)
    copy = queue.duplicate(restart)
    removed = queue.remove_pending(restart)
    assert copy is not None and removed is not None and removed.restart == point
    queue.restore([removed])
    queue.close()
    again = Queue(tmp_path / "queue.sqlite")
    assert {queued.job: queued.restart for queued in again.pending()} == {plain: None, restart: point, copy: point}
    assert again.replace_request(restart, GenerateRequest("edited"))
    assert again.replace_request(copy, GenerateRequest("edited"), point)
    assert {queued.job: queued.restart for queued in again.pending()} == {plain: None, restart: None, copy: point}
    again.close()


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "{}", "[" * 100_000, '{"step": "1", "token": "", "index": 0}', '{"step": 1, "token": 2, "index": 0}']
    + ['{"step": 1, "token": "../x", "index": 0}', '{"step": 1, "token": "", "index": -1}'],
)
def test_a_restart_that_cannot_be_read_is_one_all_the_same(queue: Queue, text: str) -> None:
    """It would be made from its first step otherwise."""
    submitted(queue, "one")
    queue._database.execute("UPDATE jobs SET restart = ?", (text,))
    assert [queued.restart for queued in queue.pending()] == [RestartPoint(1)]


@pytest.mark.parametrize("moves", [-1, 0, 1, 2])
def test_a_program_that_is_killed_during_a_rescue_continues_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moves: int
) -> None:
    """Killed after so many files were renamed, or while the new database is filled."""
    path = tmp_path / "queue.sqlite"
    queue = Queue(path)
    submitted(queue, *(f"{index} " + "x" * 900 for index in range(60)))
    queue.close()
    data = bytearray(path.read_bytes())
    data[-4096:] = random.Random(0).randbytes(4096)
    path.write_bytes(data)
    left = moves

    class Killed(BaseException):
        pass

    def rename(source: Path, target: Path) -> None:
        nonlocal left
        if left == 0:
            raise Killed
        left -= 1
        source.replace(target)

    with monkeypatch.context() as patch:
        patch.setattr(queue_rescue, "replace", rename)
        if moves < 0:
            patch.setattr(queue_rescue, "make_database_private", Mock(side_effect=Killed))
        with pytest.raises(Killed):
            Queue(path)
    queue = Queue(path)
    assert len(queue.pending()) >= 40
    queue.close()
    assert sorted(file.name for file in tmp_path.glob("queue*") if "damaged" not in file.name) == ["queue.sqlite"]
    assert len(list(tmp_path.glob("*.damaged"))) == 1


def test_a_full_disk_during_a_rescue_leaves_the_damaged_queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "queue.sqlite"
    path.write_bytes(b"this was never a database" * 100)
    monkeypatch.setattr(queue_rescue, "make_database_private", Mock(side_effect=OSError(28, "No space left on device")))
    with pytest.raises(StorageProblem, match="cannot be used: .*No space left"):
        Queue(path)
    assert [file.name for file in tmp_path.glob("queue*")] == ["queue.sqlite"]
