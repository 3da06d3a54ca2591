"""k-nearest-neighbour classification by cosine similarity of standardised features. No torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from diffstudio.evaluation.features.feature_arrays import as_features, same_width

NEIGHBOURS = 5
_AT_ONCE = 512  # images whose similarities are in memory at a time


def nearest_classes(
    training: NDArray[np.floating],
    labels: NDArray[np.int64],
    features: NDArray[np.floating],
    classes: int,
    k: int = NEIGHBOURS,
) -> NDArray[np.int64]:
    """The majority class [M] of the k nearest training images; ties go to the class of the nearest.

    training [N,D], labels [N], features [M,D]. BadRequest for features that are not finite or of different widths.
    """
    training, features = as_features(training, "training", 1), as_features(features, "measured", 0)
    same_width(training, features)
    mean, deviation = training.mean(axis=0), training.std(axis=0)
    deviation = np.where(deviation > 1e-6 * max(1.0, float(deviation.max())), deviation, 1.0)

    def directions(values: NDArray[np.floating]) -> NDArray[np.float64]:
        standardised = np.asarray((values - mean) / deviation, np.float64)
        lengths = np.linalg.norm(standardised, axis=1, keepdims=True)
        return standardised / np.where(lengths > 0, lengths, 1.0)

    known = directions(training)
    count = min(k, len(known))
    found = np.zeros(len(features), np.int64)
    for first in range(0, len(features), _AT_ONCE):
        similarity = directions(features[first : first + _AT_ONCE]) @ known.T
        order = np.argsort(-similarity, axis=1, kind="stable")[:, :count]  # the nearest first
        for row, neighbours in enumerate(labels[order]):
            votes = np.bincount(neighbours, minlength=classes).astype(np.float64)
            votes[neighbours[0]] += 0.5
            found[first + row] = int(votes.argmax())
    return found
