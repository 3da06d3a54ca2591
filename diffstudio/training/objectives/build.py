"""build_objective(): the objective that a recipe names."""

from __future__ import annotations

import torch

from diffstudio.training.objectives.autoencoder import AutoencoderObjective
from diffstudio.training.objectives.consistency import ConsistencyObjective
from diffstudio.training.objectives.diffusion import DiffusionObjective
from diffstudio.training.objectives.gan import GanObjective
from diffstudio.training.objectives.objective import Objective
from diffstudio.training.recipe import Recipe
from diffstudio.training.recipe.objective_recipe import ObjectiveName


def build_objective(recipe: Recipe, *, classes: int, vocabulary: int, device: torch.device) -> Objective:
    """The recipe's objective with new networks, initialised from torch's global generator. ValueError for invalid sizes."""
    match recipe.objective.kind:
        case ObjectiveName.DIFFUSION if recipe.few_steps.enabled:
            return ConsistencyObjective(recipe, classes=classes, vocabulary=vocabulary, device=device)
        case ObjectiveName.DIFFUSION:
            return DiffusionObjective(recipe, classes=classes, vocabulary=vocabulary, device=device)
        case ObjectiveName.VAE:
            return AutoencoderObjective(recipe, classes=classes, vocabulary=vocabulary, device=device)
        case ObjectiveName.GAN:
            return GanObjective(recipe, classes=classes, vocabulary=vocabulary, device=device)
