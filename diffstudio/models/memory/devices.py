"""Choose device and precision, query memory, and recognise out-of-memory errors."""

from __future__ import annotations

import psutil
import torch

from diffstudio.errors import BadRequest
from diffstudio.models.files.file_access import first_line
from diffstudio.models.memory import garbage
from diffstudio.models.memory.limits import dtype_name
from diffstudio.plurals import count_of


def choose_device(name: str = "auto") -> torch.device:
    """`auto` is the accelerator if there is one. BadRequest when the named device is not available."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # fails on `meta`, which cannot compute
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        found = device_names()
        why = first_line(error) if name in found else f"this machine has {', '.join(found)}"
        raise BadRequest(
            f"The device {name!r} cannot be used", why, f"Choose one of auto, {', '.join(found)}"
        ) from error
    return device


def device_names() -> list[str]:
    """The devices of this machine, as torch calls them."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    cuda = ["cuda", *(f"cuda:{number}" for number in range(gpus))] if gpus > 1 else ["cuda"] * gpus
    return ["cpu", *cuda, *(["mps"] if torch.backends.mps.is_available() else [])]


def device_title(device: torch.device) -> str:
    """What to call a device: the name of an NVIDIA or AMD GPU, otherwise its kind."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return {"cpu": f"CPU, {count_of(torch.get_num_threads(), 'thread')}", "mps": "Apple GPU (MPS)"}.get(
        device.type, str(device)
    )


def choose_dtype(device: torch.device, parameters: int) -> torch.dtype:
    """bfloat16 for a large model on a CUDA device that supports it, else float32."""
    if dtype_name(device.type, parameters) == "bfloat16" and torch.cuda.is_bf16_supported():
        return torch.bfloat16
    return torch.float32


def device_bytes(device: torch.device) -> int:
    """The size of a device's memory: its own, or the machine's."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory())
    return int(psutil.virtual_memory().total)


def free_bytes(device: torch.device) -> int:
    """The free part of a device's memory, including what torch has cached."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    if device.type == "mps":
        return device_bytes(device) - int(torch.mps.driver_allocated_memory())
    return int(psutil.virtual_memory().available)


def budget_bytes(device: torch.device, gib: float | None) -> int:
    """The budget of all models in memory together: `gib`, or half of the device's memory."""
    return device_bytes(device) // 2 if gib is None else int(gib * 2**30)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this is an out-of-memory error of an accelerator or of the CPU allocator."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(
        text in str(error) for text in ("not enough memory", "can't allocate memory", "out of memory")
    )


def free_unused() -> None:
    """Free the memory that no tensor uses any more. Call outside the `except`, whose traceback keeps tensors alive."""
    garbage.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()
