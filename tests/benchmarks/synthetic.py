"""Whether synthetic digits help: `python -m tests.benchmarks.synthetic --labelled 100 --steps 500`.

A class-conditional diffusion model is trained on so many labelled digits of scikit-learn (8 px, enlarged to 16 px) and
proves itself with up to five times as many synthetic ones, on held-out digits that it never saw. Prints the table of
`diffstudio synthesise --prove`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

HELD_OUT = 500  # digits


def write_digits(folder: Path, labelled: int) -> Path:
    """The digits as a folder of `train` and `val` with a subfolder for each class; the last 500 are held out."""
    images, labels = load_digits(return_X_y=True)
    train = len(images) - HELD_OUT
    chosen = [*(np.arange(labelled) * train // labelled), *range(train, len(images))]
    for index in chosen:
        path = folder / ("train" if index < train else "val") / str(labels[index]) / f"{index:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray((images[index].reshape(8, 8) * 255 / 16).round().astype(np.uint8))
        image.resize((16, 16), Image.Resampling.NEAREST).save(path)
    return folder


def recipe(path: Path) -> Path:
    path.write_text(
        "format = 1\nname = 'digits'\n[data]\nsize = 8\nflips = 0.0\nfit = 'crop'\n"
        "[network]\nconditioning = 'class'\npatch = 2\nmargin = 0\nbottleneck = 16\nwidth = 96\ndepth = 3\nheads = 4\n"
        "condition_width = 96\n[optimiser]\nname = 'adamw'\nlearning_rate = 0.001\nema = 0.999\n"
        "[run]\nbatch = 64\ndtype = 'float32'\npatience = 0\n"
    )
    return path


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.synthetic", description=__doc__)
    parser.add_argument("--labelled", type=int, default=100)
    parser.add_argument("--steps", type=int, default=500, help="of training (default 500)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        place = Path(home)
        digits = write_digits(place / "digits", arguments.labelled)
        run, program = place / "run", [sys.executable, "-m", "diffstudio"]
        training = ["train", str(digits), "--recipe", str(recipe(place / "digits.toml")), "--run", str(run)]
        subprocess.run([*program, *training, "--steps", str(arguments.steps)], check=True)
        count = str(7 * arguments.labelled)  # more than the largest ratio: near-copies of held-out images are not used
        proving = ["synthesise", str(run), count, str(digits), "--out", str(place / "synthetic"), "--prove"]
        subprocess.run([*program, *proving, "--features", "folder"], check=True)


if __name__ == "__main__":
    main()
