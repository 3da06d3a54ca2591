"""The prepared set: right pixels, made once, made anew when something changed, and never left half-written."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from diffstudio.errors import FolderProblem, Interrupted, RunProblem, StorageProblem
from diffstudio.training.data import image_cache
from diffstudio.training.data.dataset import ImageDataset, build_dataset
from diffstudio.training.data.folder_report import FolderReport, ImageRecord
from diffstudio.training.data.inspect_folder import inspect_folder
from diffstudio.training.data.pixel_choice import choose_pixels
from diffstudio.training.data.split import held_out_by_hash
from diffstudio.training.recipe import DataRecipe
from diffstudio.training.recipe.data_recipe import ClassesName, MasksName, RangesRecipe

SMALL = DataRecipe(size=16)


def report_of(folder: Path) -> FolderReport:
    *_, report = inspect_folder(folder)
    assert isinstance(report, FolderReport)
    return report


def colour_of(number: int) -> tuple[int, int, int]:
    return (number * 37 % 256, number * 91 % 256, number * 53 % 256)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """30 plain pictures, each of its own colour, in three groups."""
    folder = tmp_path / "pictures"
    for number in range(30):
        path = folder / f"group-{number % 3}" / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20 + number, 20), colour_of(number)).save(path)
        if number % 2:
            path.with_suffix(".txt").write_text(f"number {number}")
    return folder


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "pictures"


def test_every_picture_with_its_own_caption_and_group(pictures: Path, cache: Path) -> None:
    made = build_dataset(report_of(pictures), SMALL, cache)
    assert len(made) == 30
    assert made.size == (16, 16)
    assert made.images.dtype == np.uint8
    assert made.images.shape == (30, 16, 16, 3)
    assert isinstance(made.images, np.memmap)
    assert made.classes == ("group-0", "group-1", "group-2")
    for index, path in enumerate(made.paths):
        number = int(path.stem)
        assert tuple(made.images[index, 8, 8]) == colour_of(number)
        assert made.captions[index] == (f"number {number}" if number % 2 else "")
        assert made.classes[made.labels[index]] == path.parts[0]
    assert made.labels.dtype == np.int64
    assert made.skipped == ()


def test_batch_is_the_pictures_in_their_order_from_minus_one_to_one(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "p").mkdir()
    for name, colour in (("a", (0, 0, 0)), ("b", (255, 128, 0)), ("c", (255, 255, 255))):
        Image.new("RGB", (16, 16), colour).save(tmp_path / "p" / f"{name}.png")
    made = build_dataset(report_of(tmp_path / "p"), SMALL, cache)
    batch = made.batch([2, 1, 0, 1])
    assert batch.shape == (4, 3, 16, 16)
    assert batch.dtype == torch.float32
    assert batch.is_contiguous()
    expected = torch.tensor([[1, 1, 1], [1, 128 / 127.5 - 1, -1], [-1, -1, -1], [1, 128 / 127.5 - 1, -1]])
    torch.testing.assert_close(batch, expected[:, :, None, None].expand_as(batch))
    torch.testing.assert_close(made.batch(torch.tensor([2, 1, 0, 1])), batch)
    batch.zero_()  # a copy: the pictures themselves stay
    assert made.images[2].min() == 255


def test_the_second_time_nothing_is_decoded(pictures: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = report_of(pictures)
    first = build_dataset(report, SMALL, cache)

    def never(*_: object, **__: object) -> None:
        pytest.fail("a picture was decoded again")

    monkeypatch.setattr(image_cache, "prepare_image", never)
    again = build_dataset(report, replace(SMALL, flips=0.9, rotation_degrees=9.0), cache)  # what is not in the pixels
    assert again.file == first.file
    assert (again.images == first.images).all()


@pytest.mark.parametrize("change", ["touched", "size", "fit", "background", "one more", "one less", "excluded"])
def test_what_changes_the_pixels_makes_another_file(pictures: Path, cache: Path, change: str) -> None:
    first = build_dataset(report_of(pictures), SMALL, cache)
    data = SMALL
    match change:
        case "touched":
            os.utime(pictures / "group-0" / "00.png", (1, 1))
        case "size":
            data = replace(SMALL, size=24)
        case "fit":
            data = replace(SMALL, fit="pad")
        case "background":
            data = replace(SMALL, background="#123456")
        case "one more":
            Image.new("RGB", (30, 30)).save(pictures / "new.png")
        case "one less":
            (pictures / "group-0" / "00.png").unlink()
        case "excluded":
            data = replace(SMALL, exclude=("group-1",))
    second = build_dataset(report_of(pictures), data, cache)
    assert second.file != first.file
    assert len(second) == {"one more": 31, "one less": 29, "excluded": 20}.get(change, 30)


@pytest.mark.parametrize("damage", ["short", "empty", "text", "other shape"])
def test_a_damaged_cache_is_made_anew(pictures: Path, cache: Path, damage: str) -> None:
    report = report_of(pictures)
    first = build_dataset(report, SMALL, cache)
    right = np.array(first.images)
    first.file.unlink()  # a new file: the map of the old one must not change under us
    match damage:
        case "short":
            np.save(first.file, right)
            first.file.write_bytes(first.file.read_bytes()[:-100])
        case "empty":
            first.file.touch()
        case "text":
            first.file.write_text("not an array")
        case "other shape":
            np.save(first.file, right[:5])
    assert (build_dataset(report, SMALL, cache).images == right).all()


def test_excluded_folders(pictures: Path, cache: Path) -> None:
    report = report_of(pictures)
    made = build_dataset(report, replace(SMALL, exclude=("group-1", "group")), cache)  # whole names only
    assert made.classes == ("group-0", "group-2")
    with pytest.raises(FolderProblem, match="excluded"):
        build_dataset(report, replace(SMALL, exclude=("group-0", "group-1", "group-2")), cache)


def test_nested_folders_are_excluded_by_their_path(tmp_path: Path, cache: Path) -> None:
    for name in ("a/x/1.png", "a/y/2.png", "x/3.png"):
        path = tmp_path / "p" / name
        path.parent.mkdir(parents=True)
        Image.new("RGB", (20, 20), colour_of(int(path.stem))).save(path)
    made = build_dataset(report_of(tmp_path / "p"), replace(SMALL, exclude=("a/x",)), cache)
    assert [path.as_posix() for path in made.paths] == ["a/y/2.png", "x/3.png"]


def test_pictures_lost_since_the_inspection_are_left_out_and_named(pictures: Path, cache: Path) -> None:
    report = report_of(pictures)
    (pictures / "group-0" / "03.png").unlink()
    (pictures / "group-1" / "07.png").write_bytes(b"overwritten with something else")
    made = build_dataset(report, SMALL, cache)
    assert len(made) == 28
    assert {skipped.path.name for skipped in made.skipped} == {"03.png", "07.png"}
    for index, path in enumerate(made.paths):
        assert tuple(made.images[index, 8, 8]) == colour_of(int(path.stem))
    assert made.images.shape[0] == len(made.captions) == len(made.labels) == len(made.held_out) == 28


def test_all_pictures_lost(pictures: Path, cache: Path) -> None:
    report = report_of(pictures)
    shutil.rmtree(pictures)
    with pytest.raises(FolderProblem):
        build_dataset(report, SMALL, cache)


def test_progress_counts_every_picture(pictures: Path, cache: Path) -> None:
    reported: list[tuple[int, int]] = []
    build_dataset(report_of(pictures), SMALL, cache, on_progress=lambda done, total: reported.append((done, total)))
    assert reported == [(done, 30) for done in range(1, 31)]


def test_stopping_leaves_nothing_behind_and_can_be_done_over(pictures: Path, cache: Path) -> None:
    report = report_of(pictures)
    done: list[int] = []
    with pytest.raises(Interrupted):
        build_dataset(
            report, SMALL, cache, on_progress=lambda number, _: done.append(number), cancelled=lambda: len(done) >= 5
        )
    assert done == [1, 2, 3, 4, 5]
    assert list(cache.iterdir()) == []
    assert len(build_dataset(report, SMALL, cache, cancelled=lambda: False)) == 30


def test_a_disk_without_room_is_said_before_anything_is_written(
    pictures: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 4096, 4096))
    with pytest.raises(StorageProblem, match="no room") as problem:
        build_dataset(report_of(pictures), SMALL, cache)
    assert problem.value.remedy and "16 MiB are needed and 0 MiB are free" in str(problem.value)
    assert list(cache.iterdir()) == []


def test_a_disk_that_fills_up_while_writing_leaves_no_half_file(pictures: Path, cache: Path) -> None:
    """A real failing write: the system refuses to let files grow beyond a few KB."""
    resource = pytest.importorskip("resource", reason="this system has no limit on file sizes")
    report = report_of(pictures)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, before[1]))
    try:
        with pytest.raises(StorageProblem, match="cannot be written"):
            build_dataset(report, SMALL, cache)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(cache.iterdir()) == []
    assert len(build_dataset(report, SMALL, cache)) == 30


def test_a_cache_in_an_impossible_place(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageProblem):
        build_dataset(report_of(pictures), SMALL, tmp_path / "file" / "cache")


def test_old_and_abandoned_files_are_tidied_away(pictures: Path, cache: Path) -> None:
    cache.mkdir(parents=True)
    for name, age_days in (
        ("old.npy", 40),
        ("recent.npy", 5),
        ("a.npy.12.part", 2),
        ("b.npy.13.part", 0),
        (".diffstudio-0123456789abcdef.part", 0),
    ):
        (cache / name).write_bytes(b"x")
        then = (cache / name).stat().st_mtime - age_days * 86400
        os.utime(cache / name, (then, then))
    made = build_dataset(report_of(pictures), SMALL, cache)
    assert {file.name for file in cache.iterdir()} == {"recent.npy", "b.npy.13.part", made.file.name}


@pytest.mark.parametrize(
    "data",
    [
        replace(SMALL, size=0),
        replace(SMALL, size=100_000),
        replace(SMALL, fit="stretch"),
        replace(SMALL, background="mud"),
        replace(SMALL, held_out=1.5),
    ],
)
def test_recipes_that_cannot_be(pictures: Path, cache: Path, data: DataRecipe) -> None:
    with pytest.raises(RunProblem):
        build_dataset(report_of(pictures), data, cache)


def test_transparency_is_laid_on_the_background(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "p").mkdir()
    Image.new("RGBA", (32, 16), (255, 0, 0, 128)).save(tmp_path / "p" / "a.png")
    made = build_dataset(report_of(tmp_path / "p"), replace(SMALL, background="#0000ff", fit="pad"), cache)
    assert tuple(made.images[0, 0, 0]) == (0, 0, 255)
    np.testing.assert_allclose(made.images[0, 8, 8].astype(int), (128, 0, 127), atol=1)


def _made_up(names: list[str], **more: object) -> FolderReport:
    return FolderReport(Path("p"), tuple(ImageRecord(Path(name), 9, 9, (), "", False) for name in names), **more)


def _held_out(report: FolderReport, fraction: float) -> dict[Path, bool]:
    paths = [record.path for record in report.images]
    chosen = held_out_by_hash(paths, [*report.duplicates, *report.near_duplicates], fraction)
    return dict(zip(paths, chosen.tolist(), strict=True))


def test_the_held_out_pictures_stay_the_same_when_the_folder_grows() -> None:
    few = _held_out(_made_up([f"{number}.png" for number in range(0, 2000, 2)]), 0.1)
    many = _held_out(_made_up([f"{number}.png" for number in range(2000)]), 0.1)
    assert all(many[path] == kept_apart for path, kept_apart in few.items())
    assert 150 <= sum(many.values()) <= 250


@pytest.mark.parametrize(
    ("count", "fraction", "least", "most"),
    [(19, 0.0001, 0, 0), (20, 0.0001, 1, 1), (500, 0.0, 0, 0), (1, 0.99, 0, 0), (3, 0.999999, 0, 2)],
)
def test_how_many_are_held_out(count: int, fraction: float, least: int, most: int) -> None:
    held_out = _held_out(_made_up([f"{number}.png" for number in range(count)]), fraction)
    assert least <= sum(held_out.values()) <= most


def test_pictures_that_look_alike_are_not_divided(tmp_path: Path, cache: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    chance = np.random.default_rng(0)
    for number in range(60):
        picture = Image.fromarray(chance.integers(0, 255, (8, 8, 3), dtype=np.uint8)).resize(
            (40, 40), Image.Resampling.NEAREST
        )
        picture.save(folder / f"{number}-a.png")
        picture.save(folder / f"{number}-b.png")
        picture.resize((80, 80), Image.Resampling.NEAREST).save(folder / f"{number}-c.jpg", quality=95, subsampling=0)
    report = report_of(folder)
    assert len(report.duplicates) == 60
    assert len(report.near_duplicates) >= 55
    made = build_dataset(report, replace(SMALL, held_out=0.3), cache)
    apart = dict(zip(made.paths, made.held_out.tolist(), strict=True))
    assert 20 < sum(apart.values()) < 90
    assert all(apart[first] == apart[second] for first, second in report.duplicates + report.near_duplicates)


def test_a_folder_where_all_look_alike_is_divided_all_the_same() -> None:
    names = [f"{number:03}.png" for number in range(200)]
    pairs = tuple((Path(names[0]), Path(name)) for name in names[1:])
    assert 10 < sum(_held_out(_made_up(names, near_duplicates=pairs), 0.2).values()) < 80


def test_indices_of_both_sides(pictures: Path, cache: Path) -> None:
    made: ImageDataset = build_dataset(report_of(pictures), replace(SMALL, held_out=0.2), cache)
    assert len(made.held_out_indices) >= 1
    assert sorted([*made.training_indices, *made.held_out_indices]) == list(range(30))
    assert made.held_out[made.held_out_indices].all()


def test_deep_images_are_cached_with_one_range_that_a_run_can_keep(tmp_path: Path, cache: Path) -> None:
    """The darker of two 12-bit images stays darker; a recipe's range holds although a new file would widen it."""
    folder = tmp_path / "scans"
    folder.mkdir()
    for name, value in (("a", 1000), ("b", 4000)):
        Image.fromarray(np.full((20, 20), value, np.uint16)).save(folder / f"{name}.png")
    first = build_dataset(report_of(folder), SMALL, cache)
    assert first.images[:, 8, 8, 0].tolist() == [round(1000 / 4095 * 255), round(4000 / 4095 * 255)]
    Image.fromarray(np.full((20, 20), 60_000, np.uint16)).save(folder / "c.png")
    report = report_of(folder)
    assert build_dataset(report, SMALL, cache).images[:, 8, 8, 0].tolist() == [4, 16, 233]
    Image.fromarray(np.full((20, 20), 0.25, np.float32)).save(folder / "d.tiff")  # of a type that the run has not seen
    Image.fromarray(np.full((20, 20), 200.0, np.float32)).save(folder / "e.tiff")
    report = report_of(folder)
    kept = replace(SMALL, ranges=RangesRecipe(uint16=(0.0, 4095.0)))
    assert build_dataset(report, kept, cache).images[:, 8, 8, 0].tolist() == [62, 249, 255, 0, 200]


def test_the_folders_own_division_is_never_mixed(tmp_path: Path, cache: Path) -> None:
    for number in range(24):
        path = tmp_path / "p" / ("train" if number % 3 else "val") / ("cat", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20 + number, 20), colour_of(number)).save(path)
    report = report_of(tmp_path / "p")
    made = build_dataset(report, SMALL, cache)
    assert made.classes == ("cat", "dog")
    assert [path.parts[0] == "val" for path in made.paths] == made.held_out.tolist()
    before = build_dataset(report, replace(SMALL, classes=ClassesName.FIRST_FOLDER), cache)  # an earlier version's run
    assert before.classes == ("train", "val")
    assert before.held_out.tolist() == held_out_by_hash(before.paths, [], SMALL.held_out).tolist()


def test_no_class_of_one_image_is_held_out(tmp_path: Path, cache: Path) -> None:
    for number in range(30):
        (tmp_path / "p" / f"{number:02}").mkdir(parents=True)
        Image.new("RGB", (20 + number, 20), colour_of(number)).save(tmp_path / "p" / f"{number:02}" / "a.png")
    report, data = report_of(tmp_path / "p"), replace(SMALL, held_out=0.3)
    made = build_dataset(report, data, cache)
    assert len(made.classes) == 30 and not made.held_out.any()
    without = build_dataset(report, replace(data, classes=ClassesName.NONE), cache)
    assert without.classes == ("",) and without.held_out.any()


def test_alternatives_and_repeats_reach_the_dataset(tmp_path: Path, cache: Path) -> None:
    for name, colour in (("4_sks dog/a", "red"), ("1_dog/b", "blue")):
        path = tmp_path / "p" / f"{name}.png"
        path.parent.mkdir(parents=True)
        Image.new("RGB", (20, 20), colour).save(path)
    (tmp_path / "p" / "1_dog" / "b.txt").write_text("a dog\na hound")
    made = build_dataset(report_of(tmp_path / "p"), SMALL, cache)
    assert made.captions == ("a dog", "sks dog") and made.repeats == (1, 4)
    assert list(made.all_captions()) == ["a dog", "a hound", "sks dog"]


def test_a_run_of_version_0_2_finds_its_cached_images_again(tmp_path: Path, cache: Path) -> None:
    """The name of the file, which a state is compared with, is that of the same inputs as ever."""
    (tmp_path / "p").mkdir()
    Image.new("RGB", (16, 16)).save(tmp_path / "p" / "a.png")
    os.utime(tmp_path / "p" / "a.png", ns=(10**18, 10**18))
    size = (tmp_path / "p" / "a.png").stat().st_size
    made = build_dataset(report_of(tmp_path / "p"), replace(SMALL, fit="pad"), cache)
    inputs = [2, str((tmp_path / "p").resolve()), 16, (255, 255, 255), "pad", [], [["a.png", *file_stamp_of(size)]]]
    assert made.file.stem == hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:32]
    chosen = replace(SMALL, fit="pad", channels=3, bits=8)
    assert build_dataset(report_of(tmp_path / "p"), chosen, cache).file == made.file


def file_stamp_of(size: int) -> tuple[int, int]:
    return size, 10**18


def test_a_grey_folder_of_16_bits(tmp_path: Path, cache: Path) -> None:
    folder = tmp_path / "scans"
    folder.mkdir()
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    for number in range(4):
        Image.fromarray(ramp[64 * number : 64 * number + 64, :64]).save(folder / f"{number}.png")
    data, _ = choose_pixels(DataRecipe(size=64), report_of(folder), 8)
    made = build_dataset(report_of(folder), data, cache)
    assert made.images.dtype == np.uint16
    assert made.images.shape == (4, 64, 64, 1)
    batch = made.batch([3, 0])
    assert batch.shape == (2, 1, 64, 64)
    back = ((batch[0, 0].double() + 1) * 32767.5).round().numpy()
    np.testing.assert_array_equal(back, ramp[192:256, :64])
    assert build_dataset(report_of(folder), data, cache).file == made.file


def test_arrays_and_what_does_not_fit_them(tmp_path: Path, cache: Path) -> None:
    folder = tmp_path / "bands"
    folder.mkdir()
    values = np.random.default_rng(0).uniform(0, 1, (4, 20, 24, 5)).astype(np.float32)
    np.save(folder / "a.npy", values[0])
    np.save(folder / "b.npy", np.moveaxis(values[1], 2, 0))
    tifffile.imwrite(folder / "c.tif", values[2], photometric="minisblack", planarconfig="contig")
    np.save(folder / "d.npy", values[3, ..., :2])
    Image.new("RGB", (20, 20)).save(folder / "e.png")
    report = report_of(folder)
    data, _ = choose_pixels(DataRecipe(size=16, fit="crop"), report, 4)
    made = build_dataset(report, data, cache)
    assert made.images.shape == (3, 16, 16, 5)
    assert [str(one.path) for one in made.unfit] == ["d.npy", "e.png"]
    assert made.batch([0]).shape == (1, 5, 16, 16)
    assert report.notes == ()  # all channels are used, whatever the thumbnails show
    with pytest.raises(FolderProblem, match="d.npy: it has 2 channels, and the network 3"):
        build_dataset(replace(report, images=report.images[3:4]), replace(SMALL, channels=3), cache)


def test_aspect_buckets(tmp_path: Path, cache: Path) -> None:
    """Each image in its bucket, in one row of values; those of several sizes together are cropped to one."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    for number in range(12):
        size = (30, 20) if number % 3 else (20, 30)
        Image.new("RGB", size, colour_of(number)).save(folder / f"{number:02}.png")
    report = report_of(folder)
    data, _ = choose_pixels(DataRecipe(size=16), report, 4)
    assert data.bucket_sizes == ((12, 20), (20, 12))
    made = build_dataset(report, data, cache)
    assert made.size == (20, 12)
    assert made.images.ndim == 1
    assert [len(bucket) for bucket in made.buckets_of(np.arange(12))] == [4, 8]
    for number in range(12):
        image = made.batch([number])
        assert image.shape == ((1, 3, 12, 20) if number % 3 else (1, 3, 20, 12))
        assert tuple(((image[0, :, 5, 5] + 1) * 127.5).round().int().tolist()) == colour_of(number)
    mixed = made.batch([0, 1])
    assert mixed.shape == (2, 3, 12, 20)
    torch.testing.assert_close(mixed[0, :, 5, 5], made.batch([0])[0, :, 5, 5])
    assert made.batch([]).shape == (0, 3, 12, 20)
    (folder / "01.png").unlink()
    Image.new("RGB", (30, 20)).save(folder / "01.png")
    (folder / "05.png").write_bytes(b"damaged")
    again = build_dataset(report, data, cache)
    assert len(again) == 11
    assert tuple(((again.batch([9])[0, :, 5, 5] + 1) * 127.5).round().int().tolist()) == colour_of(10)


MASKED = replace(SMALL, masks=MasksName.USE, held_out=0.0)


def masked_pictures(folder: Path, mask_size: tuple[int, int] = (40, 20)) -> Path:
    """A white image without a mask, and one of 40 x 20 px whose mask is white in its left half only."""
    folder.mkdir()
    Image.new("RGB", (40, 20), "white").save(folder / "a.png")
    Image.new("RGB", (40, 20), "white").save(folder / "b.png")
    mask = Image.new("L", mask_size, 0)
    mask.paste(255, (0, 0, mask_size[0] // 2, mask_size[1]))
    mask.save(folder / "b_mask.png")
    return folder


@pytest.mark.parametrize("fit", ["crop", "pad", "bucket"])
@pytest.mark.parametrize("mask_size", [(40, 20), (20, 10)])
def test_masks_are_placed_as_their_images_are(
    fit: str, mask_size: tuple[int, int], tmp_path: Path, cache: Path
) -> None:
    data = replace(MASKED, fit=fit, buckets=(24, 12) if fit == "bucket" else ())
    made = build_dataset(report_of(masked_pictures(tmp_path / "p", mask_size)), data, cache)
    pixels = made.batch_with_masks([0, 1])
    assert made.masked and torch.equal(made.batch([0, 1]), pixels[:, :3]) and made.channels == 3
    assert torch.equal(pixels[0, 3], torch.ones(pixels.shape[2:]))  # it has no mask: all of it counts
    width, height = (24, 12) if fit == "bucket" else (16, 16)
    inner = pixels[1, 3, 4:12] if fit == "pad" else pixels[1, 3]
    assert pixels.shape[2:] == (height, width)
    assert (inner[:, : width // 2 - 2] > 0.9).all() and (inner[:, width // 2 + 2 :] < -0.9).all()
    if fit == "pad":  # what is padded counts, as it does without masks
        assert (pixels[1, 3, :3] == 1).all()


def test_masks_are_used_where_the_recipe_says_so_and_made_anew_when_they_change(tmp_path: Path, cache: Path) -> None:
    folder = masked_pictures(tmp_path / "p")
    plain = build_dataset(report_of(folder), replace(MASKED, masks=MasksName.LEAVE_OUT), cache)
    first = build_dataset(report_of(folder), MASKED, cache)
    assert not plain.masked and torch.equal(plain.batch_with_masks([1]), plain.batch([1])) and first.file != plain.file
    Image.new("L", (40, 20), 0).save(folder / "b_mask.png")
    again = build_dataset(report_of(folder), MASKED, cache)
    assert again.file != first.file and (again.batch_with_masks([1])[0, 3] == -1).all()
    (folder / "b_mask.png").unlink()
    assert build_dataset(report_of(folder), MASKED, cache).file == plain.file  # nothing is masked


@pytest.mark.parametrize("damage", ["shape", "bytes"])
def test_an_image_whose_mask_does_not_fit_is_left_out_by_name(damage: str, tmp_path: Path, cache: Path) -> None:
    folder = masked_pictures(tmp_path / "p", (40, 20) if damage == "bytes" else (20, 20))
    if damage == "bytes":
        (folder / "b_mask.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    made = build_dataset(report_of(folder), MASKED, cache)
    assert [path.as_posix() for path in made.paths] == ["a.png"]
    (skipped,) = made.skipped
    assert skipped.path == Path("b.png") and "its mask b_mask.png: it " in skipped.why
