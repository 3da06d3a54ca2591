"""Finds near-copies of real images batch by batch, with the evaluation's test for copies, calibrated once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from diffstudio.evaluation.features.feature_arrays import FeatureArray, Features
from diffstudio.evaluation.features.feature_network import FeatureNetwork, with_pixels
from diffstudio.evaluation.memorisation import FALSE_POSITIVE_RATE, LARGEST_RATIO, copy_threshold, neighbours
from diffstudio.evaluation.report import RealImages
from diffstudio.studio.evaluations.measure import View

_FEWEST = 3  # images of which one can be much nearer than the others


@dataclass(frozen=True, slots=True)
class Near:
    """The real image nearest to a generated one, with the distance ratio; below 1 it is a near-copy."""

    index: int  # in the part of the folder
    ratio: float

    @property
    def is_copy(self) -> bool:
        return self.ratio < 1


@dataclass(frozen=True, slots=True)
class _Test:
    """One of the two tests, in features or in pixels."""

    real: FeatureArray  # [N,D]
    threshold: float

    def ratios(self, views: FeatureArray) -> tuple[Features, np.ndarray]:
        near = neighbours(views, self.real)
        return near.ratios / self.threshold, near.indices[:, 0]


class NearCopies:
    """Finds near-copies of one part of a folder, calibrated on the other part."""

    def __init__(
        self,
        network: FeatureNetwork,
        views: Sequence[View],
        part: tuple[FeatureArray, FeatureArray],
        other: tuple[FeatureArray, FeatureArray],
    ) -> None:
        """`part`: features [N,D] and pixels [N,P]; `other`: those of the other part in V views, [V,M,D] and [V,M,P]."""
        self._network, self._views, self._width = with_pixels(network), views, network.width
        rate = FALSE_POSITIVE_RATE / 2  # of each of two tests
        self._tests = [
            _Test(real, copy_threshold(real, known, rate) if known.shape[1] else LARGEST_RATIO)
            for real, known in zip(part, other, strict=True)
        ]

    @classmethod
    def of_training(cls, network: FeatureNetwork, views: Sequence[View], real: RealImages) -> NearCopies:
        features, pixels = real.held_out_views, real.held_out_pixels
        assert features is not None and pixels is not None and real.training_pixels is not None
        return cls(network, views, (real.training, real.training_pixels), (features, pixels))

    @classmethod
    def of_held_out(cls, network: FeatureNetwork, views: Sequence[View], real: RealImages) -> NearCopies | None:
        """The test against held-out images; None if there are too few."""
        pixels = real.held_out_pixels
        assert pixels is not None and real.training_pixels is not None
        if len(real.held_out) < _FEWEST:
            return None
        return cls(network, views, (real.held_out, pixels[0]), (real.training[None], real.training_pixels[None]))

    def of(self, images: Tensor) -> list[Near]:
        """The result for each image of a batch [B,C,H,W] in [-1,1], from the test with the lower ratio."""
        features = np.stack([self._network.features(view(images)).float().cpu().numpy() for view in self._views])
        parts = features[..., : self._width], features[..., self._width :]
        found = [test.ratios(part) for test, part in zip(self._tests, parts, strict=True)]
        ratios = np.stack([one for one, _ in found])
        surer = ratios.argmin(axis=0)
        return [
            Near(int(found[test][1][image]), float(ratios[test, image])) for image, test in enumerate(surer.tolist())
        ]
