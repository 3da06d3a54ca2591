"""A folder of small captioned pictures, made here, and a recipe that learns it in a moment."""

from __future__ import annotations

import colorsys
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from diffstudio.networks.conditioning import Conditioning
from diffstudio.training.recipe import DataRecipe, NetworkRecipe, OptimiserRecipe, Recipe, RunRecipe

SHAPES = ("disc", "square")


def write_pictures(folder: Path, count: int = 24, side: int = 20) -> Path:
    """`count` pictures in a subfolder for each shape, each in its own colour, with a caption beside it."""
    for index in range(count):
        shape = SHAPES[index % 2]
        colour = tuple(round(255 * part) for part in colorsys.hsv_to_rgb(index / count, 0.9, 0.9))
        picture = Image.new("RGB", (side, side), "white")
        draw = ImageDraw.Draw(picture)
        (draw.ellipse if shape == "disc" else draw.rectangle)((3, 3, side - 4, side - 4), fill=colour)  # type: ignore[operator]
        (folder / shape).mkdir(parents=True, exist_ok=True)
        picture.save(folder / shape / f"{index:02d}.png")
        (folder / shape / f"{index:02d}.txt").write_text(f"{shape} {index}, {shape}, shape", encoding="utf-8")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "pictures")


@pytest.fixture
def recipe() -> Recipe:
    return Recipe(
        name="for tests",
        data=DataRecipe(size=16, held_out=0.1),
        network=NetworkRecipe(
            conditioning=Conditioning.TEXT,
            patch=4,
            margin=2,
            bottleneck=16,
            width=32,
            depth=2,
            heads=2,
            condition_width=32,
            vocabulary=300,
            text_tokens=6,
        ),
        optimiser=OptimiserRecipe(warm_up_steps=5, ema=0.9),
        run=RunRecipe(
            steps=12,
            batch=8,
            dtype="float32",
            device="cpu",
            threads=1,
            sample_every=6,
            sample_count=2,
            checkpoint_every=4,
            held_out_every=4,
            sample_steps=2,
        ),
    )


@pytest.fixture
def recipe_file(tmp_path: Path, recipe: Recipe) -> str:
    recipe.write(tmp_path / "recipe.toml")
    return str(tmp_path / "recipe.toml")


def with_steps(recipe: Recipe, steps: int) -> Recipe:
    return replace(recipe, run=replace(recipe.run, steps=steps))
