"""A figure as SVG, PNG and CSV: `save(figure, folder)` writes all three."""

from __future__ import annotations

import csv
import io
from functools import cache
from html import escape
from pathlib import Path

from PIL import Image, ImageColor, ImageDraw, ImageFont

from diffstudio import paths
from diffstudio.atomic import make_folder, write_bytes, write_text
from diffstudio.studio.evaluations.plots.figure import HEIGHT, WIDTH, Area, Dot, Line, Mark, Plot, Text, marks

# Legible on light and dark backgrounds: blue, orange, green, purple, red, teal, brown, grey.
COLOURS = ("#4f7df7", "#d9822b", "#2f9e6b", "#9b6bdf", "#d9536a", "#2a9fb0", "#a0764a", "#7d8696")
_LIGHT = {"paper": "#ffffff", "text": "#30353f", "grid": "#dfe3ea"}
_STYLE = """
.plot-text{font:12px Inter,system-ui,sans-serif;fill:#30353f}.plot-strong{font-weight:600}.plot-grid{stroke:#dfe3ea}
@media (prefers-color-scheme:dark){.plot-text{fill:#c9ced8}.plot-grid{stroke:#2a2f39}}
"""
_PNG_SCALE = 2  # pixels of the PNG for each px of the plot


def save(figure: Plot, folder: Path) -> list[Path]:
    """Write NAME.svg, NAME.png and NAME.csv; returns their paths. StorageProblem."""
    make_folder(folder)
    drawn = marks(figure)
    found = [folder / f"{figure.name}.{ending}" for ending in ("svg", "png", "csv")]
    write_text(found[0], svg(figure, drawn))
    write_bytes(found[1], png(drawn))
    write_text(found[2], data(figure))
    return found


def svg(figure: Plot, drawn: list[Mark] | None = None) -> str:
    """The plot as an SVG file that follows the theme of the system; it can be embedded in a page."""
    shapes = [_svg_shape(mark) for mark in (marks(figure) if drawn is None else drawn)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(figure.title, quote=True)}"><style>{_STYLE}</style>{"".join(shapes)}</svg>'
    )


def _svg_shape(mark: Mark) -> str:
    match mark:
        case Text(x, y, text, anchor, strong):
            kind = "plot-text plot-strong" if strong else "plot-text"
            return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
        case Line(points, colour, dashed):
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            look = 'class="plot-grid"' if colour is None else f'stroke="{_colour(colour)}" stroke-width="1.6"'
            dashes = ' stroke-dasharray="5 4"' if dashed else ""
            return f'<polyline fill="none" {look}{dashes} points="{path}"/>'
        case Dot(x, y, colour):
            return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{_colour(colour)}"/>'
        case Area(x, y, width, height, share, colour):
            place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
            return f'<rect {place} fill="{_colour(colour)}" fill-opacity="{share:.3f}"/>'


def png(drawn: list[Mark]) -> bytes:
    """The plot as a PNG file on white, twice as large as the SVG."""
    image = Image.new("RGB", (WIDTH * _PNG_SCALE, HEIGHT * _PNG_SCALE), _LIGHT["paper"])
    draw = ImageDraw.Draw(image)
    for mark in drawn:
        match mark:
            case Text(x, y, text, anchor, strong):
                place = (x * _PNG_SCALE, y * _PNG_SCALE)
                side = {"start": "ls", "middle": "ms", "end": "rs"}[anchor]
                draw.text(place, text, _LIGHT["text"], plot_font(strong), anchor=side)
            case Line(points, colour, dashed):
                look = _LIGHT["grid"] if colour is None else _colour(colour)
                for start, end in _pieces(points, dashed):
                    draw.line([_scaled(start), _scaled(end)], look, width=2 if colour is None else 3)
            case Dot(x, y, colour):
                (left, top), radius = _scaled((x, y)), 4 * _PNG_SCALE
                draw.ellipse((left - radius, top - radius, left + radius, top + radius), _colour(colour))
            case Area(x, y, width, height, share, colour):
                right, bottom = _scaled((x + width, y + height))
                draw.rectangle((*_scaled((x, y)), right, bottom), _mixed(_colour(colour), share))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def data(figure: Plot) -> str:
    """The data as CSV: series, x, y and the bounds of its interval."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("series", figure.x_label or "x", figure.y_label or "y", "low", "high"))
    for name, where, _, y, low, high in figure.rows():
        writer.writerow((name, where, f"{y:.6g}", *("" if bound is None else f"{bound:.6g}" for bound in (low, high))))
    return file.getvalue()


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def _mixed(colour: str, share: float) -> tuple[int, int, int]:
    """A colour over the paper."""
    mixed = [
        round(share * over + (1 - share) * under)
        for over, under in zip(ImageColor.getrgb(colour), ImageColor.getrgb(_LIGHT["paper"]), strict=True)
    ]
    return mixed[0], mixed[1], mixed[2]


def _scaled(point: tuple[float, float]) -> tuple[float, float]:
    return point[0] * _PNG_SCALE, point[1] * _PNG_SCALE


def _pieces(
    points: tuple[tuple[float, float], ...], dashed: bool
) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """The pieces of a line; for a dashed line, which must be horizontal, its dashes."""
    if not dashed:
        return list(zip(points, points[1:], strict=False))
    (x, y), (end, _) = points[0], points[-1]
    found = []
    while x < end:
        found.append(((x, y), (min(x + 5, end), y)))
        x += 9
    return found


@cache
def plot_font(strong: bool) -> ImageFont.FreeTypeFont:
    weight = "SemiBold" if strong else "Regular"
    return ImageFont.truetype(paths.resources() / "fonts" / f"Inter-{weight}.ttf", 12 * _PNG_SCALE)
