"""Templates are parsed to the library's commands, in a time that grows with their length alone."""

from __future__ import annotations

import time

import pytest
from dynamicprompts.parser.parse import parse
from hypothesis import given, settings
from hypothesis import strategies as st
from pyparsing import ParseBaseException

from diffstudio.studio.prompts.template_parser import parse_template
from diffstudio.studio.prompts.wildcards import expand

_TEXT = st.text("ab 2.:~!@-+|,_\n()[]é", max_size=5)
_TEMPLATES = st.recursive(
    _TEXT,
    lambda inner: st.builds(
        lambda parts, after: "".join(f"{text}{{{'|'.join(options)}}}" for text, options in parts) + after,
        st.lists(st.tuples(_TEXT, st.lists(inner, min_size=1, max_size=3)), max_size=3),
        _TEXT,
    ),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(_TEMPLATES)
def test_the_commands_are_those_of_the_library(template: str) -> None:
    try:
        expected = parse(template)
    except (ParseBaseException, ValueError):
        return
    assert parse_template(template) == expected


@pytest.mark.parametrize(
    "template",
    [
        "{2$$a|b|c} x",
        "{0.5::a|b}",
        "${x={a|b}}${x}",
        "a __b/{c|d}__ e",
        "%{a ...$$b}",
        "{ a | b }{|}{}",
        "a {b {c|d}|e} f",
    ],
)
def test_the_whole_syntax(template: str) -> None:
    assert parse_template(template) == parse(template)


def test_two_thousand_groups_are_drawn_in_less_than_a_second() -> None:
    expand("{a|b}", "0")  # imports the library
    began = time.process_time()
    drawn = expand("{a|b}" * 2000, "1")
    assert len(drawn) == 2000 and set(drawn) == {"a", "b"}
    assert len(expand("".join(f"{{{one:x}z|y}}" for one in range(4096, 5400)), "1")) > 1000  # all of them different
    expand("{{a|b}|{c|d}} " * 700, "1")
    assert time.process_time() - began < 1
