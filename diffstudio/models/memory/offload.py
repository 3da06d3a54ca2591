"""Models larger than the accelerator: their parts lie in the machine's memory and come over only while they are at work.

By accelerate's hooks: a whole part at a time (text encoder, network, autoencoder), or, where the largest part does not fit either,
layer by layer, which is slow.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

import torch
from torch import nn

from diffstudio.models.compile import leave_as_it_is
from diffstudio.models.families.latent import LatentModel
from diffstudio.models.memory import devices
from diffstudio.models.model import Model

_SAID = {
    1: "its parts come to the accelerator one after the other now, which takes longer.",
    2: "its layers come to the accelerator one after the other now, which takes much longer.",
}


class Offload(IntEnum):
    NONE = 0
    PARTS = 1
    LAYERS = 2


def state_of(model: Model) -> Offload:
    return Offload(getattr(model, "offloaded", 0))


def further(model: Model) -> str:
    """Offload more of it than before; what was done, or nothing where nothing can be: its memory is the machine's anyway."""
    now = state_of(model)
    if model.device.type == "cpu" or not isinstance(model, LatentModel) or now is Offload.LAYERS:
        return ""
    offload(model, Offload(now + 1))
    return _SAID[now + 1]


def level_for(largest_part_bytes: int, whole_bytes: int, free_bytes: int) -> Offload:
    """How a model of this size runs on an accelerator with so much room; a third is left for what it works out."""
    room = free_bytes * 2 // 3
    return Offload.NONE if whole_bytes <= room else Offload.PARTS if largest_part_bytes <= room else Offload.LAYERS


def load_within(load: Callable[[torch.device], Model], device: torch.device, whole_bytes: int) -> tuple[Model, str]:
    """The model on `device`; where its weights, about `whole_bytes`, do not fit there, in the machine's memory and offloaded.

    And what was done, in a sentence, which is empty where it lies on the device.
    """
    free = devices.free_bytes(device)
    if device.type == "cpu" or level_for(0, whole_bytes, free) is Offload.NONE:
        try:
            return load(device), ""
        except (RuntimeError, MemoryError) as error:
            if device.type == "cpu" or not devices.is_out_of_memory(error):
                raise
        devices.free_unused()  # outside the `except`: its traceback would keep the tensors
    model = load(torch.device("cpu"))
    if not isinstance(model, LatentModel):
        return load(device), ""  # it cannot be taken apart: there or nowhere
    sizes = [_bytes(part) for part in (*model.text_encoders.values(), model.network, model.vae)]
    level = max(Offload.PARTS, level_for(max(sizes), sum(sizes), free))
    offload(model, level, device)
    return model, f"The checkpoint is larger than the memory that the accelerator has free: {_SAID[level]}"


def _bytes(part: nn.Module) -> int:
    return sum(int(tensor.nbytes) for tensor in (*part.parameters(), *part.buffers()))


def lie_beside(control: nn.Module, level: Offload, device: torch.device) -> None:
    """A ControlNet where it is to be: it works at the same time as the network, so it comes over whole or by its layers."""
    from accelerate import cpu_offload

    if level is Offload.LAYERS:
        cpu_offload(control, device, offload_buffers=True)
    else:
        control.to(device)


def offload(model: LatentModel, level: Offload, device: torch.device | None = None) -> None:
    """Let its parts lie in the machine's memory and run on `device`, from now on the model's own. Nothing else about it changes."""
    from accelerate import cpu_offload, cpu_offload_with_hook
    from accelerate.hooks import remove_hook_from_module

    model.adapters.detach()  # they are attached again where they are wanted
    leave_as_it_is(model.network)
    parts: list[nn.Module] = [*model.text_encoders.values(), model.network, model.vae]  # in the order they work in
    beside = (
        list(controlnets.components.values())
        if (controlnets := getattr(model, "controlnets", None)) is not None
        else []
    )
    for part in (*parts, *beside):
        remove_hook_from_module(part, recurse=True)
        part.to("cpu")
    model.device = device or model.device
    for part in beside:
        lie_beside(part, level, model.device)
    before = None
    for part in parts:
        if level is Offload.NONE:
            part.to(model.device)
        elif level is Offload.PARTS:
            _, before = cpu_offload_with_hook(part, model.device, before)
        else:
            cpu_offload(part, model.device, offload_buffers=True)
    model.offloaded = level
