"""The fields of sampling that GenerateRequest and UpscaleRequest share: given their types, and checked."""

from __future__ import annotations

from typing import Any

from diffstudio.errors import BadRequest
from diffstudio.studio.curves.saved import NamedCurve
from diffstudio.studio.requests.checks import (
    check_range,
    check_steps,
    check_strength,
    check_text,
    named,
    shown,
    times_of,
)
from diffstudio.studio.requests.choices import CARRIED, SamplerName, SpacingName
from diffstudio.studio.requests.limits import MOST_CLIP_SKIP, MOST_STEPS


def convert_sampling_fields(request: Any) -> None:
    """Give names from JSON or the command line their types, and drop times and curve where the spacing has none."""
    set_field = object.__setattr__  # the request is frozen
    set_field(request, "sampler", named(SamplerName, "sampler", request.sampler))
    set_field(request, "spacing", named(SpacingName, "scheduler", request.spacing))
    set_field(request, "times", times_of(request.times, request.steps if request.spacing in CARRIED else 0))
    set_field(request, "curve", _curve_of(request.spacing, request.curve))


def check_sampling_fields(request: Any) -> None:
    check_steps(request.steps, MOST_STEPS)
    check_range("The clip skip", 1 if request.clip_skip is None else request.clip_skip, 1, MOST_CLIP_SKIP)
    check_range("The CFG scale", request.guidance, 0.0, 100.0)
    check_strength("The denoising strength", request.strength)
    check_text("The upscaler", request.upscaler)
    check_text("The VAE", request.vae or "none")


def _curve_of(spacing: SpacingName, curve: NamedCurve | None) -> NamedCurve | None:
    """The noise schedule of a request: None with another spacing than CUSTOM. BadRequest where that has none."""
    if not (curve is None or isinstance(curve, NamedCurve)):
        raise BadRequest(f"The noise schedule is {shown(curve)}", "it must be a curve with a name")
    if spacing is not SpacingName.CUSTOM:
        return None
    if curve is None:
        raise BadRequest("The scheduler is custom, and there is no noise schedule", remedy="Choose another scheduler")
    return curve
