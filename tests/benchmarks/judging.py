"""Time of judging images over that of the feature network alone: `python -m tests.benchmarks.judging IMAGES`.

So many generated images against as many held-out ones, with EfficientNet-Lite0. The network is timed on 256 images and
its time taken for all; the measures are computed in full, on random features. Aim: a ratio of 1.3 for 10,000 images.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from diffstudio.evaluation.features.feature_network import imagenet_network
from diffstudio.evaluation.report import GeneratedImages, RealImages, real_row, row
from tests.benchmarks.evaluation import features

_TIMED, _BATCH = 256, 32


def network_seconds(count: int) -> float:
    """Of `count` images of 64 px."""
    network = imagenet_network()
    images = torch.rand(_BATCH, 3, 64, 64) * 2 - 1
    network.features(images)
    started = time.perf_counter()
    for _ in range(_TIMED // _BATCH):
        network.features(images)
    return (time.perf_counter() - started) * count / _TIMED


def measure_seconds(count: int, width: int) -> float:
    """Of both rows: real images, and the generated ones."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        training, held_out, generated = (features(Path(folder, name), count, width, rng) for name in "abc")
        real = RealImages(training, held_out)
        started = time.perf_counter()
        real_row(real)
        row(GeneratedImages("generated", generated), real)
        return time.perf_counter() - started


def main(count: int) -> None:
    network = network_seconds(3 * count)  # training, held-out and generated images
    measures = measure_seconds(count, imagenet_network().width)
    print(
        f"{count:,} images against {count:,}: the network {network:,.0f} s, the measures {measures:,.0f} s, "
        f"ratio {1 + measures / network:.2f}"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]))
