"""EfficientNet-Lite0 against the published network, and its folded batch normalizations."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from diffstudio.networks.efficientnet import EfficientNetLite0, SamePadConv, folded


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "before"), [(8, 3, 2, 0), (7, 3, 2, 1), (8, 5, 2, 1), (8, 5, 1, 2)]
)
def test_padding_is_tensorflows_same(size: int, kernel: int, stride: int, before: int) -> None:
    """The number of pixels before the first: https://www.tensorflow.org/api_docs/python/tf/nn#same_padding."""
    convolution = SamePadConv(1, 1, kernel, stride)
    with torch.no_grad():
        convolution.weight.zero_()[0, 0, before, before] = 1
        convolution.bias.zero_()  # type: ignore[union-attr]
        image = torch.arange(size * size, dtype=torch.float32).reshape(1, 1, size, size)
        torch.testing.assert_close(convolution(image), image[..., ::stride, ::stride])


def test_a_folded_normalization_is_the_same_function() -> None:
    torch.manual_seed(0)
    convolution, norm = nn.Conv2d(3, 5, 3, bias=False), nn.BatchNorm2d(5, eps=1e-3).eval()
    for tensor in (norm.weight, norm.bias, norm.running_mean):
        nn.init.normal_(tensor)  # type: ignore[arg-type]
    nn.init.uniform_(norm.running_var, 0.5, 2)  # type: ignore[arg-type]
    weight, bias = folded(convolution.weight, norm.weight, norm.bias, norm.running_mean, norm.running_var)  # type: ignore[arg-type]
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(torch.conv2d(x, weight, bias), norm(convolution(x)))


def test_its_size() -> None:
    """4.65 million parameters, as published, less those of the classifier and the normalizations' second ones."""
    count = sum(tensor.numel() for tensor in EfficientNetLite0().parameters())
    assert count == pytest.approx(4.652e6 - 1281 * 1000, rel=0.01)
