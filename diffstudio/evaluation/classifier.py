"""A small image classifier: its accuracy on held-out real images measures the value of its training images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from diffstudio.errors import BadRequest
from diffstudio.evaluation.features.folder_network import LARGEST_SIDE, WIDTH, SmallNetwork

STEPS, BATCH = 300, 64
_LEARNING_RATE = 2e-3
_AT_ONCE = 256  # images per batch when classifying

Batch = Callable[[NDArray[np.int64]], Tensor]  # indices -> images [B,C,H,W] in [-1,1]


@dataclass(frozen=True, slots=True)
class ClassicAugmentation:
    """Classic augmentation: random geometric changes of each training image, drawn anew in every step."""

    name: str
    shift: float = 0.0  # at most, as a fraction of the side
    rotation_degrees: float = 0.0  # at most, in either direction
    scale: float = 0.0  # at most, up or down
    flips: bool = False  # flip half of the images horizontally

    def apply(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Augmented images [B,C,S,S] of the same size; border pixels are repeated."""
        if not (self.shift or self.rotation_degrees or self.scale or self.flips):
            return images
        right, down, turn, size = 2 * torch.rand((4, len(images)), generator=generator) - 1
        angle = torch.deg2rad(turn * self.rotation_degrees)
        factor = 1 + size * self.scale
        mirrored = torch.rand(len(images), generator=generator) < 0.5
        sign = torch.where(mirrored, -1.0, 1.0) if self.flips else torch.ones(len(images))
        matrix = torch.zeros(len(images), 2, 3)
        matrix[:, 0, 0], matrix[:, 0, 1] = sign * factor * angle.cos(), -factor * angle.sin()
        matrix[:, 1, 0], matrix[:, 1, 1] = sign * factor * angle.sin(), factor * angle.cos()
        matrix[:, 0, 2], matrix[:, 1, 2] = 2 * self.shift * right, 2 * self.shift * down
        grid = F.affine_grid(matrix.to(images), list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


NO_AUGMENTATION = ClassicAugmentation("none")


def augmentations(flips: bool) -> tuple[ClassicAugmentation, ...]:
    """The augmentations to try, weakest first. `flips`: whether an image and its mirror image have the same class."""
    kinds = (
        ClassicAugmentation("small shifts", shift=0.07),
        ClassicAugmentation("shifts, rotations and scaling", shift=0.07, rotation_degrees=8, scale=0.1),
        ClassicAugmentation("strong shifts, rotations and scaling", shift=0.12, rotation_degrees=15, scale=0.2),
    )
    if not flips:
        return kinds
    return tuple(
        ClassicAugmentation(f"flips, {one.name}", one.shift, one.rotation_degrees, one.scale, True) for one in kinds
    )


@dataclass(frozen=True, slots=True)
class Classifier:
    """A trained classifier."""

    network: nn.Module
    side: int  # px to which images are resized
    device: torch.device

    @torch.inference_mode()
    def predict(self, batch: Batch, count: int) -> NDArray[np.int64]:
        """The class [N] of each of `count` images."""
        found = [
            self.network(_resized(batch(np.arange(first, min(first + _AT_ONCE, count))).to(self.device), self.side))
            for first in range(0, count, _AT_ONCE)
        ]
        classes: NDArray[np.int64] = torch.cat(found).argmax(dim=1).cpu().numpy()
        return classes


def train_classifier(
    batch: Batch,
    labels: Sequence[int] | NDArray[np.int64],
    classes: int,
    *,
    seed: int = 0,
    steps: int = STEPS,
    augmentation: ClassicAugmentation = NO_AUGMENTATION,
    device: torch.device | str = "cpu",
    check: Callable[[], None] = lambda: None,
) -> Classifier:
    """Train a classifier on images that `batch` reads by index, with a label below `classes` for each.

    `seed` determines the initial weights, the order of the images and the augmentation, so that classifiers of one seed
    differ only in their images. All train for the same number of steps, independent of the number of images.
    `check` is called before each step and may raise.

    BadRequest for images of fewer than two classes.
    """
    known = np.asarray(labels, np.int64)
    if len(np.unique(known)) < 2:
        raise BadRequest("No classifier can be trained", "its training images have fewer than two classes")
    first = batch(np.arange(1))
    side = min(LARGEST_SIDE, *first.shape[-2:])
    generator, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(SmallNetwork(first.shape[1]), nn.SiLU(), nn.Linear(WIDTH, classes))
    place = torch.device(device)
    network.to(place).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=_LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _LEARNING_RATE, total_steps=steps)
    for _ in range(steps):
        check()
        indices = np.sort(rng.choice(len(known), min(BATCH, len(known)), replace=False))
        images = augmentation.apply(_resized(batch(indices).to(place), side), generator)
        loss = F.cross_entropy(network(images), torch.from_numpy(known[indices]).to(place))
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        schedule.step()
    network.eval().requires_grad_(False)
    return Classifier(network, side, place)


def _resized(images: Tensor, side: int) -> Tensor:
    if images.shape[-2:] == (side, side):
        return images
    return F.interpolate(images, (side, side), mode="bilinear", antialias=True, align_corners=False)
