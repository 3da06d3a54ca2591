"""Reads values of the expected type from a result's JSON; missing and damaged values are left out. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from diffstudio.studio.evaluations.views.tables import Cell, Column, TableRow


def text_of(values: Mapping[str, Any], key: str) -> str:
    value = values.get(key)
    return value if isinstance(value, str) else ""


def number_of(values: Mapping[str, Any], key: str) -> float | None:
    """A finite number, or None."""
    value = values.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def whole_of(values: Mapping[str, Any], key: str) -> int:
    return int(number_of(values, key) or 0)


def mapping_of(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = values.get(key)
    return value if isinstance(value, dict) else {}


def mappings_of(values: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """The objects of a list."""
    value = values.get(key)
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def texts_of(values: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """The texts of a list."""
    value = values.get(key)
    return tuple(one for one in value if isinstance(one, str)) if isinstance(value, list) else ()


def cell_of(values: Mapping[str, Any], key: str) -> Cell | None:
    """A number with its interval, `{"value": …, "low": …, "high": …}`, or a single number.

    A null value with a finite bound is infinite.
    """
    inner = values.get(key)
    if isinstance(inner, dict):
        value, low, high = (number_of(inner, name) for name in ("value", "low", "high"))
        if value is None and low is not None and inner.get("value", "") is None:
            value = math.inf
        if value is None:
            return None
        return Cell(value, low, math.inf if low is not None and high is None else high)
    value = number_of(values, key)
    return Cell(value) if value is not None else None


def row_of(values: Mapping[str, Any], columns: Sequence[Column], *, reference: bool = False) -> TableRow:
    return TableRow(text_of(values, "name"), tuple(cell_of(values, one.key) for one in columns), reference)
