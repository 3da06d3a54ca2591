"""Samplers and spacings by the names that AUTOMATIC1111, ComfyUI, InvokeAI and other programs have for them."""

from __future__ import annotations

import json
import re
from typing import Any

from diffstudio.errors import BadRequest
from diffstudio.studio.curves.saved import NamedCurve
from diffstudio.studio.requests import SamplerName, SpacingName
from diffstudio.studio.requests.checks import shown

SAMPLER_LABELS = {
    SamplerName.EULER: "Euler",
    SamplerName.HEUN: "Heun",
    SamplerName.DDIM: "DDIM",
    SamplerName.DDPM: "DDPM",
    SamplerName.EULER_ANCESTRAL: "Euler a",
    SamplerName.DPMPP_2M: "DPM++ 2M",
    SamplerName.DPMPP_2M_SDE: "DPM++ 2M SDE",
    SamplerName.UNIPC: "UniPC",
    SamplerName.LCM: "LCM",
}

# As the window and its sentences have them.
SPACING_LABELS = {
    SpacingName.UNIFORM: "Uniform",
    SpacingName.TRAILING: "Trailing",
    SpacingName.LEADING: "Leading",
    SpacingName.KARRAS: "Karras",
    SpacingName.EXPONENTIAL: "Exponential",
    SpacingName.LOG_SNR: "Log-SNR",
    SpacingName.ALIGN_YOUR_STEPS: "Align Your Steps",
    SpacingName.FITTED: "Fitted",
    SpacingName.CUSTOM: "Custom",
}

# As image files have them. AUTOMATIC1111's schedulers with the same timesteps: its "SGM Uniform" leaves the last index out
# as `trailing` does, its "DDIM" counts up from index 1 as `leading` does. It has no name for equal steps of log-SNR.
A1111_SPACINGS = SPACING_LABELS | {SpacingName.TRAILING: "SGM Uniform", SpacingName.LEADING: "DDIM"}

# Names as other programs write them, reduced by `reduced`.
_SAMPLERS = {
    "euler": SamplerName.EULER,
    "keuler": SamplerName.EULER,
    "eulerdiscrete": SamplerName.EULER,
    "eulera": SamplerName.EULER_ANCESTRAL,
    "eulerancestral": SamplerName.EULER_ANCESTRAL,
    "keulera": SamplerName.EULER_ANCESTRAL,
    "keulerancestral": SamplerName.EULER_ANCESTRAL,
    "heun": SamplerName.HEUN,
    "kheun": SamplerName.HEUN,
    "ddim": SamplerName.DDIM,
    "ddimv3": SamplerName.DDIM,
    "ddpm": SamplerName.DDPM,
    "lcm": SamplerName.LCM,
    "dpm++2m": SamplerName.DPMPP_2M,
    "dpmpp2m": SamplerName.DPMPP_2M,
    "kdpmpp2m": SamplerName.DPMPP_2M,
    "kdpm++2m": SamplerName.DPMPP_2M,
    "dpm++2msde": SamplerName.DPMPP_2M_SDE,
    "dpmpp2msde": SamplerName.DPMPP_2M_SDE,
    "dpmpp2msdegpu": SamplerName.DPMPP_2M_SDE,
    "kdpmpp2msde": SamplerName.DPMPP_2M_SDE,
    "unipc": SamplerName.UNIPC,
    "unipcbh2": SamplerName.UNIPC,
}
_SPACINGS = {
    "uniform": SpacingName.UNIFORM,
    "normal": SpacingName.UNIFORM,
    "sgmuniform": SpacingName.TRAILING,
    "simple": SpacingName.TRAILING,
    "trailing": SpacingName.TRAILING,
    "ddim": SpacingName.LEADING,
    "ddimuniform": SpacingName.LEADING,
    "leading": SpacingName.LEADING,
    "karras": SpacingName.KARRAS,
    "exponential": SpacingName.EXPONENTIAL,
    "polyexponential": SpacingName.EXPONENTIAL,
    "logsnr": SpacingName.LOG_SNR,
    "alignyoursteps": SpacingName.ALIGN_YOUR_STEPS,
    "fitted": SpacingName.FITTED,
}
# AUTOMATIC1111's schedule "Automatic", where it is not uniform.
_AUTOMATIC = {SamplerName.DPMPP_2M: SpacingName.KARRAS, SamplerName.DPMPP_2M_SDE: SpacingName.EXPONENTIAL}


def sampler_and_spacing(
    sampler: object, spacing: object, skipped: list[str]
) -> tuple[SamplerName | None, SpacingName | None]:
    """The sampler and spacing that another program's names mean.

    For an unknown name it is None, and a phrase is added to `skipped`. A known sampler without a spacing is uniform.
    """
    name, spacing_name = reduced(sampler), reduced(spacing)
    # "DPM++ 2M Karras", before schedules had a field of their own; "UniPC Trailing" of Draw Things
    for ending in ("karras", "exponential", "trailing"):
        if name.endswith(ending) and len(name) > len(ending):
            name, spacing_name = name.removesuffix(ending), spacing_name or ending
    if name.endswith("k") and name.removesuffix("k") in _SAMPLERS:  # InvokeAI's dpmpp_2m_k
        name, spacing_name = name.removesuffix("k"), spacing_name or "karras"
    ours = _SAMPLERS.get(name)
    if ours is None and sampler:
        skipped.append(f"the sampler {shortened(sampler)}")
    spaced = _SPACINGS.get(spacing_name)
    if spacing_name in ("", "automatic"):
        usual = _AUTOMATIC.get(ours, SpacingName.UNIFORM) if ours and spacing_name else SpacingName.UNIFORM
        spaced = usual if ours else None
    elif spaced is None:
        skipped.append(f"the scheduler {shortened(spacing)}")
    return ours, spaced


def drawn_schedule(text: object, skipped: list[str]) -> dict[str, Any]:
    """The fields of a request for a drawn noise schedule, which is JSON; none, and a phrase, for one that is not valid."""
    if not isinstance(text, str) or not text:
        return {}
    try:
        return {"spacing": SpacingName.CUSTOM, "curve": NamedCurve.from_json(json.loads(text))}
    except (BadRequest, ValueError, RecursionError):
        skipped.append(f"the noise schedule {shortened(text)}")
        return {}


def named_sampler(name: str) -> SamplerName | None:
    """The sampler that a name means, as diffstudio or another program writes it."""
    return _SAMPLERS.get(reduced(name)) or _SAMPLERS.get(reduced(name.replace("++", "pp")))


def reduced(name: object) -> str:
    """A name as it is compared: lower-case letters, digits and `+`."""
    return re.sub(r"[^a-z0-9+]", "", str(name or "")[:80].lower())


def shortened(value: object) -> str:
    """A value on one line of at most 80 characters, for a message."""
    text = " ".join((value if isinstance(value, str) else shown(value))[:200].split())
    return text if len(text) <= 80 else text[:77] + "…"
