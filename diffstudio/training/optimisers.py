"""The optimisers that a recipe can choose, and the learning-rate schedule."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from diffstudio.networks.cascade import UPPER
from diffstudio.networks.state_dict_keys import in_stored_order
from diffstudio.training.distributed.sharding import is_sharded, like, whole
from diffstudio.training.recipe import OptimiserRecipe
from diffstudio.training.recipe.optimiser_recipe import DecayName, OptimiserName

Optimisers = list[Optimizer]  # one, or two for Muon with AdamW


def build_optimisers(recipe: OptimiserRecipe, network: nn.Module) -> Optimisers:
    """Optimisers over all of the network's parameters; each group's `initial_lr` is the peak learning rate."""
    parameters = [parameter for parameter in parameters_in_order(network) if parameter.requires_grad]
    rate, decay = recipe.learning_rate, recipe.weight_decay
    optimisers: Optimisers
    match recipe.name:
        case OptimiserName.MUON:
            matrices, rest = _split(network)
            ours = recipe.muon_dtype == "float32" or any(matrix.is_cuda or is_sharded(matrix) for matrix in matrices)
            kind: Callable[..., Optimizer] = torch.optim.Muon
            if ours:
                kind = partial(Muon, dtype=torch.float32 if recipe.muon_dtype == "float32" else torch.bfloat16)
            muon = kind(matrices, lr=recipe.muon_learning_rate, momentum=recipe.momentum, weight_decay=decay)
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
    step = max(0, step)  # a run that was continued may go back to before it
    if step < warm_up:
        return (step + 1) / warm_up
    return _decay(recipe.decay, (steps - step) / max(1.0, recipe.decay_share * steps))


def multiplier_by_time(recipe: OptimiserRecipe, step: int, progress: float) -> float:
    """The same for a run that lasts a given time, of which the share `progress` is over: its steps are not known.

    The warm-up ends after the recipe's steps or after a tenth of the time, whichever is first.
    """
    step, progress = max(0, step), max(0.0, progress)
    warm_up = min(1.0, max((step + 1) / max(1, recipe.warm_up_steps), progress / 0.1))
    left = (1 - progress) / recipe.decay_share if recipe.decay_share else 1.0
    return warm_up * _decay(recipe.decay, max(0.0, left))


def _decay(decay: DecayName, left: float) -> float:
    """`left`: of the time in which the rate falls to 0; at least 1 before that time."""
    match decay:
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


class Muon(torch.optim.Muon):
    """Muon, faster than torch's on GPUs and on processors that multiply bfloat16 matrices 50 times more slowly.

    The same iteration, coefficients and state as torch's, which casts to bfloat16 and takes one matrix after the other:
    Jordan et al. 2024, "Muon". On a GPU, matrices of one shape are made orthogonal together, because each alone is too small
    to keep it busy. Every process orthogonalises the whole update of sharded matrices, because parts of an
    orthogonal matrix are not orthogonal.
    """

    def __init__(self, matrices: Iterable[Tensor], *, dtype: torch.dtype = torch.float32, **settings: Any) -> None:
        super().__init__(list(matrices), **settings)
        self._dtype = dtype

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One update. `closure` is not supported."""
        assert closure is None
        for group in self.param_groups:
            rate, momentum = group["lr"], group["momentum"]
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not parameters:  # the functions for lists refuse empty ones
                continue
            gradients = [parameter.grad for parameter in parameters]
            averages = [self._average(parameter) for parameter in parameters]
            torch._foreach_lerp_(averages, gradients, 1 - momentum)
            updates = torch._foreach_lerp(gradients, averages, momentum) if group["nesterov"] else averages
            torch._foreach_mul_(parameters, 1 - rate * group["weight_decay"])
            for chosen, matrices in _together(parameters, [whole(update) for update in updates]):
                orthogonal = _orthogonal(
                    matrices.to(self._dtype), group["ns_coefficients"], group["ns_steps"], group["eps"]
                ).to(chosen[0].dtype)
                changes = orthogonal.unbind() if orthogonal.ndim == 3 else (orthogonal,)
                scale = math.sqrt(max(1.0, chosen[0].shape[0] / chosen[0].shape[1]))
                sharded = [like(change, one) for change, one in zip(changes, chosen, strict=True)]
                torch._foreach_add_(chosen, sharded, alpha=-rate * scale)

    def _average(self, parameter: Tensor) -> Tensor:
        """The running average of a parameter's gradients, which begins with zeros."""
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        average: Tensor = state["momentum_buffer"]
        return average


def _together(parameters: Sequence[Tensor], updates: Sequence[Tensor]) -> Iterator[tuple[list[Tensor], Tensor]]:
    """Parameters with their matrices: those of one shape stacked [K,M,N] on a GPU, one by one [M,N] elsewhere."""
    by_shape: dict[object, list[int]] = {}
    for index, matrix in enumerate(updates):
        by_shape.setdefault(matrix.shape if matrix.is_cuda else index, []).append(index)
    for indices in by_shape.values():
        first = updates[indices[0]]
        stacked = torch.stack([updates[index] for index in indices]) if first.is_cuda else first
        yield [parameters[index] for index in indices], stacked


def _orthogonal(matrix: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """Newton-Schulz: the singular values of `matrix` [M,N], or of each of [K,M,N], moved close to 1."""
    a, b, c = coefficients
    tall = matrix.shape[-2] > matrix.shape[-1]
    x = matrix.mT if tall else matrix
    stacked = x.ndim == 3
    norm = torch.linalg.matrix_norm(x, keepdim=True) if stacked else x.norm()
    multiply_add = torch.baddbmm if stacked else torch.addmm
    x = x / norm.clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.mT
        x = multiply_add(x, multiply_add(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def _split(network: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """The blocks' matrices that tokens pass through, for Muon, and all the rest."""
    matrices: list[Tensor] = []
    rest: list[Tensor] = []
    for name, parameter in in_stored_order(network.named_parameters()):
        is_matrix = parameter.ndim == 2 and name.removeprefix(UPPER).startswith("blocks.") and "modulation" not in name
        (matrices if is_matrix else rest).append(parameter)
    return matrices, rest


def _adamw(parameters: Iterable[Tensor], recipe: OptimiserRecipe) -> Optimizer:
    return torch.optim.AdamW(
        parameters, lr=recipe.learning_rate, betas=recipe.betas, weight_decay=recipe.weight_decay, foreach=True
    )
