"""Probing features while they are computed: one layer at a time, so that only the exported ones are kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from diffstudio.evaluation.interval import Interval, share_interval
from diffstudio.evaluation.probes.linear_probe import best_probe
from diffstudio.evaluation.probes.nearest import nearest_classes
from diffstudio.evaluation.probes.parts import Parts
from diffstudio.studio.evaluations.features.result import NEIGHBOURS, PROBE, Accuracy

_MOST_PIXELS = 3_072  # values of an image of the baseline; larger ones are averaged down to it


@dataclass
class _Best:
    """The best layer and level so far, and the classes it gives the test part."""

    validation: float = -1.0
    layer: int = 0
    level: int = 0
    predicted: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))


class Probing:
    """Accuracies of all layers and levels on the validation part; of the best on the test part."""

    def __init__(
        self, labels: NDArray[np.int64], classes: int, parts: Parts, shape: tuple[int, int], check: Callable[[], None]
    ) -> None:
        """`labels` [N] of all images; `shape` are the numbers of layers and of levels."""
        self._labels, self._classes, self._parts, self._check = labels, classes, parts, check
        self._validation = {name: np.zeros(shape) for name in (PROBE, NEIGHBOURS)}
        self._best = {name: _Best() for name in (PROBE, NEIGHBOURS)}

    def add(self, layer: int, level: int, features: NDArray[np.float32]) -> bool:
        """Probe features [N,D]; whether they are the best so far for the linear probe."""
        best = False
        for name, (validation, predicted) in self._measured(features).items():
            self._validation[name][layer, level] = validation
            if validation > self._best[name].validation:
                self._best[name] = _Best(validation, layer, level, predicted)
                best = best or name == PROBE
        return best

    def result(
        self, layers: Sequence[str], levels: Sequence[float], pixels: NDArray[np.float32]
    ) -> dict[str, Accuracy]:
        """`pixels` [N,values] are the raw images, as `small_pixels` gives them."""
        raw = self._measured(pixels)
        return {
            name: Accuracy(
                self._validation[name].tolist(),
                layers[best.layer],
                levels[best.level],
                self._on_test(best.predicted),
                self._on_test(raw[name][1]),
            )
            for name, best in self._best.items()
        }

    def _measured(self, features: NDArray[np.float32]) -> dict[str, tuple[float, NDArray[np.int64]]]:
        """Of each kind of classifier: accuracy on the validation part, and the classes it gives the test part."""
        self._check()
        parts, labels = self._parts, self._labels
        training = features[parts.training], labels[parts.training]
        validation = features[parts.validation], labels[parts.validation]
        probe, accuracy = best_probe(training, validation, self._classes, check=self._check)
        near = nearest_classes(*training, features[np.concatenate([parts.validation, parts.test])], self._classes)
        first = len(parts.validation)
        return {
            PROBE: (accuracy, probe.predict(features[parts.test])),
            NEIGHBOURS: (float((near[:first] == validation[1]).mean()), near[first:]),
        }

    def _on_test(self, predicted: NDArray[np.int64]) -> Interval:
        truth = self._labels[self._parts.test]
        return share_interval(float((predicted == truth).sum()), len(truth))


def small_pixels(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Images [B,C,H,W] as rows of at most about 3,000 values: means of squares, of one side for all."""
    _, channels, height, width = images.shape
    side = 1
    while channels * (height // side) * (width // side) > _MOST_PIXELS and side < min(height, width):
        side += 1
    rows, columns = height // side, width // side
    squares = images[:, :, : rows * side, : columns * side].reshape(len(images), channels, rows, side, columns, side)
    small: NDArray[np.float32] = squares.mean(axis=(3, 5), dtype=np.float32).reshape(len(images), -1)
    return small
