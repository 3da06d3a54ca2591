"""Channels, bits and shape are those of the folder, and what does not fit is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from diffstudio.imaging.value_range import SampleType
from diffstudio.training.data.folder_report import FolderReport, ImageRecord, RangeInFolder
from diffstudio.training.data.pixel_choice import choose_pixels, why_unfit
from diffstudio.training.data.preprocess import size_for
from diffstudio.training.recipe import DataRecipe
from diffstudio.training.recipe.data_recipe import MasksName

DATA = DataRecipe()


def folder(*groups: tuple[int, int, int], channels: int = 3, bits: int = 8) -> FolderReport:
    """A report of count images of width × height px for each group."""
    sizes = [(width, height) for count, width, height in groups for _ in range(count)]
    records = [
        ImageRecord(Path(f"{number:03}.png"), width, height, (), "", False, channels=channels, bits=bits)
        for number, (width, height) in enumerate(sizes)
    ]
    return FolderReport(Path("p"), tuple(records))


def joined(*reports: FolderReport, **more: object) -> FolderReport:
    images = [record for report in reports for record in report.images]
    named = [replace(record, path=Path(f"{number:03}.png")) for number, record in enumerate(images)]
    return replace(reports[0], images=tuple(named), **more)


def test_what_becomes_of_transparency_is_said() -> None:
    report = folder((20, 64, 64))
    report = replace(report, images=(replace(report.images[0], has_alpha=True), *report.images[1:]))
    assert choose_pixels(DATA, report, 8)[1] == ["what is transparent in 1 image becomes #ffffff"]
    assert choose_pixels(replace(DATA, alpha=True), report, 8)[1] == []


def test_square_colour_images_need_no_word() -> None:
    data, clauses = choose_pixels(DATA, folder((20, 64, 64)), 8)
    assert (data.channels, data.bits, data.fit, data.buckets, clauses) == (3, 8, "crop", (), [])


def test_a_grey_folder_has_one_channel() -> None:
    data, clauses = choose_pixels(DATA, folder((20, 64, 64), channels=1), 8)
    assert data.channels == 1
    assert clauses == ["one channel, because the images are grey"]
    data, _ = choose_pixels(replace(DATA, alpha=True), folder((20, 64, 64), channels=1), 8)
    assert (data.channels, data.alpha) == (2, True)
    data, _ = choose_pixels(replace(DATA, alpha=True), folder((20, 64, 64)), 8)
    assert (data.channels, data.alpha) == (4, True)


def test_a_few_coloured_images_are_named() -> None:
    report = joined(folder((1, 64, 64)), folder((20, 64, 64), channels=1))
    data, clauses = choose_pixels(DATA, report, 8)
    assert data.channels == 3
    assert clauses == ["three channels, because 000.png has colours"]
    report = joined(folder((5, 64, 64)), folder((20, 64, 64), channels=1))
    assert "000.png, 001.png, 002.png and 2 more have colours" in choose_pixels(DATA, report, 8)[1][0]
    report = joined(folder((20, 64, 64)), folder((2, 64, 64), channels=1))  # nothing is lost, nothing to say
    assert choose_pixels(DATA, report, 8)[1] == []


def test_arrays_where_they_are_most() -> None:
    ranges = {5: ((0.0, 1.0),) * 5}
    report = joined(folder((9, 64, 64), channels=5, bits=16), folder((2, 64, 64)), channel_ranges=ranges)
    data, clauses = choose_pixels(replace(DATA, alpha=True), report, 8)
    assert (data.channels, data.bits, data.alpha) == (5, 16, False)
    assert data.channel_ranges == (0.0, 1.0) * 5
    assert clauses[0] == "5 channels, as the files have"
    assert "channel values are clipped to 0 to 1, 0 to 1, 0 to 1, 0 to 1, 0 to 1" in clauses
    many = replace(report, images=folder((9, 64, 64), channels=10, bits=16).images, channel_ranges={})
    assert any("0 to 1 and 2 more" in clause for clause in choose_pixels(DATA, many, 8)[1])
    assert clauses[-1] == "left out for their channels or shape: 009.png, 010.png"
    assert why_unfit(report.images[-1], data) == "it has 3 channels, and the network 5"
    report = joined(folder((2, 64, 64), channels=5, bits=16), folder((9, 64, 64)))
    data, clauses = choose_pixels(DATA, report, 8)
    assert (data.channels, data.bits) == (3, 8)
    assert clauses == ["left out for their channels or shape: 000.png, 001.png"]


def test_bits() -> None:
    found = (RangeInFolder(SampleType.UINT16, 0.0, 4095.0, (Path("a"),)),)
    report = replace(folder((20, 64, 64), channels=1, bits=16), ranges=found)
    data, clauses = choose_pixels(DATA, report, 8)
    assert data.bits == 16
    assert "16 bits a channel, as the files have" in clauses
    assert data.ranges.uint16 == (0.0, 4095.0)
    report = joined(folder((1, 64, 64), bits=16), folder((20, 64, 64)))
    data, clauses = choose_pixels(DATA, report, 8)
    assert data.bits == 8
    assert clauses == ["8 bits a channel, because only 000.png has more"]


@pytest.mark.parametrize(
    ("groups", "fit", "clause"),
    [
        ([(40, 64, 64)], "crop", ""),
        ([(40, 68, 64)], "crop", "the centre square of each image, which loses 6% of their area"),
        ([(40, 300, 200)], "bucket", "aspect buckets, because centre squares would lose 33% of their area"),
        ([(20, 300, 200), (20, 200, 300), (20, 99, 99)], "bucket", "would lose 22%"),
        ([(40, 64, 64), (1, 4000, 17)], "crop", "left out for their channels or shape: 040.png"),
    ],
)
def test_the_fit_is_never_padding(groups: list[tuple[int, int, int]], fit: str, clause: str) -> None:
    data, clauses = choose_pixels(DATA, folder(*groups), 8)
    assert data.fit == fit
    assert any(clause in one for one in clauses) or not (clause or clauses)
    assert bool(data.buckets) == (fit == "bucket")


def test_no_buckets_where_all_are_nearest_to_the_square() -> None:
    data, clauses = choose_pixels(replace(DATA, size=16), folder((20, 20, 16)), 4)
    assert (data.fit, data.buckets) == ("crop", ())
    assert clauses == ["the centre square of each image, which loses 20% of their area"]
    asked, _ = choose_pixels(replace(DATA, size=16, fit="bucket"), folder((20, 20, 16)), 4)
    assert asked.bucket_sizes == ((16, 16),)


def test_padding_is_said() -> None:
    _, clauses = choose_pixels(replace(DATA, fit="pad"), folder((20, 300, 200)), 8)
    assert clauses == ["images that are not square are padded with #ffffff; the model learns the padding"]
    assert choose_pixels(replace(DATA, fit="pad"), folder((20, 64, 64)), 8)[1] == []
    assert why_unfit(folder((1, 4000, 17)).images[0], replace(DATA, fit="pad", channels=3)) == ""


def test_rare_shapes_join_the_nearest_bucket() -> None:
    report = folder((100, 300, 200), (100, 200, 300), (1, 220, 200))
    data, _ = choose_pixels(DATA, report, 8)
    assert {size_for(record.width, record.height, data) for record in report.images} == set(data.bucket_sizes)
    assert len(data.bucket_sizes) == 2
    alone, _ = choose_pixels(DATA, folder((1, 300, 200)), 8)
    assert len(alone.bucket_sizes) == 1


def test_extreme_shapes_are_left_out_with_the_reason() -> None:
    data, _ = choose_pixels(DATA, folder((40, 64, 64)), 8)
    assert why_unfit(folder((1, 4000, 17)).images[0], data) == "of its 4,000 × 17 px only 0.4% would be left"
    assert why_unfit(folder((1, 4000, 17)).images[0], DATA) == ""  # of a run of version 0.2


def test_a_second_choice_changes_nothing() -> None:
    report = folder((30, 300, 200), channels=1, bits=16)
    data, _ = choose_pixels(DATA, report, 8)
    assert choose_pixels(data, folder((9, 64, 64)), 8)[0] == data
    larger, _ = choose_pixels(replace(data, size=128, buckets=()), report, 8)  # chosen anew for another size
    assert larger.bucket_sizes == ((152, 104),) or larger.bucket_sizes == ((160, 104),)


def test_what_becomes_of_masks_is_said() -> None:
    report = folder((5, 64, 64))
    assert not choose_pixels(DataRecipe(), report, 8)[1]
    used = DataRecipe(masks=MasksName.USE)
    assert choose_pixels(used, report, 8)[1] == ["the loss covers whole images, because no masks were found"]
    first = replace(report.images[0], mask=Path("masks/0.png"))
    report = replace(report, images=(first, *report.images[1:]))
    assert choose_pixels(DataRecipe(), report, 8)[1][-1].startswith("the masks of 1 image are not used (masks =")
    assert choose_pixels(used, report, 8)[1][-1] == (
        "the masks of 1 image weight the loss, from 0.1 where black to 1 where white"
    )
