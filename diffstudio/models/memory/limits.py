"""Memory limits: batch sizes, and when images are tiled and models offloaded. No torch is imported here.

Shared by the forecast before a job and the runtime, so that the forecast is right.
"""

from __future__ import annotations

from diffstudio.models.model import OffloadLevel

FREE_MEMORY_SHARE = 0.9  # of the free memory that may be used; the rest is a reserve
UNPACKED_SHARE = 0.5  # of the free memory, up to which packed weights (GGUF, float8) are unpacked while loading
OFFLOAD_SHARE = (2, 3)  # of the free memory for weights that stay on the device; the rest is for activations
BATCH_SHARE = (2, 3)  # of the free memory for the activations of a batch
MOST_IMAGES_AT_ONCE = 8  # in a batch of a latent model, so that the first images do not take too long
TILING_FACTOR = 2  # an image larger than this many times the training size is sampled in tiles
DECODE_TILE_SIZES = (64, 32)  # latent px, tried in this order when an image is too large to be decoded whole
# Tiles of an upscaler's input, in px: when memory runs out their size is halved, down to the smallest.
UPSCALER_TILE_SIZE, UPSCALER_TILE_OVERLAP, SMALLEST_UPSCALER_TILE = 256, 32, 64
DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
SMALL_MODEL_PARAMETERS = 300_000_000  # up to this size float32 costs little, and gives the same result on every device
UPSCALER_BYTES_PER_PIXEL = 3 * (4 + 4)  # float32 RGB while an upscaler's tiles are blended, and the result next to it

_PIXELS_AT_ONCE_CPU = 16 * 64 * 64  # in a batch
_PIXELS_AT_ONCE_ACCELERATOR = 64 * 64 * 64  # in a batch of a pixel model


def dtype_name(device_type: str, parameters: int) -> str:
    """The dtype (torch's name) that a model of this size runs in, if the device supports it."""
    return "bfloat16" if device_type == "cuda" and parameters > SMALL_MODEL_PARAMETERS else "float32"


def needs_tiling(width: int, height: int, trained_side: int) -> bool:
    """Whether an image is too large to be sampled whole by a model trained at `trained_side` px."""
    return max(width, height) > TILING_FACTOR * trained_side


def fits(needed_bytes: float, free_bytes: float) -> bool:
    """Whether something is expected to fit into the free memory."""
    return needed_bytes <= FREE_MEMORY_SHARE * free_bytes


def offload_level(largest_module_bytes: int, weights_bytes: int, free_bytes: int) -> OffloadLevel:
    """The offload level of a model of this size on an accelerator with this much free memory."""
    numerator, denominator = OFFLOAD_SHARE
    room = free_bytes * numerator // denominator
    if weights_bytes <= room:
        return OffloadLevel.NONE
    return OffloadLevel.MODULES if largest_module_bytes <= room else OffloadLevel.LAYERS


def pixels_at_once(device_type: str) -> int:
    """The most pixels in one batch where memory is not the limit."""
    return _PIXELS_AT_ONCE_CPU if device_type == "cpu" else _PIXELS_AT_ONCE_ACCELERATOR


def images_at_once(
    width: int, height: int, device_type: str, latent: bool, image_bytes: int = 0, free_bytes: int = 0
) -> int:
    """The batch size for images of this size: 16 of 64 × 64 px on a CPU, at least one.

    `device_type` is torch's: cpu, cuda, mps. On an accelerator a batch of a `latent` model is as large as memory
    allows: `image_bytes` are the activations of one image while it is sampled.
    """
    if device_type == "cpu" or not latent:
        return max(1, pixels_at_once(device_type) // (width * height))
    numerator, denominator = BATCH_SHARE
    return max(1, min(MOST_IMAGES_AT_ONCE, free_bytes * numerator // denominator // max(1, image_bytes)))
