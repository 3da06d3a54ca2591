"""Packed: matrices that stay as a file stores them, in eight bits a number or fewer, and are unpacked when they are used.

A network of twelve billion numbers takes twice to six times the memory otherwise. What its layers work out is the same to the
bit as from weights that were unpacked at once. Bytes are kept as bytes, so that nothing that casts a module casts them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FLOAT8_DTYPES = (torch.float8_e4m3fn, torch.float8_e5m2)
QuantizationType: TypeAlias = "torch.dtype | int"  # one of EIGHTHS, or the number of a kind of GGUF's


@dataclass(frozen=True)
class QuantizedTensor:
    """A matrix [out,in], or a vector or a kernel stored as one."""

    stored: Tensor  # uint8 [out, bytes of a row]
    kind: QuantizationType
    scale: Tensor | None = None  # what all of it is multiplied by: float32 [] or [out,1]
    shape: tuple[int, ...] = ()  # where that is not the one it is stored in

    @property
    def rows(self) -> int:
        return len(self.stored)

    @cached_property
    def columns(self) -> int:
        bytes_a_row = int(self.stored.shape[1])
        if isinstance(self.kind, torch.dtype):
            return bytes_a_row
        numbers, size = _block(self.kind)
        return bytes_a_row // size * numbers

    def cut(self, start: int, stop: int) -> QuantizedTensor:
        scale = self.scale if self.scale is None or self.scale.ndim == 0 else self.scale[start:stop]
        return replace(self, stored=self.stored[start:stop], scale=scale, shape=())

    def dense(self, dtype: torch.dtype) -> Tensor:
        found = dequantize(self.stored, self.kind, self.scale, dtype)
        return found.reshape(self.shape) if self.shape else found


def concatenate(pieces: list[QuantizedTensor]) -> QuantizedTensor:
    """One below the other; they are of one kind."""
    first = pieces[0]
    if len(pieces) == 1:
        return first
    scale = (
        None
        if first.scale is None
        else torch.cat([one.scale.reshape(-1, 1).expand(one.rows, 1) for one in pieces if one.scale is not None])
    )
    return QuantizedTensor(torch.cat([one.stored for one in pieces]), first.kind, scale)


def dequantize(stored: Tensor, kind: QuantizationType, scale: Tensor | None, dtype: torch.dtype) -> Tensor:
    """uint8 [out, bytes of a row] -> [out,in]. Reckoned in float32 where there is anything to reckon."""
    if isinstance(kind, torch.dtype):
        eighths = stored.view(kind)
        return eighths.to(dtype) if scale is None else (eighths.float() * scale).to(dtype)
    import gguf
    from diffusers.quantizers.gguf.utils import dequantize_functions

    numbers, size = _block(kind)
    blocks = dequantize_functions[gguf.GGMLQuantizationType(kind)](
        stored.reshape(-1, size), numbers, size, dtype=torch.float32
    )
    return blocks.reshape(len(stored), -1).to(dtype)


def can_dequantize(kind: int) -> bool:
    """Whether diffusers unpacks GGUF's blocks of this kind with torch, so that they may stay packed on any device."""
    from diffusers.quantizers.gguf.utils import dequantize_functions

    return kind in dequantize_functions


def _block(kind: int) -> tuple[int, int]:
    """Numbers in one block, and its bytes."""
    import gguf

    numbers, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(kind)]
    return numbers, size


class QuantizedLinear(nn.Linear):
    """A linear layer whose matrix stays packed. `weight` holds its bytes: see models/adapters/adapters.py for what LoRAs do with those."""

    def __init__(self, packed: QuantizedTensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = packed.columns, packed.rows
        self.kind, self.compute_dtype = (
            packed.kind,
            dtype,
        )  # the latter by the name under which diffusers' networks ask for it
        self.weight = nn.Parameter(packed.stored, requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)  # type: ignore[assignment]
        self.register_buffer("scale", packed.scale)

    def forward(self, input: Tensor) -> Tensor:
        scale: Any = self.scale
        return F.linear(input, dequantize(self.weight, self.kind, scale, input.dtype), self.bias)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, kind={self.kind}"
