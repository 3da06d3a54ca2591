"""The texts that describe a model file in the window: type, size, training, trigger words."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from diffstudio.errors import CheckpointDamaged, listed
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.families_table import family_of
from diffstudio.models.detection.types import Layout, Role
from diffstudio.models.files.hashes import autov2
from diffstudio.models.fitted_steps.distilled import distilled
from diffstudio.models.library import training_metadata
from diffstudio.models.library.sidecars import NO_SIDECAR, Sidecar
from diffstudio.models.recommended import min_timestep_of
from diffstudio.networks.conditioning import Conditioning
from diffstudio.plurals import count_of
from diffstudio.studio.number_text import formatted
from diffstudio.ui.generate.labels import ORIGINS
from diffstudio.ui.widgets.formatting import human_bytes, human_count

ROLES = {
    Role.CHECKPOINT: "checkpoint",
    Role.LORA: "LoRA",
    Role.EMBEDDING: "embedding",
    Role.VAE: "autoencoder",
    Role.CONTROLNET: "ControlNet",
    Role.UPSCALER: "upscaler",
    Role.TEXT_ENCODER: "text encoder",
    Role.NETWORK: "network only",
    Role.UNKNOWN: "unrecognised",
}
ICONS = {
    Role.LORA: "stack",
    Role.EMBEDDING: "text-aa",
    Role.VAE: "image",
    Role.CONTROLNET: "path",
    Role.UPSCALER: "arrows-out",
}
LAYOUTS = {
    Layout.OURS: "made with diffstudio",
    Layout.ORIGINAL: "single file, original key names",
    Layout.DIFFUSERS: "single file, diffusers key names",
    Layout.FOLDER: "diffusers folder",
    Layout.GGUF: "GGUF file",
    Layout.PICKLE: "pickle",
}
UNION_CONTROLNET = "union ControlNet"
PREDICTIONS = {
    "eps": "the noise (eps)",
    "v": "v",
    "flow": "the flow velocity",
    "x0": "the clean image (sample)",
    "edm": "the clean image, preconditioned (EDM)",
}
_DTYPES = {
    "F16": "16-bit",
    "BF16": "bfloat16",
    "F32": "32-bit",
    "F64": "64-bit",
    "F8_E4M3": "8-bit",
    "F8_E5M2": "8-bit",
}
MAX_TAGS = 60


def type_text(checkpoint: Checkpoint) -> str:
    """`pixel transformer`; `LoRA for Stable Diffusion XL`; `FLUX.1 dev, network only`."""
    family = family_of(checkpoint.family)
    title = " ".join(part for part in (checkpoint.family_title, checkpoint.edition) if part) if family else ""
    if checkpoint.role is Role.LORA and family is None:
        title = checkpoint.edition  # the model that is not supported
    if checkpoint.role is Role.CHECKPOINT and title:
        return f"{title}, inpainting" if checkpoint.inpainting else title
    if checkpoint.role is Role.NETWORK and title:
        return f"{title}, {ROLES[checkpoint.role]}"
    kind = UNION_CONTROLNET if checkpoint.control_types else ROLES[checkpoint.role]
    return f"{kind} for {title}" if title else kind


def summary(checkpoint: Checkpoint) -> str:
    """One line: `pixel transformer · 24 M · 64 px · 48 MB`."""
    parts = [type_text(checkpoint)]
    if checkpoint.parameters:
        parts.append(human_count(checkpoint.parameters))
    if checkpoint.width:
        parts.append(
            f"{checkpoint.width} px"
            if checkpoint.width == checkpoint.height
            else f"{checkpoint.width} × {checkpoint.height} px"
        )
    return " · ".join([*parts, human_bytes(checkpoint.size_bytes)])


def conditioning_text(checkpoint: Checkpoint) -> str:
    """What the model is conditioned on: text, classes or nothing."""
    match checkpoint.conditioning:
        case Conditioning.TEXT:
            return "Text"
        case Conditioning.CLASS:
            return f"One of {count_of(len(checkpoint.classes), 'class', 'classes')}: {listed(checkpoint.classes, 40)}"
        case _:
            return "Unconditional: it generates images like its training images" if checkpoint.can_generate else ""


def model_rows(checkpoint: Checkpoint, sidecar: Sidecar = NO_SIDECAR) -> list[tuple[str, str]]:
    """The rows of the Checkpoint table as names and values; a row without a value is not shown."""
    size = f"{checkpoint.width} × {checkpoint.height} px" if checkpoint.width else ""
    if size and checkpoint.enlarges and checkpoint.can_generate:
        size += ", in two levels; it can also upscale images"
    stored = _DTYPES.get(checkpoint.dtype, checkpoint.dtype)
    parameters = f"{human_count(checkpoint.parameters)} ({stored})" if checkpoint.parameters else stored
    return [
        ("Type", type_text(checkpoint)),
        ("Conditioning", conditioning_text(checkpoint)),
        ("Image size", size),
        ("Parameters", parameters),
        ("Predicts", PREDICTIONS.get(checkpoint.prediction, "")),
        ("Minimum timestep", min_timestep_text(checkpoint)),
        ("Format", LAYOUTS[checkpoint.layout]),
        ("Recognised by", checkpoint.reason),
        ("Merged from", merge_text(checkpoint)),
        ("Distilled from", tuned_text(checkpoint)),
        ("Weight", f"{formatted(sidecar.lora_weight, 'g')}, recommended by its author" if sidecar.lora_weight else ""),
        ("Negative prompt", sidecar.negative[:500]),
        ("Size on disk", human_bytes(checkpoint.size_bytes)),
        ("Origin", ORIGINS[checkpoint.origin]),
        ("Modified", time.strftime("%Y-%m-%d %H:%M", time.localtime(checkpoint.modified))),
        ("Name", checkpoint.name),
        ("License", checkpoint.metadata.get("modelspec.license", "")[:300]),
        ("File", str(checkpoint.path)),
    ]


def min_timestep_text(checkpoint: Checkpoint) -> str:
    """The smallest t with which samplers call a network that was trained here; empty if there is no limit."""
    minimum = min_timestep_of(checkpoint)
    return f"t = {minimum:g}: samplers call the network with no smaller t" if minimum else ""


def tuned_text(checkpoint: Checkpoint) -> str:
    """The teacher of a distilled checkpoint: `cats (hash 606b1be269), with a CFG scale of 3 built in`."""
    try:
        found = distilled(checkpoint)
    except CheckpointDamaged:
        return ""
    if found is None:
        return ""
    text = f"{found.teacher} (hash {autov2(found.sha256)})" if found.sha256 else found.teacher
    return f"{text}, with a CFG scale of {found.guidance:g} built in" if found.guidance != 1 else text


def merge_text(checkpoint: Checkpoint) -> str:
    """What a merged checkpoint, or one with fused LoRAs, was made from: `70% of skies, 30% of cats`."""
    merged, baked = _table(checkpoint, "merge"), _table(checkpoint, "bake")
    inputs = [one for one in _list((merged or baked).get("inputs")) if isinstance(one, dict)]
    names, share = [_text(one.get("name")) for one in inputs], merged.get("share")
    if merged and isinstance(share, (int, float)) and len(names) == 2:
        return f"{1 - share:.0%} of {names[0]}, {share:.0%} of {names[1]}"
    if merged and isinstance(share, (int, float)) and len(names) == 3:
        return f"{names[0]} + {share:g} × ({names[1]} − {names[2]})"
    factors = [one.get("factor") for one in inputs]
    return " + ".join(
        name if not isinstance(factor, (int, float)) else f"{factor:g} × {name}"
        for name, factor in zip(names, factors, strict=True)
    )


def trigger_words(checkpoint: Checkpoint, sidecar: Sidecar = NO_SIDECAR) -> list[tuple[str, int]]:
    """The trigger words in the sidecars and the header, each with its number of training images; 0 if unknown."""
    counts = dict(training_metadata.training_tags(checkpoint.metadata))
    found = dict.fromkeys((*sidecar.trigger_words, *training_metadata.trigger_words(checkpoint.metadata)))
    return [(word, counts.get(word, 0)) for word in found]


def training_tags(checkpoint: Checkpoint, exclude: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """The most frequent tags of the training images with their counts, without those in `exclude`."""
    excluded = {word for word, _ in exclude}
    return [
        (tag, counts)
        for tag, counts in training_metadata.training_tags(checkpoint.metadata)[:MAX_TAGS]
        if tag not in excluded
    ]


def training_rows(checkpoint: Checkpoint, sidecar: Sidecar = NO_SIDECAR) -> list[tuple[str, str]]:
    """The rows of the Training table as names and values; empty if the file has no training metadata."""
    recipe, run = _table(checkpoint, "recipe"), _table(checkpoint, "run")
    optimiser, settings, data = (_inner(recipe, name) for name in ("optimiser", "run", "data"))
    loss = run.get("held_out_loss")
    rows = [
        ("Recipe", _text(recipe.get("name"))),
        ("Steps", _count(run.get("steps"))),
        ("Images seen", _count(run.get("pictures_seen"))),
        (
            "Held-out loss",
            formatted(loss, ".4f") if isinstance(loss, (int, float)) and not isinstance(loss, bool) else "",
        ),
        ("Optimiser", _text(optimiser.get("name"))),
        ("Batch", _count(settings.get("batch"))),
        ("Base model", (sidecar.base or training_metadata.base_model(checkpoint.metadata)) if not recipe else ""),
        ("Output name", _text(checkpoint.metadata.get("ss_output_name"))),
        ("Epochs", _text(checkpoint.metadata.get("ss_epoch"))),
        ("Images", _text(checkpoint.metadata.get("ss_num_train_images"))),
        ("Flips", f"{data['flips']:.0%}" if isinstance(data.get("flips"), float) and data["flips"] else ""),
    ]
    return [(name, value) for name, value in rows if value]


def description(checkpoint: Checkpoint, sidecar: Sidecar = NO_SIDECAR) -> str:
    """The description in the header, or else in a sidecar."""
    return checkpoint.metadata.get("modelspec.description", "").strip()[:2000] or sidecar.description[:2000]


def _table(checkpoint: Checkpoint, key: str) -> dict[str, Any]:
    try:
        value = checkpoint.json(key)
    except CheckpointDamaged:
        return {}
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _inner(table: dict[str, Any], key: str) -> dict[str, Any]:
    value = table.get(key)
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return str(value)[:200] if isinstance(value, str) else ""


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else ""
