"""How much memory a job will need, from the checkpoint's header alone: no weights, no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType

from diffstudio.models.checkpoint import Checkpoint

# Bytes of float32 alive at once in one call of the network, for each px of each image, both halves of guidance where it is used:
# traced on the meta device through diffusers' networks at 1024 px and beyond, with attention that keeps no matrix of all pairs.
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
)  # likewise, of the autoencoder; all others have one of this size:
_DECODING_USUAL = 3076
_SAMPLING_USUAL = 1041  # the most of those above that draw by a U-Net
_STEERING = 205  # of what a ControlNet says to a U-Net of Stable Diffusion 1, and to XL's, at each level
SMALL_MODEL_PARAMETERS = 300_000_000  # below, float32 costs little and is the same everywhere
_BYTES = MappingProxyType({"float32": 4, "bfloat16": 2, "float16": 2})


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bytes."""

    weights: int
    sampling: int  # beside the weights, while the network is called
    decoding: int  # beside the weights, while the pictures are decoded

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
    """What it takes to make `count` pictures of width × height px as one batch, in `dtype` (torch's name of it).

    For weights in one file it holds what is in that file: parts that lie elsewhere come on top. `controls` steer it.
    """
    size = _BYTES.get(dtype, 4)
    pixels = width * height * count
    steering = len(controls) * _STEERING * size // 4
    return Estimate(
        sum(model.parameters for model in (checkpoint, *controls)) * size,
        pixels * (sampling_bytes(checkpoint.family, size) + steering),
        pixels * decoding_bytes(checkpoint.family, size),
    )


def usual_dtype(device: str, parameters: int) -> str:
    """What a model of this size runs in on a device of this type: `memory.choose_dtype`, without asking the device."""
    return "bfloat16" if device == "cuda" and parameters > SMALL_MODEL_PARAMETERS else "float32"


def sampling_bytes(family: str, size: int = 4) -> int:
    """For each px of a picture, in numbers of `size` bytes."""
    return _SAMPLING.get(family, _SAMPLING_USUAL) * size // 4


def decoding_bytes(family: str, size: int = 4) -> int:
    """For each px of a picture, in numbers of `size` bytes."""
    return _DECODING.get(family, _DECODING_USUAL) * size // 4
