"""Plots as files: what is in the SVG, in the PNG and in the CSV of a figure."""

from __future__ import annotations

import csv
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
from PIL import Image, ImageColor

from diffstudio.studio.evaluations.plots.figure import (
    HEIGHT,
    WIDTH,
    Area,
    Dot,
    Figure,
    HeatMap,
    Line,
    Series,
    Text,
    marks,
    thinned,
)
from diffstudio.studio.evaluations.plots.files import COLOURS, save

LOSSES = Figure(
    "losses",
    'Loss of "a" & <b>',
    "minutes",
    "loss",
    (Series("a", (0.0, 1.0, 2.0), (4.0, 2.0, float("nan"))), Series("b", (0.0, 2.0), (1.0, 3.0), colour=1)),
)
SCORES = Figure(
    "scores",
    "Coverage",
    "",
    "share",
    (Series("vae", (0.0, 1.0), (0.5, 1.0), (0.4, 0.9), (0.6, 1.0), points=True),),
    categories=("seed 0", "seed 1"),
    references=(("real images", 0.75, 7),),
    y_range=(0.0, 1.0),
)


def labels_at(figure: Figure, anchor: str, low: float, high: float) -> list[Text]:
    return [one for one in marks(figure) if isinstance(one, Text) and one.anchor == anchor and low < one.y < high]


def test_labels_of_categories_do_not_overlap() -> None:
    names = ("real", "real + augmentation", "+ 0.5 x synthetic", "unbreakablelongname" * 2)
    for count in (4, 12, 60):
        categories = tuple(names[place % 4] for place in range(count))
        series = (Series("a", tuple(map(float, range(count))), (1.0,) * count, points=True),)
        found = labels_at(Figure("a", "A", "", "", series, categories), "middle", HEIGHT - 58, HEIGHT)
        for line in {one.y for one in found}:
            row = sorted((one.x, 6.4 * len(one.text) / 2) for one in found if one.y == line)
            gaps = [x - half - (before + wide) for (before, wide), (x, half) in zip(row, row[1:], strict=False)]
            assert all(gap > 0 for gap in gaps), (count, line)
        assert max(one.y for one in found) < HEIGHT - 20, "above the legend"
    six = labels_at(Figure("a", "A", "", "", (), names[:3] * 2), "middle", HEIGHT - 58, HEIGHT)
    assert [one.text for one in six][:5] == ["real", "real +", "augmentation", "+ 0.5 x", "synthetic"]
    four = [one.text for one in labels_at(Figure("a", "A", "", "", (), names), "middle", HEIGHT - 58, HEIGHT)]
    assert four == ["real", "real + augmentation", "+ 0.5 x synthetic", "unbreakablelongnam…"]


def test_a_legend_that_is_too_wide_is_elided() -> None:
    def names(series: tuple[str, ...]) -> list[str]:
        figure = Figure("a", "A", "", "", tuple(Series(one, (), (), colour=at) for at, one in enumerate(series)))
        found = labels_at(figure, "start", HEIGHT - 10, HEIGHT)
        assert all(one.x + 6.4 * len(one.text) <= WIDTH for one in found)
        return [one.text for one in found]

    assert names(("short", "a longer one")) == ["short", "a longer one"]
    shown = names(("short", *("a checkpoint with a long name" for _ in range(4))))
    assert shown[0] == "short" and all(one.startswith("a che") and one.endswith("…") for one in shown[1:])


def test_three_files_hold_the_same_figure(tmp_path: Path) -> None:
    svg, png, data = save(SCORES, tmp_path / "plots")
    root = ElementTree.fromstring(svg.read_text(encoding="utf-8"))
    assert {element.text for element in root.iter() if element.tag.endswith("}text")} >= {
        "Coverage", "seed 0", "seed 1", "vae", "real images"
    }  # fmt: skip
    pixels = np.asarray(Image.open(png))
    assert pixels.shape == (2 * HEIGHT, 2 * WIDTH, 3)
    first, second = (mark for mark in marks(SCORES) if isinstance(mark, Dot))
    assert tuple(pixels[round(2 * first.y), round(2 * first.x)]) == ImageColor.getrgb(COLOURS[0])
    rows = list(csv.reader(data.read_text(encoding="utf-8").splitlines()))
    assert rows == [
        ["series", "x", "share", "low", "high"],
        ["vae", "seed 0", "0.5", "0.4", "0.6"],
        ["vae", "seed 1", "1", "0.9", "1"],
    ]
    reference = next(mark for mark in marks(SCORES) if isinstance(mark, Line) and mark.dashed)
    assert first.y - reference.points[0][1] == reference.points[0][1] - second.y  # 0.75 is half way from 0.5 to 1


def test_names_from_outside_are_text_and_values_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    svg, _, data = save(LOSSES, tmp_path)
    root = ElementTree.fromstring(svg.read_text(encoding="utf-8"))
    assert 'Loss of "a" & <b>' in {element.text for element in root.iter()}
    line = next(mark for mark in marks(LOSSES) if isinstance(mark, Line) and mark.colour == 0)
    assert len(line.points) == 2 and line.points[0][1] < line.points[1][1]  # a larger loss is higher up
    assert "nan" in data.read_text()


def test_axes_without_any_value_and_on_a_logarithmic_scale() -> None:
    empty = Figure("empty", "Nothing", "x", "y", (Series("a", (), ()),))
    assert any(isinstance(mark, Text) and mark.text == "Nothing" for mark in marks(empty))
    steep = Figure("steep", "", "", "", (Series("a", (1.0, 2.0, 3.0), (0.01, 1.0, 100.0)),), logarithmic=True)
    line = next(mark for mark in marks(steep) if isinstance(mark, Line) and mark.colour == 0)
    first, second, third = (y for _, y in line.points)
    assert abs((first - second) - (second - third)) < 1e-6
    assert {"0.1", "1", "10"} <= {mark.text for mark in marks(steep) if isinstance(mark, Text)}


def test_long_curves_keep_their_ends() -> None:
    x, y = thinned(range(5000), range(5000), most=100)
    assert len(x) == len(y) == 100 and (x[0], x[-1]) == (0, 4999)


def test_a_heat_map_has_an_area_for_each_value(tmp_path: Path) -> None:
    heat = HeatMap("heat", "Accuracy", "noise", "layer", ("0.1", "0.2"), ("a", "b"), ((0.5, float("nan")), (1.0, 20.0)))
    areas = [mark for mark in marks(heat) if isinstance(mark, Area)]
    low, middle, high = areas  # without the value that is none
    assert low.share < middle.share < high.share and low.y < middle.y == high.y and middle.x < high.x
    texts = [mark.text for mark in marks(heat) if isinstance(mark, Text)]
    assert {"Accuracy", "layer", "noise", "a", "b", "0.1", "0.2", "0.500", "1.000", "20"} <= set(texts)
    assert [mark.text for mark in marks(heat) if isinstance(mark, Text) and mark.strong] == ["Accuracy", "20"]
    svg, png, data = save(heat, tmp_path)
    root = ElementTree.fromstring(svg.read_text(encoding="utf-8"))
    assert sum(element.tag.endswith("}rect") for element in root.iter()) == 3
    pixels = np.asarray(Image.open(png))
    found = pixels[round(2 * high.y) + 6, round(2 * high.x) + 6].astype(float)
    ink = np.array(ImageColor.getrgb(COLOURS[0]), float)
    np.testing.assert_allclose(found, high.share * ink + (1 - high.share) * 255, atol=1)
    rows = list(csv.reader(data.read_text(encoding="utf-8").splitlines()))
    assert rows[0] == ["series", "noise", "layer", "low", "high"] and rows[4] == ["b", "0.2", "20", "", ""]


def test_heat_maps_of_many_rows_and_of_equal_values() -> None:
    names = tuple(f"layer {number}" for number in range(60))
    many = HeatMap("many", "", "", "", tuple("0123456789" * 9), names, ((0.5,) * 90,) * 60)
    drawn = marks(many)
    areas = [mark for mark in drawn if isinstance(mark, Area)]
    assert len(areas) == 5400 and {area.share for area in areas} == {areas[0].share}
    assert len([mark for mark in drawn if isinstance(mark, Text) and mark.text.startswith("layer")]) < 30
    assert marks(HeatMap("none", "", "", "", (), (), ()))
