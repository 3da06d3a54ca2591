"""Features of real and generated images, also under a run's augmentations, kept in files while they are measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffstudio.evaluation.even_spacing import spread
from diffstudio.evaluation.features.feature_arrays import FeatureArray
from diffstudio.evaluation.features.feature_network import PIXELS, FeatureNetwork, with_pixels
from diffstudio.evaluation.interval import Interval
from diffstudio.evaluation.memorisation import loss_gap
from diffstudio.evaluation.report import RealImages
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.evaluations.folders.real_folder import RealFolder
from diffstudio.studio.evaluations.progress import OnProgress
from diffstudio.studio.evaluations.samples import NOISE_LEVELS, CheckpointSamples, losses_of_part
from diffstudio.training.data.augmentation import Augmentation
from diffstudio.training.recipe import DataRecipe

_BATCH = 32
_LOSSES_OF = 256  # images of each part at most
_MIDDLE_LEVELS = (0.3, 0.7)  # noise levels where memorisation shows first (2603.13419)
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


def features_of_real(real: RealFolder, files: FeatureFiles, views: Sequence[View]) -> RealImages:
    """Features of the training part, and of the held-out part in each of the views."""
    batch, width = real.dataset.batch, files.network.width
    parts = (
        ("training", "Comparing the training images", real.training, views[:1]),
        ("held-out", "Comparing the held-out images", real.held_out, views),
    )
    training, held_out = (
        files.extract(name, what, batches_of(batch, part), len(part), seen) for name, what, part, seen in parts
    )
    return RealImages(
        training[0, :, :width],
        held_out[0, :, :width],
        network=files.network.label(),
        held_out_views=held_out[..., :width],
        training_pixels=training[0, :, width:],
        held_out_pixels=held_out[..., width:],
    )


def with_labels(features: RealImages, real: RealFolder, kind: Conditioning) -> RealImages:
    """The features with the class or caption of each image."""
    training, held_out = (real.labels(kind, part) for part in (real.training, real.held_out))
    return replace(features, training_labels=training, held_out_labels=held_out)


def loss_gaps(
    samples: CheckpointSamples, real: RealFolder, report: OnProgress
) -> tuple[list[tuple[float, Interval]], Interval | None]:
    """Held-out minus training loss of a checkpoint at each noise level, and the mean over the middle levels.

    None if a part has fewer than two images of classes that the checkpoint knows, and for VAEs and GANs.
    """
    if not samples.has_denoising_losses:
        return [], None
    kind = samples.subject.checkpoint.conditioning
    parts: list[NDArray[np.float64]] = []
    for indices in (real.training, real.held_out):
        chosen = indices[spread(len(indices), min(len(indices), _LOSSES_OF))]
        if kind is Conditioning.CLASS:
            known = {name.casefold() for name in samples.subject.checkpoint.classes}
            chosen = chosen[[label.casefold() in known for label in real.labels(kind, chosen)]]
        if len(chosen) < 2:
            return [], None
        report(f"Measuring the losses of {samples.subject.name}", len(parts), 2)
        prompts = real.labels(kind, chosen) or ("",) * len(chosen)
        parts.append(losses_of_part(samples, real.dataset.batch, chosen, prompts))
    middle = [_MIDDLE_LEVELS[0] <= level <= _MIDDLE_LEVELS[1] for level in NOISE_LEVELS]
    means = [losses[:, middle].mean(axis=1, keepdims=True) for losses in parts]
    return list(zip(NOISE_LEVELS, loss_gap(*parts), strict=True)), loss_gap(*means)[0]


def counted(check: Callable[[], None], report: OnProgress, what: str) -> Callable[[], None]:
    """`check` with its calls counted and reported as progress; how often a measure calls it is unknown."""
    done = 0

    def checked() -> None:
        nonlocal done
        check()
        done += 1
        report(f"Measuring {what}", done, 0)

    return checked
