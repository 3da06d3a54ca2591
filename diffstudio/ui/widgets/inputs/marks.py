"""The mark on the name of an input, and its explanation."""

from __future__ import annotations

from diffstudio.ui.widgets.helpers import ElidedLabel


def mark_name(name: ElidedLabel, text: str, why: str) -> None:
    name.setText(f"{text} •" if why else text)
    name.setAccessibleDescription(why)


def with_reason(tooltip: str, why: str) -> str:
    return f"{tooltip}. {why}" if why else tooltip
