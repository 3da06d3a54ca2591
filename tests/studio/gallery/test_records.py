"""Pages of the gallery: every order, every filter, and what an earlier version recorded."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from diffstudio.studio.gallery.gallery import Gallery
from diffstudio.studio.gallery.records import GalleryImage, sort_key
from diffstudio.studio.gallery.rescan import rescan
from diffstudio.studio.gallery.search import GalleryQuery, Period, SortOrder
from diffstudio.studio.requests import GenerateRequest, SamplerName


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gallery]:
    """Seven images that differ in everything, and one without settings."""
    folder = tmp_path_factory.mktemp("gallery")
    gallery = Gallery(folder / "images", folder / "gallery.sqlite", folder / "thumbnails")
    for number, (prompt, seed, sampler, model, size) in enumerate(
        (
            ("zebra <lora:ink:0.5>", 42, SamplerName.EULER, "sd1", (64, 48)),
            ("Apple <lora:ink2:1> <lora:glow:1>", 7, SamplerName.EULER_ANCESTRAL, "sd1", (48, 64)),
            ("ähre", 42, SamplerName.HEUN, "sd1-turbo", (32, 32)),
            ("", 2**62, SamplerName.DPMPP_2M, "", (96, 96)),
            ("apple", 0, SamplerName.DPMPP_2M_SDE, "xl", (64, 48)),
        )
    ):
        request = GenerateRequest(prompt=prompt, seed=seed, sampler=sampler, checkpoint=model)
        image = gallery.add(Image.new("RGB", size, (number, 0, 0)), request)
        date(gallery, image.path, 1000.0 * number + 1)
    Image.new("RGB", (20, 30)).save(gallery.folder / "photo.png")
    date(gallery, gallery.folder / "photo.png", 500.0)
    gallery.star(gallery.images()[2].id)
    gallery.tag(gallery.images()[1].id, ["Best", "sea"])
    gallery.tag(gallery.images()[4].id, ["best shots"])
    yield gallery
    gallery.close()


def date(gallery: Gallery, path: Path, seconds: float) -> None:
    os.utime(path, (seconds, seconds))
    gallery.record_file(path)


def names(images: list[GalleryImage]) -> list[str]:
    return [image.request.prompt.split(" <")[0] if image.request else image.path.stem for image in images]


def found(gallery: Gallery, search: str, order: SortOrder = SortOrder.NEWEST) -> list[str]:
    query = GalleryQuery(search, order=order)
    images = gallery.page(query)
    assert gallery.number_of(query) == len(images)
    assert all(gallery.fits(image.id, query) is (image in images) for image in gallery.images())
    return names(images)


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (SortOrder.NEWEST, ["apple", "", "ähre", "Apple", "photo", "zebra"]),
        (SortOrder.OLDEST, ["zebra", "photo", "Apple", "ähre", "", "apple"]),
        (SortOrder.STARRED, ["ähre", "apple", "", "Apple", "photo", "zebra"]),
        (SortOrder.PROMPT, ["apple", "Apple", "zebra", "ähre", "", "photo"]),
        (SortOrder.CHECKPOINT, ["Apple", "zebra", "ähre", "apple", "", "photo"]),
        (SortOrder.SEED, ["apple", "Apple", "ähre", "zebra", "", "photo"]),
        (SortOrder.PIXELS, ["", "apple", "Apple", "zebra", "ähre", "photo"]),
    ],
)
def test_every_order(gallery: Gallery, order: SortOrder, expected: list[str]) -> None:
    assert names(gallery.page(GalleryQuery(order=order))) == expected
    pages = [gallery.page(GalleryQuery(order=order), offset, 2) for offset in (0, 2, 4)]
    assert [image for page in pages for image in page] == gallery.page(GalleryQuery(order=order))


def test_the_largest_files_come_first(gallery: Gallery) -> None:
    images = gallery.page(GalleryQuery(order=SortOrder.BYTES))
    sizes = [image.path.stat().st_size for image in images]
    assert sizes == sorted(sizes, reverse=True) == [image.size_bytes for image in images]


@pytest.mark.parametrize("order", list(SortOrder))
def test_python_sorts_as_the_database_does(gallery: Gallery, order: SortOrder) -> None:
    images = gallery.page(GalleryQuery(order=order))
    assert sorted(gallery.images(), key=lambda image: sort_key(image, order)) == images


@pytest.mark.parametrize(
    ("search", "expected"),
    [
        ("seed:42", ["ähre", "zebra"]),
        (f"seed:{2**62}", [""]),
        ("seed:0", ["apple"]),
        ("seed:1", []),
        ("seed:x", []),
        ("-seed:42", ["apple", "", "Apple", "photo"]),
        ("sampler:euler", ["zebra"]),
        ('sampler:"Euler a"', ["Apple"]),
        ("sampler:dpm", ["apple", ""]),
        ("sampler:none", []),
        ("-sampler:dpm", ["ähre", "Apple", "photo", "zebra"]),
        ("lora:ink", ["zebra"]),
        ("lora:INK2", ["Apple"]),
        ("lora:in", ["Apple", "zebra"]),
        ("lora:ink lora:glow", []),
        ("lora:ink2 lora:glow", ["Apple"]),
        ("-lora:in", ["apple", "", "ähre", "photo"]),
        ("checkpoint:sd1", ["Apple", "zebra"]),
        ("model:sd", ["ähre", "Apple", "zebra"]),
        ("checkpoint:flux", []),
        ("tag:best", [""]),
        ("tag:bes", ["", "photo"]),
        ("tag:SEA tag:best", [""]),
        ("-tag:sea", ["apple", "ähre", "Apple", "photo", "zebra"]),
        ("size:64x48", ["apple", "zebra"]),
        ("size:48×64", ["Apple"]),
        ("date:1970", ["apple", "", "ähre", "Apple", "photo", "zebra"]),
        ("-date:1970", []),
        ("date:2001", []),
        ("date:never", []),
        ("apple sampler:dpm", ["apple"]),
        ("apple seed:7", ["Apple"]),
    ],
)
def test_searching_by_what_an_image_was_made_with(gallery: Gallery, search: str, expected: list[str]) -> None:
    assert found(gallery, search) == expected
    assert sorted(found(gallery, search, SortOrder.PROMPT)) == sorted(expected)


def test_a_phrase_is_found_as_it_stands(gallery: Gallery) -> None:
    assert found(gallery, '"<lora:ink2:1> <lora:glow"') == ["Apple"] and found(gallery, '"glow:1> <lora:ink2"') == []


def test_a_period_and_stars_filter_too(gallery: Gallery) -> None:
    assert gallery.number_of(GalleryQuery(period=Period.YEAR)) == 0
    assert names(gallery.page(GalleryQuery(starred=True))) == ["ähre"]
    assert gallery.page(GalleryQuery("apple", starred=True, order=SortOrder.SEED)) == []


def test_tags_are_listed_with_how_often_they_are_used(gallery: Gallery) -> None:
    gallery.tag(gallery.images()[0].id, ["sea"])
    assert gallery.all_tags() == [("sea", 2), ("Best", 1), ("best shots", 1)]
    gallery.tag(gallery.images()[0].id, remove=["SEA"])
    assert gallery.all_tags()[0] == ("Best", 1)


def test_what_an_earlier_version_recorded_is_filled_in_by_a_rescan(gallery: Gallery) -> None:
    rescan(gallery)  # the first of a new database records everything again
    before = [gallery.page(GalleryQuery(order=order)) for order in SortOrder]
    with gallery.writing() as connection:
        connection.execute(
            "UPDATE images SET seed = NULL, sampler = NULL, loras = '[]', prompt_key = '', checkpoint_key = '', "
            "pixels = 0, indexed = 0"
        )
    assert found(gallery, "seed:42") == found(gallery, "lora:ink") == []
    report = rescan(gallery)
    assert report.indexed == 6 and not report.anything
    assert [gallery.page(GalleryQuery(order=order)) for order in SortOrder] == before
    assert found(gallery, "lora:ink") == ["zebra"] and found(gallery, "sampler:heun") == ["ähre"]
    assert rescan(gallery).indexed == 0


def test_what_is_in_the_trash_is_listed_by_when_it_was_deleted(tmp_path: Path) -> None:
    gallery = Gallery(tmp_path / "images", tmp_path / "gallery.sqlite", tmp_path / "thumbnails")
    images = [gallery.add(Image.new("RGB", (8, 8)), GenerateRequest(prompt=word)) for word in ("one", "two", "three")]
    gallery.delete([images[0].id])
    time.sleep(0.01)
    gallery.delete([images[2].id])
    trash = GalleryQuery(trash=True)
    deleted = gallery.page(trash)
    assert names(deleted) == ["three", "one"] and all(image.trashed for image in deleted)
    assert names(gallery.images()) == ["two"] and names(gallery.page(GalleryQuery("one", trash=True))) == ["one"]
    assert sorted(deleted, key=lambda image: sort_key(image, SortOrder.NEWEST, trash=True)) == deleted
    assert gallery.number_of(trash) == 2 and gallery.number_of(GalleryQuery("checkpoint:starter", trash=True)) == 2
    gallery.close()


@pytest.mark.parametrize("index", [True, False])
@pytest.mark.parametrize("word", ["Ä", "ä", "ÄH", "äh", "ÄHRE", "Ähr"])
def test_words_are_found_without_regard_to_case_in_any_script(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch, word: str, index: bool
) -> None:
    monkeypatch.setattr(gallery, "_has_text_index", gallery._has_text_index and index)
    assert found(gallery, word) == ["ähre"]
