"""Adapters on packed weights (fp8, GGUF): the weights stay packed, and the change is added to the layer's output."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffstudio.models.adapters.change import Change, WeightUpdates, is_plain, weight_difference
from diffstudio.models.adapters.delta import AdditiveDelta, RowRanges, select_rows
from diffstudio.models.adapters.low_rank import LowRank
from diffstudio.models.files.quantized import FLOAT8_DTYPES, QuantizedLinear, dequantize


def add_to_output(updates: WeightUpdates, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
    """Forward hook: the layer's output plus what the changes add to it for the layer's input."""
    x: Tensor = args[0]
    for change, factor, rows in updates:
        delta = change.delta
        if is_plain(change) and isinstance(delta, LowRank) and isinstance(module, nn.Linear):
            up = select_rows(delta.up, rows)
            low = F.linear(x.to(output.dtype), delta.down.flatten(1).to(output))
            output = output + (factor * delta.scale) * F.linear(low, up.flatten(1).to(output))
            continue
        difference = _difference(module, change, rows, output.device).to(output.dtype)
        if isinstance(module, nn.Conv2d):
            kernel = difference.view(module.out_channels, -1, *module.kernel_size)
            output = output + factor * module._conv_forward(x.to(output.dtype), kernel, None)
        else:
            output = output + factor * F.linear(x.to(output.dtype), difference)
    return output


def can_unpack(module: nn.Module) -> bool:
    """Whether changes that depend on the weight can be made: its values are known."""
    return isinstance(module, QuantizedLinear) or module.get_parameter("weight").dtype in FLOAT8_DTYPES


def _difference(module: nn.Module, change: Change, rows: RowRanges | None, device: torch.device) -> Tensor:
    if change.magnitude is None and isinstance(change.delta, AdditiveDelta):
        return select_rows(change.delta.dense(device), rows)
    weight = module.get_parameter("weight")
    if isinstance(module, QuantizedLinear):
        dense = dequantize(weight, module.kind, module.scale, torch.float32)
    else:
        dense = weight.float()
    return weight_difference(dense.reshape(len(dense), -1), change, rows, dense.shape)
