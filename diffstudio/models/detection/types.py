"""The words in which detection speaks: what is found, and names of tensors as they are asked about. No torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

Shapes = Mapping[str, tuple[int, ...]]
FAMILY_BY_CONTEXT_WIDTH = {
    768: "sd1",
    1024: "sd2",
    2048: "sdxl",
    1280: "sdxl_refiner",
}  # width of the words that a U-Net attends to


class Role(StrEnum):
    """What a file of weights is for."""

    CHECKPOINT = "checkpoint"  # pictures can be made with it
    LORA = "lora"  # and its kin: changes to a checkpoint
    EMBEDDING = "embedding"  # textual inversion: a word learnt for a text encoder
    VAE = "vae"
    CONTROLNET = "controlnet"
    UPSCALER = "upscaler"
    TEXT_ENCODER = "text_encoder"
    NETWORK = "network"  # a transformer or U-Net without its text encoders and autoencoder
    UNKNOWN = "unknown"


class Layout(StrEnum):
    """How its weights are stored and named."""

    OURS = "ours"  # made by this program
    ORIGINAL = "original"  # one file, named as the model's makers do
    DIFFUSERS = "diffusers"  # one file, named as diffusers does
    FOLDER = "folder"  # a diffusers folder: model_index.json and a sub-folder for each component
    GGUF = "gguf"
    PICKLE = "pickle"  # .ckpt, .pt, .pth, .bin: not opened before it was looked through


@dataclass(frozen=True, slots=True)
class Detection:
    """What a file was taken for. `prediction`: eps, v, flow or x0; empty where that is not known."""

    role: Role = Role.UNKNOWN
    family: str = "unknown"  # a key of FAMILIES; for what goes with a checkpoint, whose family it fits
    prediction: str = ""
    inpainting: bool = False
    layout: Layout = Layout.ORIGINAL
    reason: str = ""  # one sentence for a person
    edition: str = ""  # which one of its family, where the header says so: dev, schnell, 3.5 large


class TensorNames:
    """The tensors below a prefix."""

    def __init__(self, shapes: Shapes, prefix: str = "") -> None:
        self.shapes, self._prefix = shapes, prefix

    def below(self, prefix: str) -> TensorNames:
        return TensorNames(self.shapes, prefix)

    def has(self, name: str) -> bool:
        return self._prefix + name in self.shapes

    def shape(self, name: str) -> tuple[int, ...]:
        """Empty where there is no such tensor."""
        return self.shapes.get(self._prefix + name, ())

    @cached_property
    def joined(self) -> str:
        """Every name of the file, one a line, to be searched at once."""
        return "\n".join(self.shapes)


_SAID = tuple(
    (re.compile(pattern), family)
    for pattern, family in (
        ("refiner", "sdxl_refiner"),
        ("xl", "sdxl"),
        ("qwenimage", "qwen_image"),
        ("zimage", "z_image"),
        ("flux2", "unknown"),
        ("flux", "flux"),
        ("diffusionv?3|sd3", "sd3"),
        ("diffusionv?2|sdv?2", "sd2"),
        ("diffusionv?1|sdv?1", "sd1"),
    )
)


def family_from_text(text: str) -> str:
    """The family that metadata names in its own words: `sdxl_base_v1-0`, `stable-diffusion-v1/lora`; or `unknown`."""
    plain = re.sub(r"[^a-z0-9]", "", text.lower())
    return next((family for pattern, family in _SAID if pattern.search(plain)), "unknown")
