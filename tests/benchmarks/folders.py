"""How long the inspection of a training folder takes, and how much memory: `python -m tests.benchmarks.folders [--images N]`.

Two processes inspect a folder of N small images, half of them with a caption: the first decodes them, the second finds
what the first has kept.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES, SIDE = 20, 32


def write_images(folder: Path, count: int) -> None:
    chance = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"class {number % CLASSES:02}" / f"{number:06}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        blocks = chance.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(blocks).resize((SIDE, SIDE)).save(path, compress_level=1)
        if number % 2:
            path.with_suffix(".txt").write_text(f"image {number}, class {number % CLASSES}")


def inspect(folder: Path) -> None:
    from diffstudio.training.data.inspect_folder import inspect_folder

    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    *_, report = inspect_folder(folder)
    seconds = time.perf_counter() - start
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before  # of Linux; bytes on macOS
    images = len(report.images)  # type: ignore[union-attr]
    print(
        f"{images:,} images: {seconds:.1f} s, {kib / 1024:.0f} MiB more at its peak, {1024 * kib / images:,.0f} B an image"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--inspect", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inspect is not None:
        inspect(arguments.inspect)
        return
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home) / "images"
        write_images(folder, arguments.images)
        for _ in range(2):
            subprocess.run(
                [sys.executable, "-m", "tests.benchmarks.folders", "--inspect", folder],
                env=os.environ | {"DIFFSTUDIO_HOME": str(Path(home) / "home")},
                check=True,
            )


if __name__ == "__main__":
    main()
