"""Diversity of the samples of a VAE or GAN during training, where many samples cost little."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffstudio.evaluation.energy_distance import mean_distance
from diffstudio.evaluation.even_spacing import evenly_spaced
from diffstudio.evaluation.features.feature_arrays import FeatureArray
from diffstudio.evaluation.features.feature_network import FeatureNetwork
from diffstudio.evaluation.prdc import precision_recall_density_coverage
from diffstudio.networks.conditioning import Conditioning
from diffstudio.networks.one_call import OneCallNetwork
from diffstudio.networks.transformer import Condition
from diffstudio.training.data.batches import Batch, Batches
from diffstudio.training.objectives.objective import Diversity

SAMPLES = 256  # for measuring coverage
FEWEST_REAL = 16  # training images, and held-out images, that are needed
_MOST_TRAINING = 512  # training images
_OF_A_CLASS = 16  # samples per class
_MOST_CLASSES = 8
_FEWEST_OF_A_CLASS = 4  # training images per class per class
_AT_ONCE = 64


@torch.no_grad()
def generated(network: OneCallNetwork, batch: Batch, count: int, device: torch.device) -> Tensor:
    """`count` images [count,C,S,S], cycling through the conditions of a batch; noise from the batch's generator."""
    rows = torch.arange(count) % max(1, len(batch.images))
    noise = torch.randn(count, *network.noise_shape, generator=batch.generator)
    images = []
    for first in range(0, count, _AT_ONCE):
        part = slice(first, first + _AT_ONCE)
        images.append(network.generate(noise[part].to(device), rows_of(batch.condition, rows[part], device)))
    return torch.cat(images).cpu()


def rows_of(condition: Condition, rows: Tensor, device: torch.device) -> Condition:
    """The condition of the images with these indices, without augmentation labels."""
    parts = (condition.token_ids, condition.class_labels)
    return Condition(*(None if part is None else part[rows].to(device) for part in parts))


def measure_diversity(
    network: OneCallNetwork, batches: Batches, features: FeatureNetwork, device: torch.device
) -> Diversity | None:
    """The diversity of a network's samples; None with fewer than 16 training or held-out images, or non-finite samples."""
    held_out, training = batches.held_out(), batches.training_batch(_MOST_TRAINING)
    if min(len(held_out.images), len(training.images)) < FEWEST_REAL:
        return None
    count = min(SAMPLES, len(training.images))
    samples = generated(network, held_out, count, device)
    if not bool(torch.isfinite(samples).all()):
        return None
    real = features_of(features, held_out.images)
    found = precision_recall_density_coverage(real, features_of(features, samples))
    shown = training.images[torch.from_numpy(evenly_spaced(len(training.images), count))]
    ceiling = precision_recall_density_coverage(real, features_of(features, shown))
    within = _within(network, training, features, device)
    return Diversity(
        count,
        found.precision,
        found.coverage,
        ceiling.precision,
        ceiling.coverage,
        within,
        found.recall,
        ceiling.recall,
    )


def _within(network: OneCallNetwork, training: Batch, features: FeatureNetwork, device: torch.device) -> float | None:
    """The mean distance of samples of one class, relative to training images, averaged over classes; None for text."""
    match network.config.conditioning:
        case Conditioning.TEXT:
            return None  # each caption belongs to one image
        case Conditioning.CLASS:
            labels = training.condition.class_labels
            assert labels is not None
            sizes = torch.bincount(labels)
            classes = [int(one) for one in torch.nonzero(sizes >= _FEWEST_OF_A_CLASS).flatten()][:_MOST_CLASSES]
            groups = [torch.nonzero(labels == one).flatten() for one in classes]
        case Conditioning.NONE:
            groups = [torch.arange(len(training.images))]
    ratios = []
    for group in groups:
        of_class = Batch(
            training.images[group], rows_of(training.condition, group, torch.device("cpu")), training.generator
        )
        real = _apart(features_of(features, of_class.images))
        samples = features_of(features, generated(network, of_class, _OF_A_CLASS, device))
        if real > 0:
            ratios.append(_apart(samples) / real)
    return sum(ratios) / len(ratios) if ratios else None


def _apart(features: FeatureArray) -> float:
    """The mean distance between two different rows."""
    count = len(features)
    return mean_distance(features, features) * count / (count - 1)


def features_of(network: FeatureNetwork, images: Tensor) -> FeatureArray:
    """Features [N,D] of images [N,C,S,S]."""
    parts: list[NDArray[np.float32]] = [
        network.features(images[first : first + _AT_ONCE].float()).cpu().numpy()
        for first in range(0, len(images), _AT_ONCE)
    ]
    return np.concatenate(parts)
