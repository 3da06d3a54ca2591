"""The perceptual loss: what it sees, what it leaves alone, and that a run learns with it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from diffstudio.errors import RunProblem
from diffstudio.networks.conditioning import Conditioning
from diffstudio.training.objectives.diffusion import DiffusionObjective, perceptual_loss
from diffstudio.training.objectives.perceptual import MOST_NOISE, PerceptualLoss
from diffstudio.training.recipe.few_steps_recipe import FewStepsRecipe
from tests.training.objectives.small import CPU, dataset, recipe, trained


@pytest.fixture(scope="module")
def loss() -> PerceptualLoss:
    return PerceptualLoss(CPU)


def drawn(count: int = 4) -> Tensor:
    """Images [N,3,32,32] of coloured discs and squares."""
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    images = torch.ones(count, 3, 32, 32)
    for index in range(count):
        inside = ((x - 14 - index) ** 2 + (y - 16) ** 2 < 80) if index % 2 else (x - 15).abs() + (y - 16).abs() < 9
        images[index, :, inside] = torch.tensor([0.8, -0.4, 0.2 * index])[:, None]
    return images


def test_a_blur_is_farther_than_a_shift_of_brightness_of_the_same_error(loss: PerceptualLoss) -> None:
    images, t = drawn(), torch.full((4,), 0.3)
    blurred = F.avg_pool2d(F.pad(images, (2, 2, 2, 2), mode="reflect"), 5, stride=1)
    shift = (blurred - images).square().flatten(1).mean(1).sqrt()
    darker = images - shift[:, None, None, None]
    assert bool((loss(blurred, images, t) > 2 * loss(darker, images, t)).all())
    torch.testing.assert_close(loss(images, images, t), torch.zeros(4))


def test_noisy_times_and_what_a_mask_leaves_out_do_not_count(loss: PerceptualLoss) -> None:
    images = drawn()
    estimates = (images + 0.3 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))).requires_grad_()
    t = torch.tensor([0.1, MOST_NOISE, 0.9, 0.6])
    distances = loss(estimates, images, t)
    assert (distances > 0).tolist() == [True, False, False, True]
    (slope,) = torch.autograd.grad(distances.sum(), estimates)
    assert slope.flatten(1).any(dim=1).tolist() == [True, False, False, True]
    assert not loss(estimates, images, torch.ones(4)).any()
    weights = torch.zeros(4, 1, 32, 32)
    weights[0] = 1.5  # of masked training: 1 on average
    masked = loss(estimates.detach(), images, t, weights)
    torch.testing.assert_close(masked[0], distances[0].detach())
    assert float(masked[3]) == pytest.approx(0, abs=1e-6)


def test_grey_images_and_larger_ones_are_seen_too(loss: PerceptualLoss) -> None:
    grey, t = drawn().mean(1, keepdim=True), torch.full((4,), 0.3)
    estimates = 0.8 * grey
    torch.testing.assert_close(
        loss(estimates, grey, t), loss(estimates.expand(-1, 3, -1, -1), grey.expand(-1, 3, -1, -1), t)
    )
    large = F.interpolate(grey, (96, 64), mode="bilinear")
    assert bool((loss(0.8 * large, large, t) > 0).all())


def test_only_colour_and_grey_images_of_a_diffusion_model_have_one() -> None:
    of = recipe("diffusion", Conditioning.NONE, perceptual=3.0)
    assert isinstance(perceptual_loss(of, CPU), PerceptualLoss)
    assert perceptual_loss(recipe("diffusion", Conditioning.NONE), CPU) is None
    assert perceptual_loss(replace(of, few_steps=FewStepsRecipe(enabled=True)), CPU) is None
    with pytest.raises(RunProblem, match="perceptual is 3: the images have 4 channels"):
        perceptual_loss(replace(of, data=replace(of.data, channels=4, alpha=True)), CPU)


def test_a_run_learns_with_it_and_reports_the_same_loss() -> None:
    images = dataset()
    steps: dict[float, list[float]] = {}
    for weight in (0.0, 3.0):
        trainer, batches = trained(recipe("diffusion", Conditioning.NONE, 6, perceptual=weight), images, 0)
        assert isinstance(trainer.objective, DiffusionObjective)
        steps[weight] = [trainer.step(batches.at(step)).loss for step in range(6)]
    assert steps[0.0][0] == steps[3.0][0]  # before the first update; what is added is not in it
    assert steps[0.0][-1] != steps[3.0][-1] and bool(np.isfinite(steps[3.0]).all())
