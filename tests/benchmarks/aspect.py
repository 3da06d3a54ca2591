"""Crop, pad or aspect buckets, for a folder of mixed aspect ratios? Figures of the manual.

    python -m tests.benchmarks.aspect [--steps 300] [--seeds 0 1]

Draws 240 images of 2:1, 1:1 and 1:2 and 60 others that are held out: an ellipse that fills its white canvas, with a dark
disc at either end of its longer axis. A small network is trained on them in each way for equally many steps, which take
equally long because the sizes have about equal areas. Then it draws 60 images; with aspect buckets 20 of each shape. Prints
the kernel distance (x 1000, EfficientNet-Lite0) of the drawn images to the held-out ones, all whole on white squares, and
that of the training images.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

SHAPES = ((64, 32), (48, 48), (32, 64))  # px, of about equal areas
TRAINING, HELD_OUT = 240, 60
WAYS = ("crop", "pad", "bucket")
SIDE = 64  # px, of the white squares


def picture(number: int) -> Image.Image:
    rng = np.random.default_rng(number)
    width, height = SHAPES[number % len(SHAPES)]
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    draw.ellipse((1, 1, width - 2, height - 2), fill=tuple(rng.integers(60, 230, 3).tolist()))
    for end in (-1, 1):
        across = (width / 2 + end * (width / 2 - 9), height / 2)
        along = (width / 2, height / 2 + end * (height / 2 - 9))
        x, y = across if width >= height else along
        draw.ellipse((x - 4, y - 4, x + 4, y + 4), fill=(30, 30, 60))
    return image


def write_folder(folder: Path) -> None:
    for part, first, count in (("train", 0, TRAINING), ("val", TRAINING, HELD_OUT)):
        (folder / part).mkdir(parents=True)
        for number in range(first, first + count):
            picture(number).save(folder / part / f"{number:03}.png")


def squares(images: list[Image.Image]) -> Any:
    """[N,3,H,W] in [-1,1]: each image whole, on a white square."""
    import torch

    found = []
    for image in images:
        scale = SIDE / max(image.size)
        resized = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
        square = Image.new("RGB", (SIDE, SIDE), "white")
        square.paste(resized, ((SIDE - resized.width) // 2, (SIDE - resized.height) // 2))
        found.append(np.asarray(square))
    return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).float() / 127.5 - 1


def drawn(run: Any, sizes: tuple[tuple[int, int], ...], seed: int) -> list[Image.Image]:
    """As many images as are held out, equally many of each size (height, width)."""
    import torch

    from diffstudio.models.families import pixel
    from diffstudio.models.library.records import read_checkpoint
    from diffstudio.models.sampling import SampleOptions, sample

    model = pixel.load(read_checkpoint(run.latest_checkpoint), torch.device("cpu"), torch.float32)
    count, images = HELD_OUT // len(sizes), []
    for number, (height, width) in enumerate(sizes):
        seeds = [10_000 * seed + 1000 * number + index for index in range(count)]
        options = SampleOptions(seeds, width, height, steps=10, guidance=1.0)
        *_, last = sample(model, model.encode_prompt([""] * count, ""), options)
        levels = ((model.decode(last.x).clamp(-1, 1) + 1) * 127.5).round().byte()
        images += [Image.fromarray(one.permute(1, 2, 0).numpy()) for one in levels]
    return images


def trained(way: str, seed: int, steps: int, folder: Path, out: Path) -> Any:
    """The run of so many steps."""
    from diffstudio.networks.conditioning import Conditioning
    from diffstudio.training.loop import train
    from diffstudio.training.recipe import DataRecipe, NetworkRecipe, OptimiserRecipe, Recipe, RunRecipe

    recipe = Recipe(
        name=way,
        data=DataRecipe(size=32, fit=way, flips=0.0),
        network=NetworkRecipe(
            conditioning=Conditioning.NONE, patch=4, margin=2, bottleneck=32, width=96, depth=4, heads=4
        ),
        optimiser=OptimiserRecipe(warm_up_steps=20, ema=0.98),
        run=RunRecipe(
            batch=16, seed=seed, threads=1, sample_count=1, sample_steps=2, sample_every=10**6, held_out_every=10**6
        ),
    )
    recipe = replace(recipe, run=replace(recipe.run, dtype="float32", patience=0))
    return _train(train, recipe, folder, out / f"{way}-{seed}", steps)


def _train(train: Any, recipe: Any, folder: Path, run: Path, steps: int) -> Any:
    replace(recipe, run=replace(recipe.run, steps=steps)).write(file := run.with_suffix(".toml"))
    return train(run, folder, recipe=str(file))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["DIFFSTUDIO_HOME"] = scratch
        from diffstudio.evaluation.features.feature_network import extract, imagenet_network
        from diffstudio.evaluation.kernel_distance import kernel_distance

        folder = Path(scratch) / "images"
        write_folder(folder)
        network = imagenet_network()

        def distance(images: list[Image.Image]) -> float:
            return 1000 * kernel_distance(held_out, extract(network, squares(images).split(30)))

        held_out = extract(network, squares([picture(TRAINING + index) for index in range(HELD_OUT)]).split(30))
        print(f"training images: {distance([picture(index) for index in range(HELD_OUT)]):.1f}", flush=True)
        for seed in asked.seeds:
            for way in WAYS:
                run = trained(way, seed, asked.steps, folder, Path(scratch))
                sizes = run.recipe().data.bucket_sizes or ((32, 32),)
                shapes = [min(sizes, key=lambda one, r=h / w: abs(np.log(one[0] / one[1] / r))) for w, h in SHAPES]
                found = distance(drawn(run, tuple(shapes) if way == "bucket" else sizes, seed))
                print(f"seed {seed}, {way}: {found:.1f}, sizes {sizes}", flush=True)


if __name__ == "__main__":
    main()
