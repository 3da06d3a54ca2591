"""Tables of results: values of JSON, their text, and their plots."""

from __future__ import annotations

import math

from diffstudio.studio.evaluations.views.json_values import (
    cell_of,
    mapping_of,
    mappings_of,
    number_of,
    text_of,
    texts_of,
    whole_of,
)
from diffstudio.studio.evaluations.views.tables import Cell, Column, Table, TableRow, pick_columns

SHARE, COUNT = Column("share", "Share", "of all", True), Column("count", "Count")
TABLE = Table(
    "made",
    "Made",
    (SHARE, COUNT),
    (
        TableRow("real", (Cell(0.5, 0.4, 0.6), None), reference=True),
        TableRow("a name, with a comma", (Cell(0.25), Cell(1234.0))),
    ),
)


def test_a_table_is_written_as_csv_and_json() -> None:
    assert TABLE.to_csv().splitlines() == [
        "name,share,share_low,share_high,count,count_low,count_high",
        "real,0.5,0.4,0.6,,,",
        '"a name, with a comma",0.25,,,1234,,',
    ]
    assert '"count": {' in TABLE.to_json() and TABLE.to_json().count('"name"') == 2


def test_a_measure_is_a_plot_with_the_reference_as_a_line() -> None:
    figure = TABLE.figure("share")
    assert figure is not None
    assert figure.categories == ("real", "a name, with a comma") and figure.references == (("real", 0.5, 1),)
    assert figure.y_range == (0.0, 1.0)
    assert [(one.y, one.low) for one in figure.series] == [((0.5,), (0.4,)), ((0.25,), ())]
    count = TABLE.figure("count")
    assert count is not None and count.references == () and count.y_range is None
    assert TABLE.figure("nothing") is None


def test_columns_without_values_are_left_out() -> None:
    columns, rows = pick_columns((SHARE, COUNT), (TableRow("a", (None, Cell(1.0))),))
    assert columns == (COUNT,) and rows[0].cells == (Cell(1.0),)
    assert Table("a", "A", (SHARE,), (TableRow("a", (None,)),)).figure("share") is None


def test_values_of_the_wrong_type_are_left_out() -> None:
    values = {
        "text": 3,
        "number": "3",
        "flag": True,
        "nan": math.nan,
        "mapping": [],
        "list": [1, "a", {"b": 1}],
        "cell": {"value": None},
        "whole": 3.0,
    }
    assert text_of(values, "text") == "" and number_of(values, "number") is None
    assert number_of(values, "flag") is None and number_of(values, "nan") is None
    assert mapping_of(values, "mapping") == {} and mappings_of(values, "list") == [{"b": 1}]
    assert mappings_of(values, "text") == [] and texts_of(values, "list") == ("a",) and texts_of(values, "text") == ()
    assert cell_of(values, "cell") is None and cell_of(values, "text") == Cell(3.0) and cell_of(values, "none") is None
    unbounded = cell_of({"support": {"value": None, "low": 90.0, "high": None}}, "support")
    assert unbounded == Cell(math.inf, 90.0, math.inf) and unbounded.interval() == "90.0 to ∞"
    assert whole_of(values, "whole") == 3 and whole_of(values, "none") == 0
    assert Cell(0.5).interval() == "" and Cell(0.5, 0.4, 0.6).interval() == "0.400 to 0.600"
