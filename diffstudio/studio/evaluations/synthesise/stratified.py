"""Stratified subsets of labelled images: an order in which every prefix has all labels in proportion."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

_SEED = 0


def stratified_order(classes: Sequence[Hashable], labels: Sequence[Hashable] = ()) -> NDArray[np.int64]:
    """The indices of N images in an order whose first n are a random subset with the classes in proportion, for any n.

    The subset has n times the share of each class, to within one for equal shares; within each class the same holds for
    `labels` (such as captions), if given. The order is deterministic, so subsets are nested.
    """
    order = np.random.default_rng(_SEED).permutation(len(classes)).astype(np.int64)
    keys: list[Sequence[Hashable]] = [list(zip(classes, labels, strict=True))] if len(labels) else []
    for key in (*keys, classes):
        order = order[np.argsort(_positions(key, order)[order], kind="stable")]
    return order


def _positions(labels: Sequence[Hashable], order: NDArray[np.int64]) -> NDArray[np.float64]:
    """The position of each image among those with its label, evenly spread over (0, 1)."""
    members: dict[Hashable, list[int]] = {}
    for index in order.tolist():
        members.setdefault(labels[index], []).append(index)
    positions = np.empty(len(labels))
    for indices in members.values():
        positions[indices] = (np.arange(len(indices)) + 0.5) / len(indices)
    return positions
