"""EfficientNet-Lite0 without its classifier: an image becomes 1,280 features (Tan and Le, 1905.11946; Lite by Google, 2020).

Inverted residual blocks (MobileNetV2, 1801.04381) with ReLU6 and without squeeze-and-excitation. The batch normalizations
are folded into the convolutions: it is only evaluated here.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE = 224  # px, at which it was trained
FEATURES = 1280

# number of blocks, kernel size, stride of the first, factor of expansion, output channels
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_STEM = 32


class SamePadConv(nn.Conv2d):
    """A convolution padded as TensorFlow's SAME: to ceil(size / stride), with the odd pixel at the right and bottom."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        stride, kernel = self.stride[0], self.kernel_size[0]
        height, width = (max(0, (-(-size // stride) - 1) * stride + kernel - size) for size in x.shape[-2:])
        if height % 2 == 0 == width % 2:  # without a padded copy of the image
            padding = (height // 2, width // 2)
            return F.conv2d(x, self.weight, self.bias, self.stride, padding, groups=self.groups)
        return super().forward(F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2)))


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project; added to the input where shapes allow (1801.04381, fig. 4)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.expand = SamePadConv(inputs, hidden, 1) if expansion > 1 else nn.Identity()
        self.depthwise = SamePadConv(hidden, hidden, kernel, stride, groups=hidden)
        self.project = SamePadConv(hidden, outputs, 1)
        self.activation = nn.ReLU6(inplace=True)
        self.has_residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        hidden = x if isinstance(self.expand, nn.Identity) else self.activation(self.expand(x))
        found = self.project(self.activation(self.depthwise(hidden)))
        return cast(Tensor, x + found if self.has_residual else found)


class EfficientNetLite0(nn.Module):
    """Images [N,3,224,224], with values (v - 127) / 128 for 8-bit v, to features [N,1280]: the mean of the last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = SamePadConv(3, _STEM, 3, 2)
        blocks, inputs = [], _STEM
        for count, kernel, stride, expansion, outputs in _STAGES:
            for index in range(count):
                blocks.append(InvertedResidual(inputs, outputs, kernel, 1 if index else stride, expansion))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = SamePadConv(inputs, FEATURES, 1)
        self.activation = nn.ReLU6(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.activation(self.stem(x)))
        return cast(Tensor, self.activation(self.head(x)).mean(dim=(2, 3)))


@torch.no_grad()
def folded(convolution: Tensor, gain: Tensor, shift: Tensor, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution without bias [O,I,K,K] and the batch normalization (eps 1e-3) that follows it."""
    factor = gain / torch.sqrt(variance + 1e-3)
    return convolution * factor[:, None, None, None], shift - mean * factor
