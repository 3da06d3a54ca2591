"""Numbers and tables as text, the same for all Lab verbs. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from diffstudio.evaluation.interval import Interval
from diffstudio.studio.metadata.sampler_names import SAMPLER_LABELS, SPACING_LABELS
from diffstudio.studio.number_text import formatted


def number(value: float | None) -> str:
    """A number with three significant digits, and at most three decimals."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return formatted(value, "")
    return formatted(value, ",.0f" if abs(value) >= 100 else ".1f" if abs(value) >= 10 else "z.3f")


def with_interval(found: Interval) -> str:
    """A value with its interval: `0.912 (0.874 to 0.951)`."""
    return f"{formatted(found.value, '.3f')} ({formatted(found.low, '.3f')} to {formatted(found.high, '.3f')})"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """A line for each row, with the first column left-aligned and the numbers right-aligned."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        ).rstrip()
        for row in rows
    ]


def settings_text(settings: Mapping[str, Any]) -> str:
    """The settings of a result with the names of the window: `steps 10, sampler DPM++ 2M, scheduler Log-SNR`."""
    names = {
        "sampler": ("sampler", {str(key): name for key, name in SAMPLER_LABELS.items()}),
        "spacing": ("scheduler", {str(key): name for key, name in SPACING_LABELS.items()}),
    }
    parts = []
    for key, value in settings.items():
        name, labels = names.get(key, (key, {}))
        parts.append(f"{name} {labels.get(str(value), value)}")
    return ", ".join(parts)
