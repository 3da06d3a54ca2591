"""Scatter: points of several groups in two dimensions, as SVG, PNG and CSV. No torch, no window.

Groups differ by colour and by shape. Those of one shape are told apart with every common colour blindness, and all marks
have a contrast of at least 3 on their background: a test checks both.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from diffstudio.studio.evaluations.plots.files import plot_font

WIDTH, HEIGHT = 720, 560  # px
_LEFT, _TOP, _BOTTOM, _RADIUS = 16, 52, 44, 3.0
_SCALE = 2  # pixels of the PNG for each px
_ENTRY = 24  # px of a legend's mark and the space around it
_LETTER = 6.6  # px, the mean width of a letter

SHAPES = ("circle", "square", "triangle", "diamond")
# After Okabe & Ito 2008, darkened on light and lightened on dark backgrounds.
LIGHT_COLOURS = ("#5f6877", "#0072b2", "#c44e00", "#00785a", "#8a6d00", "#1b1f27", "#a8427f", "#2f86c0")
DARK_COLOURS = ("#9aa3b2", "#56b4e9", "#f08a24", "#1fb58a", "#f0e442", "#ffffff", "#e08bbf", "#2f86c0")


@dataclass(frozen=True, slots=True)
class Group:
    name: str
    colour: int  # the number of its colour and shape


@dataclass(frozen=True, slots=True)
class Scatter:
    """Points that are drawn in their order."""

    name: str  # of its files
    title: str
    subtitle: str
    points: NDArray[np.float64]  # [N,2], y upwards
    groups: Sequence[Group]
    group: NDArray[np.int64]  # [N], the number of each point's group
    names: Sequence[str]  # of each point
    labels: Sequence[str]  # of each point


def shape_of(group: Group) -> str:
    return SHAPES[group.colour % len(SHAPES)]


def placed(points: NDArray[np.float64], width: float, height: float, margin: float = 8.0) -> NDArray[np.float64]:
    """Points [N,2] in a rectangle of px, y downwards, at one scale for both axes, in its middle."""
    low, high = points.min(axis=0), points.max(axis=0)
    spans = np.maximum(high - low, 1e-12 * max(1.0, float(np.abs(points).max())))
    scale = float(np.min((np.array([width, height]) - 2 * margin) / spans)) if (high > low).any() else 1.0
    from_centre = (points - (low + high) / 2) * scale
    return np.stack([width / 2 + from_centre[:, 0], height / 2 - from_centre[:, 1]], axis=1)


def outline(shape: str, radius: float) -> list[tuple[float, float]]:
    """The corners of a shape around 0; empty for a circle."""
    match shape:
        case "square":
            side = radius * 0.9
            return [(-side, -side), (side, -side), (side, side), (-side, side)]
        case "triangle":
            return [(0, -radius * 1.25), (radius * 1.15, radius * 0.8), (-radius * 1.15, radius * 0.8)]
        case "diamond":
            return [(0, -radius * 1.3), (radius * 1.3, 0), (0, radius * 1.3), (-radius * 1.3, 0)]
    return []


def svg(scatter: Scatter) -> str:
    shapes = [
        f'<text class="s" x="{_LEFT}" y="20">{escape(scatter.title)}</text>',
        f'<text x="{_LEFT}" y="38">{escape(scatter.subtitle)}</text>',
    ]
    used = {group.colour: group for group in scatter.groups}
    marks = "".join(f'<g id="m{number}">{_svg_mark(group)}</g>' for number, group in used.items())
    for (x, y), number in zip(_places(scatter), scatter.group, strict=True):
        shapes.append(f'<use href="#m{scatter.groups[number].colour}" x="{x:.1f}" y="{y:.1f}"/>')
    for x, group in _legend(scatter):
        shapes.append(f'<use href="#m{group.colour}" x="{x + 6:.1f}" y="{HEIGHT - 16}"/>')
        shapes.append(f'<text x="{x + 16:.1f}" y="{HEIGHT - 12}">{escape(group.name)}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(scatter.title, quote=True)}"><style>text{{font:12px Inter,system-ui,sans-serif;fill:#30353f}}'
        f'.s{{font-weight:600}}</style><rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/><defs>{marks}</defs>'
        f"{''.join(shapes)}</svg>"
    )


def png(scatter: Scatter) -> bytes:
    """A PNG file on white, twice as large as the SVG."""
    image = Image.new("RGB", (WIDTH * _SCALE, HEIGHT * _SCALE), "#ffffff")
    draw = ImageDraw.Draw(image)
    draw.text((_LEFT * _SCALE, 20 * _SCALE), scatter.title, "#30353f", plot_font(True), anchor="ls")
    draw.text((_LEFT * _SCALE, 38 * _SCALE), scatter.subtitle, "#30353f", plot_font(False), anchor="ls")
    for (x, y), number in zip(_places(scatter), scatter.group, strict=True):
        _draw_mark(draw, x, y, scatter.groups[number])
    for x, group in _legend(scatter):
        _draw_mark(draw, x + 6, HEIGHT - 16, group)
        draw.text(((x + 16) * _SCALE, (HEIGHT - 12) * _SCALE), group.name, "#30353f", plot_font(False), anchor="ls")
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def data(scatter: Scatter) -> str:
    """The coordinates as CSV, with the name, the label and the group of each point."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("x", "y", "group", "name", "label"))
    each = zip(scatter.points, scatter.group, scatter.names, scatter.labels, strict=True)
    for (x, y), group, name, label in each:
        writer.writerow((f"{x:.6g}", f"{y:.6g}", scatter.groups[group].name, name, label))
    return file.getvalue()


def _places(scatter: Scatter) -> NDArray[np.float64]:
    places = placed(scatter.points, WIDTH - 2 * _LEFT, HEIGHT - _TOP - _BOTTOM)
    moved: NDArray[np.float64] = places + np.array([_LEFT, _TOP])
    return moved


def _legend(scatter: Scatter) -> list[tuple[float, Group]]:
    found, x = [], float(_LEFT)
    for group in scatter.groups:
        found.append((x, group))
        x += _ENTRY + _LETTER * len(group.name)
    return found


def _svg_mark(group: Group) -> str:
    colour = LIGHT_COLOURS[group.colour % len(LIGHT_COLOURS)]
    corners = outline(shape_of(group), _RADIUS)
    if not corners:
        return f'<circle r="{_RADIUS}" fill="{colour}"/>'
    return f'<polygon points="{" ".join(f"{x:.2f},{y:.2f}" for x, y in corners)}" fill="{colour}"/>'


def _draw_mark(draw: ImageDraw.ImageDraw, x: float, y: float, group: Group) -> None:
    colour = LIGHT_COLOURS[group.colour % len(LIGHT_COLOURS)]
    x, y, radius = x * _SCALE, y * _SCALE, _RADIUS * _SCALE
    corners = outline(shape_of(group), radius)
    if corners:
        draw.polygon([(x + dx, y + dy) for dx, dy in corners], colour)
    else:
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), colour)
