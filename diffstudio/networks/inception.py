"""The Inception network of FID without its classifier: an image of 299 px becomes 2,048 features.

Inception v3 (Szegedy et al., 1512.00567) as TensorFlow's graph of 2015-12-05 has it, which Heusel et al. (1706.08500) used:
mean pooling leaves the padding out, and the last block pools by maximum. Keys are those of pytorch-fid and torch-fidelity.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE = 299  # px
FEATURES = 2048

_Kernel: TypeAlias = int | tuple[int, int]
_Layer: TypeAlias = tuple[str, int, _Kernel, int]  # name, output channels, kernel, stride
_Branch: TypeAlias = Sequence[tuple[_Layer, ...]]  # one after the other; those of a tuple are concatenated


class NormalizedConv(nn.Module):
    """Convolution, batch normalization, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: _Kernel, stride: int = 1, padding: _Kernel = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class InceptionBlock(nn.Module):
    """Branches on one input, concatenated; the last is a pooling, `mean` or `max` of 3 x 3, with a 1 x 1 convolution, or in
    a `reducing` block, whose branches halve the side without padding, a maximum alone.
    """

    def __init__(self, inputs: int, branches: Sequence[_Branch], pooled: int = 0, pool: str = "mean") -> None:
        super().__init__()
        self._names: list[list[list[str]]] = []
        for branch in branches:
            channels, names = inputs, []
            for together in branch:
                for name, outputs, kernel, stride in together:
                    padding = _same(kernel) if stride == 1 else 0
                    self.add_module(name, NormalizedConv(channels, outputs, kernel, stride, padding))
                names.append([name for name, *_ in together])
                channels = sum(outputs for _, outputs, _, _ in together)
            self._names.append(names)
        self._pool = pool
        if pooled:
            self.branch_pool = NormalizedConv(inputs, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        found = []
        for branch in self._names:
            hidden = x
            for names in branch:
                hidden = torch.cat([self.get_submodule(name)(hidden) for name in names], dim=1)
            found.append(hidden)
        match self._pool:
            case "mean":
                found.append(self.branch_pool(F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)))
            case "max":
                found.append(self.branch_pool(F.max_pool2d(x, 3, 1, 1)))
            case _:
                found.append(F.max_pool2d(x, 3, 2))
        return torch.cat(found, dim=1)


def _same(kernel: _Kernel) -> _Kernel:
    return kernel // 2 if isinstance(kernel, int) else (kernel[0] // 2, kernel[1] // 2)


def _five(inputs: int, pooled: int) -> InceptionBlock:
    """1512.00567, fig. 5."""
    return InceptionBlock(
        inputs,
        [
            [(("branch1x1", 64, 1, 1),)],
            [(("branch5x5_1", 48, 1, 1),), (("branch5x5_2", 64, 5, 1),)],
            [(("branch3x3dbl_1", 64, 1, 1),), (("branch3x3dbl_2", 96, 3, 1),), (("branch3x3dbl_3", 96, 3, 1),)],
        ],
        pooled,
    )


def _six(inner: int) -> InceptionBlock:
    """1512.00567, fig. 6, with n = 7."""
    wide, high = (1, 7), (7, 1)
    return InceptionBlock(
        768,
        [
            [(("branch1x1", 192, 1, 1),)],
            [(("branch7x7_1", inner, 1, 1),), (("branch7x7_2", inner, wide, 1),), (("branch7x7_3", 192, high, 1),)],
            [
                (("branch7x7dbl_1", inner, 1, 1),),
                (("branch7x7dbl_2", inner, high, 1),),
                (("branch7x7dbl_3", inner, wide, 1),),
                (("branch7x7dbl_4", inner, high, 1),),
                (("branch7x7dbl_5", 192, wide, 1),),
            ],
        ],
        192,
    )


def _seven(inputs: int, pool: str) -> InceptionBlock:
    """1512.00567, fig. 7."""
    wide, high = (1, 3), (3, 1)
    return InceptionBlock(
        inputs,
        [
            [(("branch1x1", 320, 1, 1),)],
            [(("branch3x3_1", 384, 1, 1),), (("branch3x3_2a", 384, wide, 1), ("branch3x3_2b", 384, high, 1))],
            [
                (("branch3x3dbl_1", 448, 1, 1),),
                (("branch3x3dbl_2", 384, 3, 1),),
                (("branch3x3dbl_3a", 384, wide, 1), ("branch3x3dbl_3b", 384, high, 1)),
            ],
        ],
        192,
        pool,
    )


def _blocks() -> Mapping[str, nn.Module]:
    reducing = "reduce"
    return {
        "Conv2d_1a_3x3": NormalizedConv(3, 32, 3, 2),
        "Conv2d_2a_3x3": NormalizedConv(32, 32, 3),
        "Conv2d_2b_3x3": NormalizedConv(32, 64, 3, padding=1),
        "pool_1": nn.MaxPool2d(3, 2),
        "Conv2d_3b_1x1": NormalizedConv(64, 80, 1),
        "Conv2d_4a_3x3": NormalizedConv(80, 192, 3),
        "pool_2": nn.MaxPool2d(3, 2),
        "Mixed_5b": _five(192, 32),
        "Mixed_5c": _five(256, 64),
        "Mixed_5d": _five(288, 64),
        "Mixed_6a": InceptionBlock(
            288,
            [
                [(("branch3x3", 384, 3, 2),)],
                [(("branch3x3dbl_1", 64, 1, 1),), (("branch3x3dbl_2", 96, 3, 1),), (("branch3x3dbl_3", 96, 3, 2),)],
            ],
            pool=reducing,
        ),
        "Mixed_6b": _six(128),
        "Mixed_6c": _six(160),
        "Mixed_6d": _six(160),
        "Mixed_6e": _six(192),
        "Mixed_7a": InceptionBlock(
            768,
            [
                [(("branch3x3_1", 192, 1, 1),), (("branch3x3_2", 320, 3, 2),)],
                [
                    (("branch7x7x3_1", 192, 1, 1),),
                    (("branch7x7x3_2", 192, (1, 7), 1),),
                    (("branch7x7x3_3", 192, (7, 1), 1),),
                    (("branch7x7x3_4", 192, 3, 2),),
                ],
            ],
            pool=reducing,
        ),
        "Mixed_7b": _seven(1280, "mean"),
        "Mixed_7c": _seven(2048, "max"),
    }


class FidInception(nn.Sequential):
    """Images [N,3,299,299], (v - 128) / 128 of 8-bit values, to features [N,2048]."""

    def __init__(self) -> None:
        super().__init__()
        for name, block in _blocks().items():
            self.add_module(name, block)

    def forward(self, images: Tensor) -> Tensor:
        for block in self:
            images = block(images)
        return images.mean(dim=(2, 3))


def resize_like_tensorflow(images: Tensor, side: int) -> Tensor:
    """Images [N,C,H,W] to [N,C,side,side] as TensorFlow 1 resized them bilinearly: pixel i is taken at i · H / side."""
    columns, rows = (_taps(images.shape[axis], side, images) for axis in (3, 2))
    across = torch.lerp(images[..., columns[0]], images[..., columns[1]], columns[2])
    return torch.lerp(across[:, :, rows[0]], across[:, :, rows[1]], rows[2][:, None])


def _taps(size: int, side: int, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For each of `side` positions: the pixel before it, the one after it, and the share of the latter."""
    at = torch.arange(side, dtype=like.dtype, device=like.device) * (size / side)
    before = at.long().clamp(max=size - 1)
    return before, (before + 1).clamp(max=size - 1), at - before
