"""The optimisers that a recipe can choose, and the learning-rate schedule."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from diffstudio.networks.state_dict_keys import in_stored_order
from diffstudio.training.recipe import DecayName, OptimiserName, OptimiserRecipe

Optimisers = list[Optimizer]  # one, or two for Muon with AdamW


def build_optimisers(recipe: OptimiserRecipe, network: nn.Module) -> Optimisers:
    """Optimisers over all of the network's parameters; each group's `initial_lr` is the peak learning rate."""
    parameters = [parameter for parameter in parameters_in_order(network) if parameter.requires_grad]
    rate, decay = recipe.learning_rate, recipe.weight_decay
    optimisers: Optimisers
    match recipe.name:
        case OptimiserName.MUON:
            matrices, rest = _split(network)
            muon = torch.optim.Muon(
                matrices, lr=recipe.muon_learning_rate, momentum=recipe.momentum, weight_decay=decay
            )
            optimisers = [muon, _adamw(rest, recipe)]
        case OptimiserName.ADAMW:
            optimisers = [_adamw(parameters, recipe)]
        case OptimiserName.ADAM:
            optimisers = [torch.optim.Adam(parameters, lr=rate, betas=recipe.betas, weight_decay=decay)]
        case OptimiserName.RMSPROP:
            optimisers = [
                torch.optim.RMSprop(
                    parameters, lr=rate, alpha=recipe.betas[1], weight_decay=decay, momentum=recipe.momentum
                )
            ]
        case OptimiserName.SGD:
            optimisers = [torch.optim.SGD(parameters, lr=rate, momentum=recipe.momentum, weight_decay=decay)]
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["initial_lr"] = group["lr"]
    return optimisers


def parameters_in_order(network: nn.Module) -> list[Tensor]:
    """The network's parameters in the order in which training states number them."""
    return [parameter for _, parameter in in_stored_order(network.named_parameters())]


def learning_rate_multiplier(recipe: OptimiserRecipe, step: int, steps: int) -> float:
    """The factor of the peak learning rate at `step` (0-based) of `steps`: linear warm-up, plateau, decay to 0."""
    warm_up = min(recipe.warm_up_steps, steps // 10)
    if step < warm_up:
        return (step + 1) / warm_up
    left = (steps - step) / max(1.0, recipe.decay_share * steps)  # at least 1 before the decay starts
    match recipe.decay:
        case DecayName.CONSTANT:
            return 1.0
        case DecayName.LINEAR:
            return min(1.0, left)
        case DecayName.COSINE:
            return 0.5 - 0.5 * math.cos(math.pi * min(1.0, left))


def set_learning_rate(optimisers: Optimisers, multiplier: float) -> None:
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = group["initial_lr"] * multiplier


def _split(network: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """The blocks' matrices that tokens pass through, for Muon, and all the rest."""
    matrices: list[Tensor] = []
    rest: list[Tensor] = []
    for name, parameter in in_stored_order(network.named_parameters()):
        is_matrix = parameter.ndim == 2 and name.startswith("blocks.") and "modulation" not in name
        (matrices if is_matrix else rest).append(parameter)
    return matrices, rest


def _adamw(parameters: Iterable[Tensor], recipe: OptimiserRecipe) -> Optimizer:
    return torch.optim.AdamW(
        parameters, lr=recipe.learning_rate, betas=recipe.betas, weight_decay=recipe.weight_decay, foreach=True
    )
