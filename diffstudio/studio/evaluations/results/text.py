"""Numbers and tables as text, the same for all Lab verbs. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence

from diffstudio.evaluation.interval import Interval


def number(value: float | None) -> str:
    """A number with three significant digits, and at most three decimals."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"


def with_interval(found: Interval) -> str:
    """A value with its interval: `0.912 (0.874 to 0.951)`."""
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """A line for each row, with the first column left-aligned and the numbers right-aligned."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        ).rstrip()
        for row in rows
    ]
