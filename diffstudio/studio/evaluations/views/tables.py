"""Table: the measures of a result with intervals, and their export as CSV and JSON. No torch."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from diffstudio.studio.evaluations.plots.figure import Figure, Series
from diffstudio.studio.evaluations.results.text import number


@dataclass(frozen=True, slots=True)
class Column:
    """A measure: its key in the JSON, its name and its meaning."""

    key: str
    name: str
    about: str = ""
    unit_range: bool = False  # a share, between 0 and 1


@dataclass(frozen=True, slots=True)
class Cell:
    value: float
    low: float | None = None  # of its interval, if it has one
    high: float | None = None

    def text(self) -> str:
        return number(self.value)

    def interval(self) -> str:
        """The bounds as text; empty without bounds."""
        return f"{number(self.low)} to {number(self.high)}" if self.low is not None and self.high is not None else ""


@dataclass(frozen=True, slots=True)
class TableRow:
    name: str
    cells: tuple[Cell | None, ...]  # one for each column
    reference: bool = False  # the row the others are compared with: real images


@dataclass(frozen=True, slots=True)
class Table:
    """Named rows of numbers; the first may be the reference."""

    name: str  # of its files
    title: str
    columns: tuple[Column, ...]
    rows: tuple[TableRow, ...]
    names: str = "Images"  # heading of the row names

    def to_csv(self) -> str:
        """The table as CSV, with three columns for each measure: the value and the bounds of its interval."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("name", *(f"{one.key}{end}" for one in self.columns for end in ("", "_low", "_high"))))
        for row in self.rows:
            values: list[str] = []
            for cell in row.cells:
                bounds = (cell.value, cell.low, cell.high) if cell is not None else (None, None, None)
                values += ["" if value is None else f"{value:.6g}" for value in bounds]
            writer.writerow((row.name, *values))
        return file.getvalue()

    def to_json(self) -> str:
        rows = [
            {"name": row.name}
            | {
                column.key: {"value": _in_json(cell.value), "low": _in_json(cell.low), "high": _in_json(cell.high)}
                for column, cell in zip(self.columns, row.cells, strict=True)
                if cell is not None
            }
            for row in self.rows
        ]
        return json.dumps({"format": 1, "title": self.title, "rows": rows}, ensure_ascii=False, indent=1)

    def figure(self, key: str) -> Figure | None:
        """A plot of one measure for all rows with intervals, the reference as a line; None if no row has it."""
        index = next((place for place, one in enumerate(self.columns) if one.key == key), None)
        if index is None:
            return None
        column = self.columns[index]
        found = [(row, cell) for row in self.rows if (cell := row.cells[index]) is not None]
        if not found:
            return None
        series = [_points(place, row, cell) for place, (row, cell) in enumerate(found)]
        reference = next(((row.name, cell.value, 1) for row, cell in found if row.reference), None)
        return Figure(
            f"{self.name}-{key}",
            column.name,
            "",
            "",
            tuple(series),
            tuple(_short(row.name) for row, _ in found),
            (reference,) if reference is not None else (),
            y_range=(0.0, 1.0) if column.unit_range and all(_in_unit_range(cell) for _, cell in found) else None,
        )


def _points(place: int, row: TableRow, cell: Cell) -> Series:
    bounds = cell.low is not None and cell.high is not None
    return Series(
        "real" if row.reference else "generated",
        (float(place),),
        (cell.value,),
        (cell.low,) if bounds and cell.low is not None else (),
        (cell.high,) if bounds and cell.high is not None else (),
        points=True,
        colour=1 if row.reference else 0,
    )


def _in_unit_range(cell: Cell) -> bool:
    return all(bound is None or 0 <= bound <= 1 for bound in (cell.value, cell.low, cell.high))


def _short(name: str, longest: int = 22) -> str:
    return name if len(name) <= longest else f"{name[: longest - 1]}…"


def _in_json(value: float | None) -> float | None:
    """The value for JSON, which has no infinity: null is written instead."""
    return value if value is not None and math.isfinite(value) else None


def pick_columns(
    columns: Sequence[Column], rows: Sequence[TableRow]
) -> tuple[tuple[Column, ...], tuple[TableRow, ...]]:
    """The columns in which any row has a value, and the rows with only these columns."""
    kept = [place for place in range(len(columns)) if any(row.cells[place] is not None for row in rows)]
    return tuple(columns[place] for place in kept), tuple(
        TableRow(row.name, tuple(row.cells[place] for place in kept), row.reference) for row in rows
    )
