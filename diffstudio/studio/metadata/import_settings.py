"""Settings written by other programs, as far as a GenerateRequest can hold them.

AUTOMATIC1111's text is read by its own rules (`modules/infotext_utils.py` there), because a prompt may hold anything;
ComfyUI's graph is followed by `comfyui`, JSON of other programs read by `other_programs`. A setting is imported only as
far as it was really found; what was not is named.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffstudio.errors import BadRequest, ImageProblem
from diffstudio.models.conditioning.prompt_schedule import escape_schedule
from diffstudio.plurals import count_of
from diffstudio.studio.metadata.gaps import fields_not_held
from diffstudio.studio.metadata.readers import a1111_text
from diffstudio.studio.metadata.readers.a1111_text import CADS
from diffstudio.studio.metadata.readers.comfyui import read_comfyui
from diffstudio.studio.metadata.readers.found_settings import FoundSettings, as_number, json_object, size, stem
from diffstudio.studio.metadata.readers.other_programs import READERS
from diffstudio.studio.metadata.readers.sd_parsers_graph import read_through_sd_parsers
from diffstudio.studio.metadata.sampler_names import drawn_schedule, reduced, sampler_and_spacing, shortened
from diffstudio.studio.prompts.lora_tags import TAG
from diffstudio.studio.prompts.wildcards import escaped
from diffstudio.studio.requests import GenerateRequest, PictureRequest
from diffstudio.studio.requests.choices import LANCZOS, LATENT
from diffstudio.studio.requests.field_names import FIELD_NAMES, value_phrase
from diffstudio.studio.requests.limits import LARGEST_SEED, LONGEST_PROMPT

DAMAGED = "The image's settings are damaged"
CHOOSE_ANOTHER = "Choose another image"

_MOST_SHOWN = 12
_MOST_PHRASES = 40
# Programs that write weights in another way, and patterns of these; round brackets alone mean nothing there.
_OTHER_WEIGHTS = {
    "InvokeAI": re.compile(
        r"\([^()]{1,100}\)(?:[+-]+|\d*\.?\d+)|\b\w{1,100}(?:\++|-+)(?=[\s,]|$)|\.(?:and|blend|swap)\("
    ),
    "NovelAI": re.compile(r"\{[^{}]{1,100}\}|\[[^\[\]]{1,100}\]|-?[.\d]+::"),
}
_NETWORK_TAG = re.compile(r"<hypernet:[^<>]{1,200}>")


@dataclass(frozen=True, slots=True)
class ImportedSettings:
    """A request, the program that the settings came from, and a phrase for each setting that was not imported."""

    request: GenerateRequest
    source: str
    not_imported: tuple[str, ...]
    not_held: frozenset[str] = frozenset()  # fields of the request whose values are not the file's, but defaults


def upscaler_label(name: str) -> str:
    """What AUTOMATIC1111 calls it."""
    return {LANCZOS: "Lanczos", LATENT: "Latent"}.get(name, name)


def check_paths(request: PictureRequest) -> None:
    """Refuse a request with a network path: looking at one contacts another computer, which no image may cause."""
    places: list[Path | str | None] = [request.checkpoint, request.upscaler, request.vae]
    if isinstance(request, GenerateRequest):
        places.append(request.autoguidance)
        places += [request.init, request.mask]
        places += [place for use in request.controls for place in (use.network, use.image)]
    else:
        places.append(request.source)
    if any(str(place).startswith(("\\\\", "//")) for place in places):
        raise ImageProblem("The image's settings were not read", "they refer to another computer", CHOOSE_ANOTHER)


def read_texts(texts: Mapping[str, str], width: int, height: int) -> ImportedSettings | None:
    """The settings in a file's texts, whichever program wrote them; None when there are none. Never raises."""
    found = next((found for read in READERS if (found := read(texts)) is not None), None)
    if found is None:
        found = read_comfyui(texts, width, height)
    if found is None and "prompt" in texts:
        found = read_through_sd_parsers(texts)
    if found is not None and any(found.values.get(name) not in (None, "") for name in ("prompt", "seed", "steps")):
        return _imported(found, width, height)
    parameters = texts.get("parameters", "")
    if not parameters or json_object(parameters) is not None:
        return None
    return read_parameters(parameters, width, height) or _imported(a1111_text.prompt_alone(parameters), width, height)


def read_parameters(text: str, width: int = 0, height: int = 0) -> ImportedSettings | None:
    """A text in AUTOMATIC1111's grammar; None when its last line holds no settings."""
    found = a1111_text.read(text)
    return _imported(found, width, height) if found is not None else None


def _second_pass(found: Mapping[str, Any], width: Any, height: Any, skipped: list[str]) -> tuple[dict[str, Any], Any]:
    """A request's fields for the hires fix, and the denoising strength of the first pass."""
    denoise, enlarge = found.get("denoise"), _number_of(found, "enlarge", float, skipped)
    target = size(found.get("enlarged_size"))
    if enlarge is None and target and width and height:
        enlarge = max(target[0] / width, target[1] / height)
    if enlarge is None or not enlarge > 1:
        return {}, denoise
    fields: dict[str, Any] = {
        "enlarge": enlarge,
        "enlarge_steps": _number_of(found, "enlarge_steps", int, skipped) or 0,
        "tiled": found.get("tiled") == "yes",
        "upscaler": _upscaler(found.get("upscaler"), skipped),
    }
    if (guidance := _number_of(found, "enlarge_guidance", float, skipped)) is not None:
        fields["enlarge_guidance"] = guidance
    strength = _number_of(found, "enlarge_strength", float, skipped)
    own, denoise = (strength, denoise) if strength is not None else (as_number(denoise, float), None)
    return fields | ({"enlarge_strength": own} if own is not None else {}), denoise


def _upscaler(name: Any, skipped: list[str]) -> str:
    """The upscaler of a request: AUTOMATIC1111's seven latent ones become one, and those without a network Lanczos."""
    text = str(name or "")[:200].strip()
    plain = reduced(text)
    if plain.startswith("latent"):
        return LATENT
    if plain in ("none", "nearest"):
        skipped.append(f"the upscaler {shortened(text)}")
    return LANCZOS if plain in ("", "none", "nearest", "lanczos") else text


def _other_setting(name: str, value: Any) -> str:
    """A phrase for a setting that has no place in a request; empty for one that is off."""
    if isinstance(value, (dict, list)):  # its size alone would fill the window
        return shortened(name) if value else ""
    return f"{shortened(name)}: {shortened(value)}" if value not in ("", 0, False, None) else ""


def _imported(found: FoundSettings, width: int, height: int) -> ImportedSettings:
    """A request made of what was found; what it cannot hold, and what was not found, becomes a phrase."""
    values, skipped = found.values, list(found.not_imported)
    taken: dict[str, Any] = {}
    no_tags: list[str] = []
    for name, tags in (("prompt", found.loras), ("negative", no_tags)):
        if (text := _prompt(name, values.get(name), tags, found, skipped)) is not None:
            taken[name] = text
    drawn = drawn_schedule(values.get("curve"), skipped)
    taken |= _sampler_fields(values if not drawn else {**values, "spacing": ""}, skipped)
    for name, kind in (("steps", int), ("guidance", float), ("seed", int)):
        number = _number_of(values, name, kind, skipped)
        if number is not None and name == "seed" and not 0 <= number <= LARGEST_SEED:
            skipped.append(value_phrase(name, shortened(number)))
        elif number is not None:
            taken[name] = number
    if (truncation := _number_of(values, "truncation", float, skipped)) is not None:
        taken["truncation"] = truncation
    if isinstance(text := values.get("times"), str) and text:
        times = [as_number(time, float) for time in text.split()]
        if None in times:
            skipped.append(f"the times of the steps {shortened(text)}")
        else:
            taken["times"] = tuple(times)
    clip_skip = _number_of(values, "clip_skip", int, skipped)
    if clip_skip is not None and clip_skip != 1:  # the last layer, where other programs mean that nothing is skipped
        taken["clip_skip"] = clip_skip
    if values.get("guide_last_call") is not None:
        taken["guide_last_call"] = values["guide_last_call"]
    taken |= _guidance_fields(values, skipped)
    named_size = size(values.get("size"))
    taken["width"], taken["height"] = named_size or (width or None, height or None)
    if isinstance(model := values.get("model"), str) and stem(model):
        taken["checkpoint"] = stem(model)
    second_pass, first_denoise = _second_pass(values, taken["width"], taken["height"], skipped)
    taken |= second_pass
    denoise = _number_of({"denoise": first_denoise}, "denoise", float, skipped)
    if denoise is not None and denoise < 1:
        skipped.append(f"the init image, at denoising strength {denoise:g}")
    skipped += [
        f"the {FIELD_NAMES[_FIELDS.get(name, name)]}, which the file does not hold"
        for name in _ALWAYS
        if values.get(name) in (None, "") and not (name == "prompt" and found.loras) and name not in found.explained
    ]
    held = _in_range_only(taken, skipped) | drawn
    request = GenerateRequest(**held)
    sized = {name for name in ("width", "height") if held.get(name) is not None}
    not_held = fields_not_held(held.keys() - (set() if named_size else {"width", "height"}), sized)
    shown = [phrase for name, value in found.others.items() if (phrase := _other_setting(name, value))]
    if len(shown) > _MOST_SHOWN:
        shown[_MOST_SHOWN:] = [count_of(len(shown) - _MOST_SHOWN, "more setting")]
    if len(skipped) > _MOST_PHRASES:
        skipped[_MOST_PHRASES:] = [count_of(len(skipped) - _MOST_PHRASES, "other thing")]
    return ImportedSettings(request, found.source, tuple(map(_phrase, skipped + shown)), not_held)


def _guidance_fields(values: Mapping[str, Any], skipped: list[str]) -> dict[str, Any]:
    """The fields of a request for the guidance interval, autoguidance and CADS."""
    taken: dict[str, Any] = {}
    if (ends := values.get("guidance_interval")) is not None:
        numbers = [as_number(end, float) for end in ends]
        if None in numbers:
            skipped.append(f"the guidance interval {shortened(' to '.join(map(str, ends)))}")
        else:
            taken["guidance_interval"] = tuple(numbers)
    if isinstance(name := values.get("autoguidance"), str) and name:
        taken["autoguidance"] = name
    for name in ("autoguidance_scale", *CADS):
        if (number := _number_of(values, name, float, skipped)) is not None:
            taken[name] = number
    return taken


def _phrase(text: str) -> str:
    """One line of at most 200 characters."""
    text = " ".join(text[:1000].split())
    return text if len(text) <= 200 else f"{text[:199]}…"


_FIELDS = {"model": "checkpoint", "denoise": "strength"}  # where a setting and the field of a request differ in name
_ALWAYS = ("prompt", "steps", "sampler", "guidance", "seed", "model")


def _sampler_fields(values: Mapping[str, Any], skipped: list[str]) -> dict[str, Any]:
    named = {name: value for name in ("sampler", "spacing") if isinstance(value := values.get(name), str) and value}
    skipped += [
        f"the {'sampler' if name == 'sampler' else 'scheduler'} {shortened(value)}"
        for name in ("sampler", "spacing")
        if name not in named and (value := values.get(name)) not in (None, "")
    ]
    sampler, spacing = sampler_and_spacing(named.get("sampler"), named.get("spacing"), skipped)
    fields = {"sampler": sampler, "spacing": spacing if named else None}
    return {name: value for name, value in fields.items() if value is not None}


def _prompt(name: str, text: Any, tags: list[str], found: FoundSettings, skipped: list[str]) -> str | None:
    """A prompt with the tags of its LoRAs, written so that nothing in it means more than in the program it is from."""
    kind = "negative prompt" if name == "negative" else "prompt"
    if text is not None and not isinstance(text, str):
        skipped.append(f"the {kind}, which is not text")
        text = None
    if text is None and not tags:
        return None
    text = " ".join(filter(None, (_in_our_grammar(text or "", found, kind, skipped), *tags)))
    skipped += [f"the hypernetwork {tag}" for tag in _NETWORK_TAG.findall(text)]
    end = LONGEST_PROMPT
    while len(written := escaped(text[:end])) > LONGEST_PROMPT:
        end -= (len(written) - LONGEST_PROMPT + 1) // 2  # each character takes two at most
    if end < len(text):
        skipped.append(f"the end of a {kind} of {len(text):,} characters")
    return written


def _in_our_grammar(text: str, found: FoundSettings, kind: str, skipped: list[str]) -> str:
    """A prompt in AUTOMATIC1111's grammar, which ours is; other weights than `(word:1.2)` become text.

    So do LoRA tags from programs that do not support them: with a space, `< lora:a:1>` has the same tokens but applies
    no LoRA.
    """
    if not found.reads_lora_tags:
        tags = [tag[0] for tag in TAG.finditer(text)]
        skipped += [f"the {kind}'s {shortened(tag)}, which is text in {found.source}" for tag in tags[:_MOST_SHOWN]]
        text = TAG.sub(lambda tag: f"< {tag[0][1:]}", text)
    if found.source not in _OTHER_WEIGHTS:
        return text
    weights = _OTHER_WEIGHTS[found.source].findall(text)[:_MOST_SHOWN]
    skipped += [f"the {kind}'s {shortened(weight)}" for weight in weights]
    return re.sub(r"[()]", r"\\\g<0>", escape_schedule(re.sub(r"\\([()])", r"\1", text)))


def _in_range_only(taken: dict[str, Any], skipped: list[str]) -> dict[str, Any]:
    """The fields of a request whose values are in range, tried one at a time."""
    request_values: dict[str, Any] = {}
    for name, value in taken.items():
        try:
            GenerateRequest(**{name: value})
        except BadRequest:
            skipped.append(value_phrase(name, shortened(value)))
        else:
            request_values[name] = value
    return request_values


def _number_of(
    values: Mapping[str, Any], name: str, kind: type[int] | type[float], skipped: list[str]
) -> int | float | None:
    """A number, which may be written as text; one that cannot be read is named."""
    value = values.get(name)
    number = as_number(value, kind)
    if number is None and value is not None:
        skipped.append(value_phrase(_FIELDS.get(name, name), shortened(value)))
    return number
