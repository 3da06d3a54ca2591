"""Precision and recall (Kynkaanniemi et al., 1904.06991), density and coverage (Naeem et al., 2002.09797)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diffstudio.evaluation.features.feature_arrays import FeatureArray, Features, as_features, as_varied, same_width
from diffstudio.evaluation.features.neighbours import nearest
from diffstudio.evaluation.features.pairs import Block, Check, exact_squared, no_check, sweep

NEIGHBOURS = 5  # the k of the paper on density and coverage


@dataclass(frozen=True, slots=True)
class Prdc:
    """`precision`: the share of generated images inside the neighbourhood of a real one; `recall`: of real images inside
    that of a generated one. `density`: the mean number of real neighbourhoods around a generated image, divided by k,
    so that it may exceed 1. `coverage`: the share of real images with a generated one in their neighbourhood.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def precision_recall_density_coverage(
    real: ArrayLike, fake: ArrayLike, k: int = NEIGHBOURS, check: Check = no_check
) -> Prdc:
    """Of features [N,D] and [M,D]. A neighbourhood reaches to an image's `k`-th neighbour among its own kind.

    `check` is called again and again, and may raise.
    BadRequest: k + 1 images or fewer, real images that all have the same features, or features that are not finite or of
    different widths.
    """
    real, fake = as_varied(real, "real", k + 2), as_features(fake, "generated", k + 2)
    same_width(real, fake)
    radii = [nearest(features, features, k, same=True, check=check)[0][:, -1] for features in (real, fake)]
    found = Neighbourhoods(real, fake, *radii)
    sweep([real], fake, [found.add], check)
    return found.prdc(k)


class Neighbourhoods:
    """Counts which images are in whose neighbourhoods, of radii [N] and [M]; fed by `sweep` of real and generated images."""

    def __init__(self, real: FeatureArray, fake: FeatureArray, real_radii: Features, fake_radii: Features) -> None:
        self.real, self.fake = real, fake
        self.real_radii, self.fake_radii = real_radii, fake_radii
        self.around_fake = np.zeros(len(fake), np.int64)  # neighbourhoods of real images around each generated one
        self.recalled: NDArray[np.bool_] = np.zeros(len(real), bool)
        self.covered: NDArray[np.bool_] = np.zeros(len(real), bool)

    def add(self, block: Block) -> None:
        """Decide by the bounds of the distances, and by distances in float64 where a radius lies between them."""
        frame, scale = block.frame, block.frame.scale**2
        around_real, around_fake = self.real_radii[block.rows] ** 2, self.fake_radii[block.columns] ** 2
        lower = block.lower
        limits = np.maximum(
            (around_real / scale).astype(frame.dtype)[:, None], (around_fake / scale).astype(frame.dtype)
        )
        limits *= 1 + frame.tolerance
        rows, columns = np.divmod(np.flatnonzero(lower <= limits), lower.shape[1])
        bounds = lower[rows, columns].astype(np.float64) * scale
        wide = 2.0 * frame.tolerance * scale * (block.row_norms[rows] + block.column_norms[columns])
        squared = bounds + wide / 2
        to_real, to_fake = around_real[rows], around_fake[columns]
        undecided = (np.abs(squared - to_real) <= wide) | (np.abs(squared - to_fake) <= wide)
        some = np.flatnonzero(undecided)
        squared[some] = exact_squared(
            [self.real], self.fake, rows[some] + block.rows.start, columns[some] + block.columns.start
        )
        distances = np.sqrt(np.maximum(squared, 0))
        in_real = distances < self.real_radii[block.rows][rows]
        self.around_fake[block.columns] += np.bincount(columns[in_real], minlength=lower.shape[1])
        self.covered[rows[in_real] + block.rows.start] = True
        self.recalled[rows[distances < self.fake_radii[block.columns][columns]] + block.rows.start] = True

    def prdc(self, k: int) -> Prdc:
        return Prdc(
            precision=float(np.mean(self.around_fake > 0)),
            recall=float(np.mean(self.recalled)),
            density=float(np.mean(self.around_fake) / k),
            coverage=float(np.mean(self.covered)),
        )
