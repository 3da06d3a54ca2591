"""Time and peak memory of measuring many images, without the network: `python -m tests.benchmarks.evaluation IMAGES FEATURES`.

So many generated images against as many training and as many held-out ones, with the features and pixels of `diffstudio
evaluate`, which are random here: 40 factors of decreasing size and noise. Both rows are measured, with all resamples. Set
OMP_NUM_THREADS=1 for the time of one processor core.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from diffstudio.evaluation.features.feature_network import PIXELS
from diffstudio.evaluation.report import GeneratedImages, RealImages, real_row, row

_FACTORS = 40
_COLOURS = 3


def features(path: Path, count: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """A memory map of random features [N,D], as an evaluation keeps them."""
    found = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(count, width))
    axes = np.random.default_rng(0).normal(size=(_FACTORS, width)) * np.linspace(2, 0.2, _FACTORS)[:, None]
    for first in range(0, count, 1000):
        part = found[first : first + 1000]
        part[:] = np.maximum(rng.normal(size=(len(part), _FACTORS)) @ axes + 0.3 * rng.normal(size=part.shape), 0)
    return np.asarray(found)


def main(count: int, width: int) -> None:
    rng = np.random.default_rng(0)
    all_of_it = width + PIXELS * _COLOURS
    with tempfile.TemporaryDirectory() as folder:
        training, held_out, generated = (features(Path(folder, name), count, all_of_it, rng) for name in "abc")
        real = RealImages(
            training[:, :width],
            held_out[:, :width],
            training_pixels=training[:, width:],
            held_out_pixels=held_out[None, :, width:],
        )
        checks, last, longest = 0, time.perf_counter(), 0.0

        def check() -> None:
            nonlocal checks, last, longest
            now = time.perf_counter()
            checks, last, longest = checks + 1, now, max(longest, now - last)

        for name in ("real", "generated"):
            started = time.process_time()
            if name == "real":
                real_row(real, check=check)
            else:
                row(GeneratedImages(name, generated[:, :width], pixels=generated[None, :, width:]), real, check=check)
            print(f"{name} images: {time.process_time() - started:,.0f} processor seconds", flush=True)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        stored = 3 * count * all_of_it * 4 // 2**20
        print(
            f"{count:,} images of each kind, {width:,} features: peak {peak:,} MiB, {stored:,} MiB of them files of features "
            f"in memory; a cancellation takes effect within {longest:.1f} s ({checks:,} checks)"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
