"""The order in which parts of a labelled set of images are chosen, so that each part has all labels in proportion."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

_SEED = 0


def stratified_order(classes: Sequence[Hashable], labels: Sequence[Hashable] = ()) -> NDArray[np.int64]:
    """Indices of N images, of which the first n are a random part with the classes in proportion, for any n.

    Of each class it has n times its share of the images, to within one for equal shares, and within each class the same
    holds for `labels` (such as captions), if they are given. Parts are nested, and the order is always the same.
    """
    order = np.random.default_rng(_SEED).permutation(len(classes)).astype(np.int64)
    keys: list[Sequence[Hashable]] = [list(zip(classes, labels, strict=True))] if len(labels) else []
    for key in (*keys, classes):
        order = order[np.argsort(_positions(key, order)[order], kind="stable")]
    return order


def _positions(labels: Sequence[Hashable], order: NDArray[np.int64]) -> NDArray[np.float64]:
    """Where each image is among those with its label, in this order: evenly spread over (0, 1)."""
    members: dict[Hashable, list[int]] = {}
    for index in order.tolist():
        members.setdefault(labels[index], []).append(index)
    positions = np.empty(len(labels))
    for indices in members.values():
        positions[indices] = (np.arange(len(indices)) + 0.5) / len(indices)
    return positions
