"""What a run's verdict is based on: losses, copies and diversity, measured on its samples and its images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from diffstudio.evaluation.even_spacing import evenly_spaced
from diffstudio.evaluation.features.neighbours import nearest
from diffstudio.evaluation.memorisation import copies
from diffstudio.evaluation.prdc import precision_recall_density_coverage
from diffstudio.evaluation.vendi import vendi_score
from diffstudio.training.data.augmentation import Augmentation
from diffstudio.training.data.batches import derived_seed
from diffstudio.training.data.dataset import ImageDataset
from diffstudio.training.evidence.checkpoint_choice import CheckpointChoice
from diffstudio.training.evidence.cross_validation import CrossValidation
from diffstudio.training.objectives.objective import Diversity
from diffstudio.training.recipe import DataRecipe

FEWEST_SAMPLES = 16  # that a verdict is based on
_MOST_IMAGES = 50_000
_IMAGES_AT_ONCE = 64  # at their full size in memory
_FEWEST_HELD_OUT, _MOST_HELD_OUT = 50, 2000  # that say which distances are usual: of a few, one may be an outlier
_AUGMENTED = 4  # random augmentations of each sample, besides the flipped one, that are compared
_SIDES = ((5_000, 16), (_MOST_IMAGES, 8))  # px of the small images that are compared, up to so many images
_MOST_COMPARED = 2000
_MOST_COVERED = 500  # held-out images
_EQUAL = 1e-6  # mean distance of two images, below which all are equal
_SAME = 1e-3  # distance over the mean distance of two images, below which images are the same


@dataclass(frozen=True, slots=True)
class Copies:
    """Which training image is nearest to each sample, and which samples are called copies."""

    nearest: tuple[str, ...]  # relative to the image folder
    ratios: tuple[float, ...]  # distance to it over the mean distance to the next 49
    copied: tuple[int, ...]  # indices of samples


@dataclass(frozen=True, slots=True)
class Evidence:
    """Numbers of one moment of a run; `verdict.verdict` says what follows from them."""

    step: int
    progress: float  # share of the run that is done, 0 to 1
    images: int  # trained on
    different_images: int  # of these, without duplicates
    epochs: float  # how often each image was seen
    held_out: int  # images
    losses: tuple[tuple[int, float], ...] = ()  # step and held-out loss, of all measurements
    training_loss: float | None = None  # on as many training images as are held out, at the last of these
    baseline: float | None = None  # the held-out loss of a Gaussian model of the images
    samples: int = 0
    copied: int = 0  # samples called copies of training images
    copied_images: tuple[str, ...] = ()  # the images they are copies of
    copied_at_start: int | None = None  # as `copied`, by a run from a checkpoint before it saw each image once
    spread: float | None = None  # mean distance of two samples over that of two training images
    vendi: float | None = None  # of the samples
    real_vendi: float | None = None  # of as many training images
    finite: bool = True  # weights and losses
    kind: str = "diffusion"  # the kind of model, a value of recipe.ObjectiveName; it determines the losses
    diversity: Diversity | None = None  # of the samples; a VAE or GAN generates many for it
    cross: CrossValidation | None = None  # where it chose the steps; no images are held out then
    choice: CheckpointChoice | None = None  # at the end of a run whose checkpoints were compared

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Evidence:
        """The inverse of `to_json`."""
        losses = tuple((int(step), float(loss)) for step, loss in values["losses"])
        diversity = Diversity(**values["diversity"]) if values.get("diversity") else None
        copied = tuple(values["copied_images"])
        cross = CrossValidation.from_json(values["cross"]) if values.get("cross") else None
        choice = CheckpointChoice.from_json(values["choice"]) if values.get("choice") else None
        parts = {"losses": losses, "copied_images": copied, "diversity": diversity, "cross": cross, "choice": choice}
        return cls(**values | parts)


class SampleMetrics:
    """Compares samples with the images of a run, as small images, pixel by pixel, under the run's own augmentations."""

    def __init__(self, dataset: ImageDataset, data: DataRecipe, seed: int) -> None:
        training = dataset.training_indices
        count = min(len(training), _MOST_IMAGES)
        chosen = training[evenly_spaced(len(training), count)]
        self._data, self._seed = data, seed
        self._side = next(side for most, side in _SIDES if count <= most)
        self._paths = tuple(dataset.paths[index].as_posix() for index in chosen)
        images = np.concatenate([self._features(dataset.batch(part)) for part in _parts(chosen)])
        self._mean = images.mean(axis=0)
        self._training = images - self._mean  # [N,D]
        held_out = dataset.held_out_indices[:_MOST_HELD_OUT]
        enough = len(held_out) >= _FEWEST_HELD_OUT
        views = [self._views(dataset.batch(part)) for part in _parts(held_out)] if enough else []
        self._held_out = np.concatenate(views, axis=1) if enough else None
        self._distance = _mean_distance(self._training)
        self.different_images = _different(self._training, self._distance)

    def _views(self, images: Tensor) -> NDArray[np.float64]:
        """[V,N,D]: images [N,C,S,S] as they are, flipped where the run does so, and augmented at random."""
        shown = [images]
        if self._data.flips:
            shown.append(images.flip(-1))
        if self._data.rotation_degrees or self._data.translation:
            augmentation = Augmentation(self._data)
            for index in range(_AUGMENTED):
                generator = torch.Generator().manual_seed(derived_seed(self._seed, "judge", index))
                shown.append(augmentation.apply(images.float().cpu(), generator)[0])
        return np.stack([self._features(view) - self._mean for view in shown])

    def _features(self, images: Tensor) -> NDArray[np.float64]:
        """[N,C,S,S] as small images [N,D]."""
        small = F.interpolate(images.float().cpu(), (self._side, self._side), mode="area")
        return small.flatten(1).numpy().astype(np.float64)

    def copies(self, images: Tensor) -> Copies | None:
        """Of samples [N,C,S,S]; None where fewer than three images are trained on, or samples are not finite."""
        if len(self._training) < 3 or self._distance < _EQUAL or not bool(torch.isfinite(images).all()):
            return None
        # Without enough of them the limit is that of the test itself: an image far away is no copy of anything.
        held_out = self._held_out if self._held_out is not None else self._training[:1] + 1e3
        found = copies(self._views(images), self._training, held_out)
        return Copies(
            tuple(self._paths[index] for index in found.nearest),
            tuple(float(ratio) for ratio in found.ratios),
            tuple(int(index) for index in found.indices()),
        )

    def diversity(self, images: Tensor) -> tuple[float, float, float] | None:
        """Of samples [N,C,S,S]: mean distance over that of training images, Vendi score, that of N training images.

        None where that says nothing: equal training images, a single sample.
        """
        samples = self._features(images) - self._mean
        count = min(len(samples), len(self._training))
        if count < 2 or self._distance < _EQUAL or not np.isfinite(samples).all():
            return None
        spread = _mean_distance(samples) / self._distance
        real = self._training[evenly_spaced(len(self._training), count)]
        return spread, vendi_score(samples[:count] + 1e-9), vendi_score(real + 1e-9)

    def coverage(self, images: Tensor) -> Diversity | None:
        """Diversity of samples [N,C,S,S] and of as many training images, compared with the held-out images.

        None with fewer than 16 samples or training images, with fewer than 50 held-out images, or if samples are not finite.
        """
        samples = self._features(images) - self._mean
        count = min(len(samples), len(self._training))
        enough = self._held_out is not None and count >= FEWEST_SAMPLES
        if not enough or self._distance < _EQUAL or not np.isfinite(samples).all():
            return None
        assert self._held_out is not None
        held_out = self._held_out[0, :_MOST_COVERED]
        found = precision_recall_density_coverage(held_out, samples[:count])
        real = self._training[evenly_spaced(len(self._training), count)]
        ceiling = precision_recall_density_coverage(held_out, real)
        shares = (found.precision, found.coverage, ceiling.precision, ceiling.coverage)
        return Diversity(count, *shares, None, found.recall, ceiling.recall)


def _parts(indices: NDArray[np.int64]) -> Sequence[NDArray[np.int64]]:
    return [indices[first : first + _IMAGES_AT_ONCE] for first in range(0, len(indices), _IMAGES_AT_ONCE)]


def _mean_distance(features: NDArray[np.float64]) -> float:
    """The root mean squared distance of two different rows."""
    count = len(features)
    if count < 2:
        return 0.0
    return float(np.sqrt(2 * count / (count - 1) * features.var(axis=0).sum()))


def _different(features: NDArray[np.float64], distance: float) -> int:
    """The number of images without those that are the same as an earlier one."""
    if len(features) < 2 or distance < _EQUAL:
        return min(1, len(features))
    if len(features) > _MOST_COMPARED:  # enough different ones to say anything, whatever their number
        return len(features)
    closest, neighbour = nearest(features, features, min(2, len(features) - 1), same=True)
    return len(features) - int(
        np.count_nonzero((closest[:, 0] < _SAME * distance) & (neighbour[:, 0] < np.arange(len(features))))
    )
