"""Features of a network trained on a folder's own training part: for images that are no photographs, and for any number
of channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from diffstudio.errors import BadRequest
from diffstudio.evaluation.features.feature_network import FeatureNetwork
from diffstudio.plurals import by_number, count_of

WIDTH = 64  # features of an image
LARGEST_SIDE = 32  # px, to which larger images are resized
STEPS, BATCH = 300, 128
FEWEST_OF_A_CLASS = 8  # training images; folders with smaller classes are learnt without them
_LEARNING_RATE = 2e-3
_TEMPERATURE = 0.2
_SMALLEST_CROP = 0.6  # of a side
_CHANNELS = (24, 48, 96)


class SmallNetwork(nn.Module):
    """Images [N,C,S,S] to features [N,64]: three convolutions, each but the first halving the side, and their mean."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index, width in enumerate(_CHANNELS):
            layers += [nn.Conv2d(channels, width, 3, stride=1 if index == 0 else 2, padding=1)]
            layers += [nn.GroupNorm(8, width), nn.SiLU()]
            channels = width
        self.layers = nn.Sequential(*layers)
        self.last = nn.Linear(channels, WIDTH)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.last(self.layers(images).mean(dim=(2, 3)))
        return features


def folder_network(
    batch: Callable[[NDArray[np.int64]], Tensor],
    count: int,
    labels: Sequence[int] = (),
    *,
    seed: int = 0,
    steps: int = STEPS,
    device: torch.device | str = "cpu",
    check: Callable[[int], None] = lambda step: None,
) -> FeatureNetwork:
    """A small network trained on `count` images, which `batch` reads by their indices: [B,C,S,S] in [-1,1].

    With two classes or more, of 8 images each, it learns to tell them apart, and its features are those before the
    decision; else to find the other crop of an image among those of the batch (SimCLR, Chen et al., 2002.05709). The
    same seed gives the same network on a processor. `check(step)` is called before each step and may raise.

    BadRequest for fewer than two images.
    """
    if count < 2:
        raise BadRequest(
            "A network for comparing images cannot be trained",
            f"there {by_number(count, 'is', 'are')} {count_of(count, 'training image')}",
        )
    sizes = np.bincount(labels) if len(labels) else np.zeros(0, int)
    classes = len(sizes) if len(sizes) > 1 and sizes.min() >= FEWEST_OF_A_CLASS else 0
    first = batch(np.arange(1))
    side = min(LARGEST_SIDE, *first.shape[-2:])

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = SmallNetwork(first.shape[1]).to(device)
        head = nn.Linear(WIDTH, classes or WIDTH).to(device)
    rng = np.random.default_rng(seed)

    def drawn() -> tuple[Tensor, Tensor | None]:
        """Images of a step [B,C,S,S], and their classes [B], if it learns them."""
        indices = np.sort(rng.choice(count, min(BATCH, count), replace=False))
        wanted = torch.tensor([labels[index] for index in indices], device=device) if classes else None
        return _resized(batch(indices).to(device), side), wanted

    _train(network, head, drawn, torch.Generator().manual_seed(seed), steps, check)

    @torch.inference_mode()
    def features(images: Tensor) -> Tensor:
        found: Tensor = network(_resized(images.to(device, torch.float32), side))
        return found

    how = f"{classes} classes" if classes else "without labels"
    name = f"a small network trained on the folder's training part ({how}, {count:,} images, seed {seed})"
    return FeatureNetwork(name, WIDTH, f"resized to {side} px, bilinear", features)


def _train(
    network: nn.Module,
    head: nn.Module,
    drawn: Callable[[], tuple[Tensor, Tensor | None]],
    generator: torch.Generator,
    steps: int,
    check: Callable[[int], None],
) -> None:
    """Train on what `drawn` gives for each step; `network` is then in evaluation mode, without gradients."""
    network.train()
    parameters = [*network.parameters(), *head.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=_LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _LEARNING_RATE, total_steps=steps)
    for step in range(steps):
        check(step)
        images, wanted = drawn()
        if wanted is not None:
            loss = F.cross_entropy(head(F.silu(network(_cropped(images, generator)))), wanted)
        else:
            loss = _contrast(head(F.silu(network(_two_views(images, generator)))))
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        schedule.step()
    network.eval().requires_grad_(False)


def _resized(images: Tensor, side: int) -> Tensor:
    if images.shape[-2:] == (side, side):
        return images
    return F.interpolate(images, (side, side), mode="bilinear", antialias=True, align_corners=False)


def _two_views(images: Tensor, generator: torch.Generator) -> Tensor:
    """[2B,C,S,S]: two crops of each image, with other brightness and contrast."""
    views = []
    for _ in range(2):
        gain, shift = torch.rand((2, len(images), 1, 1, 1), generator=generator).to(images.device)
        views.append(_cropped(images, generator) * (0.7 + 0.6 * gain) + 0.4 * (shift - 0.5))
    return torch.cat(views)


def _cropped(images: Tensor, generator: torch.Generator) -> Tensor:
    """A random square of each image, of at least 0.6 of its side, at the size of the whole."""
    size, right, down = torch.rand((3, len(images)), generator=generator)
    size = _SMALLEST_CROP + (1 - _SMALLEST_CROP) * size
    room = 1 - size
    matrix = torch.zeros(len(images), 2, 3)
    matrix[:, 0, 0], matrix[:, 1, 1] = size, size
    matrix[:, 0, 2], matrix[:, 1, 2] = room * (2 * right - 1), room * (2 * down - 1)
    grid = F.affine_grid(matrix.to(images), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _contrast(projected: Tensor) -> Tensor:
    """The loss of 2002.05709, eq. 1, of two views [2B,D], those of an image B rows apart."""
    directions = F.normalize(projected, dim=1)
    similarities = directions @ directions.T / _TEMPERATURE
    similarities = similarities.masked_fill(
        torch.eye(len(similarities), dtype=torch.bool, device=projected.device), -1e9
    )
    other = (torch.arange(len(similarities), device=projected.device) + len(similarities) // 2) % len(similarities)
    return F.cross_entropy(similarities, other)
