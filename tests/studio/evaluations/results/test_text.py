"""Figures with three digits, intervals and columns, as every table of the Lab prints them."""

from __future__ import annotations

import math

import pytest

from diffstudio.evaluation.interval import Interval
from diffstudio.studio.evaluations.results.text import aligned, number, settings_text, with_interval


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.12345, "0.123"),
        (12.345, "12.3"),
        (1234.5, "1,234"),
        (None, "–"),
        (math.nan, "–"),
        (math.inf, "∞"),
        (-math.inf, "−∞"),
    ],
)
def test_numbers_have_three_digits(value: float | None, text: str) -> None:
    assert number(value) == text


def test_an_interval_follows_its_figure() -> None:
    assert with_interval(Interval(0.91234, 0.8741, 0.9512)) == "0.912 (0.874 to 0.951)"


def test_names_are_on_the_left_and_figures_on_the_right() -> None:
    assert aligned([("", "FID"), ("gan", "1.000"), ("ae", "")]) == ["       FID", "gan  1.000", "ae"]


def test_settings_have_the_names_of_the_window() -> None:
    found = {"steps": 10, "sampler": "dpmpp_2m", "spacing": "log_snr", "guidance": 1.0}
    assert settings_text(found) == "steps 10, sampler DPM++ 2M, scheduler Log-SNR, guidance 1.0"
    assert settings_text({"sampler": "of a newer version"}) == "sampler of a newer version"


def test_zero_has_no_sign() -> None:
    assert number(-0.0003) == number(0.0003) == "0.000" and number(-0.0006) == "−0.001"
