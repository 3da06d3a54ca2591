"""What runs and prepared images take on the disk, and clearing the latter."""

from __future__ import annotations

import os
from pathlib import Path

from diffstudio import paths
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
    assert clear_prepared_images() >= 500 and not (prepared / "a.npy").exists() and (prepared / "other.txt").exists()
