"""Numbers as people read them: with a minus sign and a multiplication sign. Files hold plain numbers instead."""

from __future__ import annotations

_MINUS = "−"


def formatted(value: float, spec: str) -> str:
    """The number as `format` writes it, with a minus sign instead of a hyphen: `−0.3`."""
    return format(value, spec).replace("-", _MINUS).replace("inf", "∞")


def signed(value: float) -> str:
    """A difference with three decimals: `+0.012`, `−0.300`."""
    return formatted(value, "+z.3f")


def multiple(factor: float, of: str) -> str:
    """`0.5 × synthetic`."""
    return f"{factor:.2g} × {of}"
