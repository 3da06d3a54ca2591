"""Estimate the memory that a job needs, from the checkpoint's header alone. No weights are read, no torch is imported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType

from diffstudio.errors import CheckpointDamaged
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.families_table import PIXEL
from diffstudio.models.detection.types import Layout
from diffstudio.models.memory.limits import DTYPE_BYTES, UNPACKED_SHARE

# Peak bytes of float32 activations in one network call, per px of each image, with the doubled batch of guidance where
# it is used: traced on the meta device through diffusers' networks from 1024 px on, with memory-efficient attention.
_SAMPLING = MappingProxyType(
    {
        "pixel": 400,
        "ddpm": 6800,
        "vae": 2000,
        "gan": 2000,
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
    {"pixel": 24, "ddpm": 24, "vae": 24, "gan": 24, "qwen_image": 4000}
)  # likewise, of the VAE
_DECODING_DEFAULT = 3076  # of the VAE of all other families
_SAMPLING_DEFAULT = 1041  # the largest of the U-Nets above
_UNET_VALUES = 7  # of a U-Net trained here: values per px and channel, besides the skip connections
_CONTROLNET = 205  # of a ControlNet's residuals, for Stable Diffusion 1 and XL


@dataclass(frozen=True, slots=True)
class Estimate:
    """The memory of a job, in bytes."""

    weights: int
    sampling: int  # besides the weights, during a network call
    decoding: int  # besides the weights, while images are decoded

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
    """Estimate a batch of `count` images of width × height px in `dtype` (torch's name), with ControlNets `controls`.

    Only the weights in the checkpoint's own file are counted.
    """
    size = DTYPE_BYTES.get(dtype, 4)
    pixels = width * height * count
    controlnets = len(controls) * _CONTROLNET * size // 4
    return Estimate(
        sum(model.parameters for model in (checkpoint, *controls)) * size,
        pixels * ((_unet_bytes(checkpoint, size) or sampling_bytes(checkpoint.family, size)) + controlnets),
        pixels * decoding_bytes(checkpoint.family, size),
    )


def loaded_bytes(checkpoint: Checkpoint, dtype: str, free_bytes: int) -> int:
    """The size of the weights in memory, in `dtype`.

    Quantized weights stay packed unless they fit into half of the free memory unpacked.
    """
    unpacked = checkpoint.parameters * DTYPE_BYTES.get(dtype, 4)
    quantized = checkpoint.layout is Layout.GGUF or checkpoint.dtype.startswith("F8")
    return checkpoint.size_bytes if quantized and unpacked > UNPACKED_SHARE * free_bytes else unpacked


def _unet_bytes(checkpoint: Checkpoint, size: int) -> int:
    """Likewise, of a U-Net that was trained here; 0 for other networks, and if its header has no valid sizes."""
    if checkpoint.family != PIXEL.name:
        return 0
    try:
        network = checkpoint.json("network")
        layers, widths = int(network["layers_per_block"]), [int(width) for width in network["block_out_channels"]]
    except (CheckpointDamaged, KeyError, TypeError, ValueError):
        return 0
    values = sum(width * (layers + _UNET_VALUES) >> 2 * level for level, width in enumerate(widths))
    return 2 * size * values  # with and without the prompt


def sampling_bytes(family: str, size: int = 4) -> int:
    """Activations in bytes per px of an image while sampling, with `size` bytes per value."""
    return _SAMPLING.get(family, _SAMPLING_DEFAULT) * size // 4


def decoding_bytes(family: str, size: int = 4) -> int:
    """Activations in bytes per px of an image while decoding, with `size` bytes per value."""
    return _DECODING.get(family, _DECODING_DEFAULT) * size // 4
