"""Settings written by other programs, as far as a GenerateRequest can hold them.

AUTOMATIC1111's text is read by its own rules (`modules/infotext_utils.py` there), because a prompt may hold anything;
Fooocus, ComfyUI, InvokeAI and NovelAI through sd-parsers; SwarmUI's JSON directly.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from diffstudio.errors import BadRequest, ImageProblem
from diffstudio.studio.metadata import a1111_controlnet
from diffstudio.studio.metadata.sampler_names import reduced, sampler_and_spacing, shortened
from diffstudio.studio.requests import (
    LANCZOS,
    LARGEST_SEED,
    LATENT,
    LONGEST_PROMPT,
    GenerateRequest,
    PictureRequest,
    UpscaleRequest,
)

DAMAGED = "The image's settings are damaged"
CHOOSE_ANOTHER = "Choose another image"

_SIZE = re.compile(r"\D*(\d{1,6})\s*[x×,]\s*(\d{1,6})\D*")
_LONGEST_LINE = 100_000
_LONGEST_NAME = 60
_STRING = json.JSONDecoder()
_MOST_SHOWN = 12
_NETWORK_TAG = re.compile(r"<hypernet:[^<>]{1,200}>")


@dataclass(frozen=True, slots=True)
class ImportedSettings:
    """A request, the program that the settings came from, and a phrase for each setting that was not imported."""

    request: GenerateRequest
    source: str
    not_imported: tuple[str, ...]


def quoted(value: str) -> str:
    """A value as AUTOMATIC1111 writes it: a JSON string when it holds what would end it."""
    return json.dumps(value, ensure_ascii=False) if any(mark in value for mark in ',\n:"') else value


def upscaler_label(name: str) -> str:
    """What AUTOMATIC1111 calls it."""
    return {LANCZOS: "Lanczos", LATENT: "Latent"}.get(name, name)


def check_types(request: PictureRequest) -> None:
    """Refuse a request whose fields came out of JSON as something else: ImageProblem."""
    texts = (request.prompt, request.negative, request.checkpoint, request.upscaler, request.vae)
    wholes: tuple[Any, ...] = (request.seed, request.steps, request.count)
    # Looking at a network path contacts another computer, which no image may cause.
    places = [str(request.checkpoint), str(request.upscaler), str(request.vae)]
    match request:
        case GenerateRequest():
            wholes += (request.width or 0, request.height or 0, request.enlarge_steps)
            places += [str(request.init or ""), str(request.mask or "")]
            places += [place for use in request.controls for place in (use.network, str(use.image))]
        case UpscaleRequest():  # pragma: no branch - there is no third
            places.append(str(request.source))
    if not (all(isinstance(text, str) for text in texts) and all(isinstance(whole, int) for whole in wholes)):
        raise ImageProblem(DAMAGED, "a value has the wrong type", CHOOSE_ANOTHER)
    if any(place.startswith(("\\\\", "//")) for place in places):
        raise ImageProblem("The image's settings were not read", "they refer to another computer", CHOOSE_ANOTHER)


def read_texts(texts: Mapping[str, str], width: int, height: int) -> ImportedSettings | None:
    """The settings in a file's texts, whichever program wrote them; None when there are none. Never raises."""
    parameters = texts.get("parameters", "")
    if parameters.lstrip().startswith("{"):
        imported = _from_swarm(parameters, width, height) or _through_sd_parsers(texts, width, height)
    else:
        imported = _through_sd_parsers(texts, width, height) if not parameters else None
    return imported or (read_parameters(parameters, width, height) if parameters else None)


def read_parameters(text: str, width: int = 0, height: int = 0) -> ImportedSettings | None:
    """A text in AUTOMATIC1111's grammar; None when its last lines hold no settings."""
    lines = text.strip().split("\n")
    values = _pairs(lines[-1][:_LONGEST_LINE])
    if len(values) < 3 and "Steps" not in values:
        return None
    prompt: list[str] = []
    negative: list[str] = []
    in_negative = False
    for line in lines[:-1]:
        line = line.strip()
        if line.startswith("Negative prompt:"):
            in_negative, line = True, line.removeprefix("Negative prompt:").strip()
        (negative if in_negative else prompt).append(line)
    source = values.pop("Version", "")
    ours = source.startswith("diffstudio")
    found: dict[str, Any] = {
        "prompt": "\n".join(prompt),
        "negative": "\n".join(negative),
        "steps": values.pop("Steps", None),
        "sampler": values.pop("Sampler", None),
        "spacing": values.pop("Schedule type", None),
        "guidance": values.pop("CFG scale", None),
        "seed": values.pop("Seed", None),
        "size": values.pop("Size", None),
        "model": values.pop("Model", None),
        "denoise": values.pop("Denoising strength", None),
    }
    found |= {name: values.pop(label, None) for name, label in _HIRES.items()}
    if ours:
        guided = {"yes": True, "no": False}.get(str(values.pop(GUIDE_LAST_CALL, "")).lower())
        # version 0.1 guided every call and did not say so
        found["guide_last_call"] = True if guided is None and source.startswith("diffstudio 0.1.") else guided
    for name in ("Model hash", "Lora hashes", "TI hashes"):
        values.pop(name, None)
    values |= a1111_controlnet.not_imported(
        {name: _pairs(values.pop(name)) for name in a1111_controlnet.controlnet_names(values)}
    )
    return _imported(found, values, "diffstudio" if ours else "AUTOMATIC1111", width, height)


GUIDE_LAST_CALL = "Guide last call"  # our own field: whether guidance acts in the last network call; yes or no

# AUTOMATIC1111's names for the hires fix; the last two are ours.
_HIRES = {
    "enlarge": "Hires upscale",
    "enlarged_size": "Hires resize",
    "enlarge_steps": "Hires steps",
    "upscaler": "Hires upscaler",
    "enlarge_guidance": "Hires CFG Scale",
    "enlarge_strength": "Hires denoising strength",
    "tiled": "Hires tiles",
}


def _second_pass(found: Mapping[str, Any], width: Any, height: Any, skipped: list[str]) -> tuple[dict[str, Any], Any]:
    """A request's fields for the hires fix, and the denoising strength of the first pass."""
    denoise, enlarge = found.get("denoise"), _number(found.get("enlarge"), float)
    target = _SIZE.fullmatch(str(found.get("enlarged_size") or ""))
    if enlarge is None and target and width and height:
        enlarge = max(int(target[1]) / width, int(target[2]) / height)
    if enlarge is None or not enlarge > 1:
        return {}, denoise
    fields: dict[str, Any] = {
        "enlarge": enlarge,
        "enlarge_steps": _number(found.get("enlarge_steps"), int) or 0,
        "tiled": found.get("tiled") == "yes",
        "upscaler": _upscaler(found.get("upscaler"), skipped),
    }
    if (guidance := _number(found.get("enlarge_guidance"), float)) is not None:
        fields["enlarge_guidance"] = guidance
    strength = _number(found.get("enlarge_strength"), float)
    own, denoise = (strength, denoise) if strength is not None else (_number(denoise, float), None)
    return fields | ({"enlarge_strength": own} if own is not None else {}), denoise


def _upscaler(name: Any, skipped: list[str]) -> str:
    """AUTOMATIC1111 has seven latent upscalers and three without a network; here there is one of each."""
    text = str(name or "")[:200].strip()
    plain = reduced(text)
    if plain.startswith("latent"):
        return LATENT
    if plain in ("none", "nearest"):
        skipped.append(f"the upscaler {shortened(text)}")
    return LANCZOS if plain in ("", "none", "nearest", "lanczos") else text


def _pairs(line: str) -> dict[str, str]:
    """`Name: value, Name: "a value, quoted as JSON", …`: text without a name is skipped."""
    pairs: dict[str, str] = {}
    at = 0
    while (colon := line.find(":", at)) >= 0:
        name = line[at:colon].rpartition(",")[2].strip()
        start = colon + 1
        while line[start : start + 1] == " ":
            start += 1
        try:
            value, end = _STRING.raw_decode(line, start) if line[start : start + 1] == '"' else (None, start)
        except ValueError:
            value, end = None, start
        comma = line.find(",", end)
        comma = len(line) if comma < 0 else comma
        if name and len(name) <= _LONGEST_NAME:
            pairs.setdefault(name, line[start:comma].strip() if value is None else str(value))
        at = comma + 1
    return pairs


def _from_swarm(text: str, width: int, height: int) -> ImportedSettings | None:
    values = _json(text)
    values = values.get("sui_image_params") if values else None
    if not isinstance(values, dict):
        return None
    others = dict(values)
    found = {
        ours: others.pop(theirs, None)
        for ours, theirs in (
            ("prompt", "prompt"),
            ("negative", "negativeprompt"),
            ("model", "model"),
            ("seed", "seed"),
            ("steps", "steps"),
            ("guidance", "cfgscale"),
            ("sampler", "sampler"),
            ("spacing", "scheduler"),
            ("denoise", "initimagecreativity"),
        )
    }
    found["size"] = f"{others.pop('width', width)}x{others.pop('height', height)}"
    for name in ("aspectratio", "swarm_version", "date", "generation_time"):
        others.pop(name, None)
    return _imported(found, others, "SwarmUI", width, height)


def _through_sd_parsers(texts: Mapping[str, str], width: int, height: int) -> ImportedSettings | None:
    from sd_parsers.exceptions import ParserError
    from sd_parsers.parsers import ComfyUIParser, FooocusParser, InvokeAIParser, NovelAIParser

    given: dict[str, Any] = dict(texts)
    if "prompt" in given and not isinstance((_json(texts.get("workflow", "")) or {}).get("links"), list):
        given["workflow"] = {"links": _links(given["prompt"])}
    for parser in (FooocusParser(), ComfyUIParser(), InvokeAIParser(), NovelAIParser()):
        try:
            info = parser.parse(dict(given))
        except (ParserError, AttributeError, KeyError, IndexError, TypeError, ValueError, RecursionError):
            continue  # another program's file, or a damaged one
        if not info.samplers:
            continue
        sampler = info.samplers[0]
        others = dict(sampler.parameters)
        metadata = {str(name): value for name, value in info.metadata.items()}
        size = metadata.pop("resolution", None)
        for nodes in metadata.values():  # ComfyUI: the size is in a node of its own
            for node in nodes if isinstance(nodes, list) else ():
                if size is None and isinstance(node, dict) and {"width", "height"} <= node.keys():
                    size = f"{node['width']}x{node['height']}"
        if {"width", "height"} <= metadata.keys():
            size = f"{metadata.pop('width')}x{metadata.pop('height')}"
        found = {
            "prompt": ", ".join(prompt.value for prompt in sampler.prompts),
            "negative": ", ".join(prompt.value for prompt in sampler.negative_prompts),
            "steps": others.pop("steps", None) or metadata.pop("steps", None),
            "sampler": sampler.name,
            "spacing": others.pop("scheduler", None),
            "guidance": others.pop("cfg_scale", None),
            "seed": others.pop("seed", others.pop("noise_seed", None)),
            "size": size,
            "model": sampler.model.name if sampler.model else None,
            "denoise": others.pop("denoise", others.pop("strength", None)),
        }
        if len(info.samplers) > 1:
            others["further samplers"] = len(info.samplers) - 1
        return _imported(
            found,
            others | {name: value for name, value in metadata.items() if _worth_showing(value)},
            info.generator.value,
            width,
            height,
        )
    return None


def _links(prompt: str) -> list[list[Any]]:
    """ComfyUI's links out of its prompt, [id, from, slot, to, slot, kind], for files whose writer left them out."""
    links: list[list[Any]] = []
    for node_id, node in (_json(prompt) or {}).items():
        inputs = node.get("inputs") if isinstance(node, dict) else None
        for name, value in inputs.items() if isinstance(inputs, dict) else ():
            if isinstance(value, list) and len(value) == 2 and isinstance(value[0], (str, int)):
                links.append([len(links), value[0], 0, node_id, 0, str(name).upper()])
    return links


def _json(text: str) -> dict[str, Any] | None:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None


def _worth_showing(value: Any) -> bool:
    return isinstance(value, (str, int, float)) and value not in ("", 0, False, None)


def _imported(
    found: Mapping[str, Any], others: Mapping[str, Any], source: str, width: int, height: int
) -> ImportedSettings | None:
    """A request made of what was found; what it cannot hold becomes a phrase."""
    skipped: list[str] = []
    sampler, spacing = sampler_and_spacing(found.get("sampler"), found.get("spacing"), skipped)
    taken: dict[str, Any] = {"sampler": sampler, "spacing": spacing}
    for name in ("prompt", "negative"):
        text = str(found.get(name) or "")
        if len(text) > LONGEST_PROMPT:
            skipped.append(f"the end of a prompt of {len(text):,} characters")
        taken[name] = text[:LONGEST_PROMPT]
        skipped += [f"the hypernetwork {tag}" for tag in _NETWORK_TAG.findall(text)[:_MOST_SHOWN]]
    for name, kind in (("steps", int), ("guidance", float), ("seed", int)):
        number = _number(found.get(name), kind)
        if number is not None and name == "seed" and not 0 <= number <= LARGEST_SEED:
            skipped.append(f"the seed {number}")
        elif number is not None:
            taken[name] = number
    taken["guide_last_call"] = found.get("guide_last_call")
    match = _SIZE.fullmatch(str(found.get("size") or ""))
    taken["width"], taken["height"] = (int(match[1]), int(match[2])) if match else (width or None, height or None)
    model = str(found.get("model") or "").replace("\\", "/")
    if model:
        taken["checkpoint"] = PurePosixPath(model).name.removesuffix(".safetensors").removesuffix(".ckpt") or "starter"
    second_pass, first_denoise = _second_pass(found, taken["width"], taken["height"], skipped)
    taken |= second_pass
    denoise = _number(first_denoise, float)
    if denoise is not None and denoise < 1:
        skipped.append(f"the init image, at denoising strength {denoise:g}")
    request = _in_range_only(taken, skipped)
    shown = [f"{shortened(name)}: {shortened(value)}" for name, value in others.items() if _worth_showing(value)]
    if len(shown) > _MOST_SHOWN:
        shown[_MOST_SHOWN:] = [f"{len(shown) - _MOST_SHOWN} more settings"]
    return ImportedSettings(request, source, tuple(skipped + shown))


def _in_range_only(taken: dict[str, Any], skipped: list[str]) -> GenerateRequest:
    """A request with those values that are in range, tried one at a time."""
    request_values: dict[str, Any] = {}
    for name, value in taken.items():
        try:
            GenerateRequest(**{name: value})
        except BadRequest:
            skipped.append(f"{name} {shortened(value)}")
        else:
            request_values[name] = value
    return GenerateRequest(**request_values)


def _number(value: Any, kind: type[int] | type[float]) -> int | float | None:
    try:
        return kind(value) if not isinstance(value, bool) and value is not None else None
    except (TypeError, ValueError, OverflowError):
        try:
            return kind(float(value))
        except (TypeError, ValueError, OverflowError):
            return None
