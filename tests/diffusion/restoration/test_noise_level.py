"""The noise of an image against noise that was added to it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diffstudio.diffusion.restoration.noise_level import estimate_noise


def shapes(side: int = 64) -> Tensor:
    """Discs and a ramp in colours that leave room below white: [3,S,S]."""
    across = torch.linspace(-1, 1, side)
    image = torch.stack([0.3 * across.expand(side, side), 0.3 * across.expand(side, side).T, torch.zeros(side, side)])
    inside = (across[:, None] - 0.2) ** 2 + across**2 < 0.2
    return torch.where(inside, torch.tensor([0.3, -0.4, 0.1]).view(3, 1, 1), image)


@pytest.mark.parametrize("noise", [0.02, 0.1, 0.4])
def test_known_noise_is_found(noise: float) -> None:
    generator = torch.Generator().manual_seed(1)
    noisy = shapes() + noise * torch.randn(3, 64, 64, generator=generator)
    assert estimate_noise(noisy, None) == pytest.approx(noise, rel=0.06)


def test_noise_that_a_file_cut_off_at_white_is_not_underestimated() -> None:
    """Two thirds of the image are white, where half of the noise is lost."""
    image, noise = shapes(), 0.15
    image[:, :43] = 1
    noisy = (image + noise * torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(2))).clamp(-1, 1)
    assert estimate_noise(noisy, None) < 0.85 * noise
    assert estimate_noise(noisy) == pytest.approx(noise, rel=0.1)


def test_images_without_noise_and_without_enough_pixels() -> None:
    assert estimate_noise(torch.zeros(3, 16, 16)) == 0.0
    assert estimate_noise(torch.zeros(1, 1, 1)) == 0.0
    white = torch.ones(1, 16, 16) - 0.1 * torch.rand(1, 16, 16, generator=torch.Generator().manual_seed(0))
    assert estimate_noise(white) == pytest.approx(estimate_noise(white, None))  # nothing is far enough from white
