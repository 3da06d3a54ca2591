"""Forecast how much memory a request needs, and what is done if there is not enough. No torch is imported here.

The limits are those of the runtime: see models/memory/limits.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.families_table import family_of
from diffstudio.models.memory import limits
from diffstudio.models.memory.estimate import Estimate, estimate, loaded_bytes, sampling_bytes
from diffstudio.models.model import OffloadLevel
from diffstudio.studio.requests import GenerateRequest

_NEGLIGIBLE = 0.02  # of the free memory
_DEFAULT_SIDE = 512  # px, for checkpoints that do not record their training size


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """The memory of the device that a job will run on."""

    device_type: str  # torch's: cpu, cuda, mps
    total_bytes: int
    free_bytes: int  # once the models in the cache are dropped


@dataclass(frozen=True, slots=True)
class MemoryQuery:
    """A request and the files whose memory is forecast."""

    request: GenerateRequest
    checkpoint: Checkpoint
    controls: tuple[Checkpoint, ...] = ()  # its ControlNets
    weak: Checkpoint | None = None  # the weaker model of autoguidance, loaded in addition


@dataclass(frozen=True, slots=True)
class MemoryForecast:
    needed: int  # bytes
    free: int
    plan: str  # what is done if it does not fit, as a sentence; empty if it fits

    @property
    def fits(self) -> bool:
        return not self.plan

    @property
    def negligible(self) -> bool:
        """Whether it is too little to be worth showing."""
        return self.fits and self.needed < _NEGLIGIBLE * self.free


def forecast(query: MemoryQuery, device: DeviceMemory) -> MemoryForecast:
    """Estimate the peak from headers alone, for the request's largest pass and batch."""
    width, height, tiled = _size_per_call(query)
    one = _estimate(query, width, height, 1, device)
    count = _images_at_once(query, width, height, one.weights, device)
    batch = _estimate(query, width, height, count, device)
    if not limits.fits(batch.weights + batch.decoding, device.free_bytes):
        batch = replace(batch, decoding=one.decoding)  # the images are then decoded one by one
    return MemoryForecast(batch.total, device.free_bytes, _plan(batch, device, tiled))


def _estimate(query: MemoryQuery, width: int, height: int, count: int, device: DeviceMemory) -> Estimate:
    checkpoint = query.checkpoint
    dtype = limits.dtype_name(device.device_type, checkpoint.parameters)
    needed = estimate(checkpoint, width, height, count, dtype, query.controls)
    unpacked = checkpoint.parameters * limits.DTYPE_BYTES[dtype]
    weights = needed.weights - unpacked + loaded_bytes(checkpoint, dtype, device.free_bytes)
    if (weak := query.weak) is not None:  # it is called after the checkpoint, so peak activations do not grow
        weights += loaded_bytes(weak, limits.dtype_name(device.device_type, weak.parameters), device.free_bytes)
    return replace(needed, weights=weights)


def _size_per_call(query: MemoryQuery) -> tuple[int, int, bool]:
    """Width and height in px of the largest network call, and whether that is a tile."""
    request, checkpoint = query.request, query.checkpoint
    family = family_of(checkpoint.family)
    side = max(checkpoint.width, checkpoint.height) or (family.side if family is not None else 0) or _DEFAULT_SIDE
    width, height = request.width or checkpoint.width or side, request.height or checkpoint.height or side
    if request.enlarge <= 1:
        return width, height, False
    larger = (round(request.enlarge * width), round(request.enlarge * height))
    if (request.tiled or limits.needs_tiling(*larger, side)) and not checkpoint.upper_factor:
        return max(width, min(side, larger[0])), max(height, min(side, larger[1])), True
    return larger[0], larger[1], False


def _images_at_once(query: MemoryQuery, width: int, height: int, weights_bytes: int, device: DeviceMemory) -> int:
    """The batch size that the runtime will choose once the weights are loaded."""
    family = family_of(query.checkpoint.family)
    latent = family is None or family.latent
    dtype = limits.dtype_name(device.device_type, query.checkpoint.parameters)
    image_bytes = width * height * sampling_bytes(query.checkpoint.family, limits.DTYPE_BYTES[dtype])
    free = max(0, device.free_bytes - weights_bytes)
    most = limits.images_at_once(width, height, device.device_type, latent, image_bytes, free)
    return min(most, query.request.count)


def _plan(needed: Estimate, device: DeviceMemory, tiled: bool) -> str:
    free = device.free_bytes
    on_cpu = device.device_type == "cpu"
    offloaded = not on_cpu and limits.offload_level(0, needed.weights, free) is not OffloadLevel.NONE
    if limits.fits(needed.total, free) and not offloaded:
        return ""
    if needed.decoding > needed.sampling and limits.fits(needed.weights + needed.sampling, free) and not offloaded:
        return "The image will be decoded in tiles, because it does not fit into memory as a whole."
    if on_cpu and not limits.fits(needed.weights, free):
        return (
            "The checkpoint alone is larger than the free memory: the computer will become very slow, or the job will fail. "
            "Close other programs, or choose a smaller checkpoint."
        )
    if on_cpu:
        steps = ["smaller batches and tiles will be tried"]
    else:
        steps = ["the checkpoint's modules will be offloaded to main memory and run one at a time, which is slower"]
    if not tiled:
        steps.append("if that does not help, choose a smaller size")
    return f"It does not fit into the free memory: {'; '.join(steps)}."
