"""The diversity of a batch of images, in the features of EfficientNet-Lite0, which comes with the program.

Torch is imported only when it is measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diffstudio.evaluation.vendi import vendi_score
from diffstudio.imaging.reader import flatten, read_image

FEWEST = 2  # images


@dataclass(frozen=True, slots=True)
class BatchDiversity:
    """The diversity of a batch.

    `vendi`: the effective number of different images, from 1 to `images`. `distance`: the mean cosine distance between
    two images, at least 0.
    """

    images: int
    vendi: float
    distance: float


def batch_diversity(paths: Sequence[Path]) -> BatchDiversity | None:
    """The diversity of image files; None for fewer than two. ImageProblem for an unreadable file, CheckpointMissing."""
    if len(paths) < FEWEST:
        return None
    import torch

    from diffstudio.evaluation.features.feature_network import extract, imagenet_network

    def images() -> Iterator[torch.Tensor]:
        for path in paths:
            pixels = np.array(flatten(read_image(path)[0]))
            yield torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1

    features = extract(imagenet_network(), images()).astype(np.float64)
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    directions = features / np.maximum(lengths, 1e-12)
    count = len(features)
    similar = directions @ directions.T
    distance = 1 - (similar.sum() - np.trace(similar)) / (count * (count - 1))
    return BatchDiversity(count, vendi_score(features), max(0.0, float(distance)))
