"""How much better an upper level enlarges images than Lanczos: `python -m tests.benchmarks.two_levels FOLDER`.

    python -m tests.benchmarks.two_levels FOLDER [--size 32] [--factor 2] [--minutes 2] [--set upper.width=128]

Trains both levels on the folder for so many minutes on the device of the recipe `tiny`, and enlarges held-out images that
were reduced by means of squares: PSNR, the mean over images, and how far the enlarged images, reduced again, are from what
they were made from, in steps of 255.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

MOST = 64  # images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--factor", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="another value in the recipe")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["DIFFSTUDIO_HOME"] = scratch
        measure(asked, Path(scratch))


def measure(asked: argparse.Namespace, scratch: Path) -> None:
    from diffstudio.models.library.records import read_checkpoint
    from diffstudio.models.memory.devices import choose_device
    from diffstudio.models.upscalers import load_upscaler
    from diffstudio.training.loop import train
    from diffstudio.training.preparation.stored_dataset import StoredDataset
    from diffstudio.training.recipe import Recipe
    from diffstudio.training.recipe_choice import named_recipes

    values = named_recipes()["tiny"].to_json()
    values["data"] |= {"size": asked.size, "held_out": 0.1, "fit": "crop", "flips": 0.0}
    values["upper"] |= {"factor": asked.factor, "width": 128, "depth": 3, "condition_width": 128}
    values["run"] |= {"sample_every": 10**6, "sample_count": 1, "patience": 0}
    for change in asked.set:
        where, value = change.split("=")
        section, key = where.split(".")
        values[section][key] = json.loads(value)
    Recipe.from_json(values).write(scratch / "two.toml")
    run = train(scratch / "run", asked.folder, recipe=str(scratch / "two.toml"), minutes=asked.minutes)
    newest = max(run.path.glob("checkpoints/[0-9]*.safetensors"))
    upscaler = load_upscaler(read_checkpoint(newest), choose_device("auto"))
    stored = StoredDataset.read(run.dataset_file)
    dataset = stored.open_prepared() if stored is not None else None
    assert dataset is not None
    whole = np.asarray(dataset.images[dataset.held_out_indices[:MOST]], dtype=np.float64)
    low = np.rint(reduced(whole, asked.factor)).astype(np.uint8)
    found: dict[str, list[NDArray[np.float64]]] = {"upper level": [], "lanczos": [], "bicubic": []}
    side = whole.shape[1]
    for image in low:
        pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
        found["upper level"].append(np.rint(upscaler(pixels)[0].permute(1, 2, 0).numpy().astype(np.float64) * 255))
        for name, method in (("lanczos", Image.Resampling.LANCZOS), ("bicubic", Image.Resampling.BICUBIC)):
            found[name].append(np.asarray(Image.fromarray(image).resize((side, side), method), dtype=np.float64))
    print(f"{len(low)} held-out images, {low.shape[1]} to {side} px, step {int(newest.stem):,}")
    print("| enlarged by | PSNR in dB | largest difference when reduced |")
    print("| --- | --- | --- |")
    for name in ("lanczos", "bicubic"):  # moved as little as makes them equal the image when they are reduced
        larger = np.stack(found[name])
        missing = (low - reduced(larger, asked.factor)).repeat(asked.factor, axis=1).repeat(asked.factor, axis=2)
        found[f"{name}, corrected"] = list(np.rint((larger + missing).clip(0, 255)))
    for name, images in found.items():
        larger = np.stack(images)
        psnr = 10 * np.log10(255**2 / ((larger - whole) ** 2).mean(axis=(1, 2, 3)))
        print(f"| {name} | {psnr.mean():.2f} | {np.abs(reduced(larger, asked.factor) - low).max():.2f} |")


def reduced(images: NDArray[np.float64], factor: int) -> NDArray[np.float64]:
    """Images [N,H,W,C] by means of squares."""
    count, height, width, channels = images.shape
    squares = images.reshape(count, height // factor, factor, width // factor, factor, channels)
    mean: NDArray[np.float64] = squares.mean(axis=(2, 4))
    return mean


if __name__ == "__main__":
    main()
