"""What the operating system and SQLite refuse is said in one way, with a remedy."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from pathlib import Path

import pytest

from diffstudio.errors import StorageProblem
from diffstudio.storage_errors import storage_errors, storage_problem


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOSPC, "It failed: the disk is full. Free some space and try again."),
        (errno.EACCES, "It failed: no permission to write to {0}. Change its permissions, or choose another folder."),
        (errno.EROFS, "It failed: {0} is on a read-only file system. Choose another folder."),
        (errno.ENOTDIR, "It failed: {0} is not a folder. Choose another folder."),
        (errno.ENAMETOOLONG, "It failed: its name is too long. Choose a shorter one."),
        (errno.EIO, f"It failed: {os.strerror(errno.EIO)}. Check that {{0}} can be reached."),
    ],
)
def test_what_the_system_refuses_is_said_in_one_way(tmp_path: Path, number: int, expected: str) -> None:
    with pytest.raises(StorageProblem) as problem, storage_errors("It failed", tmp_path):
        raise OSError(number, os.strerror(number))
    assert str(problem.value) == expected.format(tmp_path)


def test_what_is_not_a_folder_is_named(tmp_path: Path) -> None:
    (file := tmp_path / "file").touch()
    (loop := tmp_path / "loop").symlink_to("loop")
    for place, named in ((file, file), (file / "a" / "b", file), (loop, loop), (loop / "a", loop)):
        with (
            pytest.raises(StorageProblem, match=f"It failed: {named} is ") as problem,
            storage_errors("It failed", place.parent),
        ):
            place.mkdir(parents=True, exist_ok=True)
        assert str(problem.value).endswith("Choose another folder.")
    looped = pytest.raises(StorageProblem, match=f"{loop} is a link that leads back to itself")
    with looped, storage_errors("It failed", tmp_path):
        (loop / "a").open("w")


def test_what_to_do_can_fit_the_place(tmp_path: Path) -> None:
    for number, remedy in (
        (errno.ENOSPC, "Wait."),
        (errno.EACCES, "Change its permissions, or move."),
        (errno.EROFS, "Move."),
    ):
        problem = storage_problem("It failed", tmp_path, OSError(number, ""), when_full="Wait", elsewhere="Move")
        assert str(problem).endswith(f". {remedy}")


def test_an_error_without_a_number(tmp_path: Path) -> None:
    with pytest.raises(StorageProblem, match="It failed: something else"), storage_errors("It failed", tmp_path):
        raise OSError("something else")


def test_what_a_database_refuses(tmp_path: Path) -> None:
    with (
        contextlib.closing(sqlite3.connect(":memory:")) as database,
        pytest.raises(StorageProblem, match="no such table.*Close other programs"),
        storage_errors("x", tmp_path),
    ):
        database.execute("SELECT * FROM missing")
    full = sqlite3.OperationalError("database or disk is full")
    full.sqlite_errorcode = sqlite3.SQLITE_FULL  # type: ignore[misc]
    with pytest.raises(StorageProblem, match="the disk is full. Free some space"), storage_errors("x", tmp_path):
        raise full
