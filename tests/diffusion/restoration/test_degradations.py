"""Proximal steps: the gradient of what they minimise is zero, whatever the degradation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diffstudio.diffusion.restoration.degradations import (
    Blurred,
    Degradation,
    Identity,
    Masked,
    Reduced,
    gaussian_kernel,
)

GENERATOR = torch.Generator().manual_seed(0)
KNOWN = (torch.rand(1, 1, 12, 8, generator=GENERATOR) > 0.4).double()
UNEVEN = torch.rand(3, 5, generator=GENERATOR, dtype=torch.float64)
ALL = [Identity(), Masked(KNOWN), Blurred(UNEVEN / UNEVEN.sum()), Blurred(gaussian_kernel(0.8)), Reduced(4), Reduced(2)]


def images(count: int = 2) -> Tensor:
    return torch.randn(count, 3, 12, 8, generator=GENERATOR, dtype=torch.float64)


@pytest.mark.parametrize("degradation", ALL, ids=lambda one: type(one).__name__)
def test_the_proximal_step_is_the_minimum(degradation: Degradation) -> None:
    y, estimate = degradation.apply(images()), images()
    ratio = torch.tensor([0.3, 2.0], dtype=torch.float64).view(2, 1, 1, 1)
    x = degradation.proximal(y, estimate, ratio).requires_grad_()
    cost = (y - degradation.apply(x)).square().sum() + (ratio * (x - estimate).square()).sum()
    (gradient,) = torch.autograd.grad(cost, x)
    assert float(gradient.abs().max()) < 1e-12


@pytest.mark.parametrize("degradation", ALL, ids=lambda one: type(one).__name__)
def test_the_gain_is_the_trace_of_a_times_its_transpose(degradation: Degradation) -> None:
    """The columns of A are what it makes of unit images; only values that can be seen count."""
    columns = degradation.apply(torch.eye(96, dtype=torch.float64).view(96, 1, 12, 8)).flatten(1)
    seen = degradation.seen * columns.shape[1]
    assert degradation.gain == pytest.approx(float(columns.square().sum()) / seen)


def test_a_small_ratio_follows_the_data_and_a_large_one_the_estimate() -> None:
    x, estimate = images(1), images(1)
    for degradation in ALL[:3]:
        y = degradation.apply(x)
        near = degradation.proximal(y, estimate, torch.full((1, 1, 1, 1), 1e-9, dtype=torch.float64))
        assert torch.allclose(degradation.apply(near), y, atol=1e-4)
        far = degradation.proximal(y, estimate, torch.full((1, 1, 1, 1), 1e9, dtype=torch.float64))
        assert torch.allclose(far, estimate, atol=1e-6)


def test_a_blur_is_a_convolution_and_keeps_the_mean() -> None:
    image = torch.zeros(1, 1, 9, 9, dtype=torch.float64)
    image[..., 4, 4] = 1
    kernel = UNEVEN / UNEVEN.sum()
    assert torch.allclose(Blurred(kernel).apply(image)[0, 0, 3:6, 2:7], kernel)
    x = images(1)
    assert float(Blurred(gaussian_kernel(2.0)).apply(x).mean()) == pytest.approx(float(x.mean()))


def test_a_blur_is_undone_at_odd_widths_too() -> None:
    blur = Blurred(gaussian_kernel(0.8))
    x = torch.randn(1, 1, 9, 7, generator=GENERATOR, dtype=torch.float64)
    near = blur.proximal(blur.apply(x), torch.zeros_like(x), torch.full((1, 1, 1, 1), 1e-9, dtype=torch.float64))
    assert near.shape == x.shape and torch.allclose(near, x, atol=1e-3)


def test_a_margin_continues_the_edges_instead_of_the_other_side() -> None:
    """An edge between the left and the right side of an image bleeds around without a margin, and not with one."""
    image = torch.ones(1, 1, 16, 16, dtype=torch.float64)
    image[..., 8:] = -1
    around, continued = Blurred(gaussian_kernel(1.0)), Blurred(gaussian_kernel(1.0), margin=6)
    assert float(around.apply(image)[0, 0, 8, 0]) < 0.5
    blurred = continued.apply(image)
    assert blurred[0, 0, 8, 0] == pytest.approx(1)
    sharp = continued.proximal(blurred, blurred, torch.full((1, 1, 1, 1), 1e-4, dtype=torch.float64))
    assert float((sharp - image).square().mean()) < 0.1 * float((blurred - image).square().mean())


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="two odd sides"):
        Blurred(torch.ones(2, 3))
    with pytest.raises(ValueError, match="two odd sides"):
        Blurred(torch.ones(3))
    for factor, width, height in ((5, 8, 12), (3, 8, 12), (8, 8, 12)):
        with pytest.raises(ValueError, match=f"{width} x {height} px are no multiples of {factor}"):
            Reduced(factor).apply(images())
