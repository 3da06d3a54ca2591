"""Scatter plots: where points lie, what is saved of them, and colours that are told apart by everyone."""

from __future__ import annotations

import csv
import io
from itertools import combinations
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from diffstudio.studio.evaluations.plots.scatter import (
    DARK_COLOURS,
    LIGHT_COLOURS,
    SHAPES,
    Group,
    Scatter,
    data,
    outline,
    placed,
    png,
    shape_of,
    svg,
)
from diffstudio.ui.widgets.theme import DARK, LIGHT

# Machado et al. 2009, "A physiologically-based model for simulation of color vision deficiency", severity 1.0
DEFICIENCIES = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "none": np.eye(3).tolist(),
}


def linear(colour: str) -> np.ndarray:
    values = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of linear sRGB, D65."""
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ rgb.clip(0, 1)
    x, y, z = np.cbrt(np.maximum(xyz / [0.9505, 1.0, 1.089], 1e-9))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def contrast(one: str, other: str) -> float:
    low, high = sorted(float(linear(each) @ [0.2126, 0.7152, 0.0722]) for each in (one, other))
    return (high + 0.05) / (low + 0.05)


def scatter() -> Scatter:
    points = np.array([[0.0, 0.0], [4.0, 0.0], [4.0, 2.0]])
    groups = [Group("first & best", 0), Group("others", 2)]
    names = ["a.png", "=b.png", "c.png"]
    return Scatter("map", "A <map>", "Trusted.", points, groups, np.array([0, 1, 1]), names, ["x", "", "y, z"])


@pytest.mark.parametrize("colours", [(LIGHT_COLOURS, LIGHT.background), (DARK_COLOURS, DARK.background)])
def test_every_mark_stands_out_and_every_pair_is_told_apart(colours: tuple[tuple[str, ...], str]) -> None:
    marks, background = colours
    assert min(contrast(mark, background) for mark in marks) >= 3
    for deficiency in DEFICIENCIES.values():
        seen = [lab(np.array(deficiency) @ linear(mark)) for mark in marks]
        for one, other in combinations(range(len(marks)), 2):
            differ_in_shape = SHAPES[one % len(SHAPES)] != SHAPES[other % len(SHAPES)]
            assert differ_in_shape or np.linalg.norm(seen[one] - seen[other]) > 20
        parts = [np.linalg.norm(seen[one] - seen[other]) for one, other in combinations(range(3), 2)]
        assert min(parts) > 15  # training, held-out and samples also by colour alone


def test_points_fill_their_place_at_one_scale() -> None:
    places = placed(scatter().points, 216, 116)
    np.testing.assert_allclose(places, [[8, 108], [208, 108], [208, 8]])
    np.testing.assert_allclose(placed(np.zeros((2, 2)), 100, 50), [[50, 25], [50, 25]])
    line = placed(np.array([[0.0, 5.0], [1.0, 5.0]]), 116, 50)
    np.testing.assert_allclose(line, [[8, 25], [108, 25]])


def test_the_svg_has_a_mark_for_each_point_and_entry_and_escapes_names() -> None:
    tree = ElementTree.fromstring(svg(scatter()))
    uses = [one for one in tree.iter() if one.tag.endswith("use")]
    texts = [one.text for one in tree.iter() if one.tag.endswith("text")]
    assert len(uses) == 3 + 2 and texts == ["A <map>", "Trusted.", "first & best", "others"]
    assert {one.get("href") for one in uses} == {"#m0", "#m2"}
    assert any(one.tag.endswith("polygon") for one in tree.iter())


def test_the_png_has_the_colours_of_the_groups() -> None:
    pixels = np.asarray(Image.open(io.BytesIO(png(scatter()))))
    assert pixels.shape == (1120, 1440, 3)
    for colour in (LIGHT_COLOURS[0], LIGHT_COLOURS[2]):
        rgb = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
        assert (pixels == rgb).all(axis=2).sum() > 60


def test_the_data_has_a_row_for_each_point() -> None:
    rows = list(csv.DictReader(io.StringIO(data(scatter()))))
    assert [row["name"] for row in rows] == ["a.png", "=b.png", "c.png"] and rows[2]["label"] == "y, z"
    assert (rows[2]["x"], rows[2]["y"], rows[2]["group"]) == ("4", "2", "others")


def test_shapes_have_about_the_same_area() -> None:
    areas = []
    for shape in SHAPES:
        corners = outline(shape, 1.0)
        pairs = zip(corners, [*corners[1:], *corners[:1]], strict=True)
        areas.append(sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairs) / 2 if corners else np.pi)
    assert min(areas) > 2 and max(areas) < 3.6  # clockwise on the screen, as the raster needs it
    assert [shape_of(Group("", number)) for number in range(5)] == [*SHAPES, "circle"]
