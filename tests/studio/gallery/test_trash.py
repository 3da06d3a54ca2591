"""Deleting and restoring change an image and its record together, or not at all."""

from __future__ import annotations

import errno
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from diffstudio import atomic
from diffstudio.errors import StorageProblem
from diffstudio.imaging.exact_files import ExactValues, files_beside
from diffstudio.studio.gallery import trash
from diffstudio.studio.gallery.gallery import Gallery
from diffstudio.studio.gallery.records import GalleryImage
from diffstudio.studio.gallery.rescan import rescan
from diffstudio.studio.gallery.sidecar import read_sidecar, sidecar_of
from diffstudio.studio.gallery.trash import RESTORING
from diffstudio.studio.requests import GenerateRequest
from tests.studio.gallery.killed_gallery import ACTIONS

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def gallery(tmp_path: Path) -> Iterator[Gallery]:
    gallery = Gallery(tmp_path / "images", tmp_path / "g.sqlite", tmp_path / "thumbnails")
    yield gallery
    gallery.close()


def add(gallery: Gallery, prompt: str = "red apple") -> GalleryImage:
    return gallery.add(Image.new("RGB", (8, 8)), GenerateRequest(prompt=prompt))


def add_array(gallery: Gallery, prompt: str = "red apple") -> GalleryImage:
    """With a TIFF of its values beside it, and an array as another program may have put there."""
    values = ExactValues(np.full((8, 8, 5), 0.25, np.float32), as_png=False)
    image = gallery.add(Image.new("RGB", (8, 8)), GenerateRequest(prompt=prompt), exact=values)
    np.save(image.path.with_suffix(".npy"), values.values)
    return image


def check_together(gallery: Gallery) -> None:
    """Every image is where its record says, and nothing else is there but sidecars."""
    recorded = {gallery.folder / path for (path,) in gallery.read("SELECT path FROM images")}
    there = {path for path in gallery.folder.rglob("*") if path.is_file()}
    beside = {path for path in there if path.suffix in (".tif", ".npy")}
    assert {path.with_suffix(".png") for path in beside} <= recorded and len(beside) % 2 == 0
    there -= beside
    assert {path for path in there if path.suffix == ".png"} == recorded
    assert there - recorded <= {sidecar_of(path) for path in recorded}


@pytest.mark.skipif(sys.platform == "win32", reason="there is no kill -9 on Windows")
def test_a_kill_anywhere_loses_neither_file_nor_record(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "tests.studio.gallery.killed_gallery", "7", tmp_path, *ACTIONS],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    kills = dict(re.findall(r"^(\w+) (\d+)$", ran.stdout, re.MULTILINE))
    assert "wrong:" not in ran.stdout, ran.stdout
    assert kills.keys() == ACTIONS.keys() and sum(map(int, kills.values())) > 40


class FullDisk:
    """Lets some writes pass, and fails all further ones as a full disk does; renaming and deleting always work."""

    def __init__(self, gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left, self.failed = 10_000, 0
        sync, link, connect = os.fsync, os.link, gallery._connection

        class Connection:
            def __init__(this, real: sqlite3.Connection) -> None:
                this.real = real

            def __getattr__(this, name: str) -> Any:
                return getattr(this.real, name)

            def commit(this) -> None:
                self.write(sqlite3.OperationalError("database or disk is full"))
                this.real.commit()

        def on_disk(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*values: Any) -> Any:
                self.write(OSError(errno.ENOSPC, "No space left on device"))
                return real(*values)

            return call

        monkeypatch.setattr(os, "fsync", on_disk(sync))
        monkeypatch.setattr(os, "link", on_disk(link))
        monkeypatch.setattr(atomic, "_sync", lambda *_: None)  # of folders: it writes nothing
        monkeypatch.setattr(gallery, "_connection", lambda: Connection(connect()))

    def write(self, error: Exception) -> None:
        self.left -= 1
        if self.left < 0:
            self.failed += 1
            if isinstance(error, sqlite3.OperationalError):
                error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error


@pytest.mark.parametrize("action", ["delete", "undo"])
def test_a_full_disk_at_any_write_loses_neither_file_nor_record(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    image = add_array(gallery)
    gallery.star(image.id)
    if action == "undo":
        gallery.delete([image.id])
    disk = FullDisk(gallery, monkeypatch)
    failures = 0
    for writes in range(20):
        disk.left, disk.failed = writes, 0
        try:
            done = ACTIONS[action](gallery)
        except StorageProblem as problem:
            failures += 1
            assert "disk is full" in str(problem)
            check_together(gallery)
            assert gallery.trash_count() == (action == "undo")
            disk.left = 10_000
            assert not rescan(gallery).anything
        else:
            break
    assert done == [image.id] and failures >= 2
    check_together(gallery)
    assert gallery.trash_count() == (action == "delete")
    disk.left = 10_000
    if action == "delete":
        gallery.undo([image.id])
    assert [one.path for one in gallery.images(starred=True)] == [image.path] == [one.path for one in gallery.images()]


def test_an_image_that_could_not_be_recorded_is_found_by_the_next_rescan(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = FullDisk(gallery, monkeypatch)
    disk.left = 2  # the image, and its link; not the record
    with pytest.raises(StorageProblem, match="is saved as"):
        add(gallery)
    disk.left = 10_000
    assert rescan(gallery).added == 1 and gallery.count() == 1


def test_ten_deletions_on_a_full_tmpfs(tmp_path: Path) -> None:
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(place)]
    try:
        mounted = sys.platform == "linux" and subprocess.run(command, check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("no tmpfs may be mounted here")
    gallery = Gallery(place / "images", place / "g.sqlite", tmp_path / "thumbnails")
    try:
        images = [add(gallery, f"image {number}") for number in range(10)]
        for image in images:
            gallery.star(image.id)
        with (place / "filler").open("wb", buffering=0) as filler, pytest.raises(OSError):
            while True:
                filler.write(b"x" * 4096)
        for image in images:
            try:
                gallery.delete([image.id])
            except StorageProblem as problem:
                assert "disk is full" in str(problem)
            check_together(gallery)
        (place / "filler").unlink()
        assert not rescan(gallery).removed
        gallery.undo(gallery.trashed())
        assert gallery.count(starred=True) == 10
    finally:
        gallery.close()
        subprocess.run(["umount", str(place)], check=True)


def test_the_trash_outlives_the_database(gallery: Gallery) -> None:
    first, second = add(gallery, "first"), add(gallery, "second")
    gallery.star(first.id)
    gallery.delete([first.id])
    gallery.close()
    gallery.database.unlink()
    again = Gallery(gallery.folder, gallery.database, gallery.thumbnails)
    rescan(again)
    assert [image.path for image in again.images()] == [second.path]
    assert again.undo(again.trashed()) == [1]
    assert {image.path: image.starred for image in again.images()} == {first.path: True, second.path: False}
    again.close()


def test_what_version_0_1_deleted_without_a_sidecar_is_kept_when_the_database_is_lost(gallery: Gallery) -> None:
    image = add(gallery)
    gallery.delete([image.id])
    (deleted,) = gallery.folder.glob(".trash/*.png")
    sidecar_of(deleted).unlink()
    gallery.close()
    gallery.database.unlink()
    again = Gallery(gallery.folder, gallery.database, gallery.thumbnails)
    assert again.undo(again.trashed()) == [1]
    assert [one.path for one in again.images()] == [again.folder / image.path.name]
    again.close()


def test_the_same_name_deleted_twice_overwrites_nothing(gallery: Gallery) -> None:
    image = add(gallery)
    gallery.delete([image.id])
    gallery.close()
    gallery.database.unlink()  # ids start again
    for old in gallery.folder.glob(".trash/*.json"):
        old.unlink()
    again = Gallery(gallery.folder, gallery.database, gallery.thumbnails)
    Image.new("RGB", (9, 9)).save(image.path)
    rescan(again)
    again.read("SELECT 1")
    with again.writing() as connection:
        connection.execute("UPDATE images SET id = id + 10 WHERE trashed IS NOT NULL")
        connection.execute("UPDATE images SET id = 1 WHERE trashed IS NULL")
    again.delete([1])
    assert len(list(again.folder.glob(".trash/*.png"))) == 2 == again.trash_count()
    again.close()


def test_a_name_that_is_too_long_for_the_trash_is_shortened(gallery: Gallery) -> None:
    path = gallery.folder / ("n" * 250 + ".png")
    Image.new("RGB", (8, 8)).save(path)
    rescan(gallery)
    (image,) = gallery.images()
    gallery.delete([image.id])
    assert gallery.undo([image.id]) == [image.id] and path.is_file()


def test_the_trash_is_not_emptied_while_its_folder_is_missing(gallery: Gallery) -> None:
    gallery.delete([add(gallery).id])
    gallery.folder.rename(gallery.folder.with_name("away"))
    with pytest.raises(StorageProblem, match="is missing"):
        gallery.empty_trash()
    gallery.recover()
    gallery.folder.with_name("away").rename(gallery.folder)
    gallery.recover()
    assert gallery.trash_count() == 1


def test_what_other_programs_did_to_the_trash(gallery: Gallery) -> None:
    gone, kept = add(gallery, "gone"), add(gallery, "kept")
    gallery.delete([gone.id, kept.id])
    next(gallery.folder.glob(".trash/*gone.png")).unlink()
    (gallery.folder / ".trash" / "stray.png").write_bytes(b"no image")
    (gallery.folder / ".trash" / f"x.png{RESTORING}").write_text("../../outside.png")
    gallery.recover()
    assert gallery.trashed() == [kept.id]
    assert not list(gallery.folder.glob(f".trash/*{RESTORING}"))
    names = {path.name for path in gallery.folder.glob(".trash/*")}
    assert names == {"stray.png", f"{kept.id}-{kept.path.name}", f"{kept.id}-{kept.path.name}.diffstudio.json"}
    (deleted,) = gallery.folder.glob(".trash/*kept.png")
    sidecar = read_sidecar(deleted)
    assert sidecar is not None and gallery.folder / sidecar.home == kept.path and sidecar.deleted > 0


def test_a_restore_without_hard_links_that_was_killed_leaves_no_empty_file(gallery: Gallery) -> None:
    image = add(gallery)
    gallery.delete([image.id])
    (deleted,) = gallery.folder.glob(".trash/*.png")
    deleted.with_name(deleted.name + RESTORING).write_text(image.path.relative_to(gallery.folder).as_posix())
    image.path.touch()  # its name was reserved
    gallery.recover()
    assert not image.path.exists() and gallery.trashed() == [image.id]
    assert gallery.undo([image.id]) == [image.id] and image.path.is_file()


def test_an_image_in_the_trash_is_deleted_for_good(gallery: Gallery) -> None:
    gone, kept, shown = add(gallery, "gone"), add(gallery, "kept"), add(gallery, "shown")
    gallery.tag(gone.id, ["best"])
    gallery.delete([gone.id, kept.id])
    assert gallery.purge([gone.id, shown.id, 999]) == 1  # only what is in the trash
    assert gallery.trashed() == [kept.id] and gallery.images() == [shown] and shown.path.is_file()
    assert sorted(path.name for path in (gallery.folder / ".trash").iterdir() if "gone" in path.name) == []
    assert gallery.read("SELECT count(*) FROM labels") == [(0,)]
    assert gallery.undo([gone.id]) == [] and rescan(gallery).added == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "unlink", _refuse)
        with pytest.raises(StorageProblem, match="could not be deleted permanently: no permission"):
            gallery.purge([kept.id])
    assert gallery.trashed() == [kept.id] and gallery.undo([kept.id]) == [kept.id]


def _refuse(*_: object, **__: object) -> None:
    raise PermissionError(13, "Permission denied")


def test_exact_values_go_with_their_image(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    image, other = add_array(gallery), add_array(gallery, "green apple")
    files = files_beside(image.path)
    values = [file.read_bytes() for file in files]
    assert len(files) == 2
    gallery.delete([image.id, other.id])
    assert not any(file.exists() for file in files)
    check_together(gallery)
    assert gallery.undo([image.id]) == [image.id] and [file.read_bytes() for file in files] == values
    check_together(gallery)
    gallery.delete([image.id])
    gallery.purge([image.id])
    check_together(gallery)
    gone: list[Path] = []
    monkeypatch.setattr(trash, "move_to_system_trash", lambda file, *_: (gone.append(file), file.unlink()))
    assert gallery.empty_trash() == 1 and sorted(file.suffix for file in gone) == [".npy", ".png", ".tif"]
    check_together(gallery)


@pytest.mark.parametrize("half_done", ["delete", "undo"])
def test_a_kill_between_an_image_and_its_exact_values_is_made_good(gallery: Gallery, half_done: str) -> None:
    image = add_array(gallery)
    home = files_beside(image.path)
    gallery.delete([image.id])
    ((path,),) = gallery.read("SELECT path FROM images")
    in_trash = gallery.folder / path
    if half_done == "delete":  # as it was before the record was written
        for file in files_beside(in_trash):
            file.rename(image.path.with_suffix(file.suffix))
        with gallery.writing() as connection:
            connection.execute("UPDATE images SET trashed = NULL, home = NULL, path = home")
    else:
        in_trash.with_name(in_trash.name + RESTORING).write_text(image.path.relative_to(gallery.folder).as_posix())
        in_trash.rename(image.path)
    rescan(gallery)
    assert image.path.exists() == (half_done == "undo") == all(file.exists() for file in home)
    assert bool(files_beside(in_trash)) == (half_done == "delete")
    check_together(gallery)


def test_nothing_is_deleted_for_good_while_the_folder_is_missing(gallery: Gallery) -> None:
    image = add(gallery)
    gallery.delete([image.id])
    gallery.folder.rename(gallery.folder.with_name("away"))
    with pytest.raises(StorageProblem, match="is missing"):
        gallery.purge([image.id])
    gallery.folder.with_name("away").rename(gallery.folder)
    assert gallery.undo([image.id]) == [image.id]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no names that are not UTF-8")
def test_a_name_that_is_not_utf8_is_skipped_and_named(gallery: Gallery) -> None:
    kept = add(gallery, "kept")
    gallery.delete([kept.id])
    trash = gallery.folder / ".trash"
    strange = trash / os.fsdecode(b"\xff.png")
    Image.new("RGB", (8, 8)).save(strange)
    journal = trash / os.fsdecode(b"\xfe.png" + RESTORING.encode())
    journal.write_text(kept.path.relative_to(gallery.folder).as_posix())
    kept.path.parent.mkdir(exist_ok=True)
    Image.new("RGB", (8, 8)).save(kept.path)
    gallery.close()
    gallery.database.unlink()
    again = Gallery(gallery.folder, gallery.database, gallery.thumbnails)
    report = rescan(again)
    assert [path for path, _ in report.unreadable] == [journal, strange]
    assert all(why.startswith("its name cannot be kept") for _, why in report.unreadable)
    assert again.trash_count() == 1 and strange.is_file() and report.added == 1
    again.close()


def test_what_was_brought_back_while_the_trash_is_emptied_stays(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = add(gallery, "first"), add(gallery, "second")
    gallery.delete([first.id, second.id])
    handed = list[str]()

    def send(file: Path) -> None:
        handed.append(file.name)
        file.unlink()
        other = second.id if str(first.id) in file.name else first.id
        assert gallery.undo([other]) == [other]

    monkeypatch.setattr("send2trash.send2trash", send)
    assert gallery.empty_trash() == 1 and len(handed) == 1
    (left,) = gallery.images()
    assert left.path.is_file() and gallery.trash_count() == 0


@pytest.mark.parametrize("emptied", [True, False])
def test_what_belongs_to_an_image_is_removed_once_its_file_is_gone(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch, emptied: bool
) -> None:
    image = add(gallery)
    gallery.delete([image.id])
    (file,) = gallery.folder.glob(".trash/*.png")
    calls = list[tuple[str, bool]]()

    def before(path: Path) -> Callable[[], object]:
        calls.append(("before", path.exists()))
        return lambda: calls.append(("after", path.exists()))

    gallery.before_removal = before
    remove = gallery.empty_trash if emptied else lambda: gallery.purge([image.id])
    with monkeypatch.context() as patch:
        patch.setattr("send2trash.send2trash", _refuse)
        patch.setattr(Path, "unlink", _refuse)
        with pytest.raises(StorageProblem):
            remove()
    assert calls == [("before", True)] and file.is_file() and gallery.trash_count() == 1
    monkeypatch.setattr("send2trash.send2trash", lambda path: Path(path).unlink())
    assert remove() == 1
    assert calls[1:] == [("before", True), ("after", False)] and gallery.trash_count() == 0
