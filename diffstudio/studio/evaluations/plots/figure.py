"""Figure: the data of a plot, and the positions of its lines, points and labels. No torch, no window."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from diffstudio.studio.number_text import formatted

WIDTH, HEIGHT = 640, 300  # px
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 36, 58
_LETTER = 6.4  # px, mean width of a letter in labels
_WIDEST_LETTER = 7.2  # px, where the plot is shown smaller than it is
_LINE = 14  # px, height of a line of text
_ELLIPSIS = "…"
_TICKS = 5
SHARE_OF_IMAGES = "share of the images"  # an axis label


@dataclass(frozen=True, slots=True)
class Series:
    """One line or set of points: values y at x, optionally with intervals. Values that are not finite are left out."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    points: bool = False  # dots instead of a line
    colour: int = 0  # series of one colour belong together


@dataclass(frozen=True, slots=True)
class Figure:
    """A plot of several series with one x axis and one y axis."""

    name: str  # of its files
    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    categories: tuple[str, ...] = ()  # labels at x = 0, 1, 2 … instead of numbers
    references: tuple[tuple[str, float, int], ...] = ()  # horizontal lines: name, value, colour
    logarithmic: bool = False  # the y axis
    y_range: tuple[float, float] | None = None

    def rows(self) -> Iterator[tuple[str, str, float, float, float | None, float | None]]:
        """The data: one row for each value, with series, x, y and the bounds of its interval."""
        for one in self.series:
            for index, (x, y) in enumerate(zip(one.x, one.y, strict=True)):
                where = self.categories[round(x)] if self.categories else f"{x:.6g}"
                bounds = (one.low[index], one.high[index]) if one.low else (None, None)
                yield one.name, where, x, y, *bounds


@dataclass(frozen=True, slots=True)
class HeatMap:
    """A table of values as colours: rows from the top, each with as many values as there are columns."""

    name: str  # of its files
    title: str
    x_label: str
    y_label: str
    columns: tuple[str, ...]
    row_names: tuple[str, ...]
    rows_of_values: tuple[tuple[float, ...], ...]

    def rows(self) -> Iterator[tuple[str, str, float, float, float | None, float | None]]:
        """As `Figure.rows`: the name of the row, that of the column, its number, and the value."""
        for name, values in zip(self.row_names, self.rows_of_values, strict=True):
            for number, value in enumerate(values):
                yield name, self.columns[number], float(number), value, None, None


Plot: TypeAlias = Figure | HeatMap


@dataclass(frozen=True, slots=True)
class Text:
    x: float
    y: float  # of its baseline
    text: str
    anchor: str = "start"  # `start`, `middle` or `end`
    strong: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    points: tuple[tuple[float, float], ...]
    colour: int | None = None  # of a series; None for axes and grid
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Dot:
    x: float
    y: float
    colour: int


@dataclass(frozen=True, slots=True)
class Area:
    """A filled rectangle, from the colour of the background (0) to that of a series (1)."""

    x: float
    y: float
    width: float
    height: float
    share: float
    colour: int


Mark: TypeAlias = Text | Line | Dot | Area


@dataclass(frozen=True, slots=True)
class _Axis:
    low: float
    high: float
    start: float  # px
    end: float
    logarithmic: bool = False

    def at(self, value: float) -> float:
        low, high = self.low, self.high
        if self.logarithmic:
            value, low, high = (math.log10(max(one, 1e-300)) for one in (value, low, high))
        share = (value - low) / (high - low) if high > low else 0.5
        return self.start + min(1.0, max(0.0, share)) * (self.end - self.start)

    def ticks(self) -> list[float]:
        if self.logarithmic:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            for digits in ((1,), (1, 2, 5)):
                found = [digit * 10.0**power for power in powers for digit in digits]
                found = [value for value in found if self.low <= value <= self.high]
                if len(found) >= 3:
                    break
            return found if len(found) >= 2 else [self.low, self.high]
        step = 10.0 ** math.floor(math.log10((self.high - self.low) / _TICKS))
        step *= next(factor for factor in (1, 2, 5, 10) if (self.high - self.low) / (factor * step) <= _TICKS + 1)
        return [step * number for number in range(math.ceil(self.low / step), math.floor(self.high / step + 1e-9) + 1)]


def marks(figure: Plot) -> list[Mark]:
    """The marks to draw, from back to front, in px of WIDTH x HEIGHT with y pointing down."""
    if isinstance(figure, HeatMap):
        return _heat_marks(figure)
    x_axis, y_axis = _x_axis(figure), _y_axis(figure)
    found: list[Mark] = [Text(_LEFT, 14, figure.title, strong=True)]
    for value in y_axis.ticks():
        y = y_axis.at(value)
        found += [Line(((_LEFT, y), (WIDTH - _RIGHT, y))), Text(_LEFT - 6, y + 4, _number(value), "end")]
    found += _x_marks(figure, x_axis)
    found.append(Text(WIDTH - _RIGHT, HEIGHT - 26, figure.x_label, "end"))
    found.append(Text(_LEFT, _TOP - 2, figure.y_label))
    for _, value, colour in figure.references:
        y = y_axis.at(value)
        found.append(Line(((_LEFT, y), (WIDTH - _RIGHT, y)), colour, dashed=True))
    for one in figure.series:
        found += _series_marks(one, x_axis, y_axis)
    return found + list(_legend(figure))


def _heat_marks(heat: HeatMap) -> list[Mark]:
    """Areas from the smallest to the largest value; the best is strong, and values are written where there is room."""
    found: list[Mark] = [Text(_LEFT, 14, heat.title, strong=True), Text(_LEFT, _TOP - 2, heat.y_label)]
    longest = max((len(name) for name in heat.row_names), default=0)
    left, bottom = max(float(_LEFT), 12 + _LETTER * longest), float(HEIGHT - _BOTTOM)
    values = [value for row in heat.rows_of_values for value in row if math.isfinite(value)]
    low, high = min(values, default=0.0), max(values, default=1.0)
    width = (WIDTH - _RIGHT - left) / max(1, len(heat.columns))
    height = (bottom - _TOP - 6) / max(1, len(heat.row_names))
    for number, (name, row) in enumerate(zip(heat.row_names, heat.rows_of_values, strict=True)):
        y = _TOP + 6 + number * height
        if height >= _LINE or number % math.ceil(_LINE / height) == 0:
            found.append(Text(left - 6, y + height / 2 + 4, name, "end"))
        for place, value in enumerate(row):
            if math.isfinite(value):
                share = (value - low) / (high - low) if high > low else 0.5
                found.append(Area(left + place * width, y, width - 1, height - 1, 0.06 + 0.54 * share, 0))
                if height >= _LINE and width >= 5 * _LETTER:
                    at = left + (place + 0.5) * width
                    found.append(
                        Text(
                            at,
                            y + height / 2 + 4,
                            formatted(value, ".3f") if abs(value) < 10 else _number(value),
                            "middle",
                            value == high,
                        )
                    )
    every = max(1, math.ceil(max((len(name) for name in heat.columns), default=1) * _LETTER / width))
    for place in range(0, len(heat.columns), every):
        found.append(Text(left + (place + 0.5) * width, bottom + 16, heat.columns[place], "middle"))
    found.append(Text(WIDTH - _RIGHT, HEIGHT - 26, heat.x_label, "end"))
    return found


def _x_axis(figure: Figure) -> _Axis:
    left, right = float(_LEFT), float(WIDTH - _RIGHT)
    if figure.categories:
        return _Axis(-0.5, len(figure.categories) - 0.5, left, right)
    values = [x for one in figure.series for x in one.x if math.isfinite(x)] or [0.0, 1.0]
    low, high = min(values), max(values)
    return _Axis(low, high if high > low else low + 1, left, right)


def _y_axis(figure: Figure) -> _Axis:
    bottom, top = float(HEIGHT - _BOTTOM), float(_TOP + 6)
    if figure.y_range is not None:
        return _Axis(*figure.y_range, bottom, top)
    values = [value for one in figure.series for value in (*one.y, *one.low, *one.high) if math.isfinite(value)]
    values += [value for _, value, _ in figure.references]
    if figure.logarithmic and (positive := [value for value in values if value > 0]):
        low, high = min(positive), max(positive)
        return _Axis(low / 1.2, high * 1.2, bottom, top, logarithmic=True)
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    return _Axis(0.0 if 0 <= low < high / 2 else low - room, high + room, bottom, top)


def _x_marks(figure: Figure, axis: _Axis) -> Iterator[Mark]:
    bottom = HEIGHT - _BOTTOM
    yield Line(((_LEFT, bottom), (WIDTH - _RIGHT, bottom)))
    if figure.categories:
        width = axis.at(1) - axis.at(0)
        every = math.ceil(3 * _WIDEST_LETTER / width)  # no label is shorter than two letters and an ellipsis
        for number, name in list(enumerate(figure.categories))[::every]:
            for line, text in enumerate(_lines(name, every * width)):
                yield Text(axis.at(number), bottom + 16 + line * _LINE, text, "middle")
        return
    for value in axis.ticks():
        yield Text(axis.at(value), bottom + 16, _number(value), "middle")


def _series_marks(one: Series, x_axis: _Axis, y_axis: _Axis) -> Iterator[Mark]:
    shown = [
        (x_axis.at(x), y_axis.at(y), index)
        for index, (x, y) in enumerate(zip(one.x, one.y, strict=True))
        if math.isfinite(x) and math.isfinite(y)
    ]
    if one.low:
        for x, _, index in shown:
            yield Line(((x, y_axis.at(one.low[index])), (x, y_axis.at(one.high[index]))), one.colour)
    if one.points or len(shown) == 1:
        for x, y, _ in shown:
            yield Dot(x, y, one.colour)
    elif shown:
        yield Line(tuple((x, y) for x, y, _ in shown), one.colour)


def _legend(figure: Figure) -> Iterator[Mark]:
    """One entry for each colour in a row below the plot, named after its first series."""
    entries: dict[int, tuple[str, bool]] = {}
    for name, _, colour in figure.references:
        entries.setdefault(colour, (name, True))
    for one in figure.series:
        entries.setdefault(one.colour, (one.name, False))
    x = float(_LEFT)
    room = (WIDTH - _LEFT - _RIGHT) / max(1, len(entries)) - 42  # px for each name
    longest = max((len(name) for name, _ in entries.values()), default=0)
    if sum(42 + _LETTER * len(name) for name, _ in entries.values()) <= WIDTH - _LEFT - _RIGHT:
        room = _LETTER * longest
    for colour, (name, dashed) in entries.items():
        name = _elided(name, int(room / _LETTER))
        yield Line(((x, HEIGHT - 12), (x + 18, HEIGHT - 12)), colour, dashed)
        yield Text(x + 24, HEIGHT - 8, name)
        x += 24 + _LETTER * len(name) + 18


def _lines(text: str, width: float) -> list[str]:
    """A label in one or two lines that fit into `width` px; what does not fit is elided."""
    most = int(width / _WIDEST_LETTER)
    if len(text) <= most:
        return [text]
    ends = [end for end, letter in enumerate(text) if letter == " " and end <= most]
    if not ends:
        return [_elided(text, most)]
    return [text[: ends[-1]], _elided(text[ends[-1] + 1 :], most)]


def _elided(text: str, most: int) -> str:
    return text if len(text) <= most else text[: max(1, most - 1)].rstrip() + _ELLIPSIS


def thinned(x: Sequence[float], y: Sequence[float], most: int = 400) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """At most `most` evenly spaced values of a long curve, including the last one."""
    if len(x) <= most:
        return tuple(x), tuple(y)
    chosen = sorted({round(index * (len(x) - 1) / (most - 1)) for index in range(most)})
    return tuple(x[index] for index in chosen), tuple(y[index] for index in chosen)


def _number(value: float) -> str:
    return "0" if abs(value) < 1e-12 else formatted(value, ",.4g")
