"""Offload models that are larger than the accelerator's memory: modules are kept in CPU memory while not running.

By accelerate's hooks: one module at a time (text encoder, network, VAE) or, if the largest module does not fit either,
layer by layer, which is slow.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from diffstudio.models.compile import run_uncompiled
from diffstudio.models.memory import devices
from diffstudio.models.memory.limits import offload_level
from diffstudio.models.model import Model, OffloadLevel

_NOTES = {
    OffloadLevel.MODULES: "the checkpoint's modules are now offloaded to main memory and run one at a time, which is "
    "slower.",
    OffloadLevel.LAYERS: "the checkpoint's layers are now offloaded to main memory and run one at a time, which is much "
    "slower.",
}


def offload_more(model: Model) -> str:
    """Raise the offload level by one; returns a clause about it, empty if nothing more can be offloaded."""
    current = model.offload_level
    if model.device.type == "cpu" or not model.offloadable or current is OffloadLevel.LAYERS:
        return ""
    level = OffloadLevel(current + 1)
    offload(model, level)
    return _NOTES[level]


def load_within(load: Callable[[torch.device], Model], device: torch.device, weights_bytes: int) -> tuple[Model, str]:
    """Load a model onto `device` or, if its weights (about `weights_bytes`) do not fit there, offloaded in CPU memory.

    Also returns a sentence about offloading; empty if the model is on the device.
    """
    free = devices.free_bytes(device)
    if device.type == "cpu" or offload_level(0, weights_bytes, free) is OffloadLevel.NONE:
        try:
            return load(device), ""
        except (RuntimeError, MemoryError) as error:
            if device.type == "cpu" or not devices.is_out_of_memory(error):
                raise
        devices.free_unused()  # outside the `except`: its traceback would keep the tensors
    model = load(torch.device("cpu"))
    if not model.offloadable:
        return load(device), ""  # it cannot be offloaded
    sizes = [_bytes(module) for module in model.offloadable]
    level = max(OffloadLevel.MODULES, offload_level(max(sizes), sum(sizes), free))
    offload(model, level, device)
    return model, f"The weights are larger than the accelerator's free memory: {_NOTES[level]}"


def _bytes(module: nn.Module) -> int:
    return sum(int(tensor.nbytes) for tensor in (*module.parameters(), *module.buffers()))


def place_controlnet(controlnet: nn.Module, level: OffloadLevel, device: torch.device) -> None:
    """Put a ControlNet on the device, where it runs together with the network; layer by layer at that level."""
    from accelerate import cpu_offload

    if level is OffloadLevel.LAYERS:
        whole = ["MultiheadAttention"]  # of a union ControlNet: it uses the weights of its layers without calling them
        cpu_offload(controlnet, device, offload_buffers=True, preload_module_classes=whole)
    else:
        controlnet.to(device)


def offload(model: Model, level: OffloadLevel, device: torch.device | None = None) -> None:
    """Set the offload level of an offloadable model, which runs on `device`, by default the present one."""
    from accelerate import cpu_offload, cpu_offload_with_hook
    from accelerate.hooks import remove_hook_from_module

    if model.adapters is not None:
        model.adapters.detach()  # they are attached again before the next image
    run_uncompiled(model.network)
    controlnets = list(model.controlnets.components.values()) if model.controlnets is not None else []
    for module in (*model.offloadable, *controlnets):
        remove_hook_from_module(module, recurse=True)
        module.to("cpu")
    model.device = device or model.device
    for module in controlnets:
        place_controlnet(module, level, model.device)
    before = None
    for module in model.offloadable:
        if level is OffloadLevel.NONE:
            module.to(model.device)
        elif level is OffloadLevel.MODULES:
            _, before = cpu_offload_with_hook(module, model.device, before)
        else:
            cpu_offload(module, model.device, offload_buffers=True)
    model.offload_level = level
