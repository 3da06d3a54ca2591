"""AUTOMATIC1111's text of settings, which this program writes too.

It is read by its own rules (`modules/infotext_utils.py` there), because a prompt may hold anything.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from diffstudio.studio.metadata.readers import a1111_controlnet
from diffstudio.studio.metadata.readers.found_settings import FoundSettings, as_number, as_object, is_number, json_value
from diffstudio.studio.metadata.sampler_names import shortened

_LONGEST_LINE = 100_000
_USUAL_FIELDS = {"Steps", "Sampler", "CFG scale", "Seed", "Size", "Model", "Model hash", "Version"}
_LONGEST_NAME = 60
_JSON = json.JSONDecoder()

TRUNCATION = "Truncation"  # our own field, for images of a VAE or GAN
NOISE_SCHEDULE = "Noise schedule"  # our own field: that of the spacing CUSTOM, as JSON
STEP_TIMES = "Step times"  # our own field: the times that a request carries
GUIDE_LAST_CALL = "Guide last call"  # our own field: whether guidance acts in the last network call; yes or no

# AUTOMATIC1111's names for the hires fix; the last two are ours.
HIRES = {
    "enlarge": "Hires upscale",
    "enlarged_size": "Hires resize",
    "enlarge_steps": "Hires steps",
    "upscaler": "Hires upscaler",
    "enlarge_guidance": "Hires CFG Scale",
    "enlarge_strength": "Hires denoising strength",
    "tiled": "Hires tiles",
}

CADS = {  # fields of a request and their names in sd-webui-cads
    "cads_tau1": "CADS Tau 1",
    "cads_tau2": "CADS Tau 2",
    "cads": "CADS Noise Scale",
    "cads_mixing": "CADS Mixing Factor",
}


def quoted(value: str) -> str:
    """A value as AUTOMATIC1111 writes it: a JSON string when it holds what would end it."""
    return json.dumps(value, ensure_ascii=False) if any(mark in value for mark in ',\n:"') else value


def read(text: str) -> FoundSettings | None:
    """A text in AUTOMATIC1111's grammar; None when its last line holds no settings."""
    lines = text.strip().split("\n")
    values = _pairs(lines[-1][:_LONGEST_LINE])
    usual = len(values) >= 3 and not values.keys().isdisjoint(_USUAL_FIELDS)
    if not usual and not lines[-1].lstrip().startswith("Steps:"):
        return None  # a prompt, whose weights and sentences may look like settings
    prompt, negative = _prompts(lines[:-1])
    source = values.pop("Version", "")
    ours = source.startswith("diffstudio")
    found: dict[str, Any] = {
        "prompt": prompt,
        "negative": negative,
        "steps": values.pop("Steps", None),
        "sampler": values.pop("Sampler", None),
        "spacing": values.pop("Schedule type", None),
        "guidance": _guidance(values),
        "seed": values.pop("Seed", None),
        "size": values.pop("Size", None),
        "model": values.pop("Model", None),
        "denoise": values.pop("Denoising strength", None),
        "clip_skip": values.pop("Clip skip", None),
    }
    found |= {name: values.pop(label, None) for name, label in HIRES.items()}
    if ours:
        guided = {"yes": True, "no": False}.get(str(values.pop(GUIDE_LAST_CALL, "")).lower())
        # version 0.1 guided every call and did not say so
        found["guide_last_call"] = True if guided is None and source.startswith("diffstudio 0.1.") else guided
    found |= _guidance_settings(values)
    found["truncation"] = values.pop(TRUNCATION, None) if ours else None
    found["times"] = values.pop(STEP_TIMES, None) if ours else None
    found["curve"] = values.pop(NOISE_SCHEDULE, None) if ours else None
    for name in ("Model hash", "Lora hashes", "TI hashes"):
        values.pop(name, None)
    values |= a1111_controlnet.not_imported(
        {name: _pairs(values.pop(name)) for name in a1111_controlnet.controlnet_names(values)}
    )
    resources = _civitai_resources(values.pop("Civitai resources", ""))
    if values.get("Civitai metadata") == "{}":
        del values["Civitai metadata"]
    return FoundSettings("diffstudio" if ours else "AUTOMATIC1111", found, others=dict(values), not_imported=resources)


def prompt_alone(text: str) -> FoundSettings:
    """AUTOMATIC1111's text without its line of settings, which some programs remove."""
    prompt, negative = _prompts(text.strip().split("\n"))
    return FoundSettings("AUTOMATIC1111", {"prompt": prompt} | ({"negative": negative} if negative else {}))


def _prompts(lines: Sequence[str]) -> tuple[str, str]:
    """Prompt and negative prompt, which begins at a line `Negative prompt:`."""
    prompt: list[str] = []
    negative: list[str] = []
    in_negative = False
    for line in lines:
        line = line.strip()
        if line.startswith("Negative prompt:"):
            in_negative, line = True, line.removeprefix("Negative prompt:").strip()
        (negative if in_negative else prompt).append(line)
    return "\n".join(prompt), "\n".join(negative)


def _guidance_settings(values: dict[str, str]) -> dict[str, Any]:
    """The guidance interval and autoguidance (our own fields), and CADS."""
    ends = values.pop("Guidance interval", "").split(" to ")
    found: dict[str, Any] = {"guidance_interval": ends if len(ends) == 2 else None}
    for name, label in (("autoguidance", "Autoguidance"), ("autoguidance_scale", "Autoguidance scale")):
        found[name] = values.pop(label, None)
    if values.pop("CADS Active", "") == "True":
        found |= {name: values.pop(label, None) for name, label in CADS.items()}
        if values.pop("CADS Rescale", "True") == "False":  # without rescaling the mixing factor is 0
            found["cads_mixing"] = "0"
    return found


def _guidance(values: dict[str, str]) -> str | None:
    """The CFG scale, or at 1 the guidance that FLUX.1 takes as an input, which Forge writes beside it."""
    cfg = values.pop("CFG scale", None)
    return values.pop("Distilled CFG Scale", cfg) if cfg is None or as_number(cfg, float) == 1 else cfg


def _civitai_resources(text: str) -> list[str]:
    """A phrase for each of the models that civitai.com lists: its names are not those of the files."""
    resources = json_value(text)
    if not isinstance(resources, list):
        return [f"Civitai resources: {shortened(text)}"] if text else []
    return [_civitai_phrase(as_object(one)) for one in resources]


def _civitai_phrase(resource: Mapping[str, Any]) -> str:
    kind = str(resource.get("type") or "model")
    kind = {"lora": "LoRA", "locon": "LyCORIS", "embed": "embedding", "textualinversion": "embedding"}.get(
        kind.lower(), kind
    )
    name, weight = resource.get("modelName") or resource.get("modelVersionId"), resource.get("weight")
    version = f"{weight:g}" if is_number(weight) else resource.get("modelVersionName")
    return shortened(" ".join(str(one) for one in (kind, name, version) if one))


def _pairs(line: str) -> dict[str, str]:
    """`Name: value, Name: "a value, quoted as JSON", …`: text without a name is skipped."""
    pairs: dict[str, str] = {}
    at = 0
    while (colon := line.find(":", at)) >= 0:
        name = line[at:colon].rpartition(",")[2].strip()
        start = colon + 1
        while line[start : start + 1] == " ":
            start += 1
        try:  # a JSON string, or civitai.com's list of objects
            value, end = _JSON.raw_decode(line, start) if line[start : start + 1] in tuple('"[{') else (None, start)
        except (ValueError, RecursionError):
            value, end = None, start
        comma = line.find(",", end)
        comma = len(line) if comma < 0 else comma
        if name and len(name) <= _LONGEST_NAME:
            pairs.setdefault(name, value if isinstance(value, str) else line[start:comma].strip())
        at = comma + 1
    return pairs
