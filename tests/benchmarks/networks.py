"""The U-Net beside the transformer: `python -m tests.benchmarks.networks quality FOLDER --seconds 150`, or `speed`.

    python -m tests.benchmarks.networks quality FOLDER [--recipes tiny unet] [--seconds 150] [--seed 0] [--set network.layers=2]
    python -m tests.benchmarks.networks speed [--size 32] [--batch 16] [--rounds 4]

`quality` trains each recipe for the same processor time on the same split and prints its held-out loss, which is that of
the velocity for every network. `speed` prints the training images per processor-second of the U-Net by this trainer, and
by a bare loop around the same network of diffusers, as in its `train_unconditional.py` (noise prediction, AdamW, clipping,
`EMAModel`), in rounds that alternate. One thread, so that the time of a busy machine counts as it is used.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from diffstudio import paths
from diffstudio.networks.conditioning import Conditioning
from diffstudio.networks.transformer import Condition
from diffstudio.training.data.batches import Batch, Batches
from diffstudio.training.data.dataset import build_dataset
from diffstudio.training.data.inspect_folder import finish_inspection
from diffstudio.training.recipe import Recipe
from diffstudio.training.recipe_choice import choose_recipe, named_recipes
from diffstudio.training.run.setup import train_tokenizer
from diffstudio.training.trainer import Trainer

CPU = torch.device("cpu")
DTYPES = ("float32", "bfloat16")


def chosen(name: str, folder: Path, asked: argparse.Namespace) -> tuple[Recipe, Any]:
    """The recipe for a folder, as the program chooses it, and the report."""
    report = finish_inspection(folder, lambda _: None)
    values = choose_recipe(name, report, start_from="none").recipe.to_json()
    values["run"] |= {"schedule": "time", "seed": asked.seed}
    values["data"] |= {"size": asked.size, "held_out": 0.1, "fit": "crop", "buckets": []}
    for change in asked.set:
        where, value = change.split("=")
        section, key = where.split(".")
        if not (section == "network" and name == "tiny"):
            values[section][key] = json.loads(value)
    return Recipe.from_json(values), report


def faster(recipe: Recipe, build: Callable[[Recipe], Trainer], batches: Batches) -> tuple[Recipe, dict[str, float]]:
    """The recipe in the data type that takes less processor time, and the seconds per step of both."""
    found: dict[str, float] = {}
    for dtype in DTYPES:
        trainer = build(replace(recipe, run=replace(recipe.run, dtype=dtype)))
        times = []
        for step in range(3):
            began = time.process_time()
            trainer.step(batches.at(step))
            times.append(time.process_time() - began)
        found[dtype] = min(times[1:])
    best = min(found, key=lambda dtype: found[dtype])
    muon = replace(recipe.optimiser, muon_dtype=best)
    return replace(recipe, run=replace(recipe.run, dtype=best), optimiser=muon), found


def quality(asked: argparse.Namespace) -> None:
    print(
        "| recipe | parameters | data type | images per processor-second | steps | held-out loss | on training images |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in asked.recipes:
        recipe, report = chosen(name, asked.folder, asked)
        recipe = replace(recipe, optimiser=replace(recipe.optimiser, muon_dtype="float32"))
        dataset = build_dataset(report, recipe.data, paths.prepared_images())
        tokenizer = train_tokenizer(recipe, dataset)
        vocabulary = tokenizer.vocabulary if tokenizer is not None else 0
        batches = Batches(dataset, recipe, tokenizer)

        def build(recipe: Recipe, classes: int = len(dataset.classes), vocabulary: int = vocabulary) -> Trainer:
            return Trainer(recipe, classes=classes, vocabulary=vocabulary, device=CPU)

        recipe, _ = faster(recipe, build, batches)
        trainer, began = build(recipe), time.process_time()
        while (spent := time.process_time() - began) < asked.seconds:
            trainer.progress = spent / asked.seconds
            trainer.step(batches.at(trainer.step_number))
        losses = trainer.fixed_losses(batches)
        assert losses is not None
        count = sum(parameter.numel() for parameter in trainer.network.parameters())
        rate = trainer.step_number * recipe.run.batch / asked.seconds
        print(
            f"| {name} | {count / 1e6:.1f} M | {recipe.run.dtype} | {rate:.0f} | {trainer.step_number:,} "
            f"| {losses.loss:.4f} ({', '.join(f'{loss:.3f}' for loss in losses.held_out)}) | {losses.training_loss:.4f} |",
            flush=True,
        )


def bare(recipe: Recipe, dtype: str, images: torch.Tensor) -> Callable[[], None]:
    """A step of diffusers' `train_unconditional.py` with the recipe's network."""
    from diffusers import DDPMScheduler, UNet2DModel
    from diffusers.training_utils import EMAModel

    from diffstudio.training.objectives.unet import unet_config

    config = unet_config(recipe, 0, 0).arguments() | {"class_embed_type": None}
    unet = UNet2DModel(**config).train()
    scheduler, average = DDPMScheduler(), EMAModel(unet.parameters(), decay=0.999)
    optimiser = torch.optim.AdamW(unet.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6)

    def step() -> None:
        noise = torch.randn_like(images)
        k = torch.randint(0, 1000, (len(images),))
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
            predicted = unet(scheduler.add_noise(images, noise, k), k).sample
        torch.nn.functional.mse_loss(predicted.float(), noise).backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        average.step(unet.parameters())

    return step


def speed(asked: argparse.Namespace) -> None:
    recipe = named_recipes()["unet"]
    recipe = replace(
        recipe,
        network=replace(recipe.network, conditioning=Conditioning.NONE),
        data=replace(recipe.data, size=asked.size, channels=3, augment_labels=False),
    )
    images = torch.rand(asked.batch, 3, asked.size, asked.size) * 2 - 1
    batch = Batch(images, Condition(), torch.Generator().manual_seed(0))
    steps: dict[tuple[str, str], Callable[[], object]] = {}
    for dtype in DTYPES:
        in_dtype = replace(recipe, run=replace(recipe.run, dtype=dtype))
        trainer = Trainer(in_dtype, classes=0, vocabulary=0, device=CPU)
        steps["this trainer", dtype] = lambda trainer=trainer: trainer.step(batch)
        steps["diffusers", dtype] = bare(recipe, dtype, images)
    best = dict.fromkeys(steps, float("inf"))
    for number in range(asked.rounds + 1):
        for key, step in steps.items():
            began = time.process_time()
            step()
            if number:  # the first warms up
                best[key] = min(best[key], time.process_time() - began)
    print(f"| {asked.size} px, batch {asked.batch} | {' | '.join(DTYPES)} |\n| --- | --- | --- |")
    for name in ("this trainer", "diffusers"):
        print(f"| {name} | {' | '.join(f'{asked.batch / best[name, dtype]:.1f} images/s' for dtype in DTYPES)} |")
    ours, theirs = (min(best[name, dtype] for dtype in DTYPES) for name in ("this trainer", "diffusers"))
    print(f"In the faster data type of each: {theirs / ours:.2f} times the images per processor-second of diffusers.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("quality", "speed"))
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--recipes", nargs="+", default=["tiny", "unet"])
    parser.add_argument("--seconds", type=float, default=150, help="of processor time, for each recipe")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="another value in the recipe")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        os.environ.setdefault("DIFFSTUDIO_HOME", scratch)
        {"quality": quality, "speed": speed}[asked.what](asked)


if __name__ == "__main__":
    main()
