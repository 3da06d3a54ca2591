"""Estimate the memory that a job needs from the checkpoint's header alone: no weights, no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType

from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.types import Layout
from diffstudio.models.memory.limits import DTYPE_BYTES, UNPACKED_SHARE

# Peak bytes of float32 activations in one call of the network, per px of each image, with both halves of guidance where
# it is
# used: traced on the meta device through diffusers' networks at 1024 px and beyond, with memory-efficient attention.
_SAMPLING = MappingProxyType(
    {
        "pixel": 400,
        "sd1": 1041,
        "sd2": 1041,
        "sdxl": 632,
        "sdxl_refiner": 760,
        "sd3": 648,
        "flux": 819,
        "z_image": 900,
        "qwen_image": 1640,
    }
)
_DECODING = MappingProxyType(
    {"pixel": 24, "qwen_image": 4000}
)  # likewise, of the VAE; all others have one of this size:
_DECODING_USUAL = 3076
_SAMPLING_USUAL = 1041  # the largest of the U-Nets above
_CONTROLNET = 205  # of a ControlNet's residuals, for Stable Diffusion 1 and XL


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bytes."""

    weights: int
    sampling: int  # besides the weights, while the network is called
    decoding: int  # besides the weights, while the images are decoded

    @property
    def activations(self) -> int:
        return max(self.sampling, self.decoding)

    @property
    def total(self) -> int:
        return self.weights + self.activations


def estimate(
    checkpoint: Checkpoint,
    width: int,
    height: int,
    count: int = 1,
    dtype: str = "float32",
    controls: Sequence[Checkpoint] = (),
) -> Estimate:
    """To make `count` images of width × height px as one batch in `dtype` (torch's name), with the ControlNets
    `controls`.

    For a checkpoint in one file only the weights in that file are counted.
    """
    size = DTYPE_BYTES.get(dtype, 4)
    pixels = width * height * count
    controlnets = len(controls) * _CONTROLNET * size // 4
    return Estimate(
        sum(model.parameters for model in (checkpoint, *controls)) * size,
        pixels * (sampling_bytes(checkpoint.family, size) + controlnets),
        pixels * decoding_bytes(checkpoint.family, size),
    )


def loaded_bytes(checkpoint: Checkpoint, dtype: str, free_bytes: int) -> int:
    """Of the weights in memory, in `dtype`.

    Quantized ones stay packed unless they fit into half of the free memory unpacked.
    """
    unpacked = checkpoint.parameters * DTYPE_BYTES.get(dtype, 4)
    quantized = checkpoint.layout is Layout.GGUF or checkpoint.dtype.startswith("F8")
    return checkpoint.size_bytes if quantized and unpacked > UNPACKED_SHARE * free_bytes else unpacked


def sampling_bytes(family: str, size: int = 4) -> int:
    """Activations per px of an image, in numbers of `size` bytes."""
    return _SAMPLING.get(family, _SAMPLING_USUAL) * size // 4


def decoding_bytes(family: str, size: int = 4) -> int:
    """Activations per px of an image, in numbers of `size` bytes."""
    return _DECODING.get(family, _DECODING_USUAL) * size // 4
