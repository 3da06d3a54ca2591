"""A second inspection of an unchanged folder reads no pixels, and one that was killed goes on where it was."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffstudio.training.data import inspect_folder as inspection
from diffstudio.training.data import inspection_cache
from diffstudio.training.data.folder_report import FolderReport, InspectionProgress
from diffstudio.training.data.inspect_folder import inspect_folder


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Twelve images: plain, deep, animated, transparent, too small, broken, and two alike."""
    folder, chance = tmp_path / "pictures", np.random.default_rng(0)
    folder.mkdir()
    for number in range(6):
        Image.fromarray(chance.integers(0, 255, (30, 20 + number, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    Image.fromarray(np.arange(400, dtype=np.uint16).reshape(20, 20)).save(folder / "deep.png")
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    frames[0].save(folder / "film.gif", save_all=True, append_images=frames[1:])
    Image.new("RGBA", (20, 20), (0, 255, 0, 9)).save(folder / "glass.png")
    Image.new("RGB", (3, 3)).save(folder / "tiny.png")
    (folder / "broken.png").write_bytes((folder / "0.png").read_bytes()[:60])
    (folder / "copy.png").write_bytes((folder / "0.png").read_bytes())
    return folder


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are decoded."""
    names: list[str] = []
    real = inspection.load_image

    def load_image(path: Path, **more: object) -> object:
        names.append(path.name)
        return real(path, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(inspection, "load_image", load_image)
    return names


def report_of(folder: Path, cache: Path | None = None) -> FolderReport:
    *_, report = inspect_folder(folder, cache)
    assert isinstance(report, FolderReport)
    return report


def test_an_unchanged_folder_is_not_decoded_again_and_reads_the_same(pictures: Path, reads: list[str]) -> None:
    first = report_of(pictures)
    assert len(reads) == 12
    assert first.skipped and first.too_small and first.notes and first.ranges and first.duplicates
    reads.clear()
    assert report_of(pictures) == first
    assert reads == []


def test_only_what_has_changed_is_read_again(pictures: Path, reads: list[str]) -> None:
    report_of(pictures)
    reads.clear()
    Image.new("RGB", (50, 50)).save(pictures / "1.png")
    os.utime(pictures / "2.png", ns=(1, 1))
    (pictures / "3.png").rename(pictures / "new.png")
    (pictures / "0.txt").write_text("captions are read anew each time")
    report = report_of(pictures)
    assert sorted(reads) == ["1.png", "2.png", "new.png"]
    sizes = {record.path.name: record.width for record in report.images}
    assert sizes["1.png"] == 50 and "3.png" not in sizes
    assert report.captioned == 1


def test_a_failure_that_may_be_gone_the_next_time_is_not_kept(
    pictures: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.open

    def refused(path: Path, *more: object, **others: object) -> object:
        if path.name == "1.png":
            raise PermissionError(13, "Permission denied")
        return real(path, *more, **others)  # type: ignore[call-overload]

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", refused)
        assert "there is no permission to read it" in {skipped.why for skipped in report_of(pictures).skipped}
    reads.clear()
    assert len(report_of(pictures).skipped) == 1
    assert reads == ["1.png"]


def test_an_inspection_that_was_ended_goes_on_where_it_was(
    pictures: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "PROGRESS_SECONDS", 0.0)
    looking: Iterator[object] = inspect_folder(pictures)
    next(step for step in looking if isinstance(step, InspectionProgress) and step.done == 4)
    looking.close()  # type: ignore[attr-defined]
    before = len(reads)
    report_of(pictures)
    assert len(reads) <= 12 + before - 4


def test_rows_are_committed_while_the_inspection_runs(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a kill loses little: another connection sees them before the first is closed."""
    monkeypatch.setattr(inspection_cache, "COMMIT_SECONDS", 0.0)
    monkeypatch.setattr(inspection, "PROGRESS_SECONDS", 0.0)
    looking = inspect_folder(pictures, tmp_path / "cache")
    next(step for step in looking if isinstance(step, InspectionProgress) and step.done == 6)
    (file,) = (tmp_path / "cache").glob("*.sqlite")
    with sqlite3.connect(file) as database:
        assert database.execute("SELECT count(*) FROM images").fetchone()[0] >= 5
    database.close()
    looking.close()


@pytest.mark.parametrize("damage", ["bytes", "rows", "folder"])
def test_a_damaged_cache_changes_nothing(pictures: Path, tmp_path: Path, damage: str, reads: list[str]) -> None:
    cache = tmp_path / "cache"
    first = report_of(pictures, cache)
    (file,) = cache.glob("*.sqlite")
    if damage == "bytes":
        file.write_bytes(os.urandom(8192))
    elif damage == "rows":
        with sqlite3.connect(file) as database:
            database.execute("UPDATE images SET found = '{\"record\": 5'")
        database.close()
    else:
        for one in cache.iterdir():
            one.unlink()
        cache.rmdir()
        cache.write_text("a file where the folder should be")
    reads.clear()
    assert report_of(pictures, cache) == first
    assert len(reads) == 12


def test_old_databases_are_deleted(pictures: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    for name, days in (("old.sqlite", 100), ("new.sqlite", 1)):
        (cache / name).touch()
        os.utime(cache / name, (time.time() - 86400 * days,) * 2)
    report_of(pictures, cache)
    assert not (cache / "old.sqlite").exists() and (cache / "new.sqlite").exists()
