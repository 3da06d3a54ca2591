"""The gallery: nothing lost, nothing overwritten, fast however many there are."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sqlite3
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from diffstudio.errors import ImageProblem, StorageProblem
from diffstudio.imaging.exact_files import ExactValues
from diffstudio.studio.gallery import records
from diffstudio.studio.gallery.file_names import TRASH, slug
from diffstudio.studio.gallery.gallery import Gallery
from diffstudio.studio.gallery.records import GalleryImage
from diffstudio.studio.gallery.rescan import rescan
from diffstudio.studio.gallery.search import GalleryQuery, SortOrder
from diffstudio.studio.metadata import metadata
from diffstudio.studio.requests import GenerateRequest


@pytest.fixture
def gallery(tmp_path: Path) -> Iterator[Gallery]:
    gallery = Gallery(tmp_path / "images", tmp_path / "gallery.sqlite", tmp_path / "thumbnails")
    yield gallery
    gallery.close()


def add(gallery: Gallery, prompt: str = "red apple", seed: int = 7, **more: Any) -> GalleryImage:
    return gallery.add(Image.new("RGB", (64, 48), "red"), GenerateRequest(prompt=prompt, seed=seed, **more), extra={})


def files(gallery: Gallery) -> list[str]:
    return sorted(path.relative_to(gallery.folder).as_posix() for path in gallery.folder.rglob("*") if path.is_file())


def test_a_picture_is_saved_with_its_settings_and_found_again(gallery: Gallery) -> None:
    request = GenerateRequest(prompt="A Red/Apple..\n on ünïcode 火箭!", seed=5, count=3)
    made = gallery.add(Image.new("RGB", (64, 48)), request, extra={"index": 2, "device": "cpu", "model": "my run"})
    day, name = made.path.relative_to(gallery.folder).parts
    assert day.count("-") == 2
    assert name.endswith("-7-a-red-apple-on-ünïcode-火箭.png")
    assert (made.request, made.width, made.height) == (GenerateRequest(prompt=request.prompt, seed=7), 64, 48)
    assert made.checkpoint == "my run"
    assert gallery.images() == [made]
    assert gallery.get(made.id) == gallery.find(made.path) == gallery.made_with("my run", 1)[0] == made
    settings = metadata.read(made.path)
    assert (settings.asked, settings.environment["device"]) == (request, "cpu")


def test_the_images_of_a_job_are_counted_by_its_token(gallery: Gallery) -> None:
    request, image = GenerateRequest(prompt="x", seed=5, count=3), Image.new("RGB", (64, 48))
    assert gallery.saved_images("one") == 0
    for index in range(2):
        gallery.add(image, request, extra={"index": index, "job": "one"})
    add(gallery)
    (gallery.images()[0].path.parent / "text.png").write_text("not an image")
    assert gallery.saved_images("one") == 2 and gallery.saved_images("other") == 0
    unrecorded = gallery.add(image, request, extra={"index": 2, "job": "one"})
    with gallery.writing() as connection:  # as after a kill between the file and its record
        connection.execute("DELETE FROM images WHERE id = ?", [unrecorded.id])
    assert gallery.saved_images("one") == 3
    assert gallery.find(unrecorded.path) is not None


def test_a_thousand_of_the_same_second_never_overwrite(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [add(gallery).path for _ in range(20)]
    assert len(set(made)) == len(files(gallery)) == 20

    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", no_links)
    made += [add(gallery).path for _ in range(5)]
    assert len(set(made)) == len(files(gallery)) == 25
    for path in made:
        metadata.read(path)


@pytest.mark.parametrize("prompt", ["", "///", "..", "con", "a" * 5000, "火" * 5000, "\udcff\0x", "🚀🚀"])
def test_any_prompt_gives_a_name_that_any_disk_takes(gallery: Gallery, prompt: str) -> None:
    made = add(gallery, prompt)
    assert made.path.parent.parent == gallery.folder
    assert len(made.path.name.encode()) < 200
    assert not set(made.path.name) & set('/\\:*?"<>|\0')
    assert gallery.images()[0].request == GenerateRequest(prompt=prompt, seed=7)


def test_slugs_are_short_and_clean() -> None:
    assert slug("  A Red -- Apple, 3D! ") == "a-red-apple-3d"
    assert not slug("x" * 47 + " yy").endswith("-")


def test_a_full_disk_is_said_and_leaves_nothing_behind(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageProblem, match="disk is full. Free some space"):
        add(gallery)
    assert files(gallery) == []
    assert gallery.count() == 0


def test_a_folder_that_may_not_be_written_to_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageProblem):
        Gallery(tmp_path / "file" / "images", tmp_path / "g.sqlite")


def test_search_in_any_script_and_by_part_of_a_word(gallery: Gallery) -> None:
    apple, rocket = add(gallery, "a Red apple"), add(gallery, "火箭 rocket 100%", negative="blurry", checkpoint="emoji")
    for words, found in (
        ("", [rocket, apple]),
        ("app", [apple]),
        ("RED", [apple]),
        ("red rocket", []),
        ("火箭", [rocket]),
        ("ock", [rocket]),
        ("ro", [rocket]),
        ("blur", [rocket]),
        ("0%", [rocket]),
        ("emoji", [rocket]),
        ('"', []),
        ("*", []),
        ("AND", []),
        ("NEAR(", []),
        ("\0", [rocket, apple]),
        ("_", []),
        ("\udcff", []),
    ):
        assert gallery.images(search=words) == found, words
        assert gallery.count(words) == len(found)
    assert gallery.fits(apple.id, "apple") and not gallery.fits(rocket.id, "apple")


def test_search_without_fts5(gallery: Gallery) -> None:
    apple = add(gallery, "a red apple 100%")
    gallery._has_text_index = False
    assert gallery.images(search="appl") == [apple]
    assert gallery.images(search="x%y") == []


def test_stars(gallery: Gallery) -> None:
    first, second = add(gallery), add(gallery)
    gallery.star(first.id)
    assert [image.id for image in gallery.images(starred=True)] == [first.id]
    assert gallery.count(starred=True) == 1
    gallery.star(first.id, False)
    assert gallery.count(starred=True) == 0
    assert [image.id for image in gallery.images()] == [second.id, first.id]


def test_delete_and_undo(gallery: Gallery) -> None:
    first, second = add(gallery, "one"), add(gallery, "two")
    gallery.star(first.id)
    assert gallery.delete([first.id, 999]) == [first.id]
    assert not first.path.exists()
    assert gallery.images() == [second]
    assert gallery.count("one") == 0
    assert gallery.get(first.id) is None
    assert gallery.trashed() == [first.id]
    assert any(name.startswith(f"{TRASH}/") for name in files(gallery))
    assert rescan(gallery).added == 0
    assert gallery.undo([first.id]) == [first.id]
    assert first.path.exists()
    assert [image.id for image in gallery.images(starred=True)] == [first.id]
    assert gallery.trash_count() == 0


def test_undo_does_not_overwrite_what_came_in_its_place(gallery: Gallery) -> None:
    image = add(gallery)
    gallery.delete([image.id])
    image.path.write_bytes(b"somebody's")
    gallery.undo([image.id])
    back = gallery.get(image.id)
    assert back is not None and back.path != image.path
    assert metadata.read(back.path).request == image.request
    assert image.path.read_bytes() == b"somebody's"


def test_a_file_that_is_already_gone_can_be_deleted_but_not_brought_back(gallery: Gallery) -> None:
    image = add(gallery)
    image.path.unlink()
    assert gallery.delete([image.id]) == [image.id]
    assert gallery.count() == 0
    assert gallery.undo([image.id]) == []


def test_the_trash_goes_to_the_system_trash(gallery: Gallery, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    image, kept = add(gallery), add(gallery)
    gallery.delete([image.id])
    taken: list[Path] = []

    def refuse(path: Path) -> None:
        raise OSError("no trash on this disk")

    monkeypatch.setattr("send2trash.send2trash", refuse)
    with pytest.raises(StorageProblem, match="Delete the files in"):
        gallery.empty_trash()
    assert gallery.trash_count() == 1

    def take(path: Path) -> None:
        taken.append(Path(path))
        shutil.move(path, tmp_path / "taken")

    monkeypatch.setattr("send2trash.send2trash", take)
    assert gallery.empty_trash() == 1
    assert [path.parent.name for path in taken] == [TRASH]
    assert gallery.trash_count() == 0
    assert gallery.images() == [kept]
    assert gallery.undo([image.id]) == []


def test_rescan_sees_what_other_hands_did(gallery: Gallery, tmp_path: Path) -> None:
    moved, gone, changed, left = (add(gallery, word) for word in ("moved", "gone", "changed", "left"))
    gallery.star(moved.id)
    os.rename(moved.path, gallery.folder / "elsewhere.png")
    gone.path.unlink()
    Image.new("RGB", (10, 12)).save(changed.path)
    Image.new("RGB", (20, 24)).save(gallery.folder / "photo.JPG")
    (gallery.folder / "notes.txt").write_text("not a picture")
    (gallery.folder / "broken.png").write_bytes(b"nothing")
    (gallery.folder / ".hidden").mkdir()
    Image.new("RGB", (5, 5)).save(gallery.folder / ".hidden" / "x.png")
    report = rescan(gallery)
    assert (report.added, report.changed, report.moved, report.removed) == (1, 1, 1, 1)
    assert [path.name for path, _ in report.unreadable] == ["broken.png"]
    found = {image.path.name: image for image in gallery.images()}
    assert set(found) == {"elsewhere.png", changed.path.name, left.path.name, "photo.JPG"}
    assert found["elsewhere.png"].id == moved.id and found["elsewhere.png"].starred
    assert (found["photo.JPG"].request, found["photo.JPG"].width) == (None, 20)
    assert (found[changed.path.name].request, found[changed.path.name].width) == (None, 10)
    again = rescan(gallery)
    assert not again.anything


def test_a_folder_that_is_away_takes_no_records_with_it(gallery: Gallery) -> None:
    add(gallery)
    gallery.folder.rename(gallery.folder.with_name("away"))
    with pytest.raises(StorageProblem):
        rescan(gallery)
    gallery.folder.with_name("away").rename(gallery.folder)
    assert gallery.count() == 1


def test_a_rescan_can_be_cancelled(gallery: Gallery) -> None:
    add(gallery).path.unlink()
    assert not rescan(gallery, lambda: True).anything
    assert gallery.count() == 1


def test_lost_or_damaged_records_are_made_again_from_the_files(tmp_path: Path) -> None:
    places = (tmp_path / "images", tmp_path / "g.sqlite", tmp_path / "thumbnails")
    gallery = Gallery(*places)
    made = [add(gallery, word) for word in ("one", "two", "three")]
    gallery.close()
    places[1].write_bytes(b"this is no database " * 500)
    for ending in ("-wal", "-shm"):
        (tmp_path / f"g.sqlite{ending}").unlink(missing_ok=True)
    gallery = Gallery(*places)
    assert gallery.needs_rescan and gallery.count() == 0
    rescan(gallery)
    assert not gallery.needs_rescan
    assert [image.request for image in gallery.images()] == [image.request for image in reversed(made)]
    assert any(path.name.startswith("g.sqlite.damaged") for path in tmp_path.iterdir())
    gallery.close()


def test_records_of_a_newer_program_are_left_alone(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "g.sqlite")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StorageProblem, match="newer diffstudio"):
        Gallery(tmp_path / "images", tmp_path / "g.sqlite").close()
    connection = sqlite3.connect(tmp_path / "g.sqlite")
    assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    connection.close()


def test_thumbnails_are_small_kept_and_renewed(gallery: Gallery) -> None:
    wide = gallery.add(Image.new("RGB", (1024, 512), "blue"), GenerateRequest(), extra={})
    small = gallery.thumbnail(wide)
    with Image.open(small) as image:
        assert (image.format, image.size) == ("WEBP", (256, 128))
    written = small.stat().st_mtime_ns
    assert gallery.thumbnail(wide) == small and small.stat().st_mtime_ns == written
    Image.new("RGBA", (100, 300), (0, 255, 0, 128)).save(wide.path)
    renewed = gallery.thumbnail(wide)
    assert renewed != small
    with Image.open(renewed) as image:
        assert (image.size, image.mode) == ((85, 256), "RGBA")


@pytest.mark.parametrize(
    "ruin",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(path.read_bytes()[:60]),
        lambda path: path.write_bytes(b""),
    ],
)
def test_a_picture_that_cannot_be_read_has_no_thumbnail(gallery: Gallery, ruin: Callable[[Path], object]) -> None:
    image = add(gallery)
    ruin(image.path)
    with pytest.raises(ImageProblem):
        gallery.thumbnail(image)
    assert not list(gallery.thumbnails.rglob("*.webp*"))


def test_an_enormous_picture_is_refused_before_it_is_decoded(gallery: Gallery) -> None:
    image = add(gallery)
    header = b"IHDR" + struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    length, checksum = struct.pack(">I", 13), struct.pack(">I", zlib.crc32(header))
    image.path.write_bytes(b"\x89PNG\r\n\x1a\n" + length + header + checksum)
    with pytest.raises(ImageProblem):
        gallery.thumbnail(image)


def test_many_threads_at_once(gallery: Gallery) -> None:
    problems: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for index in range(5):
                image = add(gallery, f"thread {number}", seed=index)
                gallery.star(image.id)
                gallery.delete([image.id])
                gallery.undo([image.id])
                gallery.images(search="thread")
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    assert gallery.count() == gallery.count(starred=True) == 20
    assert len([name for name in files(gallery) if name.endswith(".png")]) == 20 == len(files(gallery)) // 2
    gallery.count()
    assert len(gallery._connections) <= 5  # those of threads that ended are closed as new ones come


@pytest.fixture
def crowd(gallery: Gallery) -> Gallery:
    """100,000 records, made without files."""
    text = json.dumps(GenerateRequest(prompt="a cat").to_json())
    rows = (
        (
            f"day/{number}.png",
            float(number),
            number,
            1,
            64,
            64,
            f"a{' red' * (number % 1000 == 0)} cat{' of old' * (number < 20_000)}",
            "",
            "starter",
            text,
            int(number % 5000 == 0),
        )
        for number in range(100_000)
    )
    with gallery.writing() as connection:
        connection.execute("DROP TRIGGER words_in")  # the words are put in at once below, which is quicker
        connection.executemany(
            "INSERT INTO images (path, created, modified_ns, size_bytes, width, height, prompt, negative, checkpoint, "
            "request, starred) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            rows,
        )
        connection.execute("INSERT INTO words (words) VALUES ('rebuild')")
    return gallery


def plan(gallery: Gallery, query: GalleryQuery = GalleryQuery()) -> str:  # noqa: B008 - frozen
    """How SQLite finds the ids of a page; the last two lines are about reading its rows."""
    statement, values = gallery.page_statement(query)
    lines = [str(row[-1]) for row in gallery.read(f"EXPLAIN QUERY PLAN {statement}", [*values, 200, 0])]
    assert (
        lines[0] == "SEARCH images USING INTEGER PRIMARY KEY (rowid=?)" and lines[-1] == "USE TEMP B-TREE FOR ORDER BY"
    )
    return " / ".join(line for line in lines[1:-1] if not line.startswith("LIST SUBQUERY"))


def test_a_hundred_thousand_pictures_are_read_by_index(crowd: Gallery) -> None:
    assert crowd.count() == 100_000
    assert [int(image.created) for image in crowd.images(0, 3)] == [99_999, 99_998, 99_997]
    assert [int(image.created) for image in crowd.images(99_998, 5)] == [1, 0]
    assert plan(crowd) == "SCAN images USING INDEX by_time"  # in order: nothing is sorted
    searched = plan(crowd, GalleryQuery("red"))
    assert "VIRTUAL TABLE INDEX" in searched and "INDEX by_time" in searched and "TEMP B-TREE" not in searched
    assert crowd.count("red") == 100
    assert "VIRTUAL TABLE INDEX" not in plan(crowd, GalleryQuery("cat"))  # all have it: the newest are looked at
    assert [int(image.created) for image in crowd.images(0, 2, "cat")] == [99_999, 99_998]
    assert [int(image.created) for image in crowd.images(0, 2, "red cat")] == [99_000, 98_000]
    oldest = plan(crowd, GalleryQuery("old"))  # many have it, but none of the newer ones
    assert "VIRTUAL TABLE INDEX" in oldest and "INDEX by_time" in oldest
    assert [int(image.created) for image in crowd.images(0, 2, "old")] == [19_999, 19_998]
    assert crowd.count(starred=True) == 20
    (newest,) = crowd.made_with("starter", 1)
    assert newest is not None and newest.created == 99_999.0


@pytest.mark.parametrize("search", ["RED", "a_b", "100%", '"red cat"', "red blurry", "starter", "été", "text starter"])
def test_words_are_found_alike_with_the_text_index_and_without(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch, search: str
) -> None:
    for prompt in ("red cat", "Red dog a_b", "axb 100% red", "1000 cats", "ÉTÉ", "cat red"):
        add(gallery, prompt, negative="blurry text", checkpoint="starter")
    found = [image.id for image in gallery.images(0, 9, search)]
    assert len(found) == gallery.count(search)
    monkeypatch.setattr(records, "_NEWEST_MATCHES", 1)
    assert [image.id for image in gallery.images(0, 9, search)] == found


def test_nothing_is_sorted_or_read_row_by_row_in_any_order(gallery: Gallery) -> None:
    add(gallery, "red <lora:ink:1>", checkpoint="starter")
    index = {SortOrder.NEWEST: "by_time", SortOrder.OLDEST: "by_time", SortOrder.STARRED: "by_star"}
    for order in SortOrder:
        for search in ("", "red", "sampler:dpm", "lora:ink", "checkpoint:st", "size:64x64", "date:2020"):
            found = plan(gallery, GalleryQuery(search, order=order))
            assert f"INDEX {index.get(order, f'by_{order}')}" in found and "TEMP B-TREE" not in found, (order, search)
    assert plan(gallery, GalleryQuery("seed:7")) == "SEARCH images USING INDEX by_seed (seed=?)"


def test_what_8_bits_do_not_hold_is_saved_exactly(gallery: Gallery) -> None:
    """A PNG of 16 bits where it fits; else a TIFF beside the PNG, which alone is listed."""
    values = np.arange(16 * 16, dtype=np.uint16).reshape(16, 16, 1) * np.uint16(257)
    shown = Image.fromarray((values[..., 0] // 257).astype(np.uint8))
    deep = gallery.add(shown, GenerateRequest("a ramp"), exact=ExactValues(values, as_png=True))
    with Image.open(deep.path) as image:
        assert image.mode == "I;16"
        np.testing.assert_array_equal(np.asarray(image), values[..., 0])
    assert metadata.read(deep.path).request.prompt == "a ramp"
    bands = np.random.default_rng(0).random((16, 16, 5)).astype(np.float32)
    array = gallery.add(shown, GenerateRequest("bands"), exact=ExactValues(bands, as_png=False))
    np.testing.assert_array_equal(tifffile.imread(array.path.with_suffix(".tif")), bands)
    assert [image.path for image in gallery.images(0, 9)] == [array.path, deep.path]
