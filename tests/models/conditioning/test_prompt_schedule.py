"""Prompts that change with the steps: AUTOMATIC1111's documented schedules, AND, escapes, and second passes."""

from __future__ import annotations

import time

import pytest

from diffstudio.models.conditioning.prompt_features import PromptFeature
from diffstudio.models.conditioning.prompt_schedule import (
    PromptBatch,
    ScheduledText,
    StepTexts,
    escape_schedule,
    has_and,
    split_and,
    unescape,
)
from diffstudio.models.conditioning.prompt_weighting import WeightedText, parse_prompt

EVERYTHING = PromptFeature.TEXT | PromptFeature.WEIGHTS | PromptFeature.SCHEDULE | PromptFeature.AND


def by_step(table: list[tuple[int, str]]) -> list[str]:
    """The text of each step, from (last step, text) pairs."""
    ends = [0, *(end for end, _ in table)]
    return [text for place, (end, text) in enumerate(table) for _ in range(ends[place], end)]


def texts(prompt: str, steps: int = 10, before: int | None = None) -> list[str]:
    scheduled = ScheduledText(prompt)
    return [scheduled.at(step, steps, before) for step in range(1, steps + 1)]


@pytest.mark.parametrize(
    ("prompt", "table"),
    [  # the schedules of A1111's documentation at 10 steps
        ("test", [(10, "test")]),
        ("a [b:3]", [(3, "a "), (10, "a b")]),
        ("a [b: 3]", [(3, "a "), (10, "a b")]),
        ("a [[[b]]:2]", [(2, "a "), (10, "a [[b]]")]),
        ("[(a:2):3]", [(3, ""), (10, "(a:2)")]),
        ("a [b : c : 1] d", [(1, "a b  d"), (10, "a  c  d")]),
        ("a[b:[c:d:2]:1]e", [(1, "abe"), (2, "ace"), (10, "ade")]),
        ("a [unbalanced", [(10, "a [unbalanced")]),
        ("a [b:.5] c", [(5, "a  c"), (10, "a b c")]),
        ("a [{b|d{:.5] c", [(5, "a  c"), (10, "a {b|d{ c")]),
        ("((a][:b:c [d:3]", [(3, "((a][:b:c "), (10, "((a][:b:c d")]),
        ("[a|(b:1.1)]", [(step, ("a", "(b:1.1)")[(step - 1) % 2]) for step in range(1, 11)]),
        ("[fe|]male", [(step, ("female", "male")[(step - 1) % 2]) for step in range(1, 11)]),
        ("[fe|||]male", [(step, "female" if step % 4 == 1 else "male") for step in range(1, 11)]),
        # and what follows from its rules
        ("[cat::0.3]", [(3, "cat"), (10, "")]),
        ("[cat::4]s", [(4, "cats"), (10, "s")]),
        ("[:cat:4]", [(4, ""), (10, "cat")]),
        ("[cat:dog:1]", [(1, "cat"), (10, "dog")]),
        ("[cat:dog:1.0]", [(10, "cat")]),
        ("[cat:dog:0]", [(10, "dog")]),
        ("[cat:dog:-2]", [(10, "dog")]),
        ("[cat:dog:99]", [(10, "cat")]),
        ("[cat:dog:1e999]", [(10, "cat")]),
        ("[cat:dog:0.29]", [(2, "cat"), (10, "dog")]),
        ("[[a|b]:c:4]", [(1, "a"), (2, "b"), (3, "a"), (4, "b"), (10, "c")]),
        ("([a:b:2] c:1.3)", [(2, "(a c:1.3)"), (10, "(b c:1.3)")]),
        (r"\[a:b:3\] [c\:d:e:2]", [(2, r"\[a:b:3\] c\:d"), (10, r"\[a:b:3\] e")]),
        (r"[a\|b|c]", [(step, (r"a\|b", "c")[(step - 1) % 2]) for step in range(1, 11)]),
        ("[a:b:c:3] [d] (e|f) g | h: 3", [(10, "[a:b:c:3] [d] (e|f) g | h: 3")]),
        ("a (b] c [d:e:5]", [(5, "a (b] c d"), (10, "a (b] c e")]),
        ("[embedding:a.pt:embedding:b:5]", [(5, "embedding:a.pt"), (10, "embedding:b")]),
        ("[embedding:5]", [(5, ""), (10, "embedding")]),
        ("a\\", [(10, "a\\")]),
        ("", [(10, "")]),
    ],
)
def test_the_text_of_each_step(prompt: str, table: list[tuple[int, str]]) -> None:
    assert texts(prompt) == by_step(table)
    assert by_step(ScheduledText(prompt).table(10)) == by_step(table)


def test_a_text_says_whether_it_changes() -> None:
    assert ScheduledText("a [b:3]").changes and ScheduledText("[a|b]").changes
    assert not ScheduledText("a (b:1.2) [c] \\[d:3\\] {e|f}").changes


def test_a_second_pass_goes_on_counting() -> None:
    """A1111's: whole numbers count on from the first pass, fractions are from 1 to 2, alternations begin again."""
    assert texts("a [b:.5] c", 10, 10) == ["a b c"] * 10
    assert texts("a [b:1.5] c", 10, 10) == ["a  c"] * 5 + ["a b c"] * 5
    assert texts("[a:b:24]", 6, 20) == ["a"] * 4 + ["b"] * 2
    assert texts("[a:b:12]", 6, 20) == ["b"] * 6
    assert texts("[a:b:1.5]", 10) == ["a"] * 10
    assert texts("[a|b]", 3, 5) == ["a", "b", "a"]


@pytest.mark.parametrize(
    ("prompt", "parts"),
    [
        ("a cat", [("a cat", 1.0)]),
        ("a cat AND a dog", [("a cat", 1.0), ("a dog", 1.0)]),
        ("a cat :1.2 AND a dog AND a bird:-.5 ", [("a cat", 1.2), ("a dog", 1.0), ("a bird", -0.5)]),
        ("(a:1.2) AND [b:c:3]", [("(a:1.2)", 1.0), ("[b:c:3]", 1.0)]),
        ("SAND and BRANDY", [("SAND and BRANDY", 1.0)]),
        ("a cat :1.5", [("a cat", 1.5)]),
        (r"at 10\:30 A\ND b", [(r"at 10\:30 A\ND b", 1.0)]),
    ],
)
def test_and_joins_prompts_with_weights(prompt: str, parts: list[tuple[str, float]]) -> None:
    found = split_and(prompt)
    unchanged = [(ScheduledText(text).at(1, 10), weight) for text, weight in parts]
    assert len(found) == len(parts) and has_and(prompt) is (len(parts) > 1)
    shown = [(part.text, part.weight) for part in found]
    assert [weight for _, weight in shown] == [weight for _, weight in parts]
    assert [text.at(1, 10) for text, _ in shown] == [text for text, _ in unchanged]


def test_the_weight_of_a_prompt_without_and_is_optional() -> None:
    (part,) = split_and("at 10:30", lone_weight=False)
    assert (part.text.at(1, 10), part.weight) == ("at 10:30", 1.0)


def test_a_batch_has_the_texts_of_each_image_in_each_step() -> None:
    batch = PromptBatch(["[a|b] AND c:2", "d"], ["x", "[y:2]"], EVERYTHING)
    assert batch.changes
    assert batch.at(1, 4) == StepTexts((("a", "d"), ("c", "d")), ((1.0, 1.0), (2.0, 0.0)), ("x", ""))
    assert batch.at(4, 4) == StepTexts((("b", "d"), ("c", "d")), ((1.0, 1.0), (2.0, 0.0)), ("x", "y"))
    assert not PromptBatch(["a AND b"], ["AND c"], EVERYTHING).changes
    assert PromptBatch(["a"], ["b AND c:2"], EVERYTHING).at(1, 1) == StepTexts.plain(["a"], ["b AND c:2"])


def test_what_a_model_cannot_do_stays_text() -> None:
    prompt = r"[a:b:2] AND \(c\) (d:1.2)"
    for features, expected in (
        (PromptFeature.NONE, prompt),
        (PromptFeature.TEXT, "[a:b:2] AND (c) (d:1.2)"),
        (PromptFeature.TEXT | PromptFeature.SCHEDULE, "a AND (c) (d:1.2)"),
    ):
        batch = PromptBatch([prompt], [""], features)
        assert batch.at(1, 4) == StepTexts.plain([expected], [""])
        assert batch.changes is (PromptFeature.SCHEDULE in features)
    text = PromptFeature.TEXT | PromptFeature.SCHEDULE | PromptFeature.AND
    assert PromptBatch([prompt], [""], text).at(4, 4).positive == (("b",), ("(c) (d:1.2)",))
    assert PromptBatch(["at 10:30"], [""], text).at(1, 4) == StepTexts.plain(["at 10:30"], [""])


@pytest.mark.parametrize(
    "text",
    [
        "[x] and [a:b:0.5], [c|d]",
        "TOM AND JERRY",
        "BREAK a leg BREAK",
        "in 16:9",
        r"a\b \[c\]",
        r"d\\[e]",
        "plain, a:b",
    ],
)
def test_an_escaped_text_is_the_text_itself(text: str) -> None:
    escaped = escape_schedule(text)
    assert not ScheduledText(escaped).changes and len(split_and(escaped)) == 1 and split_and(escaped)[0].weight == 1
    assert parse_prompt(split_and(escaped)[0].text.at(1, 10)) == ((WeightedText(text),),)
    assert unescape(escaped) == text


def test_round_brackets_keep_their_meaning_when_a_text_is_escaped() -> None:
    assert escape_schedule(r"(a:1.2) \(b\)") == r"(a:1.2) \(b\)"


@pytest.mark.parametrize(
    "prompt",
    ["[" * 10_000, "[a:" * 2000 + ":1]" * 1000, "(" * 5000 + ")" * 5000, "[a|" * 2500 + "]" * 2500, "[a:b:1]" * 1400],
)
def test_ten_thousand_characters_are_parsed_at_once(prompt: str) -> None:
    began = time.process_time()
    ScheduledText(prompt).at(3, 10)
    assert time.process_time() - began < 5
