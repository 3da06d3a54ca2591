"""What a search text of the gallery means."""

from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from diffstudio.studio.gallery.search import (
    Key,
    Period,
    Term,
    matching_names,
    matching_samplers,
    parse_search,
    start_of,
    term,
    text_key,
)
from diffstudio.studio.gallery.sidecar import clean_tags
from diffstudio.studio.requests.limits import LARGEST_SEED

NOW = datetime(2026, 11, 26, 15, 0)


def test_words_phrases_and_terms_are_told_apart() -> None:
    found = parse_search('a "red apple" seed:42 -tag:cat sampler:"DPM++ 2M" LORA:ink model:sd1')
    assert found.words == ("a", "red apple") and found.problems == ()
    assert found.terms == (
        Term(Key.SEED, "42"),
        Term(Key.TAG, "cat", excluded=True),
        Term(Key.SAMPLER, "DPM++ 2M"),
        Term(Key.LORA, "ink"),
        Term(Key.CHECKPOINT, "sd1"),
    )


@pytest.mark.parametrize(
    "text", ["(cat:1.2)", "<lora:ink:", "http://x", '"', "*", "a:b", "-5", "::", '"cat', "steps:7"]
)
def test_what_is_no_term_is_a_word(text: str) -> None:
    assert parse_search(text).words == (text,) and parse_search(text).terms == ()


def test_a_term_that_is_being_typed_is_left_out() -> None:
    assert parse_search('cat seed: tag:""').terms == () and parse_search("cat seed:").words == ("cat",)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("seed:abc", "whole number from 0"),
        (f"seed:{LARGEST_SEED + 1}", "whole number from 0"),
        ("seed:" + "9" * 900, "whole number from 0"),
        ("seed:٣", "whole number from 0"),
        ("size:big", "as 512x768"),
        ("date:soon", "write a date as"),
        ("date:2026-13", "write a date as"),
        ("date:2026-02-30", "write a date as"),
        ("date:9999", "write a date as"),
        ("date:2026..", "write a date as"),
    ],
)
def test_a_value_that_cannot_be_searched_for_is_named(text: str, why: str) -> None:
    (problem,) = parse_search(text).problems
    assert problem.startswith(f"{text}: ") and why in problem


@pytest.mark.parametrize(
    ("value", "first", "after"),
    [
        ("2025", (2025, 1, 1), (2026, 1, 1)),
        ("2025-12", (2025, 12, 1), (2026, 1, 1)),
        ("2024-02", (2024, 2, 1), (2024, 3, 1)),
        ("2024-2-29", (2024, 2, 29), (2024, 3, 1)),
        ("today", (2026, 11, 26), (2026, 11, 27)),
        ("Yesterday", (2026, 11, 25), (2026, 11, 26)),
        ("2025-11..2026-01", (2025, 11, 1), (2026, 2, 1)),
    ],
)
def test_dates_are_days_months_years_and_spans(
    value: str, first: tuple[int, int, int], after: tuple[int, int, int]
) -> None:
    (span,) = parse_search(f"date:{value}", NOW).spans
    assert span == (datetime(*first).timestamp(), datetime(*after).timestamp(), False)


def test_periods_begin_at_midnight() -> None:
    assert start_of(Period.ANY, NOW) == 0.0
    assert start_of(Period.TODAY, NOW) == datetime(2026, 11, 26).timestamp()
    assert start_of(Period.WEEK, NOW) == datetime(2026, 11, 20).timestamp()


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("euler", ["euler"]),
        ("Euler a", ["euler_ancestral"]),
        ("k_euler_ancestral", ["euler_ancestral"]),
        ("dpm++2m", ["dpmpp_2m"]),
        ("DPM++ 2M SDE", ["dpmpp_2m_sde"]),
        ("dpm", ["ddpm", "dpmpp_2m", "dpmpp_2m_sde"]),
        ("eul", ["euler", "euler_ancestral"]),
        ("nothing", []),
        ("…", []),
    ],
)
def test_samplers_by_any_programs_name(value: str, found: list[str]) -> None:
    assert sorted(matching_samplers(value)) == found


def test_a_whole_name_means_that_name_and_a_part_all_that_contain_it() -> None:
    names = ["Ink", "ink2", "STRAßE"]
    assert matching_names("ink", names) == ["Ink"]
    assert matching_names("in", names) == ["Ink", "ink2"]
    assert matching_names("strasse", names) == ["STRAßE"]


def test_prompts_are_sorted_without_case_or_spaces_and_empty_ones_last() -> None:
    assert sorted(["", "b", "  Äpfel", "A"], key=text_key) == ["A", "b", "  Äpfel", ""]
    assert text_key("A" * 5000) == "a" * 64


@given(st.text(alphabet=st.characters(codec="utf-8") | st.sampled_from('" -:')), st.sampled_from([Key.TAG, Key.LORA]))
@example('q"uo te', Key.TAG)
@example('"x"', Key.TAG)
@example('" "', Key.TAG)
def test_the_term_of_a_value_means_this_value(text: str, key: Key) -> None:
    for value in clean_tags([text]):
        found = parse_search(f"cat {term(key, value)} dog")
        assert found.terms == (Term(key, value),) and found.words == ("cat", "dog"), term(key, value)
