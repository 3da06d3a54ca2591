"""Family: what is known of every kind of model before a single weight is read. No torch.

The code that runs a family is in `families/`; this is what the window, the command line and the library say about it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Family:
    """The settings are those its makers recommend; names of samplers and spacings as in `diffusion`."""

    name: str  # what `Checkpoint.family` holds
    title: str  # what a person reads
    side: int  # px it was trained at; 0 where each checkpoint says so itself
    multiple: int  # px: what both sides are divisible by
    steps: int = 20
    sampler: str = "dpmpp_2m"
    spacing: str = "karras"
    guidance: float = 7.0
    negative: bool = True  # whether a negative prompt does anything
    flow: bool = False  # rectified flow, so that neither eps nor v is what its network says
    one_size: bool = False  # draws at the size it was trained at, and no other
    aligned: bool = False  # `align your steps` times are published for it
    latent: bool = True  # works in the latent space of an autoencoder


def _flow(name: str, title: str, side: int, steps: int, guidance: float, negative: bool = True) -> Family:
    return Family(name, title, side, 16, steps, "euler", "uniform", guidance, negative, flow=True)


FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        family.name: family
        for family in (
            Family(
                "pixel", "pixel transformer", 0, 1, 20, "heun", "uniform", 3.0, one_size=True, latent=False, flow=True
            ),
            Family("sd1", "Stable Diffusion 1", 512, 8, aligned=True),
            Family("sd2", "Stable Diffusion 2", 768, 8),
            Family("sdxl", "Stable Diffusion XL", 1024, 8, 25, guidance=6.0, aligned=True),
            Family("sdxl_refiner", "Stable Diffusion XL refiner", 1024, 8, 25, guidance=6.0, aligned=True),
            _flow("sd3", "Stable Diffusion 3", 1024, 28, 4.5),
            _flow("flux", "FLUX.1", 1024, 28, 3.5, negative=False),
            _flow("z_image", "Z-Image", 1024, 9, 0.0),
            _flow("qwen_image", "Qwen-Image", 1328, 30, 4.0),
            Family("diffusers", "another diffusers pipeline", 0, 8),
        )
    }
)
UNKNOWN = "unknown"  # a file of weights that no family claims


def family_of(name: str) -> Family | None:
    return FAMILIES.get(name)


_DISTILLED = re.compile(r"(?<![a-z])(turbo|lightning|hyper|lcm|schnell|dmd)(?![a-z])")
_STEPS = re.compile(r"(?<!\d)(\d{1,2})[ _-]?steps?")


def usual(family: str, edition: str = "", name: str = "") -> Family | None:
    """The family's facts, with the settings for those of it that were distilled to few steps, as its edition or name says.

    Their makers' model cards: stabilityai/sdxl-turbo, ByteDance/SDXL-Lightning and Hyper-SD, latent-consistency,
    black-forest-labs/FLUX.1-schnell. None for a family that is not known.
    """
    known = FAMILIES.get(family)
    if known is None or not known.latent:
        return known
    distilled = _DISTILLED.search(name.lower())
    kind = distilled[1] if distilled else ""
    if family == "flux" and (edition == "schnell" or kind == "schnell"):
        return replace(known, steps=4, guidance=0.0)
    if not kind or family == "z_image":  # which is few steps as it is
        return known
    told = _STEPS.search(name.lower())
    steps = max(1, int(told[1])) if told else 4 if kind in ("turbo", "dmd") else 8
    if known.flow:
        return replace(known, steps=steps, guidance=known.guidance if family == "flux" else 1.0)
    if kind == "lcm":
        return replace(known, steps=steps, sampler="lcm", spacing="trailing", guidance=1.5)
    sampler = "euler_ancestral" if kind in ("turbo", "dmd") else "euler"
    return replace(known, steps=steps, sampler=sampler, spacing="trailing", guidance=1.0)
