"""What runs and prepared images take on the disk, and clearing the latter."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from diffstudio import cli, paths
from diffstudio.studio.runs.disk import clear_prepared_images, disk_use, size_on_disk


def test_runs_are_listed_by_size_and_a_file_of_two_names_counts_once(tmp_path: Path) -> None:
    tmp_path = tmp_path / "runs"
    for name, size in (("small", 10), ("large", 1000)):
        (tmp_path / name / "checkpoints").mkdir(parents=True)
        (tmp_path / name / "checkpoints" / "1.safetensors").write_bytes(bytes(size))
    os.link(tmp_path / "large" / "checkpoints" / "1.safetensors", tmp_path / "large" / "latest.safetensors")
    used = disk_use(tmp_path)
    assert used.runs == ((tmp_path / "large", 1000), (tmp_path / "small", 10)) and used.free > 0
    assert disk_use(tmp_path / "nowhere").runs == () and size_on_disk(tmp_path / "nothing") == 0


def test_prepared_images_are_cleared_and_other_files_stay(tmp_path: Path) -> None:
    prepared = paths.prepared_images()
    prepared.mkdir(parents=True, exist_ok=True)
    (prepared / "a.npy").write_bytes(bytes(500))
    (prepared / "other.txt").write_bytes(bytes(7))
    assert disk_use(tmp_path).prepared >= 507
    cleared = clear_prepared_images()
    assert cleared.freed >= 500 and cleared.problem is None
    assert not (prepared / "a.npy").exists() and (prepared / "other.txt").exists()


def test_prepared_images_that_cannot_be_deleted_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(path: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    prepared = paths.prepared_images()
    prepared.mkdir(parents=True, exist_ok=True)
    (prepared / "a.npy").write_bytes(bytes(500))
    monkeypatch.setattr(Path, "unlink", refused)
    assert cli.main(["train", "--clear-cache"]) == 1
    captured = capsys.readouterr()
    assert "deleted" not in captured.out
    assert f"a.npy of the prepared images could not be deleted: {prepared} is on a read-only file" in captured.err
