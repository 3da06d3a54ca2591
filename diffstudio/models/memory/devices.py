"""Where and in what precision a model runs, how much is done at once, and what running out of memory looks like."""

from __future__ import annotations

import gc

import psutil
import torch

from diffstudio.errors import BadRequest
from diffstudio.models.memory.estimate import SMALL_MODEL_PARAMETERS

_PIXELS_AT_ONCE = 16 * 64 * 64  # of a pixel model's batch on the CPU
_PIXELS_AT_ONCE_ACCELERATOR = 64 * 64 * 64


def choose_device(name: str = "auto") -> torch.device:
    """`auto` is the accelerator if there is one. BadRequest when the named device is not here."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # `meta` computes nothing
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise BadRequest(
            f"The device {name!r} cannot be used here",
            str(error).splitlines()[0][:200] if str(error) else "",
            "Choose `auto` or `cpu` in the settings",
        ) from error
    return device


def choose_dtype(device: torch.device, parameters: int) -> torch.dtype:
    """float32, unless the model is large and the accelerator has halves that do not overflow."""
    if device.type == "cuda" and parameters > SMALL_MODEL_PARAMETERS and torch.cuda.is_bf16_supported():
        return torch.bfloat16
    return torch.float32


def images_at_once(width: int, height: int, device: torch.device) -> int:
    """How many images of a pixel model are sampled as one batch: 16 of 64 px on a CPU, 1 at the least."""
    pixels = _PIXELS_AT_ONCE if device.type == "cpu" else _PIXELS_AT_ONCE_ACCELERATOR
    return max(1, pixels // (width * height))


def device_bytes(device: torch.device) -> int:
    """The memory that a device computes in: its own, or the machine's."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory())
    return int(psutil.virtual_memory().total)


def free_bytes(device: torch.device) -> int:
    """How much of it could be had now, with what torch keeps for itself."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    if device.type == "mps":
        return device_bytes(device) - int(torch.mps.driver_allocated_memory())
    return int(psutil.virtual_memory().available)


def budget_bytes(device: torch.device, gib: float | None) -> int:
    """What the models in memory may take together: `gib`, or half of what the device has."""
    return device_bytes(device) // 2 if gib is None else int(gib * 2**30)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a smaller batch might have done: the accelerators' own errors, and what the CPU allocator says."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(
        sign in str(error) for sign in ("not enough memory", "can't allocate memory", "out of memory")
    )


def free_unused() -> None:
    """Give back what no tensor holds any more. Call outside the `except`, whose traceback keeps tensors alive."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()
