"""What makes a network faster with the same result: the memory format of its convolutions, and torch.compile if
enabled.

Attention needs nothing here: diffusers' modules call torch's fused kernels by themselves.
"""

from __future__ import annotations

import shutil

import torch
from torch import nn

from diffstudio.models.files.quantized import QuantizedLinear
from diffstudio.models.model import Model, OffloadLevel

BACKEND = "inductor"  # of torch.compile


def for_convolutions(model: Model) -> None:
    """Channels last on CUDA, the format in which half-precision convolutions are computed there.

    It does not help a CPU: Stable Diffusion 1.5's U-Net took 0.99 of its time at 256 px.
    """
    if model.is_latent and model.device.type == "cuda" and model.offload_level is OffloadLevel.NONE:
        for module in (model.network, model.vae):
            if module is not None:
                module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def compile_network(model: Model, enabled: bool) -> str:
    """Compile its network at the next call, for each size anew, or run it uncompiled; why not, if it cannot be
    compiled.
    """
    if not model.is_latent:
        return ""  # pixel models are small: an image is done before they would be compiled
    if not enabled:
        run_uncompiled(model.network)
    elif not is_compiled(model.network):
        if why := _obstacle(model):
            return (
                f"{model.checkpoint.name if model.checkpoint is not None else 'The network'} was not compiled: {why}."
            )
        model.network.compile(backend=BACKEND)
    return ""


def is_compiled(network: nn.Module) -> bool:
    return network._compiled_call_impl is not None


def run_uncompiled(network: nn.Module) -> None:
    network._compiled_call_impl = None


def _obstacle(model: Model) -> str:
    if model.offload_level is not OffloadLevel.NONE:
        return "its modules come to the accelerator one after the other"
    if any(isinstance(module, QuantizedLinear) for module in model.network.modules()):
        return "its weights are quantized"
    if BACKEND != "inductor":
        return ""
    if model.device.type == "cuda":
        from torch.utils._triton import has_triton

        return "" if has_triton() else "torch's Triton is not installed"
    return "" if any(map(shutil.which, ("g++", "clang++", "cl"))) else "there is no C++ compiler"
