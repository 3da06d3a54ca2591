"""Combines the heat maps of several detectors by logistic regression on the pixels of drawn defects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from diffstudio.evaluation.anomalies.heat_maps import smoothed, smoothing_of
from diffstudio.evaluation.probes.logistic_regression import fit_logistic

Maps = NDArray[np.float32]  # [N,H,W]
_WIDER = 3.0  # of the blur of the second scale
_FLOOR = 0.02  # added before logarithms, as a share of the mean of normal images
_LEAST_DETAIL = 0.02  # added to the detail, of values in [-1,1]
_RIDGE, _OFFSET_RIDGE = 0.005, 1e-6  # penalties of the squared weights and offset, relative to the mean loss
_ITERATIONS, _TOLERANCE = 500, 1e-8  # of the fit, which ends at the first one that is reached
_MOST_PIXELS = 60_000
_TOP = 0.01  # share of an image's pixels whose mean is its score


@dataclass(frozen=True, eq=False)
class PixelRegression:
    """The log-odds that a pixel is defective.

    The features of a pixel are the logarithms of each map at two scales and of its mean over the image, and of the detail
    of the image at two scales: the size of its gradient. Errors and distances are large where an image has much detail,
    which alone is no anomaly; the weight of the detail is negative.
    """

    names: tuple[str, ...]  # the maps that are combined
    low: NDArray[np.float64]  # [K] the lowest value of each map on normal images
    usual: NDArray[np.float64]  # [K] the mean above it
    mean: NDArray[np.float64]  # [F] of the features
    deviation: NDArray[np.float64]  # [F]
    weights: NDArray[np.float64]  # [F]
    offset: float

    @classmethod
    def of(
        cls,
        defective: Mapping[str, Maps],
        normal: Mapping[str, Maps],
        images: tuple[NDArray[np.float32], NDArray[np.float32]],
        masks: Sequence[NDArray[np.bool_]],
        seed: int = 0,
    ) -> PixelRegression:
        """Fit the weights, with as much weight on all defective pixels as on all others.

        `defective` are the maps [N,H,W] of images with drawn defects, by detector, `masks` [H,W] their defective pixels,
        `normal` the maps of normal images; `images` are both, [N,C,H,W] and [M,C,H,W] in [-1,1].
        """
        names = tuple(normal)
        low = np.array([normal[name].min() for name in names], np.float64)
        usual = np.array([normal[name].mean(dtype=np.float64) for name in names]) - low
        usual = np.where(usual > 0, usual, 1.0)
        count = 3 * len(names) + 2
        empty = cls(names, low, usual, np.zeros(count), np.ones(count), np.zeros(count), 0.0)
        parts = [empty._features(maps, shown) for maps, shown in zip((defective, normal), images, strict=True)]
        found = np.concatenate([part.reshape(-1, count) for part in parts])
        is_defect = np.zeros(len(found), np.float64)
        is_defect[: np.stack(masks).size] = np.stack(masks).ravel()
        chosen = np.random.default_rng(seed).permutation(len(found))[:_MOST_PIXELS]
        found, is_defect = found[chosen].astype(np.float64), is_defect[chosen]
        mean, deviation = found.mean(axis=0), found.std(axis=0)
        deviation = np.where(deviation > 1e-6, deviation, 1.0)
        weights = balanced_weights((found - mean) / deviation, is_defect)
        return cls(names, low, usual, mean, deviation, weights[:-1], float(weights[-1]))

    def maps(self, maps: Mapping[str, Maps], images: NDArray[np.float32]) -> Maps:
        """The log-odds [N,H,W] of the pixels of images [N,C,H,W]."""
        standardised = (self._features(maps, images) - self.mean) / self.deviation
        return np.asarray(standardised @ self.weights + self.offset, np.float32)

    def _features(self, maps: Mapping[str, Maps], images: NDArray[np.float32]) -> NDArray[np.float32]:
        """[N,H,W,F]"""
        narrow = smoothing_of(max(images.shape[2:]))
        found: list[Maps] = []
        for name, low, usual in zip(self.names, self.low, self.usual, strict=True):
            above = np.maximum(maps[name] - np.float32(low), 0)
            for one in (above, smoothed(above, _WIDER * narrow)):
                found.append(np.log(one / np.float32(usual) + np.float32(_FLOOR)))
            of_image = np.log(above.mean(axis=(1, 2), keepdims=True) / np.float32(usual) + np.float32(_FLOOR))
            found.append(np.broadcast_to(of_image, above.shape))
        detail = detail_of(images)
        found += [np.log(smoothed(detail, scale) + np.float32(_LEAST_DETAIL)) for scale in (narrow, _WIDER * narrow)]
        return np.stack(found, axis=-1).astype(np.float32)


def detail_of(images: NDArray[np.float32]) -> Maps:
    """The size of the gradient [N,H,W] of images [N,C,H,W]: differences to the pixels below and to the right."""
    down = np.abs(np.diff(images, axis=2, append=images[:, :, -1:])).mean(axis=1)
    right = np.abs(np.diff(images, axis=3, append=images[:, :, :, -1:])).mean(axis=1)
    return np.asarray(down + right, np.float32)


def highest(maps: Maps) -> NDArray[np.float64]:
    """The score [N] of each image: the mean of the highest 1% of its map [N,H,W]."""
    values = maps.reshape(len(maps), -1).astype(np.float64)
    count = max(1, round(_TOP * values.shape[1]))
    return np.asarray(np.partition(values, -count, axis=1)[:, -count:].mean(axis=1), np.float64)


def balanced_weights(features: NDArray[np.float64], labels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights [F+1] of the log-odds of label 1, the last one the offset; both labels count as much as each other.

    features [N,F], labels [N] of 0 and 1. Of the two rows of weights that `fit_logistic` finds, each the other's negative.
    """
    share = float(labels.mean())
    importance = np.where(labels > 0, 0.5 / max(share, 1e-9), 0.5 / max(1 - share, 1e-9)) / len(labels)
    weight, bias = fit_logistic(
        torch.from_numpy(features),
        torch.from_numpy(labels.astype(np.int64)),
        2,
        2 * _RIDGE,
        torch.from_numpy(importance),
        iterations=_ITERATIONS,
        tolerance=_TOLERANCE,
        bias_penalty=2 * _OFFSET_RIDGE,
    )
    found = torch.cat([weight[1] - weight[0], bias[1:] - bias[:1]])
    return np.asarray(found.numpy(), np.float64)
