"""Family: what is known of every kind of model before a single weight is read. No torch.

The code that runs a family is in `families/`; this is what the window, the command line and the library say about it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Family:
    """The settings are those its makers recommend; names of samplers and spacings as in `diffusion`."""

    name: str                     # what `Checkpoint.family` holds
    title: str                    # what a person reads
    side: int                     # px it was trained at; 0 where each checkpoint says so itself
    multiple: int                 # px: what both sides are divisible by
    steps: int = 20
    sampler: str = "dpmpp_2m"
    spacing: str = "karras"
    guidance: float = 7.0
    negative: bool = True         # whether a negative prompt does anything
    flow: bool = False            # rectified flow, so that neither eps nor v is what its network says
    one_size: bool = False        # draws at the size it was trained at, and no other
    aligned: bool = False         # `align your steps` times are published for it
    latent: bool = True           # works in the latent space of an autoencoder


def _flow(name: str, title: str, side: int, steps: int, guidance: float, negative: bool = True) -> Family:
    return Family(name, title, side, 16, steps, "euler", "uniform", guidance, negative, flow=True)


FAMILIES: Mapping[str, Family] = MappingProxyType({family.name: family for family in (
    Family("pixel", "pixel transformer", 0, 1, 20, "heun", "uniform", 3.0, one_size=True, latent=False, flow=True),
    Family("sd1", "Stable Diffusion 1", 512, 8, aligned=True),
    Family("sd2", "Stable Diffusion 2", 768, 8),
    Family("sdxl", "Stable Diffusion XL", 1024, 8, 25, guidance=6.0, aligned=True),
    Family("sdxl_refiner", "Stable Diffusion XL refiner", 1024, 8, 25, guidance=6.0, aligned=True),
    _flow("sd3", "Stable Diffusion 3", 1024, 28, 4.5),
    _flow("flux", "FLUX.1", 1024, 28, 3.5, negative=False),
    _flow("z_image", "Z-Image", 1024, 9, 0.0),
    _flow("qwen_image", "Qwen-Image", 1328, 30, 4.0),
    Family("diffusers", "another diffusers pipeline", 0, 8),
)})
UNKNOWN = "unknown"               # a file of weights that no family claims


def family_of(name: str) -> Family | None:
    return FAMILIES.get(name)
