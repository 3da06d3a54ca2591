"""A rescan drops nothing that is being written, and takes no missing folder for deleted images."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from diffstudio.errors import ImageProblem, StorageProblem
from diffstudio.studio.gallery import rescan as module
from diffstudio.studio.gallery.gallery import Gallery
from diffstudio.studio.gallery.records import GalleryImage
from diffstudio.studio.gallery.rescan import rescan
from diffstudio.studio.gallery.sidecar import sidecar_of
from diffstudio.studio.requests import GenerateRequest


@pytest.fixture
def gallery(tmp_path: Path) -> Iterator[Gallery]:
    gallery = Gallery(tmp_path / "images", tmp_path / "g.sqlite", tmp_path / "thumbnails")
    yield gallery
    gallery.close()


def add(gallery: Gallery, prompt: str = "red apple") -> GalleryImage:
    return gallery.add(Image.new("RGB", (8, 8)), GenerateRequest(prompt=prompt))


def put(gallery: Gallery, name: str) -> Path:
    """An image of another program."""
    path = gallery.folder / name
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", (8, 8)).save(path)
    return path


def test_images_saved_deleted_and_restored_during_rescans_all_stay(gallery: Gallery) -> None:
    for number in range(40):
        put(gallery, f"day/{number}.png")
    rescan(gallery)
    others = [image.id for image in gallery.images()][:6]
    made: list[GalleryImage] = []
    reports = []

    def work() -> None:
        for number in range(16):
            made.append(add(gallery, f"number {number}"))
            gallery.star(made[-1].id)
            if number < len(others):
                gallery.delete([others[number]])
                gallery.undo([others[number]])

    thread = threading.Thread(target=work)
    thread.start()
    while thread.is_alive():
        reports.append(rescan(gallery))
    thread.join()
    assert all(not report.removed and not report.missing and not report.unreadable for report in reports)
    assert gallery.count() == 56 and gallery.count(starred=True) == 16
    assert {image.id for image in made} <= {image.id for image in gallery.images()}


@pytest.mark.parametrize("moment", ["_list", "_record_moved", "_remove", "_mark_missing", "_record_all"])
def test_an_image_saved_at_any_moment_of_a_rescan_stays(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    add(gallery, "before")
    real = getattr(module, moment)
    made = []

    def call(*values: Any) -> Any:
        made.append(add(gallery, "meanwhile"))
        result = real(*values)
        made.append(add(gallery, "meanwhile"))
        return result

    monkeypatch.setattr(module, moment, call)
    report = rescan(gallery)
    assert made and gallery.count() == 1 + len(made)
    assert not report.removed and not report.missing
    assert all(gallery.get(image.id) == image for image in made)


def test_an_image_deleted_between_listing_and_reading_is_no_problem(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(gallery, "day/new.png")
    real = module._record_moved

    def call(*values: Any) -> Any:
        path.unlink()
        return real(*values)

    monkeypatch.setattr(module, "_record_moved", call)
    report = rescan(gallery)
    assert not report.anything and not report.unreadable and gallery.count() == 0


def starred(gallery: Gallery) -> list[bool]:
    """Whether each starred image is missing."""
    return [image.missing for image in gallery.images(starred=True)]


def test_records_of_a_folder_that_was_renamed_away_stay_and_come_back(gallery: Gallery) -> None:
    for _ in range(3):
        gallery.star(add(gallery).id)
    away = gallery.folder.with_name("away")
    gallery.folder.rename(away)
    with pytest.raises(StorageProblem):
        rescan(gallery)
    assert starred(gallery) == [True] * 3
    gallery.close()
    again = Gallery(gallery.folder, gallery.database, gallery.thumbnails)  # started again without the drive
    assert not gallery.folder.exists() and starred(again) == [True] * 3
    away.rename(gallery.folder)
    report = rescan(again)
    assert (report.returned, report.removed, report.added) == (3, 0, 0) and starred(again) == [False] * 3
    again.close()


def test_an_empty_mount_point_is_no_deletion(gallery: Gallery) -> None:
    gallery.star(add(gallery).id)
    put(gallery, "at the top.png")
    put(gallery, "usb/x.png")
    rescan(gallery)
    for image in gallery.images():
        gallery.star(image.id)
    away = gallery.folder.with_name("away")
    gallery.folder.rename(away)
    gallery.folder.mkdir()
    (gallery.folder / "usb").mkdir()
    report = rescan(gallery)
    assert (report.missing, report.removed) == (3, 0) and starred(gallery) == [True] * 3
    assert not rescan(gallery).anything
    made = add(gallery, "made without the drive")  # in a folder of the same name
    assert rescan(gallery).removed == 0 and gallery.count() == 4
    made.path.unlink()
    assert rescan(gallery).removed == 1 and gallery.count() == 3
    made.path.parent.rmdir()
    (gallery.folder / "usb").rmdir()
    gallery.folder.rmdir()
    away.rename(gallery.folder)
    assert rescan(gallery).returned == 3 and starred(gallery) == [False] * 3


def test_a_folder_inside_that_is_missing_is_no_deletion(gallery: Gallery) -> None:
    put(gallery, "usb/x.png")
    kept = put(gallery, "day/y.png")
    rescan(gallery)
    (gallery.folder / "usb").rename(gallery.folder.with_name("usb"))
    assert rescan(gallery).missing == 1
    assert {image.path.name: image.missing for image in gallery.images()} == {"x.png": True, "y.png": False}
    kept.unlink()  # really deleted
    report = rescan(gallery)
    assert (report.removed, report.missing) == (1, 0)
    gallery.folder.with_name("usb").rename(gallery.folder / "usb")
    assert rescan(gallery).returned == 1 and gallery.count() == 1


def test_a_deletion_is_seen_after_the_drive_got_another_number(gallery: Gallery) -> None:
    """As after a reboot, with btrfs or another drive connected first."""
    gone = put(gallery, "day/gone.png")
    put(gallery, "day/kept.png")
    rescan(gallery)
    with gallery.writing() as connection:
        connection.execute("UPDATE images SET folder_id = 'old:' || folder_id")
    gone.unlink()
    assert rescan(gallery).removed == 1
    assert [image.missing for image in gallery.images()] == [False]


def test_a_folder_that_cannot_be_read_keeps_its_records_and_is_named(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(gallery, "bad/x.png")
    put(gallery, "good/y.png")
    rescan(gallery)
    scandir = os.scandir

    def broken(path: Path) -> Any:
        if Path(path).name == "bad":
            raise OSError(5, "Input/output error")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", broken)
    report = rescan(gallery)
    assert report.unreadable == ((gallery.folder / "bad", "bad: Input/output error."),)
    assert (report.missing, report.removed) == (1, 0)
    monkeypatch.undo()
    assert rescan(gallery).returned == 1


def test_a_file_that_cannot_be_opened_is_named_and_stops_nothing(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = put(gallery, "day/bad.png"), put(gallery, "day/good.png")
    record = gallery.record

    def refuse(path: Path, *values: Any) -> GalleryImage:
        if path == bad:
            raise OSError(5, "Input/output error")
        return record(path, *values)

    monkeypatch.setattr(gallery, "record", refuse)
    report = rescan(gallery)
    assert report.added == 1 and report.unreadable == ((bad, "bad.png: Input/output error."),)
    assert [image.path for image in gallery.images()] == [good]


def test_a_renamed_folder_keeps_its_stars(gallery: Gallery) -> None:
    image = add(gallery)
    gallery.star(image.id)
    image.path.parent.rename(gallery.folder / "best")
    report = rescan(gallery)
    assert (report.moved, report.missing, report.removed, report.added) == (1, 0, 0, 0)
    assert [one.path for one in gallery.images(starred=True)] == [gallery.folder / "best" / image.path.name]


def test_images_of_equal_time_and_size_are_told_apart_by_name(gallery: Gallery) -> None:
    paths = [put(gallery, f"day/{name}.png") for name in "abc"]
    for path in paths:
        os.utime(path, (1e9, 1e9))
    rescan(gallery)
    record = gallery.find(paths[1])
    assert record is not None
    gallery.star(record.id)
    sidecar_of(paths[1]).unlink()
    (gallery.folder / "day").rename(gallery.folder / "other")
    assert rescan(gallery).moved == 3
    assert [image.path.name for image in gallery.images(starred=True)] == ["b.png"]


def test_a_missing_image_leaves_the_gallery_when_it_is_deleted_and_comes_back_with_its_folder(gallery: Gallery) -> None:
    image = add(gallery)
    gallery.star(image.id)
    away = gallery.folder / ".away"
    image.path.parent.rename(away)
    rescan(gallery)
    assert gallery.delete([image.id]) == [image.id] and gallery.count() == gallery.trash_count() == 0
    away.rename(image.path.parent)
    assert rescan(gallery).added == 1
    assert [one.path for one in gallery.images(starred=True)] == [image.path]


def test_the_thumbnail_of_a_missing_image_is_still_shown(gallery: Gallery) -> None:
    image = add(gallery)
    small = gallery.thumbnail(image)
    image.path.parent.rename(gallery.folder / ".away")
    assert gallery.thumbnail(image) == small


def test_an_old_home_whose_drive_is_missing_keeps_its_records(gallery: Gallery) -> None:
    put(gallery, "day/x.png")
    rescan(gallery)
    with gallery.writing() as connection:
        connection.execute("UPDATE images SET folder_id = NULL, starred = 1")  # as version 0.1 recorded it
    (gallery.folder / "day").rename(gallery.folder.with_name("day"))
    (gallery.folder / "day").mkdir()
    assert rescan(gallery).missing == 1
    (gallery.folder / "day").rmdir()
    gallery.folder.with_name("day").rename(gallery.folder / "day")
    assert rescan(gallery).returned == 1 and starred(gallery) == [False]


def test_newer_formats_are_listed_and_a_bomb_has_no_thumbnail(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HEIC without its package is named with the command that installs it, and stops nothing."""
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    pixels = np.zeros((20, 30, 3), np.uint8)
    (gallery.folder / "a.jxl").write_bytes(imagecodecs.jpegxl_encode(pixels, lossless=True))
    Image.fromarray(pixels).save(gallery.folder / "b.avif")
    (gallery.folder / "c.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic".ljust(64, b"\0"))
    Image.new("1", (13_000, 13_000)).save(gallery.folder / "d.png", compress_level=1)
    report = rescan(gallery)
    images = {image.path.name: image for image in gallery.images()}
    assert report.added == 3 and set(images) == {"a.jxl", "b.avif", "d.png"}
    assert [path.name for path, _ in report.unreadable] == ["c.heic"] and "pip install" in report.unreadable[0][1]
    for name in ("a.jxl", "b.avif"):
        assert (images[name].width, images[name].height) == (30, 20) and gallery.thumbnail(images[name]).exists()
    with pytest.raises(ImageProblem, match="at 13,000 × 13,000 px"):
        gallery.thumbnail(images["d.png"])


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no names that are not UTF-8")
def test_a_file_that_was_moved_to_a_name_that_is_not_utf8_is_skipped_and_named(gallery: Gallery) -> None:
    moved, other = put(gallery, "moved.png"), put(gallery, "other.png")
    rescan(gallery)
    strange = gallery.folder / os.fsdecode(b"\xff.png")
    moved.rename(strange)
    other.rename(gallery.folder / "renamed.png")
    report = rescan(gallery)
    assert [path for path, _ in report.unreadable] == [strange] and report.moved == 1
    assert gallery.find(strange) is None


def test_a_sidecar_that_cannot_be_kept_is_named_and_the_others_are_read(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = put(gallery, "bad.png"), put(gallery, "good.png")
    rescan(gallery)
    for image in (bad, good):
        sidecar_of(image).write_text('{"starred": true}')
    bad_id = next(image.id for image in gallery.images() if image.path == bad)
    sync = gallery.sync_sidecar

    def failing(image_id: int) -> StorageProblem | None:
        if image_id == bad_id:
            "\ud83d".encode()
        return sync(image_id)

    monkeypatch.setattr(gallery, "sync_sidecar", failing)
    report = rescan(gallery)
    assert [image.path for image in gallery.images(starred=True)] == [good]
    assert len(report.unsaved) == 1 and "bad.png.diffstudio.json cannot be read" in str(report.unsaved[0])
