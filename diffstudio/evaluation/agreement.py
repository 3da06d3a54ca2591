"""Whether generated images show what was asked for, by the labels of the real images nearest to them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diffstudio.evaluation.features.feature_arrays import as_features, check_labels, same_width
from diffstudio.evaluation.features.neighbours import nearest
from diffstudio.evaluation.features.pairs import Check, no_check
from diffstudio.evaluation.interval import Interval, share_interval


@dataclass(frozen=True, slots=True)
class Agreement:
    """`share`: of generated images whose nearest real image has the label asked for; `chance`: that of a model that
    ignores what it is asked, and draws as the real images are distributed; `by_label`: the share of each label.
    """

    share: Interval
    chance: float
    by_label: dict[Hashable, float]


def agreement(
    generated: ArrayLike,
    asked: Sequence[Hashable],
    real: ArrayLike,
    labels: Sequence[Hashable],
    near: NDArray[np.intp] | None = None,
    check: Check = no_check,
) -> Agreement:
    """Of features [S,D] of generated images, each with the class or caption asked for, and [N,D] of labelled real ones.

    Where several real images have one caption it is enough that the nearest is any of them. The real images should be
    held-out ones: to training images a copy of the wrong one is near. `near` [S] is the index of the real image nearest
    to each generated one, where it is known.

    BadRequest: no images, or other numbers of labels than of images.
    """
    shown, known = as_features(generated, "generated", at_least=1), as_features(real, "real", at_least=1)
    same_width(known, shown)
    check_labels(shown, asked)
    check_labels(known, labels)
    near = nearest(shown, known, 1, check=check)[1][:, 0] if near is None else near
    found = [labels[index] == label for index, label in zip(near, asked, strict=True)]
    counts, right = Counter(asked), Counter(label for label, is_right in zip(asked, found, strict=True) if is_right)
    known_labels = Counter(labels)
    chance = sum(counts[label] * known_labels[label] for label in counts) / (len(shown) * len(known))
    return Agreement(
        share_interval(sum(found), len(found)), chance, {label: right[label] / counts[label] for label in counts}
    )
