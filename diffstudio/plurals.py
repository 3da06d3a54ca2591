"""One thing or several, and sizes, in sentences."""

from __future__ import annotations


def count_of(number: int, noun: str, several: str = "") -> str:
    """`1 image`, `1,234 images`. `several`: the plural, if it is not the noun with an s."""
    return f"{number:,} {by_number(number, noun, several or f'{noun}s')}"


def by_number(number: float, one: str, several: str) -> str:
    """The words for one thing or for several: `is` or `are`."""
    return one if number == 1 else several


def human_bytes(count: float) -> str:
    """1536 -> `1.5 KB`; decimal units, as file managers show them."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
