"""A request out of an image's own JSON, without those of its values that no request may hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from diffstudio.errors import BadRequest
from diffstudio.studio.metadata.sampler_names import shortened
from diffstudio.studio.requests import (
    ControlNetUse,
    GenerateRequest,
    PictureRequest,
    TrainRequest,
    UpscaleRequest,
    request_from_json,
)
from diffstudio.studio.requests.field_names import value_phrase


def stored_request(values: Mapping[str, Any]) -> tuple[PictureRequest, list[str]]:
    """The request, and a phrase for each value of a wrong type or out of range.

    BadRequest for the JSON of another kind, or of a newer diffstudio.
    """
    try:
        return _picture_request(values), []
    except BadRequest:
        return _valid_part(values)


def _picture_request(values: Mapping[str, Any]) -> PictureRequest:
    request = request_from_json(dict(values))
    if isinstance(request, TrainRequest):
        raise BadRequest("These are the settings of a training run")
    return request


def _valid_part(values: Mapping[str, Any]) -> tuple[PictureRequest, list[str]]:
    kept = {name: values[name] for name in ("kind", "format") if name in values}
    if "guide_last_call" in values:  # where it is absent, version 0.1 wrote the request
        kept["guide_last_call"] = None
    request = _picture_request(kept)
    names = [field.name for field in fields(GenerateRequest if kept["kind"] == "generate" else UpscaleRequest)]
    waiting = {name: values[name] for name in names if name in values}
    dropped: list[str] = []
    if isinstance(controls := waiting.get("controls"), list):
        waiting["controls"] = [use for use in controls if _is_controlnet(use)]
        dropped += [value_phrase("controls", shortened(use)) for use in controls if not _is_controlnet(use)]
    remaining = len(waiting) + 1
    while len(waiting) < remaining:  # again: some values need another one, as a mask needs an image
        remaining = len(waiting)
        for name, value in list(waiting.items()):
            try:
                request = _picture_request(kept | {name: value})
            except BadRequest:
                continue
            kept[name] = waiting.pop(name)
    return request, dropped + [value_phrase(name, shortened(value) or repr(value)) for name, value in waiting.items()]


def _is_controlnet(value: object) -> bool:
    try:
        ControlNetUse.from_json(value)
    except BadRequest:
        return False
    return True
