"""What makes a network faster without another answer: how its convolutions lie in memory, and, if a person asks, compiling it.

Attention needs nothing here: diffusers' modules call torch's fused kernels by themselves.
"""

from __future__ import annotations

import shutil
from typing import Any

import torch
from torch import nn

from diffstudio.models.families.latent import LatentModel
from diffstudio.models.files.quantized import QuantizedLinear
from diffstudio.models.model import Model

BACKEND = "inductor"  # of torch.compile


def for_convolutions(model: Model) -> None:
    """On CUDA, channels last, which is how half-precision convolutions are worked out there.

    A CPU is not helped by it: Stable Diffusion 1.5's U-Net took 0.99 of its time at 256 px.
    """
    if isinstance(model, LatentModel) and model.device.type == "cuda" and not model.offloaded:
        parts: Any = nn.ModuleList((model.network, model.vae))
        parts.to(memory_format=torch.channels_last)


def compile_network(model: Model, wanted: bool) -> str:
    """Have its network compiled at its next call, for each size anew, or run as it is; why it is not compiled, where it cannot be."""
    if not isinstance(model, LatentModel):
        return ""  # ours are small: a picture is done before they would be compiled
    if not wanted:
        leave_as_it_is(model.network)
    elif not is_compiled(model.network):
        if why := _hindrance(model):
            return (
                f"{model.checkpoint.name if model.checkpoint is not None else 'The network'} was not compiled: {why}."
            )
        model.network.compile(backend=BACKEND)
    return ""


def is_compiled(network: nn.Module) -> bool:
    return getattr(network, "_compiled_call_impl", None) is not None


def leave_as_it_is(network: Any) -> None:
    network._compiled_call_impl = None


def _hindrance(model: LatentModel) -> str:
    if model.offloaded:
        return "its parts come to the accelerator one after the other"
    if any(isinstance(module, QuantizedLinear) for module in model.network.modules()):
        return "its weights are packed"
    if BACKEND != "inductor":
        return ""
    if model.device.type == "cuda":
        from torch.utils._triton import has_triton

        return "" if has_triton() else "torch's Triton is not installed"
    return "" if any(map(shutil.which, ("g++", "clang++", "cl"))) else "there is no C++ compiler"
