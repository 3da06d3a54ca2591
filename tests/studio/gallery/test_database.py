"""A gallery database that is damaged anywhere is kept aside and rebuilt; it is private, and older ones open."""

from __future__ import annotations

import os
import random
import sqlite3
import stat
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from PIL import Image

from diffstudio.errors import StorageProblem
from diffstudio.studio.gallery import database as module
from diffstudio.studio.gallery.gallery import Gallery
from diffstudio.studio.gallery.rescan import rescan
from diffstudio.studio.gallery.salvage import salvaged_rows
from diffstudio.studio.gallery.sidecar import sidecar_of
from diffstudio.studio.metadata import metadata
from diffstudio.studio.requests import GenerateRequest

IMAGES = 60


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a gallery of 60 images, every third starred, one of them in the trash."""
    home = tmp_path_factory.mktemp("sound")
    gallery = Gallery(home / "images", home / "g.sqlite", home / "thumbnails")
    (home / "images" / "day").mkdir()
    for number in range(IMAGES):
        path = home / "images" / "day" / f"{number}.png"
        request = GenerateRequest(f"prompt {number} " + "word " * 60, seed=number)
        Image.new("RGB", (4, 4)).save(path, pnginfo=metadata.write(Image.new("RGB", (4, 4)), request, {}))
        made = gallery.record(path, request, 4, 4, "starter")
        if number % 3 == 0:
            gallery.star(made.id)
    gallery.delete([made.id])
    gallery.close()
    assert not (home / "g.sqlite-wal").exists()
    return home


@pytest.fixture
def copy(sound: Path, tmp_path: Path) -> Iterator[Path]:
    """The database is a copy; the images, which a rebuild only reads, are those of `sound`."""
    (tmp_path / "g.sqlite").write_bytes((sound / "g.sqlite").read_bytes())
    yield tmp_path


def opened(sound: Path, copy: Path) -> Gallery:
    return Gallery(sound / "images", copy / "g.sqlite", copy / "thumbnails")


def check_complete(gallery: Gallery) -> None:
    rescan(gallery)
    assert gallery.count() == IMAGES - 1 and gallery.trash_count() == 1
    assert {int(image.path.stem) for image in gallery.images(starred=True)} == set(range(0, IMAGES, 3))
    assert {image.path.stem for image in gallery.images(search="prompt 31")} == {"31"}
    with closing(sqlite3.connect(gallery.database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def damage_at(path: Path, offset: int, size: int = 4096, seed: int = 0) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(random.Random(seed + offset).randbytes(size))


def test_4_kib_of_random_bytes_anywhere_lose_nothing(sound: Path, copy: Path) -> None:
    whole = (copy / "g.sqlite").read_bytes()
    offsets = [0, 18, 60, 100, *range(2048, len(whole) - 4096, max(4096, len(whole) // 12))]
    noticed = 0
    for offset in offsets:
        for old in copy.glob("g.sqlite*"):
            old.unlink()
        (copy / "g.sqlite").write_bytes(whole)
        damage_at(copy / "g.sqlite", offset)
        gallery = opened(sound, copy)
        if gallery.damaged_copy is not None:
            noticed += 1
            assert gallery.needs_rescan and gallery.damaged_copy.is_file(), offset
        check_complete(gallery)
        gallery.close()
    assert noticed >= len(offsets) - 2  # a page that is not in use may be hit


@pytest.mark.parametrize("kept", [0, 50, 100, 5000, 0.5, 0.99])
def test_a_truncated_database_is_rebuilt(sound: Path, copy: Path, kept: float) -> None:
    size = (copy / "g.sqlite").stat().st_size
    os.truncate(copy / "g.sqlite", int(kept * size) if isinstance(kept, float) else kept)
    gallery = opened(sound, copy)
    assert gallery.needs_rescan
    assert kept == 0 or gallery.damaged_copy is not None
    check_complete(gallery)
    gallery.close()


def test_damage_that_appears_while_it_is_open_is_repaired_on_the_way(
    sound: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery = opened(sound, copy)
    heard: list[Path] = []
    gallery.on_damage = heard.append
    gallery.close()
    monkeypatch.setattr(module, "CHECKED_WHEN_OPENED_BYTES", 0)
    (root,) = gallery.read("SELECT rootpage FROM sqlite_master WHERE name = 'images'")[0]
    gallery.close()
    damage_at(copy / "g.sqlite", (root - 1) * 4096)
    gallery.images(search="prompt")
    assert gallery.damaged_copy is not None and heard == [gallery.damaged_copy] and gallery.needs_rescan
    check_complete(gallery)
    gallery.close()
    damage_at(copy / "g.sqlite", 0, 100)
    with pytest.raises(StorageProblem, match="was damaged and is rebuilt"), gallery.writing() as connection:
        connection.execute("DELETE FROM images")
    assert len(set(heard)) == 2
    check_complete(gallery)
    gallery.close()


def test_a_damaged_schema_that_is_not_utf_8(sound: Path, copy: Path) -> None:
    """SQLite quotes it, and Python cannot decode its message."""
    data = (copy / "g.sqlite").read_bytes()
    (copy / "g.sqlite").write_bytes(data.replace(b"CREATE TABLE images", b"CREATE \xe2ABLE images"))
    gallery = opened(sound, copy)
    assert gallery.damaged_copy is not None and salvaged_rows(gallery.damaged_copy) == []
    check_complete(gallery)
    gallery.close()


def test_a_large_database_is_checked_by_the_rescan(sound: Path, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHECKED_WHEN_OPENED_BYTES", 0)
    with closing(sqlite3.connect(copy / "g.sqlite")) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'newest_of'").fetchone()
    damage_at(copy / "g.sqlite", (root - 1) * 4096)
    gallery = opened(sound, copy)
    assert gallery.damaged_copy is None  # nothing has read that index
    check_complete(gallery)
    assert gallery.damaged_copy is not None
    gallery.close()


def test_rows_of_a_missing_folder_survive_damage(tmp_path: Path) -> None:
    gallery = Gallery(tmp_path / "images", tmp_path / "g.sqlite", tmp_path / "thumbnails")
    for name in ("here", "away"):
        for number in range(30):
            path = tmp_path / "images" / name / f"{number}.png"
            path.parent.mkdir(exist_ok=True)
            Image.new("RGB", (4, 4)).save(path)
            gallery.record(path, GenerateRequest("word " * 200), 4, 4)
    kept = gallery.images(limit=60)
    gallery.star(kept[0].id)
    gallery.close()
    (tmp_path / "images" / "away").rename(tmp_path / "away")
    with closing(sqlite3.connect(tmp_path / "g.sqlite")) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'by_time'").fetchone()
    damage_at(tmp_path / "g.sqlite", (root - 1) * 4096)
    assert len(salvaged_rows(tmp_path / "g.sqlite")) == 60
    gallery = Gallery(tmp_path / "images", tmp_path / "g.sqlite", tmp_path / "thumbnails")
    assert rescan(gallery).missing == 30
    assert sum(image.missing for image in gallery.images()) == 30 and gallery.count() == 60
    gallery.close()


def test_salvaged_values_are_checked(sound: Path, copy: Path) -> None:
    def ruin(statement: str, *values: object) -> None:
        with closing(sqlite3.connect(copy / "g.sqlite")) as connection, connection:
            connection.execute("DROP TRIGGER IF EXISTS words_changed")
            connection.execute(statement, values)

    assert len(salvaged_rows(copy / "g.sqlite")) == IMAGES
    ruin("UPDATE images SET path = '../outside.png' WHERE id = 1")
    ruin("UPDATE images SET path = '/etc/x.png' WHERE id = 2")
    ruin("UPDATE images SET created = 'yesterday' WHERE id = 3")
    ruin("UPDATE images SET request = '[1' WHERE id = 4")
    ruin("UPDATE images SET starred = 7 WHERE id = 5")
    ruin("UPDATE images SET prompt = CAST(x'ff00ff' AS TEXT) WHERE id = 6")
    assert len(salvaged_rows(copy / "g.sqlite")) == IMAGES - 6
    (copy / "g.sqlite").write_bytes(b"no database")
    assert salvaged_rows(copy / "g.sqlite") == []
    assert salvaged_rows(copy / "none.sqlite") == []


def test_a_full_disk_is_no_damage(sound: Path, copy: Path) -> None:
    gallery = opened(sound, copy)
    pages = gallery.read("PRAGMA page_count")[0][0]
    gallery.read(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StorageProblem, match="disk is full"), gallery.writing() as connection:
        connection.execute("UPDATE images SET prompt = hex(zeroblob(100000))")
    assert gallery.damaged_copy is None and gallery.count() == IMAGES - 1
    gallery.star(gallery.images()[0].id)  # no transaction was left open
    sidecar_of(gallery.images()[0].path).unlink()
    gallery.close()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_the_database_is_private_from_the_start_and_an_old_one_is_made_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def modes() -> set[int]:
        return {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob("g.sqlite*")}

    before = os.umask(0)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(Path, "chmod", lambda *_: pytest.fail("it was not private from the start"))
            gallery = Gallery(tmp_path / "images", tmp_path / "g.sqlite", tmp_path / "thumbnails")
        assert len(list(tmp_path.glob("g.sqlite*"))) == 3 and modes() == {0o600}
        for path in tmp_path.glob("g.sqlite*"):
            path.chmod(0o644)
        again = Gallery(tmp_path / "images", tmp_path / "g.sqlite", tmp_path / "thumbnails")
        assert modes() == {0o600}
        gallery.close()
        again.close()
    finally:
        os.umask(before)


def test_columns_are_added_to_a_database_of_version_0_1(tmp_path: Path) -> None:
    old = Path(__file__).parents[2] / "data" / "home_v0_1" / "gallery.sqlite"
    (tmp_path / "old.sqlite").write_bytes(old.read_bytes())
    gallery = Gallery(tmp_path / "images", tmp_path / "old.sqlite", tmp_path / "thumbnails")
    assert gallery.count() == 3 and gallery.count(starred=True) == 1 and gallery.damaged_copy is None
    assert [(image.note, image.missing) for image in gallery.images()] == [("", False)] * 3
    gallery.close()
