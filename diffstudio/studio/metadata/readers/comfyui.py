"""Settings of an image saved by ComfyUI: its graph is followed from the node that saved the image back to the loaders.

A linked value is followed to the node that supplies it, whatever that node is called; what a request cannot hold, and
every input that leads nowhere, is named.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from diffstudio.models.conditioning.prompt_schedule import escape_schedule
from diffstudio.studio.metadata.readers.comfyui_graph import (
    DEEPEST,
    LONGEST_CHAIN,
    TEXT_INPUTS,
    Graph,
    Link,
    Node,
    nodes_of_workflow,
)
from diffstudio.studio.metadata.readers.comfyui_nodes import (
    encodes_text,
    is_sampler,
    saver_rank,
    scheduler_name,
    solver_name,
    with_numbers,
)
from diffstudio.studio.metadata.readers.found_settings import FILE_ENDINGS, FoundSettings, is_number, json_object, stem

# Inputs that carry an image or latent on, in the order in which they are tried.
_IMAGE_INPUTS = ("images", "image", "samples", "pixels", "latent_image", "latent", "latents", "denoised")
_MODEL_INPUTS = ("ckpt_name", "unet_name", "model_name", "base_ckpt_name", "model_path")
_MOST_SAVERS = 50
_LORA_INPUT = re.compile(r"lora_name(_?\d*)|lora(_\d+)")


def read_comfyui(texts: Mapping[str, str], width: int, height: int) -> FoundSettings | None:
    """Settings of the image of width x height px that a graph made; None when it has no sampler. Never raises.

    The workflow, which the editor shows, is read where the graph that was executed is missing: it may have been edited
    since, and says so.
    """
    nodes_json = json_object(texts.get("prompt"))
    if nodes_json:
        return _Reader(nodes_json).read(width, height)
    workflow = json_object(texts.get("workflow"))
    found = _Reader(nodes_of_workflow(workflow)).read(width, height) if workflow else None
    if found is not None:
        found.not_imported.append(
            "the graph that was executed, which the file does not hold; its workflow was read instead"
        )
    return found


# Node packs whose nodes apply `<lora:name:1>` in a text: Impact's and Inspire's wildcard encoders, rgthree's Power
# Prompt, Prompt Control, LoRA tag loaders, Easy Use. To ComfyUI's own CLIPTextEncode it is text.
_READS_LORA_TAGS = re.compile(
    r"wildcard|power prompt|prompt ?control|^pc\w+lora|lora.{0,3}tag|tags? ?lora|lora ?text|^easy ", re.IGNORECASE
)


class _Reader:
    def __init__(self, nodes_json: Mapping[str, Any]) -> None:
        self._found = FoundSettings("ComfyUI")
        self._finishing: dict[str, list[Node]] = {}  # by the last sampler: the nodes that its image went through
        self._clip_nodes: dict[str, Node] = {}  # those that the prompts' text encoders went through
        self._graph = Graph(nodes_json, self._name)
        nodes = self._graph.nodes.values()
        self._found.reads_lora_tags = any(_READS_LORA_TAGS.search(node.kind) for node in nodes)
        self._after_sampler = self._graph.leading_to(node for node in nodes if is_sampler(node))
        self._after_text = self._graph.leading_to(node for node in nodes if encodes_text(node))

    def _set(self, name: str, value: Any) -> None:
        if value is not None:
            self._found.values.setdefault(name, value)

    def _name(self, phrase: str) -> None:
        if phrase not in self._found.not_imported:
            self._found.not_imported.append(phrase)

    # From the node that saves to the samplers

    def read(self, width: int, height: int) -> FoundSettings | None:
        chains = self._chains()
        if not chains:
            return None
        first, *later = self._chain_of(chains, (width, height))
        self._read_sampler(first)
        for sampler in later:
            self._name_later_sampler(sampler)
        for node in self._finishing[(later or [first])[-1].id]:
            if "scale" in node.kind.lower():
                self._name(self._upscaler(node) or with_numbers(node))
        if later and "size" not in self._found.values:
            self._name("the size of the first pass")
        return self._found

    def _chain_of(self, chains: list[list[Node]], size: tuple[int, int]) -> list[Node]:
        """The samplers of the image of this size; says so when it may be another one."""
        fitting = [chain for chain in chains if self._size(chain[0]) == size]
        if len(chains) > 1 and len(fitting) != 1:
            self._name("which of the images of this graph it is: these settings may be those of another")
        return min(fitting, key=len) if fitting else max(chains, key=len)

    def _chains(self) -> list[list[Node]]:
        """For each image that the graph saves the samplers it went through, the first one first."""
        used = {link.node_id for node in self._graph.nodes.values() for _, link in node.links()}
        ends = [node for node in self._graph.nodes.values() if node.id not in used and node.id in self._after_sampler]
        for rank in range(4):  # nodes that save images, that save, that preview, and any others
            savers = [node for node in ends if saver_rank(node) == rank][:_MOST_SAVERS]
            chains = {tuple(one.id for one in chain): chain for node in savers if (chain := self._samplers(node))}
            if chains:
                return list(chains.values())
        return []

    def _samplers(self, node: Node) -> list[Node]:
        path = list(self._image_path(node))
        samplers = [one for one in path if is_sampler(one)][::-1]
        if samplers:
            self._finishing.setdefault(samplers[-1].id, path[: path.index(samplers[-1])])
        return samplers

    def _image_path(self, node: Node) -> Iterator[Node]:
        """A node and those that its image comes from, one after the other."""
        seen: set[str] = set()
        current: Node | None = node
        while current is not None and current.id not in seen and len(seen) < LONGEST_CHAIN:
            seen.add(current.id)
            yield current
            current = self._image_source(current)

    def _image_source(self, node: Node) -> Node | None:
        links = [link for name in _IMAGE_INPUTS if (link := node.link(name)) is not None]
        if not links and not is_sampler(node):  # other names
            links = [link for _, link in node.links() if link.node_id in self._after_sampler]
        return next((found[0] for link in links if (found := self._graph.follow(link)) is not None), None)

    # A sampler's settings

    def _read_sampler(self, sampler: Node) -> None:
        graph = self._graph
        guider = graph.source(sampler, "guider") or sampler
        noise = graph.source(sampler, "noise") or sampler
        solver = graph.source(sampler, "sampler") or sampler
        schedule = self._schedule(sampler)
        self._set("steps", graph.number(schedule, "steps"))
        self._set("sampler", graph.text(solver, "sampler_name") or solver_name(solver))
        self._set("spacing", graph.text(schedule, "scheduler") or scheduler_name(schedule))
        if "spacing" not in self._found.values:
            self._name("the scheduler, which the file does not hold")
        self._name_steps_left_out(schedule)
        self._set("denoise", graph.number(schedule, "denoise"))
        if "denoise" in schedule.inputs and "denoise" not in self._found.values:
            self._name("the denoising strength, which the file does not hold")
        seeds = [seed for name in ("noise_seed", "seed") if (seed := graph.number(noise, name)) is not None]
        self._set("seed", seeds[0] if seeds else None)
        cfg = graph.number(guider, "cfg")
        if cfg is not None and cfg != 1:  # at 1 the guidance that the network was distilled with may take its place
            self._set("guidance", cfg)
        positive = next((name for name in ("positive", "conditioning", "cond1") if guider.link(name)), "positive")
        self._set("prompt", self._prompt("positive", guider.link(positive)))
        self._set("guidance", cfg)
        for name, other in guider.links():
            if re.fullmatch(r"cond\d+", name) and name != positive and (text := self._prompt("positive", other)):
                self._name(f"{name}: {text[:200]}")
        self._read_negative(guider)
        model = next((link for node in (guider, sampler, schedule) if (link := node.link("model")) is not None), None)
        self._read_model(model)
        if (size := self._size(sampler)) is not None:
            self._set("size", f"{size[0]}x{size[1]}")
        self._name_source_image(sampler)
        self._read_vae()

    def _schedule(self, sampler: Node) -> Node:
        """The node with the number of steps: the sampler itself, or one that makes its sigmas."""
        makers = list(self._graph.chain(sampler.link("sigmas"), "sigmas"))
        for node in makers[:-1]:
            self._name(with_numbers(node))
        return makers[-1] if makers else sampler

    def _name_steps_left_out(self, schedule: Node) -> None:
        """KSamplerAdvanced may begin later than at noise, and end before the image is finished."""
        steps = self._found.values.get("steps")
        first, last = (self._graph.number(schedule, name) for name in ("start_at_step", "end_at_step"))
        if first is not None and first > 0:
            self._name(f"start_at_step: {first:g}")
        if last is not None and steps is not None and last < steps:
            self._name(f"end_at_step: {last:g}")

    def _read_negative(self, guider: Node) -> None:
        link = guider.link("negative")
        text = self._prompt("negative", link) if link is not None else ""
        self._set("negative", text)
        if text is None:
            self._name("the negative prompt, which the file does not hold")

    def _name_later_sampler(self, sampler: Node) -> None:
        schedule = self._graph.source(sampler, "sigmas") or sampler
        details = [
            f"{label} {number:g}"
            for label in ("steps", "denoise")
            if (number := self._graph.number(schedule, label)) is not None
        ]
        if upscaler := self._upscaler(sampler):
            details.append(upscaler)
        guider = self._graph.source(sampler, "guider") or sampler
        for node in self._graph.chain(guider.link("model"), "model"):
            if (file := self._model_file(node)) is not None and stem(file) != stem(self._found.values.get("model", "")):
                details.append(f"checkpoint {stem(file)}")
        self._name(f"a further sampling pass ({', '.join(details)})" if details else "a further sampling pass")

    def _upscaler(self, node: Node) -> str | None:
        """The upscaler that a node uses; None for one without."""
        loader = self._graph.source(node, "upscale_model")
        return f"the upscaler {stem(self._graph.text(loader, 'model_name') or loader.kind)}" if loader else None

    def _name_source_image(self, sampler: Node) -> None:
        for node in self._image_path(sampler):
            if node.link("mask") is not None:
                self._name("the mask")
            if node.kind.startswith("LoadImage"):
                self._name(f"the init image {self._graph.text(node, 'image') or ''}".rstrip())

    def _read_vae(self) -> None:
        for node in self._graph.nodes.values():
            if "vae_name" in node.inputs and "VAE" not in self._found.others:
                self._found.others["VAE"] = stem(self._graph.text(node, "vae_name") or "")

    def _size(self, sampler: Node) -> tuple[int, int] | None:
        for node in self._image_path(sampler):
            width, height = self._graph.number(node, "width"), self._graph.number(node, "height")
            if isinstance(width, int) and isinstance(height, int):
                return width, height
        return None

    # Prompts

    def _prompt(self, role: str, link: Link | None) -> str | None:
        return self._conditioning(link, role, 0)

    def _conditioning(self, link: Link | None, role: str, depth: int) -> str | None:
        """The text behind a conditioning output, of the prompt of this role; None when it was not found.

        In AUTOMATIC1111's grammar: a BREAK for concatenated ones, and what only looks like that grammar is escaped.
        """
        found = self._graph.follow(link)
        if found is None or depth >= DEEPEST or not self._graph.may_look_up():
            return None
        node, output = found
        if "ZeroOut" in node.kind:
            return ""
        self._read_guidance(node, role)
        if (text := self._encoded_text(node)) is not None:
            self._read_clip(node.link("clip"))
            for name in node.inputs:
                if re.fullmatch(r"image\d*", name) and (source := self._graph.source(node, name)) is not None:
                    self._name(f"the reference image {self._graph.text(source, 'image') or ''}".rstrip())
            return escape_schedule(text)
        if node.link(role) is None and isinstance(node.inputs.get(role), str):  # a loader with both prompts
            return escape_schedule(str(node.inputs[role]))
        names = self._conditioning_inputs(node, output)
        texts = [self._conditioning(node.link(name), role, depth + 1) for name in names]
        if "guidance" not in node.inputs:
            self._name(self._conditioning_phrase(node))
        if None in texts and len(texts) > 1:
            self._name(f"a part of the {'negative ' if role == 'negative' else ''}prompt")
        parts = [text for text in texts if text is not None]
        separator = " BREAK " if "Concat" in node.kind else ", "
        return separator.join(dict.fromkeys(part for part in parts if part)) if parts else None

    def _read_guidance(self, node: Node, role: str) -> None:
        """The guidance that FLUX.1 takes with the prompt."""
        guidance = self._graph.number(node, "guidance") if role == "positive" else None
        if guidance is not None and self._found.values.setdefault("guidance", guidance) != guidance:
            self._name(f"{node.kind}: guidance {guidance:g}")

    def _conditioning_inputs(self, node: Node, output: int) -> list[str]:
        """The inputs that an output of this node comes from."""
        names = [name for name, _ in node.links()]
        if "positive" in names and "negative" in names:
            return ["negative" if output == 1 else "positive"]
        if "conditioning_from" in names and "Average" in node.kind:
            return ["conditioning_to"]
        conditionings = [name for name in names if name.startswith("conditioning")]
        return conditionings or [name for name, link in node.links() if link.node_id in self._after_text]

    def _encoded_text(self, node: Node) -> str | None:
        """The text of a text encoder. Encoders of several texts: those that differ from the first are named."""
        if not encodes_text(node):
            return None
        found = {name: self._graph.text(node, name) for name in TEXT_INPUTS if name in node.inputs}
        texts = {name: text for name, text in found.items() if text is not None}
        first = next((text for text in texts.values() if text), "" if texts else None)
        for name, text in texts.items():
            if text and text != first:
                self._name(f"{name}: {text[:200]}")
        return first

    def _conditioning_phrase(self, node: Node) -> str:
        if "control_net" not in node.inputs:
            mixed = self._graph.source(node, "conditioning_from")
            text = self._encoded_text(mixed) if mixed is not None and "Average" in node.kind else None
            return with_numbers(node) + (f" with {text[:200]}" if text else "")
        loaders = self._graph.chain(node.link("control_net"), "control_net")
        files = [self._graph.text(loader, "control_net_name") for loader in loaders]
        file = next((file for file in files if file), None)
        strength = self._graph.number(node, "strength")
        at = f" at {strength:g}" if strength is not None else ""
        return f"the ControlNet {stem(file)}{at}" if file else f"a ControlNet{at}"

    def _read_clip(self, link: Link | None) -> None:
        for node in self._graph.chain(link, "clip"):
            self._clip_nodes.setdefault(node.id, node)
            layer = self._graph.number(node, "stop_at_clip_layer")
            if layer is not None and layer < -1:
                self._set("clip_skip", int(-layer))

    # Models

    def _read_model(self, link: Link | None) -> None:
        """Set the checkpoint and the LoRAs, in the order in which they are applied."""
        nodes = list(self._graph.chain(link, "model"))
        for node in reversed(nodes):
            loras = list(self._loras(node))
            for lora, weight in loras:
                self._found.add_lora(lora, weight)
            file = self._model_file(node)
            self._set("model", file)
            if file is None and not loras and not _LORA_INPUT.search(" ".join(node.inputs)):
                self._name(with_numbers(node))
        self._name_half_applied_loras({node.id: node for node in nodes})

    def _name_half_applied_loras(self, model_nodes: Mapping[str, Node]) -> None:
        """Name the LoRAs that change the text encoder only, or leave it out where they could change it."""
        for node in self._clip_nodes.values():
            for lora, weight in self._loras(node) if node.id not in model_nodes else ():
                at = f" at {weight:g}" if is_number(weight) else ""
                self._name(f"the LoRA {stem(lora or '')}{at}, which changes the text encoder only")
        for node in model_nodes.values():
            if self._clip_nodes and node.link("clip") is not None and node.id not in self._clip_nodes:
                for lora, _ in self._loras(node):
                    self._name(f"that the LoRA {stem(lora or '')} leaves the text encoder as it is")

    def _model_file(self, node: Node) -> str | None:
        """The checkpoint or network that a node loads."""
        if "model" in node.inputs:
            return None
        named = [text for name in _MODEL_INPUTS if (text := self._graph.text(node, name)) is not None]
        others = [
            value
            for name, value in node.inputs.items()
            if isinstance(value, str) and value.lower().endswith(FILE_ENDINGS) and not re.search("vae|clip|lora", name)
        ]
        return next(iter(named + others), None)

    def _loras(self, node: Node) -> Iterator[tuple[str | None, Any]]:
        """File and weight of each LoRA that a loader applies; loaders of several number their inputs."""
        for name, value in node.inputs.items():
            if isinstance(value, dict) and isinstance(value.get("lora"), str):  # rgthree's Power Lora Loader
                if value.get("on", True) is True and value["lora"] != "None":
                    yield value["lora"], value.get("strength")
            elif match := _LORA_INPUT.fullmatch(name):
                number = match[1] or match[2] or ""
                file = self._graph.text(node, name)
                if file not in ("None", ""):
                    yield file, self._lora_weight(node, number)
                    self._name_text_weight(node, number, file)

    def _name_text_weight(self, node: Node, number: str, file: str | None) -> None:
        weight, text_weight = (self._graph.number(node, f"strength_{of}{number}") for of in ("model", "clip"))
        if text_weight is not None and text_weight != weight:
            self._name(f"the weight {text_weight:g} of the LoRA {stem(file or '')} in the text encoder")

    def _lora_weight(self, node: Node, number: str) -> int | float | None:
        names = (
            "strength_model",
            "model_str",
            "lora_model_strength",
            "lora_strength",
            "lora_wt",
            "lora_weight",
            "strength",
        )
        weights = (self._graph.number(node, f"{name}{number}") for name in names)
        return next((weight for weight in weights if weight is not None), None)
