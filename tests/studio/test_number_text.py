"""Numbers as people read them."""

from __future__ import annotations

import math

import pytest

from diffstudio.studio.number_text import formatted, multiple, signed


@pytest.mark.parametrize(
    ("value", "spec", "text"),
    [
        (-0.3, "g", "−0.3"),
        (0.3, "+.2f", "+0.30"),
        (-1234.5, ",.1f", "−1,234.5"),
        (-math.inf, ".3g", "−∞"),
        (0.0, "g", "0"),
    ],
)
def test_a_minus_sign_stands_for_the_hyphen(value: float, spec: str, text: str) -> None:
    assert formatted(value, spec) == text


def test_differences_and_multiples() -> None:
    assert (signed(0.0124), signed(-0.3), signed(-0.0001)) == ("+0.012", "−0.300", "+0.000")
    assert multiple(0.5, "synthetic") == "0.5 × synthetic"
