"""Requests from JSON objects, which may be older, newer or damaged."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from diffstudio.errors import BadRequest, why_unreadable
from diffstudio.studio.curves.saved import NamedCurve
from diffstudio.studio.requests.checks import shown

FORMAT = 1  # of the `diffstudio` JSON in images and in the queue

_UNREADABLE = "The settings cannot be read"

_T = TypeVar("_T")


def known_values(cls: type, values: Any) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise BadRequest(_UNREADABLE, "they are not a JSON object")
    stored = values.get("format", 0)
    if not isinstance(stored, int) or stored > FORMAT:
        raise BadRequest(
            f"The settings are of format {shown(stored)}", f"this program reads up to {FORMAT}", "Update diffstudio"
        )
    names = {field.name for field in fields(cls)}
    if "guide_last_call" in names:  # requests from before this setting guided every call
        values = {"guide_last_call": True} | values
    return {name: value for name, value in values.items() if name in names}


def with_paths(values: dict[str, Any], *names: str) -> dict[str, Any]:
    """The values with these texts as paths; anything else stays as it is, for `check_types` to refuse."""
    return values | {name: Path(values[name]) for name in names if isinstance(values.get(name), str)}


def with_curve(values: dict[str, Any]) -> dict[str, Any]:
    """The values, with the noise schedule read from its JSON object. BadRequest if it is not valid."""
    curve = values.get("curve")
    return values if curve is None else values | {"curve": NamedCurve.from_json(curve)}


def created(cls: type[_T], values: dict[str, Any]) -> _T:
    try:
        return cls(**values)
    except TypeError as error:
        raise BadRequest(_UNREADABLE, why_unreadable(error)) from error
