"""Features of real and generated images, also under a run's augmentations, kept in files while they are measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffstudio.evaluation.feature_arrays import FeatureArray
from diffstudio.evaluation.features import PIXELS, FeatureNetwork, with_pixels
from diffstudio.studio.evaluations.folders import OnProgress
from diffstudio.training.data.augmentation import Augmentation
from diffstudio.training.recipe import DataRecipe

_BATCH = 32
_RANDOM_VIEWS = 6  # of a recipe that rotates or shifts

View = Callable[[Tensor], Tensor]  # images [B,C,S,S] in [-1,1] to the same, augmented


def views_of(data: DataRecipe) -> list[View]:
    """The image as it is, then augmented as the run augmented it: flipped, and some rotations and translations.

    A copy of an augmented training image is near to that image once it is augmented back; flips and small rotations and
    shifts are their own kind of inverse.
    """
    views: list[View] = [lambda images: images]
    if data.flips > 0:
        views.append(lambda images: images.flip(-1))
    if data.rotation_degrees or round(data.translation * data.size):
        views += [_drawn(data, number) for number in range(_RANDOM_VIEWS)]
    return views


def _drawn(data: DataRecipe, number: int) -> View:
    """One of the augmentations of a run, other for each image of a batch but the same in each call."""
    augmentation = Augmentation(replace(data, augment_labels=False))

    def view(images: Tensor) -> Tensor:
        return augmentation.apply(images, torch.Generator().manual_seed(number))[0]

    return view


@dataclass(frozen=True)
class FeatureFiles:
    """Extracts features into memory maps below `folder`, so that memory does not grow with the number of images."""

    network: FeatureNetwork
    channels: int  # of the images
    folder: Path
    report: OnProgress
    check: Callable[[], None]

    def extract(
        self, name: str, what: str, batches: Iterable[Tensor], count: int, views: Sequence[View]
    ) -> FeatureArray:
        """The features [V,N,D] and then the pixels [V,N,P] of `count` images, which come in batches [B,C,H,W] in [-1,1], in
        each of the views: one array.

        `name` is that of the file, `what` is shown.
        """
        shape = (len(views), count, self.network.width + PIXELS * self.channels)
        network = with_pixels(self.network)
        found = np.lib.format.open_memmap(self.folder / f"{name}.npy", mode="w+", dtype=np.float32, shape=shape)
        done = 0
        for batch in batches:
            self.check()
            for number, view in enumerate(views):
                features = network.features(view(batch)).float().cpu().numpy()
                found[number, done : done + len(batch)] = features
            done += len(batch)
            self.report(what, done, count)
        return np.asarray(found)


def batches_of(batch: Callable[[NDArray[np.int64]], Tensor], indices: NDArray[np.int64]) -> Iterator[Tensor]:
    """The images with these indices, a few at a time."""
    for first in range(0, len(indices), _BATCH):
        yield batch(indices[first : first + _BATCH])
