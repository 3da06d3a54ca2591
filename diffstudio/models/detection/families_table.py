"""The table of model families: names, native sizes and recommended settings. No torch is imported here.

The code that runs a family is in `models/families/`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Family:
    """A model family with the settings that its authors recommend; samplers and spacings are named as in `diffusion`."""

    name: str  # the value of `Checkpoint.family`
    title: str  # shown to the user
    side: int  # training size in px; 0 where it differs between checkpoints
    multiple: int  # width and height in px must be divisible by this
    steps: int = 20
    sampler: str = "dpmpp_2m"
    spacing: str = "karras"
    guidance: float = 7.0
    negative: bool = True  # whether it uses a negative prompt
    flow: bool = False  # rectified flow
    one_size: bool = False  # generates only at its training size
    aligned: bool = False  # Align Your Steps times are published for it
    latent: bool = True  # works in the latent space of a VAE
    clip_skip: int = 0  # the layer of CLIP that it was trained on, 1 the last; 0 where there is no choice
    trained_here: bool = False  # trained with diffstudio, in its own file format
    one_call: bool = False  # generates an image in one network call, without steps, sampler or guidance
    text_only: bool = False  # has its own sampler and takes only text: no init image, hires fix or ControlNet
    unconditional: bool = False  # no checkpoint of it takes a prompt


def _flow(
    name: str, title: str, side: int, steps: int, guidance: float, negative: bool = True, clip_skip: int = 0
) -> Family:
    return Family(name, title, side, 16, steps, "euler", "uniform", guidance, negative, flow=True, clip_skip=clip_skip)


def _one_call(name: str, title: str) -> Family:
    return Family(
        name,
        title,
        0,
        1,
        1,
        "euler",
        "uniform",
        1.0,
        negative=False,
        one_size=True,
        latent=False,
        trained_here=True,
        one_call=True,
        text_only=True,
    )


FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        family.name: family
        for family in (
            Family(
                "pixel",
                "pixel transformer",
                0,
                1,
                10,  # sampler, spacing and steps by tests/benchmarks/samplers.py
                "dpmpp_2m",
                "log_snr",
                3.0,
                one_size=True,
                latent=False,
                flow=True,
                trained_here=True,
            ),
            _one_call("vae", "variational autoencoder (VAE)"),
            _one_call("gan", "generative adversarial network (GAN)"),
            Family("sd1", "Stable Diffusion 1", 512, 8, aligned=True, clip_skip=1),
            Family("sd2", "Stable Diffusion 2", 768, 8, clip_skip=2),
            Family("sdxl", "Stable Diffusion XL", 1024, 8, 25, guidance=6.0, aligned=True, clip_skip=2),
            Family("sdxl_refiner", "Stable Diffusion XL refiner", 1024, 8, 25, guidance=6.0, aligned=True, clip_skip=2),
            _flow("sd3", "Stable Diffusion 3", 1024, 28, 4.5, clip_skip=2),
            _flow("flux", "FLUX.1", 1024, 28, 3.5, negative=False),
            _flow("z_image", "Z-Image", 1024, 9, 0.0),
            _flow("qwen_image", "Qwen-Image", 1328, 30, 4.0),
            Family(
                "ddpm",
                "unconditional U-Net of diffusers (DDPM)",
                0,
                1,
                50,  # sampler and steps as in DDIMPipeline; trailing begins with the noisiest timestep
                "ddim",
                "trailing",
                1.0,
                negative=False,
                one_size=True,
                latent=False,
                unconditional=True,
            ),
            Family("diffusers", "another diffusers pipeline", 0, 8, text_only=True),
        )
    }
)
PIXEL = FAMILIES["pixel"]  # diffusion models that are trained here
DDPM = "ddpm"  # diffusion models of pixels in diffusers folders
VAE, GAN = "vae", "gan"  # likewise, VAEs and GANs
UNKNOWN = "unknown"  # the family of a file that none of these matches


# The names in `diffusion`, which imports torch (a test holds them equal).
SAMPLER_NAMES = ("euler", "heun", "ddim", "ddpm", "euler_ancestral", "dpmpp_2m", "dpmpp_2m_sde", "unipc", "lcm")
FLOW_SPACING_NAMES = ("uniform", "trailing", "leading", "karras", "exponential", "log_snr")

CONTROLNET_FAMILIES = ("sd1", "sd2", "sdxl")  # whose ControlNets are supported


def is_trained_here(name: str) -> bool:
    """Whether checkpoints of a family are trained with diffstudio and stored in its own format."""
    return name in FAMILIES and FAMILIES[name].trained_here


def has_weight_tools(name: str) -> bool:
    """Whether checkpoints of a family can be merged, and have a naming of tensors beside that of their folders."""
    return name not in ("diffusers", "ddpm")


def family_of(name: str) -> Family | None:
    return FAMILIES.get(name)


def starts_from_images(name: str) -> bool:
    """Whether checkpoints of a family can sample from an image: img2img, inpainting, hires fix."""
    return name not in FAMILIES or not FAMILIES[name].text_only


_DISTILLED = re.compile(r"(?<![a-z])(turbo|lightning|hyper|lcm|schnell|dmd)(?![a-z])")
_STEPS = re.compile(r"(?<!\d)(\d{1,2})[ _-]?steps?")


def recommended_settings(family: str, edition: str = "", name: str = "") -> Family | None:
    """The family with the recommended settings of one model, which differ for models distilled to few steps.

    Those are recognised by edition or file name. Sources are the model cards of stabilityai/sdxl-turbo,
    ByteDance/SDXL-Lightning and Hyper-SD, latent-consistency, black-forest-labs/FLUX.1-schnell, Tongyi-MAI/Z-Image. None
    for an unknown family.
    """
    known = FAMILIES.get(family)
    if known is None or not known.latent:
        return known
    if family == "z_image":  # Z-Image-Turbo is its default
        return replace(known, steps=50, guidance=5.0) if edition in ("Base", "Omni") else known
    distilled = _DISTILLED.search(edition.lower()) or _DISTILLED.search(name.lower())
    kind = distilled[1] if distilled and edition != "Base" else ""
    if family == "flux" and (edition == "schnell" or kind == "schnell"):
        return replace(known, steps=4, guidance=0.0)
    if not kind:
        return known
    named = _STEPS.search(name.lower())
    steps = max(1, int(named[1])) if named else 4 if kind in ("turbo", "dmd") else 8
    if known.flow:
        return replace(known, steps=steps, guidance=known.guidance if family == "flux" else 1.0)
    if kind == "lcm":
        return replace(known, steps=steps, sampler="lcm", spacing="trailing", guidance=1.5)
    sampler = "euler_ancestral" if kind in ("turbo", "dmd") else "euler"
    return replace(known, steps=steps, sampler=sampler, spacing="trailing", guidance=1.0)
