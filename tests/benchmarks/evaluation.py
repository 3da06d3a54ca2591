"""Peak memory of measuring many images: `python -m tests.benchmarks.evaluation IMAGES FEATURES`, on random features."""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from diffstudio.evaluation.report import GeneratedImages, RealImages, row


def features(path: Path, count: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """A memory map of random features [N,D], as an evaluation keeps them."""
    found = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(count, width))
    for first in range(0, count, 1000):
        found[first : first + 1000] = rng.normal(size=found[first : first + 1000].shape)
    return np.asarray(found)


def main(count: int, width: int) -> None:
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        training, held_out, generated = (features(Path(folder, name), count, width, rng) for name in "abc")
        started = time.process_time()
        row(GeneratedImages("generated", generated), RealImages(training, held_out), 2)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        stored = 3 * count * width * 4 // 2**20
        seconds = time.process_time() - started
        print(
            f"{count:,} images of each kind, {width:,} features: {peak:,} MiB, {stored:,} MiB of them the features; {seconds:.0f} s"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
