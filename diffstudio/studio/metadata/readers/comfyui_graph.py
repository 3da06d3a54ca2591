"""ComfyUI's graph as its images store it, and the values that its nodes supply to one another.

The JSON is `{id: {"class_type": …, "inputs": {name: value or [id, output]}}}`. It comes from an untrusted file: every
search is bounded, and nothing raises.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from diffstudio.studio.metadata.readers.found_settings import as_list, as_object, is_number
from diffstudio.studio.requests.limits import LONGEST_PROMPT

MOST_NODES = 5_000
LONGEST_CHAIN = 200  # nodes followed one after the other
DEEPEST = 40  # links followed for one value
MOST_LOOKUPS = 4_000  # links followed for values in one graph

TEXT_INPUTS = (
    *("populated_text", "text", "prompt", "text_g", "t5xxl", "text_l", "clip_l", "clip_g", "positive", "string"),
    "value",
)
_NUMBERS = ("value", "int", "float", "number", "Number")
_SEEDS = ("seed", "noise_seed", *_NUMBERS)
_STRINGS = (*("populated_text", "value", "string", "text", "String", "Text", "prompt", "result"), "wildcard_text")
_JOINED_INPUT = re.compile(r"(text|string|str|prompt|input)_?[a-z0-9]?", re.IGNORECASE)
_NUMBERED_INPUT = re.compile(r"[A-Za-z_ ]{1,40}(\d{1,3})")


class Link(NamedTuple):
    node_id: str
    output: int  # which of that node's outputs


@dataclass(frozen=True)
class Node:
    id: str
    kind: str  # its class_type
    inputs: Mapping[str, Any]

    def link(self, name: str) -> Link | None:
        return as_link(self.inputs.get(name))

    def links(self) -> Iterator[tuple[str, Link]]:
        for name, value in self.inputs.items():
            if (link := as_link(value)) is not None:
                yield name, link

    @property
    def is_reroute(self) -> bool:
        """Whether it passes its only link on."""
        return len(list(self.links())) == 1 and ("reroute" in self.kind.lower() or "" in self.inputs)

    @property
    def chosen_input(self) -> str | None:
        """The input that a switch passes on, such as `input2` where `select` is 2; None for other nodes."""
        for name in ("select", "index", "Input", "input"):
            if type(number := self.inputs.get(name)) is int:
                numbered = {int(match[1]): one for one in self.inputs if (match := _NUMBERED_INPUT.fullmatch(one))}
                return numbered.get(number) if len(numbered) > 1 else None
        for name in ("switch", "boolean", "cond", "condition"):
            if type(value := self.inputs.get(name)) is bool:
                sides = (
                    ("on_true", "tt_value", "true", "if_true")
                    if value
                    else ("on_false", "ff_value", "false", "if_false")
                )
                return next((side for side in sides if side in self.inputs), None)
        return None


def as_link(value: Any) -> Link | None:
    """The link in an input's value; None for a value that stands there itself."""
    if isinstance(value, list) and len(value) == 2 and isinstance(value[0], (str, int)) and isinstance(value[1], int):
        return Link(str(value[0]), value[1])
    return None


class Graph:
    """Nodes by id. `note` receives a phrase for each node that may change a value in an unknown way."""

    def __init__(self, nodes_json: Mapping[str, Any], note: Callable[[str], None]) -> None:
        self.nodes: dict[str, Node] = {}
        self._note = note
        self._lookups = 0
        for node_id, node in list(nodes_json.items())[:MOST_NODES]:
            node = as_object(node)
            if isinstance(node.get("class_type"), str) and isinstance(node.get("inputs"), dict):
                self.nodes[node_id] = Node(node_id, node["class_type"], node["inputs"])

    def follow(self, link: Link | None) -> tuple[Node, int] | None:
        """The node at the other end of a link, beyond reroutes, and which of its outputs it is."""
        for _ in range(LONGEST_CHAIN):
            node = self.nodes.get(link.node_id) if link is not None else None
            if link is None or node is None:
                return None
            chosen = node.link(node.chosen_input or "")
            if chosen is None and not node.is_reroute:
                return node, link.output
            link = chosen or next(inner for _, inner in node.links())
        return None

    def source(self, node: Node, name: str) -> Node | None:
        """The node that an input is linked to."""
        found = self.follow(node.link(name))
        return found[0] if found is not None else None

    def chain(self, link: Link | None, name: str) -> Iterator[Node]:
        """The nodes from a link up through their inputs of this name, without reroutes."""
        seen: set[str] = set()
        while (found := self.follow(link)) is not None and found[0].id not in seen and len(seen) < LONGEST_CHAIN:
            node = found[0]
            seen.add(node.id)
            yield node
            link = node.link(name)

    def leading_to(self, ends: Iterable[Node]) -> set[str]:
        """The ids of these nodes and of all that use their outputs, however indirectly."""
        users: dict[str, list[str]] = {}
        for node in self.nodes.values():
            for _, link in node.links():
                users.setdefault(link.node_id, []).append(node.id)
        found: set[str] = set()
        waiting = [node.id for node in ends]
        while waiting:
            if (node_id := waiting.pop()) not in found:
                found.add(node_id)
                waiting += users.get(node_id, ())
        return found

    # Values

    def may_look_up(self) -> bool:
        """Count a lookup, and say whether the graph has had fewer than are allowed."""
        self._lookups += 1
        return self._lookups <= MOST_LOOKUPS

    def text(self, node: Node, name: str) -> str | None:
        """An input's text, wherever it comes from; None when it was not found."""
        value = self._value(node, name, _STRINGS, _plain_text, 0)
        return value if isinstance(value, str) else None

    def number(self, node: Node, name: str) -> int | float | None:
        """An input's number, wherever it comes from; None when it was not found."""
        names = _SEEDS if "seed" in name else _NUMBERS
        value = self._value(node, name, names, lambda value: value if is_number(value) else None, 0)
        return value if is_number(value) else None

    def _value(self, node: Node, name: str, names: tuple[str, ...], plain: Callable[[Any], Any], depth: int) -> Any:
        """`plain` returns a value of the type that is looked for, None for another."""
        link = node.link(name)
        if link is None:
            return plain(node.inputs.get(name))
        found = self.follow(link)
        if found is None or depth >= DEEPEST or not self.may_look_up():
            return None
        source, output = found
        if (chosen := source.chosen_input) is not None:
            return self._value(source, chosen, names, plain, depth + 1)
        if names is _STRINGS:
            if (joined := self._joined(source, depth)) is not None:
                return joined
            styled = "text_negative" if output == 1 else "text_positive"
            names = (styled, *_STRINGS)
        for candidate in (name, *names):
            if candidate in source.inputs:
                value = self._value(
                    source, candidate, names if plain is not _plain_text else _STRINGS, plain, depth + 1
                )
                if value is not None:
                    if plain is _plain_text and candidate != "populated_text":
                        self._note_other_texts(source, candidate)
                    return value
        if len(source.inputs) == 1:
            return self._value(source, next(iter(source.inputs)), names, plain, depth + 1)
        if not any(True for _ in source.links()):
            literals = [value for one in source.inputs.values() if (value := plain(one)) is not None]
            return literals[0] if len(literals) == 1 else None
        return None

    def _note_other_texts(self, node: Node, name: str) -> None:
        """A node with several texts may change the one that it passes on."""
        if any(other != name and (isinstance(value, str) or as_link(value)) for other, value in node.inputs.items()):
            self._note(f"what {node.kind} makes of the text")

    def _joined(self, node: Node, depth: int) -> str | None:
        """The text of a node that joins several."""
        if not re.search(r"concat|join|combine", node.kind, re.IGNORECASE):
            return None
        names = [name for name in node.inputs if _JOINED_INPUT.fullmatch(name)]
        texts = [self._value(node, name, _STRINGS, _plain_text, depth + 1) for name in names]
        if None in texts:
            self._note(f"a part of the text of {node.kind}")
        between = next((node.inputs[name] for name in ("delimiter", "separator") if name in node.inputs), " ")
        parts = [text for text in texts if text]
        return (between if isinstance(between, str) else " ").join(parts)[: 2 * LONGEST_PROMPT] if parts else None


def _plain_text(value: Any) -> str | None:
    """A text, or the one that a chooser with thumbnails wraps in an object."""
    value = value.get("content") if isinstance(value, dict) else value
    return value if isinstance(value, str) else None


# ---- workflows -------------------------------------------------------------------------------------------------------

_MUTED, _BYPASSED = 2, 4  # a node's `mode`
_EDITOR_NODES = ("Note", "MarkdownNote")
_WIDGETS: Mapping[str, tuple[str, ...]] = {  # class_type -> the inputs that its `widgets_values` are, in their order
    "KSampler": ("seed", "", "steps", "cfg", "sampler_name", "scheduler", "denoise"),
    "KSamplerAdvanced": (
        *("add_noise", "noise_seed", "", "steps", "cfg", "sampler_name", "scheduler"),
        *("start_at_step", "end_at_step", "return_with_leftover_noise"),
    ),
    "CLIPTextEncode": ("text",),
    "CLIPTextEncodeFlux": ("clip_l", "t5xxl", "guidance"),
    "CLIPTextEncodeSDXL": (
        *("width", "height", "crop_w", "crop_h", "target_width", "target_height"),
        *("text_g", "text_l"),
    ),
    "CLIPSetLastLayer": ("stop_at_clip_layer",),
    "CheckpointLoaderSimple": ("ckpt_name",),
    "UNETLoader": ("unet_name", "weight_dtype"),
    "UnetLoaderGGUF": ("unet_name",),
    "CLIPLoader": ("clip_name", "type"),
    "DualCLIPLoader": ("clip_name1", "clip_name2", "type"),
    "VAELoader": ("vae_name",),
    "LoraLoader": ("lora_name", "strength_model", "strength_clip"),
    "LoraLoaderModelOnly": ("lora_name", "strength_model"),
    "ControlNetLoader": ("control_net_name",),
    "ControlNetApply": ("strength",),
    "ControlNetApplyAdvanced": ("strength", "start_percent", "end_percent"),
    "EmptyLatentImage": ("width", "height", "batch_size"),
    "EmptySD3LatentImage": ("width", "height", "batch_size"),
    "LatentUpscale": ("upscale_method", "width", "height", "crop"),
    "LatentUpscaleBy": ("upscale_method", "scale_by"),
    "UpscaleModelLoader": ("model_name",),
    "RandomNoise": ("noise_seed", ""),
    "KSamplerSelect": ("sampler_name",),
    "BasicScheduler": ("scheduler", "steps", "denoise"),
    "CFGGuider": ("cfg",),
    "FluxGuidance": ("guidance",),
    "ModelSamplingSD3": ("shift",),
    "ModelSamplingAuraFlow": ("shift",),
    "ModelSamplingFlux": ("max_shift", "base_shift", "width", "height"),
    "LoadImage": ("image",),
    "SaveImage": ("filename_prefix",),
    "PrimitiveNode": ("value", ""),
}
_SEED_WIDGETS = ("seed", "noise_seed")  # the editor's `control_after_generate` follows


def nodes_of_workflow(workflow: Mapping[str, Any]) -> dict[str, Any]:
    """The graph of a workflow, which is what ComfyUI's editor shows, in the form of the JSON that it executes.

    Muted nodes are left out and bypassed ones passed through. The values of a node of another kind than ComfyUI's own
    are read where the workflow names its inputs in their order.
    """
    nodes = {
        str(node.get("id")): node
        for node in map(as_object, as_list(workflow.get("nodes"))[:MOST_NODES])
        if isinstance(node.get("type"), str) and node.get("mode") != _MUTED and node["type"] not in _EDITOR_NODES
    }
    links = dict(filter(None, map(_workflow_link, as_list(workflow.get("links"))[: 4 * MOST_NODES])))
    return {
        node_id: {"class_type": node["type"], "inputs": _widget_values(node) | _linked_inputs(node, nodes, links)}
        for node_id, node in nodes.items()
        if node.get("mode") != _BYPASSED
    }


def _workflow_link(link: Any) -> tuple[int, Link] | None:
    """A link's number and where it comes from: `[id, node, output, …]`, or an object in newer workflows."""
    if isinstance(link, dict):
        link = [link.get("id"), link.get("origin_id"), link.get("origin_slot")]
    if not isinstance(link, list) or len(link) < 3 or not isinstance(link[0], int):
        return None
    source = as_link(link[1:3])
    return (link[0], source) if source is not None else None


def _linked_inputs(
    node: Mapping[str, Any], nodes: Mapping[str, Mapping[str, Any]], links: Mapping[int, Link]
) -> dict[str, Any]:
    found = {}
    for slot in map(as_object, as_list(node.get("inputs"))):
        source = _beyond_bypassed(slot.get("link"), nodes, links)
        if source is not None and isinstance(slot.get("name"), str):
            found[slot["name"]] = list(source)
    return found


def _beyond_bypassed(number: Any, nodes: Mapping[str, Mapping[str, Any]], links: Mapping[int, Link]) -> Link | None:
    """Where a link comes from; a bypassed node hands on its first input of the output's type."""
    for _ in range(LONGEST_CHAIN):
        source = links.get(number) if isinstance(number, int) else None
        node = nodes.get(source.node_id) if source is not None else None
        if source is None or node is None:
            return None
        if node.get("mode") != _BYPASSED:
            return source
        outputs = [as_object(slot).get("type") for slot in as_list(node.get("outputs"))]
        kind = outputs[source.output] if 0 <= source.output < len(outputs) else None
        inputs = map(as_object, as_list(node.get("inputs")))
        number = next((slot.get("link") for slot in inputs if slot.get("type") == kind), None)
    return None


def _widget_values(node: Mapping[str, Any]) -> dict[str, Any]:
    """The values that are set in the node itself, by input."""
    values = node.get("widgets_values")
    if isinstance(values, dict):
        return dict(values)
    values = as_list(values)
    names = _WIDGETS.get(node["type"]) or tuple(_named_widgets(node))
    if node["type"] not in _WIDGETS and len(names) != len(values):
        return {}
    return {name: value for name, value in zip(names, values, strict=False) if name and not isinstance(value, list)}


def _named_widgets(node: Mapping[str, Any]) -> Iterator[str]:
    for slot in map(as_object, as_list(node.get("inputs"))):
        name = as_object(slot.get("widget")).get("name")
        if isinstance(name, str):
            yield name
            if name in _SEED_WIDGETS:
                yield ""
