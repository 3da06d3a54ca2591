"""Lazy tensors: operations on them are recorded and run when a tensor is materialized, so files of any size are
processed one by one.

Shapes and dtypes are computed at once on the device `meta`; `materialize` reads the inputs from disk and runs the
operations. So renaming, casting or adding two checkpoints is written as if all weights were in memory, and only those
of one tensor are.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only


class LazyTensor(Tensor):
    """`meta` has its shape and dtype, on the device `meta`; `compute` returns the real tensor, on the CPU."""

    meta: Tensor
    compute: Callable[[], Tensor]

    @staticmethod
    def __new__(cls, meta: Tensor, compute: Callable[[], Tensor]) -> LazyTensor:
        found: LazyTensor = Tensor._make_wrapper_subclass(
            cls,
            meta.shape,
            strides=meta.stride(),
            storage_offset=meta.storage_offset(),
            dtype=meta.dtype,
            device=torch.device("cpu"),
        )
        found.meta, found.compute = meta, compute
        return found

    def __repr__(self, *, tensor_contents: Any = None) -> Any:  # type: ignore[override]
        return f"LazyTensor({list(self.shape)}, {self.dtype})"

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        kwargs = kwargs or {}
        meta = operation(*tree_map_only(Tensor, _meta, args), **tree_map_only(Tensor, _meta, kwargs))

        def compute() -> Any:
            return operation(
                *tree_map_only(LazyTensor, materialize, args), **tree_map_only(LazyTensor, materialize, kwargs)
            )

        if isinstance(meta, Tensor):
            return cls(meta, compute)
        return [cls(one, partial(_output, compute, index)) for index, one in enumerate(meta)]


def _output(compute: Callable[[], Any], index: int) -> Tensor:
    output: Tensor = compute()[index]
    return output


def lazy(shape: tuple[int, ...], dtype: torch.dtype, compute: Callable[[], Tensor]) -> Tensor:
    """A lazy tensor of this shape and dtype, which `compute` returns when it is needed."""
    return LazyTensor(torch.empty(shape, dtype=dtype, device="meta"), compute)


def materialize(tensor: Tensor) -> Tensor:
    """The real tensor, on the CPU."""
    return tensor.compute() if isinstance(tensor, LazyTensor) else tensor


def _meta(tensor: Tensor) -> Tensor:
    return tensor.meta if isinstance(tensor, LazyTensor) else tensor.to("meta")
