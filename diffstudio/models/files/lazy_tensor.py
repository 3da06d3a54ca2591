"""Later: a tensor that is described and not there yet, so that a file of any size can be worked on tensor by tensor.

What torch is asked to do with one is not done but noted, on no device; `now` reads what it needs from the disk and does it. So a
change of names, a cast, or a sum of two checkpoints is written down as if all weights lay in memory, and only those of the tensor
that is being written do.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only


class LazyTensor(Tensor):
    """`described` is a tensor on the device `meta`; `make` brings the real one, on the CPU."""

    described: Tensor
    make: Callable[[], Tensor]

    @staticmethod
    def __new__(cls, described: Tensor, make: Callable[[], Tensor]) -> LazyTensor:
        found: LazyTensor = Tensor._make_wrapper_subclass(
            cls,
            described.shape,
            strides=described.stride(),
            storage_offset=described.storage_offset(),
            dtype=described.dtype,
            device=torch.device("cpu"),
        )
        found.described, found.make = described, make
        return found

    def __repr__(self, *, tensor_contents: Any = None) -> Any:  # type: ignore[override]
        return f"Later({list(self.shape)}, {self.dtype})"

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        kwargs = kwargs or {}
        described = operation(*tree_map_only(Tensor, _described, args), **tree_map_only(Tensor, _described, kwargs))

        def make() -> Any:
            return operation(
                *tree_map_only(LazyTensor, materialize, args), **tree_map_only(LazyTensor, materialize, kwargs)
            )

        if isinstance(described, Tensor):
            return cls(described, make)
        return [cls(one, partial(_one_of, make, place)) for place, one in enumerate(described)]


def _one_of(make: Callable[[], Any], place: int) -> Tensor:
    found: Tensor = make()[place]
    return found


def lazy(shape: tuple[int, ...], dtype: torch.dtype, make: Callable[[], Tensor]) -> Tensor:
    return LazyTensor(torch.empty(shape, dtype=dtype, device="meta"), make)


def materialize(tensor: Tensor) -> Tensor:
    """The tensor itself."""
    return tensor.make() if isinstance(tensor, LazyTensor) else tensor


def _described(tensor: Tensor) -> Tensor:
    return tensor.described if isinstance(tensor, LazyTensor) else tensor.to("meta")
