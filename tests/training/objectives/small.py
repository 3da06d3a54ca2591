"""A small dataset of two classes in memory, and recipes of each kind that learn it in a moment."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from diffstudio.networks.conditioning import Conditioning
from diffstudio.training.data.batches import Batches
from diffstudio.training.data.dataset import ImageDataset
from diffstudio.training.recipe import DataRecipe, NetworkRecipe, ObjectiveRecipe, OptimiserRecipe, Recipe, RunRecipe
from diffstudio.training.recipe.objective_recipe import ObjectiveName
from diffstudio.training.recipe.optimiser_recipe import OptimiserName
from diffstudio.training.trainer import Trainer

CPU = torch.device("cpu")
SIDE = 8


def dataset(count: int = 120, held_out: int = 40, classes: int = 2) -> ImageDataset:
    """Bright bars at random places, upright in one class and lying in the other, grey, 8 px."""
    rng = np.random.default_rng(0)
    pixels = rng.normal(40, 6, (count, SIDE, SIDE, 1))
    labels = np.arange(count) % classes
    for index, label in enumerate(labels):
        place, level = rng.integers(0, SIDE - 1), rng.uniform(150, 250)
        if label == 0:
            pixels[index, :, place : place + 2] = level
        else:
            pixels[index, place : place + 2] = level
    return ImageDataset(
        pixels.clip(0, 255).astype(np.uint8),
        ("",) * count,
        tuple(f"class {index}" for index in range(classes)),
        labels.astype(np.int64),
        np.arange(count) < held_out,
        tuple(Path(f"{index}.png") for index in range(count)),
        (),
        Path("none"),
        np.full((count, 2), SIDE),
    )


def recipe(kind: str, conditioning: Conditioning = Conditioning.CLASS, steps: int = 200, **objective: object) -> Recipe:
    return Recipe(
        name="small",
        data=DataRecipe(size=SIDE, channels=1, bits=8, fit="crop", held_out=0.3, flips=0.0, augment_labels=False),
        network=NetworkRecipe(
            conditioning=conditioning,
            patch=4 if kind == "vae" else 2,
            width=16,
            depth=1,
            condition_width=16,
            latent=4 if kind == "vae" else 8,
            prior_width=32,
            prior_depth=1,
            drop_condition=0.0,
        ),
        objective=replace(ObjectiveRecipe(), kind=ObjectiveName(kind), **objective),  # type: ignore[arg-type]
        optimiser=OptimiserRecipe(
            OptimiserName.ADAM,
            learning_rate=2e-3,
            betas=(0.0 if kind == "gan" else 0.9, 0.99),
            warm_up_steps=5,
            clip_norm=100.0,
            ema=0.9,
        ),
        run=RunRecipe(steps=steps, batch=32, dtype="float32", device="cpu", threads=1),
    )


def trained(of: Recipe, images: ImageDataset, steps: int) -> tuple[Trainer, Batches]:
    trainer = Trainer(of, classes=len(images.classes), vocabulary=0, device=CPU)
    batches = Batches(images, of, None)
    for step in range(steps):
        trainer.step(batches.at(step))
    return trainer, batches
