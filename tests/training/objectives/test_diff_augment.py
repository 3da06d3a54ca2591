"""DiffAugment: differentiable, in the same way for the same draws, and each of its changes."""

from __future__ import annotations

import pytest
import torch

from diffstudio.training.objectives.diff_augment import _cut_out, _shifted, diff_augment


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize(("channels", "height", "width"), [(1, 8, 8), (3, 16, 24)])
def test_changes_every_image_and_passes_gradients_back(channels: int, height: int, width: int) -> None:
    images = torch.rand(6, channels, height, width, generator=generator()).requires_grad_()
    changed = diff_augment(images, generator())
    assert changed.shape == images.shape and torch.equal(changed, diff_augment(images, generator()))
    assert all(not torch.allclose(a, b) for a, b in zip(changed, images, strict=True))
    (gradient,) = torch.autograd.grad(changed.sum(), images)
    assert bool((gradient != 0).flatten(1).any(dim=1).all())


def test_shifts_by_up_to_an_eighth_and_fills_with_zeros() -> None:
    images = torch.arange(1.0, 65.0).reshape(1, 1, 8, 8)
    for down, right, expected in ((0.0, 0.0, (1, 1)), (0.5, 0.5, (0, 0)), (0.99, 0.0, (-1, 1))):
        moved = _shifted(images, torch.tensor([down]), torch.tensor([right]))
        rows, columns = expected
        wanted = torch.zeros(8, 8)
        inside = images[0, 0].roll((rows, columns), (0, 1))
        keep = torch.ones(8, 8, dtype=torch.bool)
        if rows:
            keep[0 if rows > 0 else -1] = False
        if columns:
            keep[:, 0 if columns > 0 else -1] = False
        wanted[keep] = inside[keep]
        assert torch.equal(moved[0, 0], wanted)


def test_cuts_a_square_of_half_the_side_at_most() -> None:
    places = torch.linspace(0, 0.999, 50)
    left = _cut_out(places, places.flip(0), 8, 8)
    assert left.shape == (50, 1, 8, 8)
    removed = (left == 0).flatten(1).sum(dim=1)
    assert int(removed.max()) == 16 and int(removed.min()) >= 0 and bool((removed < 16).any())
