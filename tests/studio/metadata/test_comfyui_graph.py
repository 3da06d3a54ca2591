"""Values that nodes supply to one another, with bounds on every search."""

from __future__ import annotations

from typing import Any

import pytest

from diffstudio.studio.metadata import comfyui_graph
from diffstudio.studio.metadata.comfyui_graph import DEEPEST, Graph, Link, as_link


def graph_of(**nodes: tuple[str, dict[str, Any]]) -> tuple[Graph, list[str]]:
    notes: list[str] = []
    return Graph(
        {name: {"class_type": kind, "inputs": inputs} for name, (kind, inputs) in nodes.items()}, notes.append
    ), notes


def text_of(**nodes: tuple[str, dict[str, Any]]) -> tuple[str | None, list[str]]:
    graph, notes = graph_of(encoder=("CLIPTextEncode", {"text": ["a", 0]}), **nodes)
    return graph.text(graph.nodes["encoder"], "text"), notes


def test_links() -> None:
    assert as_link(["4", 1]) == Link("4", 1) and as_link([4, 0]) == Link("4", 0)
    for value in (None, "4", ["4"], ["4", "1"], [None, 1], [[], 1]):
        assert as_link(value) is None


def test_what_is_not_a_node_is_left_out() -> None:
    graph = Graph({"1": 3, "2": {"class_type": 4, "inputs": {}}, "3": {"class_type": "A", "inputs": []}}, print)
    assert graph.nodes == {}


@pytest.mark.parametrize(
    ("node", "expected", "noted"),
    [
        (("PrimitiveString", {"value": "x"}), "x", []),
        (("ShowText|pysssss", {"text": ["b", 0]}), "y", []),
        (("Unknown", {"words": "x"}), "x", []),
        (("Unknown", {"words": "x", "more": "z"}), None, []),
        (("Unknown", {"words": ["b", 0]}), "y", []),
        (("Unknown", {"words": ["b", 0], "other": ["c", 0]}), None, []),
        (("StringReplace", {"string": "x", "find": "x", "replace": "z"}), "x", ["what StringReplace makes of the text"]),
        (("ImpactWildcardProcessor", {"wildcard_text": "{x|z}", "populated_text": "x", "mode": "populate"}), "x", []),
        (("StringConcatenate", {"string_a": "x", "string_b": ["b", 0], "delimiter": "; "}), "x; y", []),
        (("JoinStrings", {"string1": "x", "string2": ["gone", 0]}), "x", ["a part of the text of JoinStrings"]),
        (("Text Concatenate", {"text_a": "x", "text_b": "z", "delimiter": 4}), "x z", []),
        (("Text Concatenate", {"text_a": "", "value": 3}), "", []),
        (("SDXLPromptStyler", {"text_positive": "x", "text_negative": "z"}), "x", ["what SDXLPromptStyler makes of the text"]),
        (("Chooser", {"text": {"content": "x"}}), "x", []),
        (("Number", {"value": 3}), None, []),
    ],
)  # fmt: skip
def test_texts(node: Any, expected: str | None, noted: list[str]) -> None:
    assert text_of(a=node, b=("PrimitiveString", {"value": "y"})) == (expected, noted)


def test_the_second_output_of_a_styler_is_the_negative_prompt() -> None:
    graph, _ = graph_of(
        encoder=("CLIPTextEncode", {"text": ["a", 1]}),
        a=("SDXLPromptStyler", {"text_positive": "x", "text_negative": "z"}),
    )
    assert graph.text(graph.nodes["encoder"], "text") == "z"


@pytest.mark.parametrize(
    ("name", "node", "expected"),
    [
        ("seed", ("Seed Everywhere", {"seed": 5}), 5),
        ("noise_seed", ("KSampler", {"seed": 5, "steps": 20}), 5),
        ("steps", ("KSampler Config", {"seed": 5, "total": 20}), None),
        ("steps", ("Int", {"Number": 20, "text": "x"}), 20),
        ("steps", ("Sum", {"a": ["gone", 0], "b": 3}), None),
        ("steps", ("Text", {"value": "20"}), None),
        ("cfg", ("Float", {"float": float("inf")}), None),
    ],
)
def test_numbers(name: str, node: Any, expected: Any) -> None:
    graph, _ = graph_of(sampler=("KSampler", {name: ["a", 0]}), a=node)
    assert graph.number(graph.nodes["sampler"], name) == expected


def test_searches_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = {f"n{i}": ("Text", {"text": [f"n{i + 1}", 0], "x": 1}) for i in range(DEEPEST + 5)}
    assert text_of(a=("Text", {"text": ["n0", 0], "x": 1}), **chain)[0] is None
    doubling = {
        f"n{i}": ("StringConcatenate", {"string_a": [f"n{i + 1}", 0], "string_b": [f"n{i + 1}", 0]}) for i in range(30)
    }
    text, _ = text_of(a=("Text", {"text": ["n0", 0]}), **doubling, n30=("Text", {"text": "x" * 100}))
    assert text is None or len(text) <= 20_000
    circle, _ = graph_of(a=("Reroute", {"": ["b", 0]}), b=("Reroute", {"": ["a", 0]}))
    assert circle.follow(Link("a", 0)) is None and list(circle.chain(Link("a", 0), "model")) == []
    monkeypatch.setattr(comfyui_graph, "MOST_LOOKUPS", 0)
    assert text_of(a=("Text", {"text": "x"}))[0] is None
