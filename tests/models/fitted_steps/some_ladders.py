"""Ladders for tests."""

from __future__ import annotations

from typing import Any

from diffstudio.models.fitted_steps.ladders import Ladder


def ladder(sampler: str = "euler", steps: int = 4, **changes: Any) -> Ladder:
    """One of a sampler, whose times are those of no spacing."""
    values: dict[str, Any] = {
        "sampler": sampler,
        "times": tuple((1 - index / steps) ** 1.5 for index in range(steps)),
        "guidance": 3.0,
        "width": 16,
        "height": 16,
        "images": 4,
        "difference": 1e-4,
        "usual": "karras",
        "usual_difference": 1e-3,
    }
    return Ladder(**values | changes)
