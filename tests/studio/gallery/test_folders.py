"""Another folder for new images: those that were made before stay where they are, and can be used as before."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from diffstudio import paths
from diffstudio.errors import StorageProblem
from diffstudio.studio.gallery.file_names import TRASH
from diffstudio.studio.gallery.gallery import Gallery
from diffstudio.studio.gallery.records import GalleryImage
from diffstudio.studio.gallery.rescan import rescan
from diffstudio.studio.gallery.sidecar import read_sidecar, sidecar_of
from diffstudio.studio.gallery.trash import RESTORING
from diffstudio.studio.requests import GenerateRequest

Open = Callable[[str], Any]


@pytest.fixture
def opened(tmp_path: Path, home: Path) -> Open:
    """Opens the gallery of this test with another folder, as the next start does."""

    @contextmanager
    def opened(folder: str) -> Any:
        gallery = Gallery(tmp_path / folder, tmp_path / "g.sqlite", tmp_path / "thumbnails")
        try:
            yield gallery
        finally:
            gallery.close()

    return opened


def add(gallery: Gallery, prompt: str = "red apple") -> GalleryImage:
    return gallery.add(Image.new("RGB", (8, 8)), GenerateRequest(prompt=prompt), extra={"job": prompt, "index": 0})


def recorded(gallery: Gallery) -> list[str]:
    return sorted(path for (path,) in gallery.read("SELECT path FROM images"))


def check(gallery: Gallery, *files: Path) -> None:
    """These images are in the gallery, are there, and stay so after a rescan."""
    for _ in range(2):
        images = gallery.images()
        assert sorted(image.path for image in images) == sorted(files)
        assert all(image.path.is_file() and not image.missing for image in images)
        report = rescan(gallery)
        assert not report.anything and not report.unreadable and not report.unsaved, report


# before, after: apart, one inside the other, and inside a hidden folder, which a rescan does not enter
FOLDERS = [("old", "new"), ("a", "a/b"), ("a/b", "a"), ("home/.share/images", "home"), ("a", "a/.b/c")]


@pytest.mark.parametrize(("before", "after"), FOLDERS)
def test_images_stay_where_they_are_when_another_folder_is_chosen_and_back(
    opened: Open, before: str, after: str
) -> None:
    with opened(before) as gallery:
        old, starred, deleted = add(gallery), add(gallery, "pear"), add(gallery, "plum")
        gallery.star(starred.id)
        gallery.delete([deleted.id])
    with opened(after) as gallery:
        check(gallery, old.path, starred.path)
        new = add(gallery, "leaf")
        check(gallery, old.path, starred.path, new.path)
        found = gallery.find(starred.path)
        assert found is not None and found.starred and gallery.thumbnail(found).is_file()
        gallery.set_note(old.id, "good")
        assert (read_sidecar(old.path) or None) is not None
        assert gallery.undo([deleted.id]) == [deleted.id]
        check(gallery, old.path, starred.path, new.path, deleted.path)
        assert gallery.delete([old.id, new.id]) == [old.id, new.id]
        assert not old.path.exists() and gallery.trash_count() == 2
        check(gallery, starred.path, deleted.path)
    with opened(before) as gallery:
        check(gallery, starred.path, deleted.path)
        assert gallery.undo([old.id, new.id]) == [old.id, new.id]
        check(gallery, *(image.path for image in (old, starred, deleted, new)))
        noted = gallery.get(old.id)
        assert noted is not None and noted.note == "good"


def test_an_image_stays_on_its_disk_when_it_is_deleted(opened: Open, tmp_path: Path) -> None:
    with opened("old") as gallery:
        image = add(gallery)
    with opened("new") as gallery:
        gallery.delete([image.id])
        assert [path.parent for path in (tmp_path / "old" / TRASH).glob("*.png")] == [tmp_path / "old" / TRASH]
        assert gallery.purge([image.id]) == 1 and not any((tmp_path / "old").rglob("*.png"))


def test_a_deletion_that_was_cut_short_before_another_folder_was_chosen_is_completed(
    opened: Open, tmp_path: Path
) -> None:
    with opened("old") as gallery:
        image = add(gallery)
        add(gallery, "pear")
        gallery.delete([image.id])
        with closing(sqlite3.connect(tmp_path / "g.sqlite")) as database, database:  # the record was not committed
            database.execute("UPDATE images SET path = home, home = NULL, trashed = NULL WHERE id = ?", [image.id])
    with opened("new") as gallery:
        rescan(gallery)
        assert gallery.trashed() == [image.id] and gallery.undo([image.id]) == [image.id] and image.path.is_file()


def test_a_trash_that_cannot_be_read_does_not_keep_those_of_other_folders_from_being_completed(
    opened: Open, tmp_path: Path
) -> None:
    with opened("old") as gallery:
        image = add(gallery)
        gallery.delete([image.id])
        with closing(sqlite3.connect(tmp_path / "g.sqlite")) as database, database:  # the record was not committed
            database.execute("UPDATE images SET path = home, home = NULL, trashed = NULL WHERE id = ?", [image.id])
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / TRASH).write_text("no folder")
    with opened("new") as gallery:
        assert gallery.trashed() == [image.id]
        with pytest.raises(StorageProblem, match="cannot be read"):
            gallery.recover()


def test_an_undo_that_was_cut_short_before_another_folder_was_chosen_is_completed(opened: Open, tmp_path: Path) -> None:
    with opened("old") as gallery:
        image = add(gallery)
        gallery.delete([image.id])
        (trashed,) = (tmp_path / "old" / TRASH).glob("*.png")
        journal = trashed.with_name(trashed.name + RESTORING)
        journal.write_text(image.path.relative_to(tmp_path / "old").as_posix())
        trashed.rename(image.path)  # the record was not committed
    with opened("new") as gallery:
        check(gallery, image.path)
        assert not journal.exists() and gallery.trash_count() == 0


def test_a_folder_that_was_moved_or_copied_holds_the_same_images(opened: Open, tmp_path: Path) -> None:
    with opened("old") as gallery:
        image, deleted = add(gallery), add(gallery, "pear")
        gallery.delete([deleted.id])
    shutil.copytree(tmp_path / "old", tmp_path / "copied")
    with opened("copied") as gallery:
        check(gallery, tmp_path / "copied" / image.path.relative_to(tmp_path / "old"))
    (tmp_path / "copied").rename(tmp_path / "moved")
    with opened("moved") as gallery:
        assert gallery.undo([deleted.id]) == [deleted.id]
        check(gallery, *((tmp_path / "moved" / each.path.relative_to(tmp_path / "old")) for each in (image, deleted)))


def test_images_of_an_earlier_folder_that_is_not_connected_are_missing_and_come_back(
    opened: Open, tmp_path: Path
) -> None:
    with opened("old") as gallery:
        image, other = add(gallery), add(gallery, "pear")
        gallery.delete([other.id])
    (tmp_path / "old").rename(tmp_path / "away")
    with opened("new") as gallery:
        assert rescan(gallery).missing == 1
        (missing,) = gallery.images()
        assert missing.missing and missing.path == image.path
        with pytest.raises(StorageProblem, match="is missing"):
            gallery.purge([other.id])
        (tmp_path / "away").rename(tmp_path / "old")
        assert rescan(gallery).returned == 1
        assert gallery.undo([other.id]) == [other.id]
        check(gallery, image.path, other.path)


def test_a_chosen_folder_that_is_not_connected_keeps_no_images_of_earlier_ones_away(
    opened: Open, tmp_path: Path
) -> None:
    with opened("old") as gallery:
        image = add(gallery)
    (tmp_path / "drive").write_text("")  # where nothing can be made
    with opened("drive/new") as gallery:
        assert [each.path for each in gallery.images()] == [image.path]
        with pytest.raises(StorageProblem, match="could not be saved"):
            add(gallery)
        (tmp_path / "drive").unlink()
        check(gallery, image.path, add(gallery).path)


def test_changes_in_an_earlier_folder_are_noticed_and_new_files_there_are_not(opened: Open, tmp_path: Path) -> None:
    with opened("old") as gallery:
        gone, changed, moved = add(gallery, "a"), add(gallery, "b"), add(gallery, "c")
        gallery.star(moved.id)
    with opened("new") as gallery:
        gone.path.unlink()
        Image.new("RGB", (9, 7)).save(changed.path)
        target = tmp_path / "new" / "c.png"
        moved.path.rename(target)
        Image.new("RGB", (3, 3)).save(changed.path.with_name("foreign.png"))
        report = rescan(gallery)
        assert (report.removed, report.changed, report.moved, report.added) == (1, 1, 1, 0)
        check(gallery, changed.path, target)
        found = gallery.find(target)
        assert found is not None and found.starred and sidecar_of(target).is_file()
        assert recorded(gallery) == sorted([changed.path.as_posix(), "c.png"])


def test_images_of_an_older_gallery_in_the_chosen_folder_are_added(opened: Open, tmp_path: Path) -> None:
    other = Gallery(tmp_path / "new", tmp_path / "other.sqlite", tmp_path / "thumbnails")
    theirs, trashed = add(other, "theirs"), add(other, "trashed")
    other.delete([trashed.id])
    other.close()
    with opened("old") as gallery:
        ours = add(gallery, "ours")
    with opened("new") as gallery:
        rescan(gallery)
        check(gallery, ours.path, theirs.path)
        assert gallery.trash_count() == 1


def test_images_of_an_earlier_version_that_did_not_record_its_folder_are_looked_for_in_the_usual_one(
    opened: Open, tmp_path: Path
) -> None:
    usual = Gallery(paths.images(), tmp_path / "g.sqlite", tmp_path / "thumbnails")
    image = add(usual)
    usual.close()
    with closing(sqlite3.connect(tmp_path / "g.sqlite")) as database, database:
        database.execute("DROP TABLE folders")
    with opened("new") as gallery:
        check(gallery, image.path)


def test_the_records_of_a_folder_without_a_name_stay_where_the_usual_one_lacks_them(
    opened: Open, tmp_path: Path
) -> None:
    with opened("old") as gallery:
        image = add(gallery)
    with closing(sqlite3.connect(tmp_path / "g.sqlite")) as database, database:
        database.execute("DROP TABLE folders")
    (tmp_path / "old").rename(tmp_path / "away")  # its drive is not connected
    with opened("old") as gallery:
        assert not Path(recorded(gallery)[0]).is_absolute()
        (tmp_path / "away").rename(tmp_path / "old")
        check(gallery, image.path)


def test_a_folder_whose_path_is_not_valid_unicode_is_used_and_not_recorded(opened: Open, tmp_path: Path) -> None:
    with opened("old") as gallery:
        old = add(gallery)
    name = os.fsdecode(b"caf\xe9")
    with opened(name) as gallery:
        new = add(gallery, "pear")
        assert new.path.is_relative_to(tmp_path / name)
        rescan(gallery)
        gallery.delete([new.id])
        assert gallery.undo([new.id]) == [new.id] and gallery.images()[0].path == new.path
    with opened("old") as gallery:
        rescan(gallery)
        assert [image.path for image in gallery.images() if not image.missing] == [old.path]


def test_records_stay_as_they_are_where_their_new_paths_could_not_be_recorded(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = tmp_path / os.fsdecode(b"caf\xe9")
    monkeypatch.setattr(paths, "images", lambda: usual)
    with opened(usual.name) as gallery:
        add(gallery)
        before = recorded(gallery)
    with opened("other") as gallery:
        assert recorded(gallery) == before
    with opened(usual.name) as gallery:
        check(gallery, usual / before[0])


def test_the_same_folder_under_another_name_is_no_other_one(opened: Open, tmp_path: Path) -> None:
    with opened("old") as gallery:
        image = add(gallery)
    (tmp_path / "link").symlink_to(tmp_path / "old", target_is_directory=True)
    with opened("link") as gallery:
        check(gallery, tmp_path / "link" / image.path.relative_to(tmp_path / "old"))


def test_a_damaged_database_keeps_the_images_of_earlier_folders(opened: Open, tmp_path: Path) -> None:
    with opened("old") as gallery:
        image = add(gallery)
        deleted = add(gallery, "pear")
    with opened("new") as gallery:
        add(gallery, "leaf")
        gallery.delete([deleted.id])
        gallery._rebuild(0)
        rescan(gallery)
        assert image.path in {each.path for each in gallery.images()} and gallery.count() == 2
        assert gallery.undo([deleted.id]) == [deleted.id]
    with opened("old") as gallery:
        assert gallery.count() == 3 and all(each.path.is_file() for each in gallery.images())


def test_images_of_an_interrupted_job_are_found_in_the_earlier_folder(opened: Open) -> None:
    with opened("old") as gallery:
        add(gallery, "token")
    with opened("new") as gallery:
        add(gallery, "other")
        assert gallery.saved_images("token") == 1
