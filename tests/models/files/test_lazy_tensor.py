"""A tensor that comes later is the tensor that would have come at once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from diffstudio.models.files.lazy_tensor import LazyTensor, lazy, materialize

X = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))


def wait(tensor: Tensor, read: Callable[[], None] = lambda: None) -> Tensor:
    def make() -> Tensor:
        read()
        return tensor

    return lazy(tuple(tensor.shape), tensor.dtype, make)


@pytest.mark.parametrize(
    "do",
    [
        lambda x: x.T.contiguous(),
        lambda x: torch.cat([x[3:], x[:3]]),
        lambda x: x[:, :, None, None],
        lambda x: x.chunk(3)[1],
        lambda x: x.split((1, 5))[1],
        lambda x: x.to(torch.bfloat16),
        lambda x: x.half().float(),
        lambda x: torch.lerp(x, x + 1, 0.25),
        lambda x: x * torch.arange(4.0),
        lambda x: 2 * x - X,
        lambda x: x.reshape(2, 12)[0],
        lambda x: x.to(torch.float8_e4m3fn),
    ],
)
def test_every_operation_is_put_off_and_then_done(do: Callable[[Tensor], Tensor]) -> None:
    reads: list[None] = []
    put_off = do(wait(X, lambda: reads.append(None)))
    expected = do(X)
    assert isinstance(put_off, LazyTensor) and not reads
    assert (put_off.shape, put_off.dtype, put_off.element_size()) == (
        expected.shape,
        expected.dtype,
        expected.element_size(),
    )
    found = materialize(put_off)
    assert type(found) is Tensor and reads
    assert torch.equal(found.float(), expected.float()) and "LazyTensor" in repr(put_off)


def test_what_is_there_stays() -> None:
    assert materialize(X) is X
