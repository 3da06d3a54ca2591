"""One thing or several, in sentences."""

from __future__ import annotations


def count_of(number: int, noun: str, several: str = "") -> str:
    """`1 image`, `1,234 images`. `several`: the plural, if it is not the noun with an s."""
    return f"{number:,} {by_number(number, noun, several or f'{noun}s')}"


def by_number(number: float, one: str, several: str) -> str:
    """The words for one thing or for several: `is` or `are`."""
    return one if number == 1 else several
