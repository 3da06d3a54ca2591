"""The U-Net of a diffusion model: its config by a recipe, and the random numbers of its dropout."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from diffstudio.networks.unet import UNetConfig
from diffstudio.training.data.augmentation import Augmentation
from diffstudio.training.data.batches import Batch
from diffstudio.training.recipe import NetworkRecipe, Recipe


def unet_config(recipe: Recipe, classes: int, vocabulary: int) -> UNetConfig:
    network = recipe.network
    return UNetConfig(
        image_size=recipe.data.size,
        block_out_channels=network.channels,
        layers_per_block=network.layers,
        attention_side=network.attention,
        dropout=network.dropout,
        cond_dim=network.condition_width,
        conditioning=network.conditioning,
        num_classes=classes,
        vocab_size=vocabulary,
        text_tokens=network.text_tokens,
        augment_dim=Augmentation.label_dim if recipe.data.augment_labels else 0,
        in_channels=recipe.data.form.channels,
    )


@contextmanager
def seeded_dropout(network: NetworkRecipe, batch: Batch, device: torch.device) -> Iterator[None]:
    """Dropout draws from torch's global generators: inside, from a seed of the batch, so that a resumed run repeats it.

    Each process of a run draws for its own images, so with dropout gradients depend on the number of processes.
    """
    if not network.dropout:
        yield
        return
    seed = int(torch.randint(2**62, (), generator=batch.generator)) + batch.portion.first
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
