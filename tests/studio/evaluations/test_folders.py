"""Folders read as their run read them, and what would make a figure silently wrong."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from diffstudio import paths
from diffstudio.errors import BadRequest, FolderProblem, Interrupted
from diffstudio.imaging.exact_files import ExactValues, write_png
from diffstudio.models.library.library import Library
from diffstudio.models.output_format import OutputFormat, ValueType
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.evaluations.folders import (
    RealFolder,
    alike_images,
    check_conditioning,
    check_no_real_images,
    check_varied,
    digest_and_flatness,
    duplicate_notes,
    inspected,
    notes_on_compared,
    ranges_of_generated,
    read_generated,
    read_real,
    repeated_notes,
    with_stored_dataset,
)
from diffstudio.studio.evaluations.subjects import CheckpointSubject, find_subjects
from diffstudio.studio.metadata.full_range import pixels_text
from diffstudio.training.data.dataset import build_dataset
from diffstudio.training.preparation.stored_dataset import StoredDataset
from diffstudio.training.run.run_folder import RunFolder
from tests.studio.evaluations.small_models import RECIPE, write_checkpoint, write_images


def no_progress(what: str, done: int, total: int) -> None:
    """Nothing is shown."""


def go_on() -> None:
    """Nothing ends it."""


def read(folder: Path) -> RealFolder:
    return read_real(folder, RECIPE.data, no_progress, go_on)


def subject(path: Path, conditioning: Conditioning) -> CheckpointSubject:
    (found,) = find_subjects((str(write_checkpoint(path, conditioning)),), Library())
    assert isinstance(found, CheckpointSubject)
    return found


def test_the_parts_are_those_of_training(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "real", 40, seed=0)
    real = read(folder)
    trained_on = build_dataset(real.report, RECIPE.data, tmp_path / "cache")
    assert list(real.training) == list(trained_on.training_indices)
    assert list(real.held_out) == list(trained_on.held_out_indices) and len(real.held_out) > 5
    np.testing.assert_array_equal(real.dataset.images, trained_on.images)
    assert set(real.labels(Conditioning.CLASS, real.held_out)) == {"red", "blue"}
    assert real.labels(Conditioning.NONE, real.held_out) == ()


def test_the_split_and_the_captions_are_those_that_the_run_stored(tmp_path: Path) -> None:
    """Also after images were added and captions changed; a run of before reads the folder by its recipe."""
    folder = write_images(tmp_path / "real", 40, seed=0, captions=True)
    before, run = read(folder), RunFolder(tmp_path / "run")
    assert with_stored_dataset(before, run) == (before, "")
    run.path.mkdir()
    turned = replace(before.dataset, held_out=~before.dataset.held_out)
    StoredDataset.of(turned, RECIPE, folder).write(run.dataset_file)
    write_images(folder, 4, seed=1)
    for caption in folder.rglob("*.txt"):
        caption.write_text("changed")
    found, note = with_stored_dataset(read(folder), run)
    assert list(found.held_out) == list(before.training) and len(found.dataset) == 40
    assert set(found.labels(Conditioning.TEXT, found.held_out)) == {"a red square", "a blue square"}
    np.testing.assert_array_equal(found.dataset.images, before.dataset.images)
    assert note == "4 images added to real after run started: not used."
    other = read(write_images(tmp_path / "other", 40, seed=5))
    assert with_stored_dataset(other, run) == (other, "")


def test_images_that_changed_since_the_run_started_are_said(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "real", 40, seed=0)
    real = read(folder)
    run = RunFolder.create(tmp_path / "run", RECIPE, folder)
    StoredDataset.of(real.dataset, RECIPE, folder).write(run.dataset_file)
    assert with_stored_dataset(real, run)[1] == ""
    images = sorted(folder.rglob("*.png"))
    images[0].unlink()
    for image, shade in zip(images[1:4], (10, 90, 200), strict=True):
        Image.new("RGB", (16, 16), (shade, 0, 0)).save(image)
    now, note = with_stored_dataset(read(folder), run)
    assert len(now.dataset) == 39
    assert "1 image of run is no longer in real: not measured." in note and "3 images of real are not as" in note
    for prepared in paths.prepared_images().glob("*"):
        prepared.unlink()
    images[1].touch()
    write_images(tmp_path / "again", 1, seed=9)
    shutil.copyfile(next((tmp_path / "again").rglob("*.png")), images[0])
    assert "Files of real have changed since run started" in with_stored_dataset(read(folder), run)[1]


def test_without_a_checkpoint_the_folder_is_halved_at_its_own_size(tmp_path: Path) -> None:
    real = read_real(write_images(tmp_path / "real", 60, seed=0), None, no_progress, go_on)
    assert real.dataset.size == (16, 16) and 20 <= len(real.held_out) <= 40
    made = read_generated(write_images(tmp_path / "made", 30, seed=1), real, no_progress, go_on)
    assert len(made) == 30 and not made.held_out.any()


def test_folders_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(FolderProblem, match="There is nothing to measure in .*empty: the folder is empty"):
        read(tmp_path / "empty")
    with pytest.raises(FolderProblem, match="does not exist"):
        read(tmp_path / "nowhere")

    def stop() -> None:
        raise Interrupted

    with pytest.raises(Interrupted):
        read_real(write_images(tmp_path / "real", 20, seed=0), RECIPE.data, no_progress, stop)


def test_generated_folders_with_real_images_are_refused(tmp_path: Path) -> None:
    real = read(write_images(tmp_path / "real", 40, seed=0))
    made = write_images(tmp_path / "made", 20, seed=1)
    check_no_real_images("made", read_generated(made, real, no_progress, go_on), real)
    training, held_out = (real.dataset.paths[part[0]] for part in (real.training, real.held_out))
    shutil.copy(tmp_path / "real" / training, made / "innocent.png")
    shutil.copy(tmp_path / "real" / held_out, made / "other.png")
    with pytest.raises(FolderProblem) as problem:
        check_no_real_images("made", read_generated(made, real, no_progress, go_on), real)
    assert "2 of 22 images in made are real images of real" in str(problem.value)
    assert f"innocent.png is {training}" in str(problem.value)
    assert "1 of its training part and 1 of its held-out part" in str(problem.value)


def test_equal_images_are_said(tmp_path: Path) -> None:
    flat = np.full((5, 8, 8, 3), 200, np.uint8)
    assert duplicate_notes("x", map(digest_and_flatness, flat)) == [
        "5 of 5 images of x are of a single colour.",
        "All 5 images of x are identical.",
    ]
    varied = np.random.default_rng(0).integers(0, 255, (6, 8, 8, 3)).astype(np.uint8)
    assert duplicate_notes("x", map(digest_and_flatness, varied)) == []
    varied[1] = varied[0]
    assert duplicate_notes("x", map(digest_and_flatness, varied)) == ["1 duplicate among the 6 images of x."]


def smooth_images(folder: Path, count: int, seed: int, mode: str = "RGB", size: tuple[int, int] = (64, 64)) -> Path:
    """Images of large coloured areas, which JPEG hardly changes."""
    rng, channels = np.random.default_rng(seed), len(mode)
    folder.mkdir(parents=True)
    for number in range(count):
        small = rng.integers(0, 256, (5, 5, channels), dtype=np.uint8)
        image = Image.fromarray(small[..., 0] if channels == 1 else small, mode)
        image.resize(size, Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    return folder


def notes_of(folder: Path, real: RealFolder) -> list[str]:
    found = inspected(folder, no_progress, go_on)
    return notes_on_compared(folder.name, read_generated(folder, real, no_progress, go_on), found, real)


def test_the_same_images_in_another_format_are_said(tmp_path: Path) -> None:
    """Their pixels differ, so that they are not refused, but they measure themselves."""
    folder = smooth_images(tmp_path / "real", 40, seed=0)
    real = read_real(folder, None, no_progress, go_on)
    (tmp_path / "saved").mkdir()
    for number in range(0, 40, 4):
        Image.open(folder / f"{number}.png").save(tmp_path / "saved" / f"again {number}.jpg", quality=80)
    saved = read_generated(tmp_path / "saved", real, no_progress, go_on)
    check_no_real_images("saved", saved, real)
    assert {(path.name, other.name) for path, other in alike_images(saved, real)} == {
        (f"again {number}.jpg", f"{number}.png") for number in range(0, 40, 4)
    }
    (note,) = notes_of(tmp_path / "saved", real)
    assert note.startswith(
        "10 of 10 images of saved look like images of real, such as again 0.jpg (0.png). If they are"
    )
    assert notes_of(smooth_images(tmp_path / "other", 20, seed=1), real) == []


def test_images_that_resemble_each_other_anyway_are_not_taken_for_the_same(tmp_path: Path) -> None:
    """As photographs of parts in one position do."""
    real = read(write_images(tmp_path / "real", 120, seed=0))
    other = read_generated(write_images(tmp_path / "other", 40, seed=1), real, no_progress, go_on)
    assert alike_images(other, real) == []


def test_images_without_a_fingerprint_are_not_compared_by_one(tmp_path: Path) -> None:
    for name, seed in (("real", 0), ("other", 1)):
        (tmp_path / name).mkdir()
        for number in range(30):
            values = np.random.default_rng(100 * seed + number).normal(size=(16, 16, 5)).astype(np.float32)
            np.save(tmp_path / name / f"{number}.npy", values)
    real = read_real(tmp_path / "real", None, no_progress, go_on)
    assert alike_images(read_generated(tmp_path / "other", real, no_progress, go_on), real) == []


@pytest.mark.parametrize(
    ("mode", "size", "of_real", "expected"),
    [
        ("RGB", (32, 32), "RGB", "are smaller than 64 px and were enlarged"),
        ("RGB", (120, 80), "RGB", "have another aspect ratio than the real ones and were cropped"),
        ("RGBA", (64, 64), "RGB", "are transparent and were put on the background #ffffff"),
        ("RGB", (64, 64), "L", "are in colour and were made grey, like the real ones"),
        ("L", (64, 64), "RGB", "are grey, unlike the real ones"),
    ],
)
def test_images_that_are_changed_before_they_are_compared_are_said(
    tmp_path: Path, mode: str, size: tuple[int, int], of_real: str, expected: str
) -> None:
    real = read_real(smooth_images(tmp_path / "real", 30, seed=0, mode=of_real), None, no_progress, go_on)
    folder = smooth_images(tmp_path / "generated", 12, seed=1, mode=mode, size=size)
    assert notes_of(folder, real) == [f"12 of 12 images of generated {expected}."]


def test_duplicates_among_the_real_images_are_said_with_what_they_do(tmp_path: Path) -> None:
    folder = smooth_images(tmp_path / "real", 40, seed=0)
    assert repeated_notes(read_real(folder, None, no_progress, go_on)) == []
    for number in range(7):
        shutil.copy(folder / "0.png", folder / f"again {number}.png")
    shutil.copy(folder / "1.png", folder / "twice.png")
    real = read_real(folder, None, no_progress, go_on)
    real = replace(real, dataset=replace(real.dataset, held_out=np.zeros(len(real.dataset), bool)))
    (note,) = repeated_notes(real)
    assert note.startswith(
        "8 duplicates among the 48 images of the training part of real. 8 exist more than 5 times: their"
    )


def test_a_folder_of_one_image_has_nothing_to_compare(tmp_path: Path) -> None:
    folder = tmp_path / "equal"
    folder.mkdir()
    for number in range(40):
        Image.new("RGB", (16, 16), "red").save(folder / f"{number}.png")
    with pytest.raises(BadRequest, match=r"The training images of equal cannot be compared with: all \d+ are equal"):
        check_varied(read(folder))
    check_varied(read(write_images(tmp_path / "real", 40, seed=0)))


def test_a_checkpoint_is_asked_only_for_what_it_knows(tmp_path: Path) -> None:
    by_class = subject(tmp_path / "class.safetensors", Conditioning.CLASS)
    by_text = subject(tmp_path / "text.safetensors", Conditioning.TEXT)
    unconditional = subject(tmp_path / "none.safetensors", Conditioning.NONE)
    folder = write_images(tmp_path / "real", 40, seed=0)
    real = read(folder)
    assert check_conditioning(by_class, real)[1] == "" and len(check_conditioning(unconditional, real)[0])
    with pytest.raises(BadRequest, match="it generates from captions, and the held-out images have none of them"):
        check_conditioning(by_text, real)
    (folder / "blue").rename(folder / "green")
    indices, note = check_conditioning(by_class, read(folder))
    assert 0 < len(indices) < len(real.held_out) and "have a class that it does not know" in note
    (folder / "red").rename(folder / "yellow")
    with pytest.raises(BadRequest, match="it generates from the classes blue, red"):
        check_conditioning(by_class, read(folder))
    captioned = read(write_images(tmp_path / "captioned", 40, seed=0, captions=True))
    assert check_conditioning(by_text, captioned)[1] == ""
    assert set(captioned.labels(Conditioning.TEXT, captioned.held_out)) == {"a red square", "a blue square"}
    excluded = replace(RECIPE.data, exclude=("red",))
    assert read_real(folder, excluded, no_progress, go_on).dataset.classes == ("green", "yellow")


def test_captions_that_a_network_reads_alike_are_one(tmp_path: Path) -> None:
    """Agreement compares captions: `Red` and `red ` ask for the same."""
    write_images(tmp_path / "real", 4, seed=0)
    for path, caption in zip(sorted((tmp_path / "real").rglob("*.png")), ("Red", "red ", "blue", "RED"), strict=True):
        path.with_suffix(".txt").write_text(caption)
    real = read(tmp_path / "real")
    assert sorted(real.labels(Conditioning.TEXT, range(4))) == ["Red", "Red", "Red", "blue"]


def write_deep(folder: Path, values: NDArray[Any], *, here: bool = False) -> Path:
    """Grey images [N,H,W] of these values: whole numbers in PNG files, as generated here or not, and floats in TIFF."""
    folder.mkdir(parents=True)
    said = pixels_text(OutputFormat(1, False, ValueType.UINT16)) if here else PngInfo()
    for number, one in enumerate(values):
        if one.dtype == np.float32:
            tifffile.imwrite(folder / f"{number:03d}.tif", one)
        else:
            with (folder / f"{number:03d}.png").open("wb") as file:
                write_png(
                    file, Image.new("L", (1, 1)), said, ExactValues(one[..., None].astype(np.uint16), as_png=True)
                )
    return folder


@pytest.mark.parametrize(
    ("factor", "here", "said"),
    [
        (1, False, None),  # in the units of the real ones
        (65535 / 4095, True, None),  # as this program writes what it generates
        (65535 / 4095 / 40, True, None),  # also where all are dark
        (
            65535 / 4095,
            False,
            "values of made are from .*, beyond the range of real, 0 to 4,095: they were read from 0 to 65,535",
        ),
        (1.02, False, "Those beyond 0 to 4,095, the range of real, were cut"),
    ],
)
def test_generated_images_are_read_by_what_their_values_mean(
    tmp_path: Path, factor: float, here: bool, said: str | None
) -> None:
    """Of a folder of 12-bit images: 65,535 is the white of a generated image, not 16 times the white."""
    rng = np.random.default_rng(0)
    found, made = (rng.integers(0, 4096, (20, 16, 16)) for _ in range(2))
    made[:, :2, :2] = 4095
    real = read_real(write_deep(tmp_path / "real", found), None, no_progress, go_on)
    path = write_deep(tmp_path / "made", np.rint(made * factor), here=here)
    images = read_generated(path, real, no_progress, go_on)
    wanted = made / 4095 * (factor * 4095 / 65535 if here else min(factor, 1.02) if factor < 2 else 1)
    shown = np.asarray(images.images, float)[..., 0] / 65535
    assert np.abs(shown - wanted.clip(0, 1)).max() < 2e-3
    notes = notes_on_compared("made", images, inspected(path, no_progress, go_on), real)
    assert not notes if said is None else re.search(said, notes[0])
    if said and factor > 2:  # images that are searched are in the units of the normal ones
        images = read_generated(path, real, no_progress, go_on, same_units=True)
        assert images.images.min() >= 0 and np.median(images.images) == 65535


def test_generated_images_of_both_kinds_are_said(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 4096, (20, 16, 16))
    real = read_real(write_deep(tmp_path / "real", values), None, no_progress, go_on)
    path = write_deep(tmp_path / "made", values[::-1] * 16, here=True)
    write_deep(tmp_path / "other", values)
    shutil.copy(tmp_path / "other" / "000.png", path / "other.png")
    _, notes = ranges_of_generated("made", inspected(path, no_progress, go_on), real)
    assert notes == [
        "1 of the 21 16-bit images of made does not say that it was generated here: read from 0 to 65,535, like the others."
    ]
    shutil.copy(path / "000.png", tmp_path / "other" / "made.png")
    ranges, (note,) = ranges_of_generated("other", inspected(tmp_path / "other", no_progress, go_on), real)
    assert "1 of the 21 16-bit images of other was generated here" in note  # the 20 keep their brightness
    assert ranges == real.data.ranges


def test_generated_floats_have_the_units_of_the_folder(tmp_path: Path) -> None:
    """Also of a folder of whole numbers with a sign, of which floats are generated."""
    rng = np.random.default_rng(0)
    (tmp_path / "real").mkdir()
    found = rng.integers(-1000, 3001, (20, 16, 16))
    found[0, 0, :2] = -1000, 3000
    for number, one in enumerate(found):
        tifffile.imwrite(tmp_path / "real" / f"{number}.tif", one.astype(np.int16))
    real = read_real(tmp_path / "real", None, no_progress, go_on)
    made = rng.uniform(-500, 1500, (20, 16, 16)).astype(np.float32)
    images = read_generated(write_deep(tmp_path / "made", made), real, no_progress, go_on)
    assert np.abs(np.asarray(images.images, float)[..., 0] / 65535 - (made + 1000) / 4000).max() < 1e-3
    path = write_deep(tmp_path / "unit", rng.uniform(0, 1, (20, 16, 16)).astype(np.float32))
    images = read_generated(path, real, no_progress, go_on)
    assert images.images.min() < 1000 and images.images.max() > 64_000
