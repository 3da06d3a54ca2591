"""The lease: one at a time, pictures first, and nothing left behind by whoever dies."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from diffstudio.errors import Interrupted, StorageProblem
from diffstudio.models.memory.lease import Lease

HOLDS_UNTIL_KILLED = """
import sys, time
from pathlib import Path
from diffstudio.models.memory.lease import Lease
lease = Lease(Path(sys.argv[1]))
lease.acquire("a run", priority=sys.argv[2] == "pictures")
print("held", flush=True)
time.sleep(60)
"""


def eventually(is_so: Callable[[], bool], seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def test_one_holder_at_a_time_and_it_is_named(tmp_path: Path) -> None:
    one, other = Lease(tmp_path), Lease(tmp_path)
    assert one.holder() is None
    with one.held("training emoji"):
        assert one.holder() == other.holder() == "training emoji"
        waited: list[str] = []
        with (
            pytest.raises(Interrupted),
            other.held("another run", lambda: len(waited) > 0, on_wait=lambda: waited.append("once")),
        ):
            pytest.fail("two hold it")
        assert waited == ["once"]
    with other.held("another run"):
        assert one.holder() == "another run"
    assert other.holder() is None


def test_a_run_steps_aside_for_pictures_and_goes_on_after_them(tmp_path: Path) -> None:
    run, pictures = Lease(tmp_path), Lease(tmp_path)
    waiting, waits, done = threading.Event(), [], threading.Event()

    def make_pictures() -> None:
        with pictures.held("pictures", priority=True, on_wait=waiting.set):
            assert run.wanted_by_other()
            waits.append(pictures.holder())
            done.wait(10)

    with run.held("a run"):
        assert not run.yield_if_wanted()
        thread = threading.Thread(target=make_pictures)
        thread.start()
        assert waiting.wait(5)
        assert waits == [] and run.wanted_by_other()
        stepped_aside: list[bool] = []
        assert run.yield_if_wanted(on_wait=lambda: (stepped_aside.append(True), done.set())[0])
        assert stepped_aside == [True] and waits == ["pictures"]
        assert run.holder() == "a run"
        thread.join(5)
        assert not run.wanted_by_other()


def test_a_run_that_is_to_release_it_knows_for_whom(tmp_path: Path) -> None:
    run, images = Lease(tmp_path), Lease(tmp_path)
    wanted: list[str | None] = []

    def cancelled() -> bool:
        wanted.append(run.waits_for())
        return True

    assert run.waits_for() is None
    with run.held("a run"):
        assert run.waits_for() is None and images.waits_for() == "a run"
        with pytest.raises(Interrupted), images.held("images", cancelled, priority=True):
            pytest.fail("two hold it")
        assert wanted == ["images"] and run.holder() == "a run" and run.waits_for() is None
    with images.held("images", priority=True):
        assert run.waits_for() == "images"


def test_a_run_does_not_slip_in_between_two_pictures(tmp_path: Path) -> None:
    run, first, second = Lease(tmp_path), Lease(tmp_path), Lease(tmp_path)
    first.acquire("first", priority=True)
    order: list[str] = []

    def hold(lease: Lease, name: str, pictures: bool) -> None:
        with lease.held(name, priority=pictures):
            order.append(name)
            if pictures:
                time.sleep(0.1)

    threads = [
        threading.Thread(target=hold, args=(run, "run", False)),
        threading.Thread(target=hold, args=(second, "second", True)),
    ]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    assert order == []
    first._accelerator.release()  # it still wants it: nobody but a second picture could come now, and it may not either
    time.sleep(0.1)
    assert order == []
    first.release()
    for thread in threads:
        thread.join(5)
    assert sorted(order) == ["run", "second"]


def test_a_run_that_is_to_stop_does_not_wait_for_pictures(tmp_path: Path) -> None:
    run, pictures = Lease(tmp_path), Lease(tmp_path)
    run.acquire("a run")
    pictures._taken(pictures._wanted)
    with pytest.raises(Interrupted):
        run.yield_if_wanted(cancelled=lambda: True)
    assert pictures.holder() is None
    run.release()  # harmless: it is not held any more
    pictures.release()


@pytest.mark.parametrize("kind", ["run", "pictures"])
def test_the_system_frees_what_a_killed_process_held(tmp_path: Path, kind: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS_UNTIL_KILLED, str(tmp_path), kind], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "held\n"
        lease = Lease(tmp_path)
        assert lease.holder() == "a run" and lease.wanted_by_other() == (kind == "pictures")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert lease.holder() is None and not lease.wanted_by_other()
    with lease.held("the next"):
        pass


def test_looking_whether_it_is_wanted_is_cheap(tmp_path: Path) -> None:
    lease = Lease(tmp_path)
    with lease.held("a run"):
        began = time.perf_counter()
        for _ in range(200):
            lease.wanted_by_other()
    assert (time.perf_counter() - began) / 200 < 0.005  # a step takes tens of milliseconds


def test_a_folder_that_is_a_file_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageProblem, match="cannot be written"):
        Lease(tmp_path / "file" / "inside")
