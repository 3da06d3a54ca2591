"""`<lora:name:weight>` in a prompt: read and written as AUTOMATIC1111 does."""

from __future__ import annotations

import pytest

from diffstudio.studio.prompts.lora_tags import LoraUse, add_tag, lora_tags, replace_tag, with_weight


@pytest.mark.parametrize(
    ("text", "left", "uses"),
    [
        ("a cat", "a cat", []),
        ("a <lora:style:0.8> cat", "a  cat", [("style", 0.8, 0.8)]),
        ("<lora:style>", "", [("style", 1.0, 1.0)]),
        ("x <lora:a b.c_v2:0.8:0.5>,<lyco:d:-1>", "x ,", [("a b.c_v2", 0.5, 0.8), ("d", -1.0, -1.0)]),
        ("<lora:s:te=0.3:unet=0.7>", "", [("s", 0.7, 0.3)]),
        ("<lora:s:0.5:unet=0>", "", [("s", 0.0, 0.5)]),
        ("<lora:s:nonsense> <lora:s:inf>", " ", [("s", 1.0, 1.0), ("s", 1.0, 1.0)]),
        ("<lora:s:1e9>", "", [("s", 100.0, 100.0)]),
        ("<lora:>, < lora:x:1>, <lora:x", "<lora:>, < lora:x:1>, <lora:x", []),
    ],
)
def test_tags_are_read_as_automatic1111_reads_them(text: str, left: str, uses: list[tuple[str, float, float]]) -> None:
    assert lora_tags(text) == (left, tuple(LoraUse(*use) for use in uses))


@pytest.mark.parametrize("use", [LoraUse("a"), LoraUse("b c", 0.85, 0.85), LoraUse("d", -0.5, 1.25)])
def test_a_tag_says_what_it_was_made_from(use: LoraUse) -> None:
    assert lora_tags(use.tag()) == ("", (use,))


def test_tags_are_changed_in_place() -> None:
    prompt = "(a <lora:x:1> cat:1.2) <lora:y:0.5>"
    assert replace_tag(prompt, 1, LoraUse("y", 0.25, 0.25)) == "(a <lora:x:1> cat:1.2) <lora:y:0.25>"
    assert replace_tag(prompt, 0, None) == "(a cat:1.2) <lora:y:0.5>"
    assert replace_tag(prompt, 5, None) == prompt
    assert add_tag("a cat ", LoraUse("z")) == "a cat <lora:z:1>" and add_tag("", LoraUse("z")) == "<lora:z:1>"
    assert with_weight(LoraUse("x", 0.5, 0.5), 0.75) == LoraUse("x", 0.75, 0.75)
    assert with_weight(LoraUse("x", 0.5, 0.2), 0.75) == LoraUse("x", 0.75, 0.2)


def test_weights_that_cannot_be_used_are_named() -> None:
    text = "<lora:a:0,8> <lora:b:0.5:te=x> <lora:c:1e9> <lora:d:> <lora:e:0.5>"
    assert [use.unusable for use in lora_tags(text)[1]] == [("0,8",), ("x",), ("1e9",), (), ()]
