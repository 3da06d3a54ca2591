"""Settings as InvokeAI, NovelAI, Fooocus, SwarmUI and Draw Things write them: JSON under a keyword of their own.

Each reader takes the texts of an image by keyword and returns what it found, or None when another program wrote them.
None raises, whatever the values' types are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from diffstudio.models.conditioning.prompt_schedule import escape_schedule
from diffstudio.studio.metadata.readers import swarmui_prompt
from diffstudio.studio.metadata.readers.found_settings import (
    FoundSettings,
    as_list,
    as_object,
    is_number,
    json_object,
    stem,
)


def read_invokeai(texts: Mapping[str, str]) -> FoundSettings | None:
    """InvokeAI: `invokeai_metadata` since version 3, `sd-metadata` in version 2, `Dream` in version 1."""
    if (values := json_object(texts.get("invokeai_metadata"))) is not None:
        return _invokeai_3(values)
    if (values := json_object(texts.get("sd-metadata"))) is not None:
        return _invokeai_2(values)
    if "Dream" in texts:
        return _invokeai_1(texts["Dream"])
    return None


def _invokeai_3(values: Mapping[str, Any]) -> FoundSettings:
    others = dict(values)
    found = FoundSettings("InvokeAI", reads_lora_tags=False)
    model = others.pop("model", None)
    found.values = {
        "prompt": others.pop("positive_prompt", None),
        "negative": _text_or_empty(others.pop("negative_prompt", None)),
        "steps": others.pop("steps", None),
        "sampler": others.pop("scheduler", None),
        "guidance": _guidance(others, "cfg_scale", "guidance"),
        "seed": others.pop("seed", None),
        "size": _sides(others),
        "model": _model_name(model),
    }
    for one in map(as_object, as_list(others.pop("loras", None))):
        found.add_lora(_model_name(one.get("model") or one.get("lora")), one.get("weight"))
    for one in as_list(others.pop("controlnets", None)):
        name = _model_name(as_object(one).get("control_model"))
        found.not_imported.append(f"the ControlNet {name}" if name else "a ControlNet")
    found.values["denoise"] = others.pop("strength", None)
    skipped = others.pop("clip_skip", None)
    found.values["clip_skip"] = skipped + 1 if is_number(skipped) else skipped  # it counts the layers left out
    if vae := _model_name(others.pop("vae", None)):
        others["VAE"] = vae
    if image := others.pop("init_image", None):
        others["init image"] = image
    hidden = ("app_version", "generation_mode", "rand_device", "canvas_v2_metadata", "model_config")
    found.others = {name: value for name, value in others.items() if name not in hidden}
    return found


def _invokeai_2(values: Mapping[str, Any]) -> FoundSettings:
    image = dict(as_object(values.get("image")))
    prompt = image.pop("prompt", None)
    if isinstance(prompt, list):  # parts with weights
        prompt = ", ".join(str(as_object(part).get("prompt", "")) for part in prompt)
    text, negative = _bracketed_negative(prompt)
    found = FoundSettings("InvokeAI", reads_lora_tags=False)
    found.values = {
        "prompt": text,
        "negative": negative,
        "steps": image.pop("steps", None),
        "sampler": image.pop("sampler", None),
        "guidance": image.pop("cfg_scale", None),
        "seed": image.pop("seed", None),
        "size": _sides(image),
        "model": _model_name(values.get("model_weights")),
    }
    found.others = {name: value for name, value in image.items() if name != "type"}
    return found


def _invokeai_1(text: str) -> FoundSettings | None:
    match = re.match(r'\s*"(.*)"((?:\s+-\w+\s*\S+)*)', text, re.DOTALL)
    if match is None:
        return None
    flags = dict(re.findall(r"-(\w)\s*(\S+)", match[2]))
    prompt, negative = _bracketed_negative(match[1])
    found = FoundSettings("InvokeAI", reads_lora_tags=False)
    found.values = {
        "prompt": prompt,
        "negative": negative,
        "steps": flags.pop("s", None),
        "seed": flags.pop("S", None),
        "guidance": flags.pop("C", None),
        "sampler": flags.pop("A", None),
        "denoise": flags.pop("f", None),
    }
    width, height = flags.pop("W", None), flags.pop("H", None)
    found.values["size"] = f"{width}x{height}" if width and height else None
    found.others = {f"-{name}": value for name, value in flags.items()}
    return found


def _bracketed_negative(prompt: Any) -> tuple[Any, str]:
    """InvokeAI's early versions kept the negative prompt in square brackets inside the prompt."""
    if not isinstance(prompt, str):
        return prompt, ""
    negative = ", ".join(re.findall(r"\[([^\[\]]*)\]", prompt))
    return re.sub(r" ?\[[^\[\]]*\]", "", prompt).strip(), negative


def _model_name(model: Any) -> str | None:
    """A model is a name, or an object that holds one under a key that changed with the versions."""
    if isinstance(model, str):
        return stem(model) or None
    values = as_object(model)
    for name in ("name", "model_name", "model"):
        if isinstance(values.get(name), str) and values[name]:
            return str(values[name])
    return _model_name(values["model"]) if isinstance(values.get("model"), dict) else None


def read_novelai(texts: Mapping[str, str]) -> FoundSettings | None:
    """NovelAI: a `Comment` of JSON; since V4 prompts have a base caption and one for each character."""
    if "NovelAI" not in texts.get("Software", "") and "NovelAI" not in texts.get("Source", ""):
        return None
    others = json_object(texts.get("Comment"))
    if others is None:
        return None
    found = FoundSettings("NovelAI", reads_lora_tags=False)
    prompt, characters = _v4_prompt(others.pop("v4_prompt", None))
    negative, unwanted = _v4_prompt(others.pop("v4_negative_prompt", None))
    found.values = {
        "prompt": _first_given(prompt, others.pop("prompt", None), texts.get("Description")),
        "negative": _text_or_empty(_first_given(negative, others.pop("uc", None))),
        "steps": others.pop("steps", None),
        "sampler": others.pop("sampler", None),
        "spacing": others.pop("noise_schedule", None),
        "guidance": others.pop("scale", None),
        "seed": others.pop("seed", None),
        "size": _sides(others),
        "denoise": others.pop("strength", None)
        if others.get("image") or others.get("request_type") == "Img2ImgRequest"
        else None,
    }
    found.not_imported = [f"the character prompt {text}" for text in characters if text]
    found.not_imported += [f"the negative character prompt {text}" for text in unwanted if text]
    if texts.get("Source"):
        found.not_imported.append(f"the checkpoint {texts['Source']}, which cannot be downloaded")
        found.explained.add("model")
    shown = ("cfg_rescale", "sm", "sm_dyn", "dynamic_thresholding", "uncond_scale", "controlnet_strength")
    found.others = {
        name: others[name] for name in shown if others.get(name) is True or others.get(name) not in (None, 0, 1)
    }
    return found


def _v4_prompt(value: Any) -> tuple[str | None, list[str]]:
    caption = as_object(as_object(value).get("caption"))
    base = caption.get("base_caption")
    characters = [as_object(one).get("char_caption") for one in as_list(caption.get("char_captions"))]
    return base if isinstance(base, str) and base else None, [text for text in characters if isinstance(text, str)]


def read_fooocus(texts: Mapping[str, str]) -> FoundSettings | None:
    """Fooocus: `parameters` (or a comment) of JSON, with `fooocus_scheme` beside it or its own names inside."""
    others = json_object(texts.get("parameters")) or json_object(texts.get("Comment"))
    if others is None or not ("fooocus_scheme" in texts or "base_model" in others):
        return None
    found = FoundSettings("Fooocus")
    full_prompt, full_negative = others.pop("full_prompt", None), others.pop("full_negative_prompt", None)
    found.values = {
        "prompt": others.pop("prompt", None) or ", ".join(map(str, as_list(full_prompt))) or None,
        "negative": others.pop("negative_prompt", None) or ", ".join(map(str, as_list(full_negative))),
        "steps": others.pop("steps", None),
        "sampler": others.pop("sampler", None),
        "spacing": others.pop("scheduler", None),
        "guidance": others.pop("guidance_scale", None),
        "seed": others.pop("seed", None),
        "size": others.pop("resolution", None),
        "model": _model_name(others.pop("base_model", None)),
        "clip_skip": others.pop("clip_skip", None),
    }
    for name in ("prompt", "negative"):
        if isinstance(text := found.values[name], str):
            found.values[name] = escape_schedule(text)  # it has weights such as `(word:1.2)` only
    for file, weight in _fooocus_loras(others):
        found.add_lora(file, weight)
    refiner = others.pop("refiner_model", None)
    if isinstance(refiner, str) and refiner not in ("", "None"):
        found.not_imported.append(f"the refiner {stem(refiner)}")
    if styles := [str(one) for one in as_list(others.pop("styles", None))]:
        found.not_imported.append(f"the styles {', '.join(styles)}")
    hidden = ("version", "metadata_scheme", "created_by", "base_model_hash", "refiner_switch")
    if others.get("vae") == "Default (model)":
        del others["vae"]
    found.others = {name: value for name, value in others.items() if name not in hidden}
    return found


def _fooocus_loras(others: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for one in as_list(others.pop("loras", None)):
        if isinstance(one, list) and len(one) >= 2 and isinstance(one[0], str) and one[0] != "None":
            yield one[0], next((value for value in one[1:] if is_number(value)), None)
    for name in [name for name in others if re.fullmatch(r"lora_combined_\d+", name)]:
        file, colon, weight = str(others.pop(name)).rpartition(":")
        if colon:
            yield file.strip(), _float(weight)


def read_swarmui(texts: Mapping[str, str]) -> FoundSettings | None:
    """SwarmUI: `parameters` of JSON with `sui_image_params`."""
    values = (json_object(texts.get("parameters")) or {}).get("sui_image_params")
    if not isinstance(values, dict):
        return None
    others = dict(values)
    found = FoundSettings("SwarmUI")
    found.values = {
        "prompt": others.pop("prompt", None),
        "negative": _text_or_empty(others.pop("negativeprompt", None)),
        "model": _model_name(others.pop("model", None)),
        "seed": others.pop("seed", None),
        "steps": others.pop("steps", None),
        "guidance": _guidance(others, "cfgscale", "fluxguidancescale"),
        "sampler": others.pop("sampler", None),
        "spacing": others.pop("scheduler", None),
        "denoise": others.pop("initimagecreativity", None),
        "size": _sides(others),
    }
    for name in ("prompt", "negative"):
        if isinstance(text := found.values[name], str):
            found.values[name], left_out = swarmui_prompt.read_prompt(text)
            found.not_imported += left_out
    layer = others.pop("clipstopatlayer", None)
    found.values["clip_skip"] = -layer if is_number(layer) else layer  # -2 is the last but one
    names, weights = others.pop("loras", None), others.pop("loraweights", None)
    names = names.split(",") if isinstance(names, str) else as_list(names)
    weights = weights.split(",") if isinstance(weights, str) else as_list(weights)
    for index, name in enumerate(names):
        if isinstance(name, str) and name:
            found.add_lora(name, _float(weights[index]) if index < len(weights) else None)
    hidden = ("aspectratio", "swarm_version", "date", "generation_time", "images", "automaticvae")
    found.others = {name: value for name, value in others.items() if name not in hidden}
    return found


def read_draw_things(texts: Mapping[str, str]) -> FoundSettings | None:
    """Draw Things: JSON in the exif:UserComment of XMP, with one- and two-letter names."""
    others = json_object(texts.get("draw_things"))
    if others is None or "c" not in others:
        return None
    found = FoundSettings("Draw Things", reads_lora_tags=False)
    found.values = {
        "prompt": others.pop("c", None),
        "negative": _text_or_empty(others.pop("uc", None)),
        "steps": others.pop("steps", None),
        "guidance": others.pop("scale", None),
        "seed": others.pop("seed", None),
        "sampler": others.pop("sampler", None),
        "model": _model_name(others.pop("model", None)),
        "size": others.pop("size", None),
        "denoise": others.pop("strength", None),
        "clip_skip": others.pop("clip_skip", None),
    }
    for one in map(as_object, as_list(others.pop("lora", None))):
        found.add_lora(_model_name(one.get("model") or one.get("file")), one.get("weight"))
    for one in as_list(others.pop("control", None)):
        name = _model_name(as_object(one).get("file"))
        found.not_imported.append(f"the ControlNet {name}" if name else "a ControlNet")
    found.others = {name: value for name, value in others.items() if name not in ("v2", "profile")}
    return found


READERS = (read_invokeai, read_novelai, read_fooocus, read_swarmui, read_draw_things)


def _sides(values: dict[str, Any]) -> str | None:
    width, height = values.pop("width", None), values.pop("height", None)
    return f"{width}x{height}" if width and height else None


def _guidance(values: dict[str, Any], cfg_name: str, distilled_name: str) -> Any:
    """The CFG scale, or the guidance that FLUX.1 takes as an input where the CFG scale is 1 or absent."""
    if distilled_name in values and values.get(cfg_name) in (None, 1):
        values.pop(cfg_name, None)
        return values.pop(distilled_name)
    return values.pop(cfg_name, None)


def _first_given(*values: Any) -> Any:
    return next((value for value in values if value not in (None, "")), None)


def _text_or_empty(negative: Any) -> Any:
    """A negative prompt; an empty one where the file holds none."""
    return "" if negative is None else negative


def _float(value: Any) -> float | None:
    """A number that may be written as text."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None
