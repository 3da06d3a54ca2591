"""The types of detection: role, layout, result, and lookup in a file's tensor names. No torch is imported here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

Shapes = Mapping[str, tuple[int, ...]]
# by the width of a U-Net's cross-attention context
FAMILY_BY_CONTEXT_WIDTH = {768: "sd1", 1024: "sd2", 2048: "sdxl", 1280: "sdxl_refiner"}

NOT_SUPPORTED = ", which is not supported"  # after the name of a model, in reasons


class Role(StrEnum):
    """What a weights file is used for."""

    CHECKPOINT = "checkpoint"  # generates images
    LORA = "lora"  # and its variants: LoHa, LoKr, DoRA, OFT
    EMBEDDING = "embedding"  # a textual inversion
    VAE = "vae"
    CONTROLNET = "controlnet"
    UPSCALER = "upscaler"
    TEXT_ENCODER = "text_encoder"
    NETWORK = "network"  # a transformer or U-Net without text encoders and VAE
    UNKNOWN = "unknown"


class Layout(StrEnum):
    """How its weights are stored and named."""

    OURS = "ours"  # trained with diffstudio
    ORIGINAL = "original"  # one file, in the original naming
    DIFFUSERS = "diffusers"  # one file, in diffusers' naming
    FOLDER = "folder"  # a diffusers folder: model_index.json and one subfolder per component
    GGUF = "gguf"
    PICKLE = "pickle"  # .ckpt, .pt, .pth, .bin: scanned before it is opened


@dataclass(frozen=True, slots=True)
class Detection:
    """What a file was detected as. `prediction`: eps, v, flow or x0; empty if unknown."""

    role: Role = Role.UNKNOWN
    family: str = "unknown"  # a key of FAMILIES: its own, or the one it was made for
    prediction: str = ""
    inpainting: bool = False
    layout: Layout = Layout.ORIGINAL
    reason: str = ""  # how it was recognised, one sentence for the user
    edition: str = ""  # within the family: dev, schnell, 3.5 large; of a LoRA, the unsupported model it was made for
    supported: bool = True  # whether anything here can use it; of what generates images, `family` tells
    unused: tuple[
        str, ...
    ] = ()  # tensors that nothing here uses, with # for numbers; where `family` is unknown, the cause
    control_types: int = 0  # of a union ControlNet: how many types of control image it was trained on


class TensorNames:
    """The names and shapes of a file's tensors, looked up below a prefix."""

    def __init__(self, shapes: Shapes, prefix: str = "") -> None:
        self.shapes, self._prefix = shapes, prefix

    def below(self, prefix: str) -> TensorNames:
        return TensorNames(self.shapes, prefix)

    def has(self, name: str) -> bool:
        return self._prefix + name in self.shapes

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor; empty if there is no such tensor."""
        return self.shapes.get(self._prefix + name, ())

    @cached_property
    def joined(self) -> str:
        """All names in the file, one a line, for searching."""
        return "\n".join(self.shapes)
