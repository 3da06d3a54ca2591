"""What single nodes of ComfyUI are, and how they are named in what was not imported."""

from __future__ import annotations

import re

from diffstudio.studio.metadata.readers.comfyui_graph import TEXT_INPUTS, Node
from diffstudio.studio.metadata.readers.found_settings import is_number

_LATENT_INPUTS = {"latent_image", "latent", "samples"}


def saver_rank(node: Node) -> int:
    kind = node.kind.lower()
    return 0 if "save" in kind and "image" in kind else 1 if "save" in kind else 2 if "preview" in kind else 3


def is_sampler(node: Node) -> bool:
    """A node that denoises: it has conditionings and a latent, or a guider and sigmas, or refines an image."""
    linked = {name for name, _ in node.links()}
    return (
        {"guider", "sigmas"} <= linked
        or "positive" in linked
        and bool(linked & _LATENT_INPUTS)
        and ("steps" in node.inputs or "sigmas" in linked or "Sampler" in node.kind)
        or {"positive", "image", "model"} <= linked
        and "steps" in node.inputs
    )


def encodes_text(node: Node) -> bool:
    return "clip" in node.inputs and any(name in node.inputs for name in TEXT_INPUTS)


def with_numbers(node: Node) -> str:
    """A node by its kind and the first of its numbers: `ModelSamplingAuraFlow: shift 3`."""
    values = [f"{name} {value:g}" for name, value in node.inputs.items() if is_number(value)]
    return f"{node.kind}: {', '.join(values[:4])}" if values else node.kind


def solver_name(node: Node) -> str | None:
    """`SamplerEulerAncestral`: a node for one sampler."""
    match = re.fullmatch(r"Sampler([A-Z]\w+)", node.kind)
    return match[1] if match and not match[1].startswith("Custom") else None


def scheduler_name(node: Node) -> str | None:
    """`KarrasScheduler`: a node for one schedule."""
    match = re.fullmatch(r"(\w+)Scheduler", node.kind)
    return match[1] if match and match[1] != "Basic" else None
