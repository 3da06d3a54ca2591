"""Remakes the comparisons of the manual: `python -m tests.benchmarks.comparisons emoji FOLDER --minutes 60`.

Fashion-MNIST is given as the folder of its four IDX files and written as PNG files with a subfolder for each class.
With --size the images of the folder are first scaled down to squares of that side. The page and its JSON go to
resources/manual/comparisons/NAME.html and .json; the runs to --out, where an ended call is resumed.
"""

from __future__ import annotations

import argparse
import gzip
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

MANUAL = Path(__file__).resolve().parents[2] / "resources" / "manual" / "comparisons"
CLASSES = ("t-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")


def idx(path: Path) -> np.ndarray:
    """An array in the IDX format of MNIST, compressed or not."""
    found = next(one for one in (path, path.with_name(path.name + ".gz")) if one.is_file())
    data = gzip.decompress(found.read_bytes()) if found.suffix == ".gz" else found.read_bytes()
    dimensions = data[3]
    shape = [int.from_bytes(data[4 + 4 * number : 8 + 4 * number], "big") for number in range(dimensions)]
    return np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def fashion_mnist(source: Path, folder: Path) -> Path:
    """`train` and `val` with a subfolder for each class."""
    for part, prefix in (("train", "train"), ("val", "t10k")):
        images, labels = (idx(source / f"{prefix}-{what}-ubyte") for what in ("images-idx3", "labels-idx1"))
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            path = folder / part / CLASSES[label] / f"{number:05d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.is_file():
                Image.fromarray(image).save(path)
    return folder


def scaled(source: Path, folder: Path, side: int) -> Path:
    """A copy of the folder with images of side x side px on white, and their captions."""
    for path in sorted(source.rglob("*")):
        target = folder / path.relative_to(source)
        if path.suffix not in (".png", ".webp", ".txt") or target.with_suffix(".png").is_file():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".txt":
            shutil.copyfile(path, target)
            continue
        with Image.open(path) as image:
            rgba = image.convert("RGBA").resize((side, side), Image.Resampling.LANCZOS)
        white = Image.new("RGBA", rgba.size, "white")
        Image.alpha_composite(white, rgba).convert("RGB").save(target.with_suffix(".png"))
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.comparisons", description=__doc__)
    parser.add_argument("name", choices=("emoji", "fashion-mnist"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--count", type=int, help="images generated with each model")
    parser.add_argument("--size", type=int, help="px to which the images are scaled down first")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    folder = arguments.folder
    if arguments.name == "fashion-mnist":
        folder = fashion_mnist(folder, arguments.out.with_name(arguments.out.name + "-images"))
    if arguments.size:
        folder = scaled(folder, arguments.out.with_name(f"{arguments.out.name}-{arguments.size}-px"), arguments.size)
    command = ["compare", str(folder), "--minutes", f"{arguments.minutes:g}", "--seeds", str(arguments.seeds)]
    command += ["--count", str(arguments.count)] if arguments.count else []
    subprocess.run([sys.executable, "-m", "diffstudio", *command, "--out", str(arguments.out)], check=True)
    MANUAL.mkdir(parents=True, exist_ok=True)
    for suffix in (".html", ".json"):
        text = (arguments.out / f"compare{suffix}").read_text(encoding="utf-8")
        (MANUAL / f"{arguments.name}{suffix}").write_text(text.replace(str(folder), folder.name), encoding="utf-8")


if __name__ == "__main__":
    main()
