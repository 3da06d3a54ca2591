"""The kernel distance between two sets of features (Binkowski et al., 1801.01401; KID with Inception's)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from diffstudio.evaluation.features.feature_arrays import FeatureArray, as_features, same_width
from diffstudio.evaluation.features.pairs import Block, Check, no_check, sweep


def kernel_distance(real: ArrayLike, fake: ArrayLike, check: Check = no_check) -> float:
    """The squared maximum mean discrepancy with the cubic kernel (x^T y / D + 1)^3, unbiased: 0 on average where both are
    of one distribution, and below 0 as often as above.

    Over all pairs at once; the KID of other programs is a mean over random subsets, which has the same expectation.
    `check` is called again and again, and may raise.

    BadRequest: fewer than two images, or features that are not finite or of different widths.
    """
    real, fake = as_features(real, "real"), as_features(fake, "generated")
    same_width(real, fake)
    within_real, within_fake, between = (
        _mean_of(one, other, check) for one, other in ((real, real), (fake, fake), (real, fake))
    )
    return within_real + within_fake - 2 * between


def _mean_of(one: FeatureArray, other: FeatureArray, check: Check) -> float:
    total = KernelMean()
    sweep([one], other, [total.add], check)
    return total.value


class KernelMean:
    """The mean of the kernel over all pairs of different images, fed by `sweep`."""

    def __init__(self) -> None:
        self._sum, self._pairs = 0.0, 0

    @property
    def value(self) -> float:
        return self._sum / self._pairs

    def add(self, block: Block) -> None:
        """With x = c + s a and y = c + s b, x^T y = s^2 a^T b + c^T (c + s a) + s c^T b.

        Divided by its largest possible value, so that its cube is in the range of float32 too.
        """
        frame, width = block.frame, len(block.frame.centre)
        centre, scale = frame.centre, frame.scale
        squared = float(centre @ centre)
        largest = (float(np.sqrt(squared)) + scale) ** 2 / width + 1 if frame.dtype == np.float32 else 1.0
        of_rows = (squared + scale * (block.row_views[0] @ centre)) / width + 1
        of_columns = scale * (block.column_features @ centre) / width
        kernel: FeatureArray = block.products * frame.dtype(scale**2 / width / largest)
        kernel += (of_rows / largest)[:, None].astype(frame.dtype)
        kernel += np.asarray(of_columns / largest, frame.dtype)
        squares = kernel * kernel
        squares *= kernel
        pairs = squares.size
        if block.diagonal:
            np.fill_diagonal(squares, 0)
            pairs -= len(squares)
        times = 2 if block.mirrored else 1
        self._sum += times * largest**3 * float(squares.sum(axis=1).sum(dtype=np.float64))
        self._pairs += times * pairs
