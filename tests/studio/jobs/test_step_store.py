"""The step store: a limit, the oldest first, deletions, damage, and failures that are named once."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from diffstudio.errors import BadRequest, StorageProblem
from diffstudio.studio.jobs import step_store
from diffstudio.studio.jobs.image_steps import ImageSteps, write_steps
from diffstudio.studio.jobs.step_store import StepStore, StepUsage
from diffstudio.studio.metadata.image_key import ImageKey
from diffstudio.studio.requests import GenerateRequest

LARGE = 1 << 30


def key(number: int) -> ImageKey:
    return ImageKey(f"{number:032x}", number)


def steps(level: int = 1) -> ImageSteps:
    preview = np.full((8, 8, 3), level, np.uint8)
    return ImageSteps(GenerateRequest("a", seed=level), 1, (preview,), (1,), (torch.full((3, 64, 64), float(level)),))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StepStore]:
    store = StepStore(tmp_path / "steps", LARGE)
    yield store
    store.close()


def written(store: StepStore) -> None:
    """Wait until the thread has written everything."""
    store._thread.submit(lambda: None).result()


def test_steps_are_there_at_once_and_for_the_next_start(store: StepStore) -> None:
    assert store.get(key(1)) is None and store.usage() == StepUsage()
    store.put(key(1), steps(1))
    assert (found := store.get(key(1))) is not None and found.request.seed == 1
    store.close()
    again = StepStore(store.folder, LARGE)
    found, recording = again.recording(key(1))
    assert found.request.seed == 1 and torch.equal(recording.batches[0].estimates[0], torch.full((1, 3, 64, 64), 1.0))
    assert again.get(ImageKey(key(1).token, 0)) is None  # another image of the same job
    assert again.usage().images == 1 and again.usage().size_bytes > 3 * 64 * 64 * 4
    again.close()


def test_the_oldest_are_deleted_beyond_the_limit(store: StepStore) -> None:
    store.put(key(1), steps())
    written(store)
    size = store.usage().size_bytes
    store.set_limit(3 * size)
    for number in range(2, 6):
        store.put(key(number), steps())
        written(store)
        os.utime(store.folder / f"{key(number)}.npz", ns=(number, number))
    store.put(key(6), steps())
    written(store)
    assert [number for number in range(1, 7) if store.get(key(number)) is not None] == [
        1,
        5,
        6,
    ]  # 1 has the date of today
    store.set_limit(0)
    written(store)
    store.put(key(7), steps())
    written(store)
    assert store.usage() == StepUsage() and store.get(key(7)) is None


def test_one_that_is_removed_is_not_written_later(store: StepStore, monkeypatch: pytest.MonkeyPatch) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def slow(path: Path, kept: ImageSteps) -> None:
        entered.set()
        assert go_on.wait(10)
        write_steps(path, kept)

    monkeypatch.setattr(step_store, "write_steps", slow)
    store.put(key(1), steps())
    store.put(key(2), steps())
    assert entered.wait(10)
    store.remove([key(1), key(2), key(3)])
    go_on.set()
    written(store)
    assert store.usage() == StepUsage()


def test_clearing_leaves_nothing_and_later_ones_are_kept(store: StepStore) -> None:
    for number in (1, 2):
        store.put(key(number), steps())
    written(store)
    (store.folder / "notes.txt").write_text("not ours")
    store.clear()
    assert store.usage() == StepUsage() and (store.folder / "notes.txt").is_file()
    store.put(key(3), steps())
    written(store)
    assert store.get(key(3)) is not None


def test_damage_is_named_once_and_survived(store: StepStore) -> None:
    store.put(key(1), steps())
    written(store)
    path = store.folder / f"{key(1)}.npz"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(StorageProblem, match="They were deleted; the image itself is not affected"):
        store.get(key(1))
    assert store.get(key(1)) is None
    with pytest.raises(BadRequest, match="its steps are no longer kept"):
        store.recording(key(1))


def test_an_image_without_estimates_cannot_be_restarted(store: StepStore) -> None:
    whole = steps()
    store.put(key(1), ImageSteps(whole.request, 1, whole.previews))
    with pytest.raises(BadRequest, match="too large"):
        store.recording(key(1))


def test_a_folder_that_cannot_be_written_is_named_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store, told = StepStore(tmp_path / "file" / "steps", LARGE), list[str]()
    store.on_problem = told.append
    store.put(key(1), steps())
    store.put(key(2), steps())
    store.close()
    assert len(told) == 1 and told[0].startswith("The steps of this image could not be kept: ")


def test_what_cannot_be_deleted_is_named(store: StepStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put(key(1), steps())
    written(store)

    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        with pytest.raises(StorageProblem, match="The saved steps could not be deleted"):
            store.clear()


def test_only_a_damaged_file_is_deleted(store: StepStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put(key(1), steps())
    written(store)
    assert store.has(key(1)) and not store.has(key(2))

    def refuse(*_: object, **__: object) -> None:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        with pytest.raises(StorageProblem, match=r"cannot be read: Too many open files\. Try again"):
            store.get(key(1))
    assert store.get(key(1)) is not None
    path = store.folder / f"{key(1)}.npz"
    np.savez(path, about=np.frombuffer(b'{"format": 2}', np.uint8))
    for _ in range(2):
        with pytest.raises(StorageProblem, match="it has format 2"):
            store.get(key(1))
    assert path.is_file()


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("cannot be written"), ValueError()])
def test_whatever_fails_is_named_and_keeps_nothing_in_memory(
    store: StepStore, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    problems = list[str]()
    store.on_problem = problems.append

    def fail(path: Path, kept: ImageSteps) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(step_store, "write_steps", fail)
        store.put(key(1), steps())
        store.put(key(2), steps())
        written(store)
    assert problems == [f"The steps of this image could not be kept: {str(error) or type(error).__name__}."]
    assert store._waiting == {} and store.get(key(1)) is None
    store.put(key(3), steps())
    written(store)
    assert store.get(key(3)) is not None
