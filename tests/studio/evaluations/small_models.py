"""Folders of small images and checkpoints as a run on them would write them, without training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from diffstudio.models.families import pixel_file
from diffstudio.networks.caption_tokenizer import CaptionTokenizer
from diffstudio.networks.conditioning import Conditioning
from diffstudio.training.objectives.diffusion import build_network
from diffstudio.training.recipe import DataRecipe, NetworkRecipe, OptimiserRecipe, Recipe, RunRecipe
from diffstudio.training.recipe.network_recipe import NetworkName
from diffstudio.training.recipe.optimiser_recipe import OptimiserName

COLOURS = {"red": (220, 40, 40), "blue": (40, 60, 220)}
RECIPE = Recipe(
    name="small",
    data=DataRecipe(size=16, held_out=0.5, flips=0.3),
    network=NetworkRecipe(
        conditioning=Conditioning.CLASS, patch=8, margin=0, bottleneck=8, width=16, depth=1, heads=2, condition_width=16
    ),
    run=RunRecipe(dtype="float32", sample_steps=2),
)

UNET = replace(
    RECIPE,
    network=replace(RECIPE.network, kind=NetworkName.UNET, channels=(8, 16), layers=1, attention=8),
    optimiser=OptimiserRecipe(name=OptimiserName.ADAMW),
)


def write_images(folder: Path, count: int, seed: int, captions: bool = False, classes: bool = True) -> Path:
    """Noisy squares at random places, half of them red and half blue, in a subfolder for each colour."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        name = list(COLOURS)[number % 2]
        pixels = np.full((16, 16, 3), 255.0)
        top, left = rng.integers(0, 8, 2)
        pixels[top : top + 8, left : left + 8] = COLOURS[name]
        pixels += rng.normal(size=pixels.shape) * 12
        path = folder / (name if classes else "") / f"{number:03d}-{seed}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
        if captions:
            path.with_suffix(".txt").write_text(f"a {name} square")
    return folder


def write_checkpoint(
    path: Path, conditioning: Conditioning = Conditioning.CLASS, recipe: Recipe = RECIPE, spoil: bool = False
) -> Path:
    """A random network in a file whose header holds the recipe; `spoil` makes it generate infinite values."""
    recipe = replace(recipe, network=replace(recipe.network, conditioning=conditioning, text_tokens=4))
    tokenizer = CaptionTokenizer.learn(["a red square", "a blue square"], 300)
    by_text = conditioning is Conditioning.TEXT
    torch.manual_seed(0)
    network = build_network(recipe, len(COLOURS), tokenizer.vocabulary if by_text else 0)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if not bool(parameter.any()):
                parameter.normal_(std=0.3)
            if spoil and name.startswith("final_layer.linear"):
                parameter.fill_(1e38)
    path.parent.mkdir(parents=True, exist_ok=True)
    pixel_file.save(
        path,
        network,
        title=path.stem,
        tokenizer=tokenizer if by_text else None,
        classes=tuple(sorted(COLOURS)) if conditioning is Conditioning.CLASS else (),
        recipe=recipe.to_json(),
        sampling={"sampler": "euler", "spacing": "uniform", "steps": 2},
    )
    return path
