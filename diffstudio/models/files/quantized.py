"""Quantized weights (fp8, GGUF) that stay packed in memory and are dequantized when a layer uses them.

A network of twelve billion parameters would take two to six times the memory otherwise. Outputs are the same to the bit
as from weights that were dequantized at once. The packed bytes are uint8, so that casting a module leaves them alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FLOAT8_DTYPES = (torch.float8_e4m3fn, torch.float8_e5m2)
QuantizationType: TypeAlias = "torch.dtype | int"  # one of FLOAT8_DTYPES, or a GGML quantization type


@dataclass(frozen=True)
class QuantizedTensor:
    """A packed matrix [out,in], or a vector or convolution kernel stored as one."""

    stored: Tensor  # uint8 [out, bytes per row]
    kind: QuantizationType
    scale: Tensor | None = None  # factor of all values, float32 [] or [out,1]
    shape: tuple[int, ...] = ()  # of the tensor, if it is not a matrix

    @property
    def rows(self) -> int:
        return len(self.stored)

    @cached_property
    def columns(self) -> int:
        bytes_a_row = int(self.stored.shape[1])
        if isinstance(self.kind, torch.dtype):
            return bytes_a_row
        elements, size = _block(self.kind)
        return bytes_a_row // size * elements

    def slice_rows(self, start: int, stop: int) -> QuantizedTensor:
        """Rows `start` to `stop`."""
        scale = self.scale if self.scale is None or self.scale.ndim == 0 else self.scale[start:stop]
        return replace(self, stored=self.stored[start:stop], scale=scale, shape=())

    def dense(self, dtype: torch.dtype) -> Tensor:
        """Dequantized."""
        values = dequantize(self.stored, self.kind, self.scale, dtype)
        return values.reshape(self.shape) if self.shape else values


def concatenate(tensors: list[QuantizedTensor]) -> QuantizedTensor:
    """Along the rows; all must have the same quantization type."""
    first = tensors[0]
    if len(tensors) == 1:
        return first
    scale = (
        None
        if first.scale is None
        else torch.cat([one.scale.reshape(-1, 1).expand(one.rows, 1) for one in tensors if one.scale is not None])
    )
    return QuantizedTensor(torch.cat([one.stored for one in tensors]), first.kind, scale)


def dequantize(stored: Tensor, kind: QuantizationType, scale: Tensor | None, dtype: torch.dtype) -> Tensor:
    """uint8 [out, bytes per row] -> [out,in]. Computed in float32, then cast to `dtype`."""
    if isinstance(kind, torch.dtype):
        float8 = stored.view(kind)
        return float8.to(dtype) if scale is None else (float8.float() * scale).to(dtype)
    import gguf
    from diffusers.quantizers.gguf.utils import dequantize_functions

    elements, size = _block(kind)
    unpack: Callable[..., Tensor] = dequantize_functions[gguf.GGMLQuantizationType(kind)]
    blocks = unpack(stored.reshape(-1, size), elements, size, dtype=torch.float32)
    return blocks.reshape(len(stored), -1).to(dtype)


def can_dequantize(kind: int) -> bool:
    """Whether diffusers dequantizes this GGML type with torch, so that it can stay packed on any device."""
    from diffusers.quantizers.gguf.utils import dequantize_functions

    return kind in dequantize_functions


def _block(kind: int) -> tuple[int, int]:
    """Elements and bytes of one block."""
    import gguf

    elements, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(kind)]
    return elements, size


class QuantizedLinear(nn.Linear):
    """A linear layer whose matrix stays packed: `weight` has its bytes. models/adapters/adapters.py applies LoRAs to
    it.
    """

    scale: Tensor | None

    def __init__(self, packed: QuantizedTensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = packed.columns, packed.rows
        self.kind = packed.kind
        self.compute_dtype = dtype  # diffusers' networks read this name
        self.weight = nn.Parameter(packed.stored, requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)  # type: ignore[assignment]
        self.register_buffer("scale", packed.scale)

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, dequantize(self.weight, self.kind, self.scale, input.dtype), self.bias)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, kind={self.kind}"
