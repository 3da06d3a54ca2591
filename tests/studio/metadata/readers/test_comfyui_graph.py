"""Values that nodes supply to one another, with bounds on every search."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from diffstudio.studio.metadata import metadata
from diffstudio.studio.metadata.readers import comfyui_graph
from diffstudio.studio.metadata.readers.comfyui import read_comfyui
from diffstudio.studio.metadata.readers.comfyui_graph import DEEPEST, Graph, Link, as_link
from diffstudio.studio.metadata.readers.found_settings import FoundSettings
from diffstudio.studio.requests import GenerateRequest


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


# ---- workflows -------------------------------------------------------------------------------------------------------


def node(number: int, kind: str, inputs: dict[str, int | None], outputs: str, *values: Any, mode: int = 0) -> Any:
    """A node of a workflow: the links of its inputs by name, the types of its outputs, and its values."""
    types = {"model": "MODEL", "clip": "CLIP", "vae": "VAE", "samples": "LATENT", "latent_image": "LATENT"}
    return {
        "id": number,
        "type": kind,
        "mode": mode,
        "inputs": [
            {"name": name, "type": types.get(name, "CONDITIONING"), "link": link} for name, link in inputs.items()
        ],
        "outputs": [{"name": one, "type": one} for one in outputs.split()],
        "widgets_values": list(values),
    }


# The workflow that ComfyUI begins with.
CONDITIONS = {"model": 1, "positive": 4, "negative": 6, "latent_image": 2}
DEFAULT = (
    node(7, "CLIPTextEncode", {"clip": 5}, "CONDITIONING", "text, watermark"),
    node(6, "CLIPTextEncode", {"clip": 3}, "CONDITIONING", "beautiful scenery"),
    node(5, "EmptyLatentImage", {}, "LATENT", 512, 768, 1),
    node(3, "KSampler", CONDITIONS, "LATENT", 156680208700286, "randomize", 20, 8, "euler", "normal", 1),
    node(8, "VAEDecode", {"samples": 7, "vae": 8}, "IMAGE"),
    node(9, "SaveImage", {"images": 9}, "", "ComfyUI"),
    node(4, "CheckpointLoaderSimple", {}, "MODEL CLIP VAE", "sd/v1-5.safetensors"),
)
LINKS = (
    *([1, 4, 0, 3, 0, "MODEL"], [2, 5, 0, 3, 3, "LATENT"], [3, 4, 1, 6, 0, "CLIP"], [4, 6, 0, 3, 1, "CONDITIONING"]),
    *([5, 4, 1, 7, 0, "CLIP"], [6, 7, 0, 3, 2, "CONDITIONING"], [7, 3, 0, 8, 0, "LATENT"], [8, 4, 2, 8, 1, "VAE"]),
    [9, 8, 0, 9, 0, "IMAGE"],
)


def of_workflow(
    changed: tuple[Any, ...] = (), links: tuple[Any, ...] = LINKS, width: int = 512
) -> FoundSettings | None:
    """What is read from the default workflow with other nodes in the place of those with the same numbers."""
    nodes = {one["id"]: one for one in (*DEFAULT, *changed)}
    workflow = {"nodes": list(nodes.values()), "links": list(links), "version": 0.4}
    return read_comfyui({"workflow": json.dumps(workflow)}, width, 768)


def test_the_workflow_that_everyone_starts_from() -> None:
    found = of_workflow()
    assert found is not None and found.values == {
        "prompt": "beautiful scenery",
        "negative": "text, watermark",
        "seed": 156680208700286,
        "steps": 20,
        "guidance": 8,
        "sampler": "euler",
        "spacing": "normal",
        "denoise": 1,
        "size": "512x768",
        "model": "sd/v1-5.safetensors",
    }
    assert found.not_imported == [
        "the graph that was executed, which the file does not hold; its workflow was read instead"
    ]


def test_an_image_that_holds_the_workflow_alone_has_settings(tmp_path: Path) -> None:
    info = PngInfo()
    info.add_text("workflow", json.dumps({"nodes": DEFAULT, "links": LINKS}))
    Image.new("RGB", (512, 768)).save(tmp_path / "a.png", pnginfo=info)
    found = metadata.read(tmp_path / "a.png")
    assert isinstance(found.request, GenerateRequest)
    assert (found.request.prompt, found.request.steps, found.request.seed) == ("beautiful scenery", 20, 156680208700286)
    assert any("its workflow was read instead" in phrase for phrase in found.not_imported)


def test_links_of_newer_workflows_are_objects() -> None:
    names = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    found = of_workflow(links=tuple(dict(zip(names, link, strict=True)) for link in LINKS))
    assert found is not None and found.values["prompt"] == "beautiful scenery"


LORA_LINKS = (
    *(link for link in LINKS if link[0] not in (1, 3)),
    *([1, 20, 0, 3, 0, "MODEL"], [3, 20, 1, 6, 0, "CLIP"], [10, 4, 0, 20, 0, "MODEL"], [11, 4, 1, 20, 1, "CLIP"]),
)


@pytest.mark.parametrize(("mode", "loras"), [(0, ["<lora:ink:0.5>"]), (4, [])])
def test_a_bypassed_node_is_passed_through(mode: int, loras: list[str]) -> None:
    lora = node(20, "LoraLoader", {"model": 10, "clip": 11}, "MODEL CLIP", "ink.safetensors", 0.5, 0.5, mode=mode)
    found = of_workflow((lora,), LORA_LINKS)
    assert found is not None and found.loras == loras
    assert (found.values["model"], found.values["prompt"]) == ("sd/v1-5.safetensors", "beautiful scenery")


def test_muted_nodes_and_notes_are_left_out() -> None:
    muted = node(7, "CLIPTextEncode", {"clip": 5}, "CONDITIONING", "fog", mode=2)
    found = of_workflow((muted, node(30, "Note", {}, "", "mine")))
    assert found is not None and not found.values.get("negative")
    lost = node(6, "CLIPTextEncode", {"clip": 3}, "CONDITIONING", "x", mode=4)  # has no input of that type
    found = of_workflow((lost,))
    assert found is None or "prompt" not in found.values


def test_values_of_primitives_and_of_other_nodes() -> None:
    seeded = node(3, "KSampler", CONDITIONS | {"seed": 12}, "LATENT", 1, "fixed", 20, 8, "euler", "normal", 1)
    text = node(6, "Text Box", {"clip": 3}, "CONDITIONING", "a fox", 5, "fixed")
    text["inputs"] += [{"name": "text", "widget": {"name": "text"}}, {"name": "seed", "widget": {"name": "seed"}}]
    unknown = node(7, "Styles", {"clip": 5}, "CONDITIONING", "a", "b", "c")
    size = node(5, "EmptyLatentImage", {}, "LATENT") | {"widgets_values": {"width": 512, "height": 768}}
    changed = (seeded, text, unknown, size, node(40, "PrimitiveNode", {}, "INT", 99, "fixed"))
    found = of_workflow(changed, (*LINKS, [12, 40, 0, 3, 4, "INT"], [13], "x", ["a", 1, 0]))
    assert found is not None and (found.values["seed"], found.values["prompt"]) == (99, "a fox")
    assert "negative" not in found.values and found.values["size"] == "512x768"


def test_bypassed_nodes_in_a_circle_end() -> None:
    circle = node(20, "LoraLoader", {"model": 10}, "MODEL", mode=4)
    found = of_workflow((circle,), (*(link for link in LINKS if link[0] != 1), [1, 20, 0, 3], [10, 20, 0, 20]))
    assert found is not None and "model" not in found.values


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 12) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "link", "name"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(values=st.lists(st.tuples(st.integers(0, 6), st.sampled_from(sorted(DEFAULT[0])), JSON), max_size=4), links=JSON)
def test_nothing_in_a_workflow_raises(values: list[tuple[int, str, Any]], links: Any) -> None:
    nodes = [dict(one) for one in DEFAULT]
    for index, name, value in values:
        nodes[index][name] = value
    for one in (nodes, [*nodes, links]):
        read_comfyui({"workflow": json.dumps({"nodes": one, "links": links})}, 1, 1)
        read_comfyui({"workflow": json.dumps({"nodes": one, "links": [*LINKS, links]})}, 1, 1)
