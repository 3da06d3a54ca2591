"""Which values become black and white, for one file and for a folder."""

from __future__ import annotations

import numpy as np
import pytest

from diffstudio.imaging import value_range
from diffstudio.imaging.value_range import (
    Depth,
    SampleType,
    chosen_range,
    measure,
    range_of_file,
    ranges_of_folder,
    to_bits,
)

U16, INT, FLOAT = SampleType.UINT16, SampleType.INTEGER, SampleType.FLOAT


def depth(sample_type: SampleType, low: float, high: float, declared: tuple[float, float] | None = None) -> Depth:
    return Depth(sample_type, low, high, declared)


@pytest.mark.parametrize(
    ("found", "alone", "in_folder"),
    [
        (depth(U16, 0, 65535), (0, 65535), (0, 65535)),
        (depth(U16, 0, 4000), (0, 65535), (0, 4095)),  # 12 bits in 16
        (depth(U16, 7, 1023), (0, 65535), (0, 1023)),
        (depth(U16, 0, 16383), (0, 65535), (0, 16383)),
        (depth(U16, 0, 255), (0, 65535), (0, 255)),
        (depth(U16, 0, 4000, (0.0, 4095.0)), (0, 4095), (0, 4095)),
        (depth(INT, 0, 200), (0, 255), (0, 255)),
        (depth(INT, 0, 4000), (0, 65535), (0, 4095)),
        (depth(INT, 0, 100_000), (0, 100_000), (0, 100_000)),
        (depth(INT, -1024, 3071), (-1024, 3071), (-1024, 3071)),  # Hounsfield
        (depth(FLOAT, 0, 1), (0, 1), (0, 1)),
        (depth(FLOAT, -0.003, 1.004), (0, 1), (0, 1)),  # an overshoot
        (depth(FLOAT, -1, 1), (-1, 1), (-1, 1)),
        (depth(FLOAT, -0.9, 0.2), (-1, 1), (-1, 1)),
        (depth(FLOAT, 0, 255), (0, 255), (0, 255)),
        (depth(FLOAT, 0, 4000), (0, 4000), (0, 4000)),
        (depth(FLOAT, -1000.5, 400), (-1000.5, 400), (-1000.5, 400)),
    ],
)
def test_the_rule(found: Depth, alone: tuple[float, float], in_folder: tuple[float, float]) -> None:
    assert range_of_file(found) == alone
    assert ranges_of_folder([found, found]) == {found.sample_type: in_folder}
    assert chosen_range(found, {}) == alone
    assert chosen_range(found, ranges_of_folder([found])) == in_folder


def test_a_folder_has_one_range_for_each_type_of_values() -> None:
    ranges = ranges_of_folder(
        [
            depth(FLOAT, 0, 0.2),
            depth(U16, 0, 900),
            depth(FLOAT, 0, 7),
            depth(U16, 0, 4095),
            depth(U16, 0, 4095, (0.0, 4095.0)),
        ]
    )
    assert ranges == {FLOAT: (0, 255), U16: (0, 4095)}
    assert ranges_of_folder([depth(U16, 0, 3, (0.0, 1023.0)), depth(U16, 0, 3, (0.0, 4095.0))]) == {U16: (0, 4095)}
    assert ranges_of_folder([]) == {}
    assert [kind.description for kind in (U16, INT, FLOAT)] == [
        "16-bit values",
        "whole numbers",
        "floating-point values",
    ]


@pytest.mark.parametrize("block", [value_range._BLOCK_VALUES, 5])
def test_values_are_measured_and_scaled_in_blocks(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(value_range, "_BLOCK_VALUES", block)
    values = np.array([[0.0, 0.25], [0.5, np.nan], [1.0, np.inf], [-np.inf, 1.004]], np.float32)
    found = measure(values)
    assert found == Depth(FLOAT, 0.0, pytest.approx(1.004), None, 3)
    assert to_bits(values, range_of_file(found), 255).tolist() == [[0, 64], [128, 0], [255, 0], [0, 255]]
    assert to_bits(np.array([[-1024, 3071]], np.int16), (-1024, 3071), 65535).tolist() == [[0, 65535]]


def test_nothing_finite_and_nothing_but_one_value() -> None:
    assert measure(np.full((2, 2), np.nan)) == Depth(FLOAT, 0.0, 0.0, None, 4)
    assert measure(np.full((2, 2), 9, np.uint16), (0.0, 9.0)) == Depth(U16, 9.0, 9.0, (0.0, 9.0))
    assert measure(np.full((2, 2), 9, np.int32)).sample_type is INT
    assert (to_bits(np.full((2, 2), -5.0), (-5.0, -5.0), 255) == 0).all()
