"""ComfyUI's graphs as sd-parsers reads them: a second opinion, for graphs without a node that `comfyui` knows as a sampler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffstudio.models.conditioning.prompt_schedule import escape_schedule
from diffstudio.studio.metadata.readers.found_settings import FoundSettings, json_object


def read_through_sd_parsers(texts: Mapping[str, str]) -> FoundSettings | None:
    """What sd-parsers finds in a graph; None when that is nothing. Never raises."""
    from sd_parsers.parsers import ComfyUIParser

    given: dict[str, Any] = dict(texts)
    if not isinstance((json_object(texts.get("workflow")) or {}).get("links"), list):
        given["workflow"] = {"links": _links(given["prompt"])}
    try:
        info = ComfyUIParser().parse(given)
        sampler = info.samplers[0]
        others = dict(sampler.parameters)
        found = FoundSettings(info.generator.value, reads_lora_tags=False)
        found.values = {
            "prompt": escape_schedule(", ".join(prompt.value for prompt in sampler.prompts)),
            "negative": escape_schedule(", ".join(prompt.value for prompt in sampler.negative_prompts)),
            "steps": others.pop("steps", None),
            "sampler": sampler.name,
            "spacing": others.pop("scheduler", None),
            "guidance": others.pop("cfg_scale", None),
            "seed": others.pop("seed", others.pop("noise_seed", None)),
            "model": sampler.model.name if sampler.model else None,
            "denoise": others.pop("denoise", others.pop("strength", None)),
        }
        found.others = others
    except Exception:  # noqa: BLE001 - it reads an untrusted graph, and raises whatever Python does on wrong types
        return None
    return found


def _links(prompt: str) -> list[list[Any]]:
    """ComfyUI's links out of its prompt, [id, from, slot, to, slot, kind], for files whose writer left them out."""
    links: list[list[Any]] = []
    for node_id, node in (json_object(prompt) or {}).items():
        inputs = node.get("inputs") if isinstance(node, dict) else None
        for name, value in inputs.items() if isinstance(inputs, dict) else ():
            if isinstance(value, list) and len(value) == 2 and isinstance(value[0], (str, int)):
                links.append([len(links), value[0], 0, node_id, 0, str(name).upper()])
    return links
