"""A second opinion on ComfyUI's graphs, for those without a sampler that is known here."""

from __future__ import annotations

import json
from typing import Any

import pytest

from diffstudio.studio.metadata.import_settings import read_texts
from diffstudio.studio.metadata.readers.sd_parsers_graph import read_through_sd_parsers

GRAPH: dict[str, Any] = {
    "3": {
        "class_type": "SomeSampler",
        "inputs": {"seed": 42, "steps": 25, "cfg": 8.0, "sampler_name": "euler", "scheduler": "karras"}
        | {"model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0]},
    },
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "folder/sd15.safetensors"}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a fox", "clip": ["4", 1]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "fog", "clip": ["4", 1]}},
    "8": {"class_type": 3, "inputs": [1]},
}
LINKS = [[1, 4, 0, 3, 0, "MODEL"], [2, 6, 0, 3, 1, "POSITIVE"], [3, 7, 0, 3, 2, "NEGATIVE"]]


@pytest.mark.parametrize("workflow", [None, "{}", json.dumps({"links": LINKS, "nodes": []})])
def test_a_sampler_without_a_latent(workflow: str | None) -> None:
    graph = {name: node for name, node in GRAPH.items() if name != "8"}
    texts = {"prompt": json.dumps(graph)} | ({"workflow": workflow} if workflow else {})
    found = read_through_sd_parsers(texts)
    assert found is not None and (found.values["steps"], found.values["seed"]) == (25, 42)
    imported = read_texts(texts, 64, 64)
    assert imported is not None and imported.request.steps == 25 and imported.request.checkpoint == "sd15"


@pytest.mark.parametrize("prompt", ["", "{", "[]", "{}", json.dumps({"8": GRAPH["8"], "9": 3})])
def test_what_is_no_graph(prompt: str) -> None:
    assert read_through_sd_parsers({"prompt": prompt}) is None
