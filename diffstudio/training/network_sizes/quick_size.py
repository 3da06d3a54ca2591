"""VAEs and GANs for little time: a smaller network where few steps of the usual one would fit. No torch."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import cache

import numpy as np

from diffstudio.plurals import count_of
from diffstudio.training.network_sizes.one_call_size import step_gigaflops
from diffstudio.training.recipe import Recipe
from diffstudio.training.recipe.objective_recipe import GanLossName, ObjectiveName

_ENOUGH_STEPS = 1000  # of the usual network; with fewer, the smaller one gives better images
_EFFICIENCY = 0.5  # of a step, relative to a product of matrices
_BATCH = 32  # more steps in the same time
_CELLS = {ObjectiveName.VAE: 16, ObjectiveName.GAN: 8}  # per side of the finest grid, about
_VAE_LATENT, _VAE_PRIOR_WIDTH, _VAE_PRIOR_DRAWS = 48, 256, 4
_GAN_WIDTH, _GAN_PENALTY_EVERY, _GAN_RATE = 64, 4, 3e-3
_MATRIX, _ROUNDS = 384, 5


def with_quick_size(recipe: Recipe, minutes: float, speed: float | None = None) -> tuple[Recipe, str]:
    """The recipe of a VAE or GAN with a smaller network if few steps of its own fit into these minutes on a processor, and
    a clause that says why.

    The smaller VAE has one latent for the whole image: its flow prior learns that in a few hundred steps, and a grid of
    latents in thousands. The smaller GAN computes its penalties in one of four steps and has a higher learning rate.
    `speed`, in billions of operations in a second, is measured by default. Other recipes, and longer runs, are returned
    unchanged.
    """
    kind, objective, network, optimiser = recipe.objective.kind, recipe.objective, recipe.network, recipe.optimiser
    if kind is ObjectiveName.DIFFUSION or objective.gan_loss is not GanLossName.R3GAN:
        return recipe, ""
    seconds = step_gigaflops(recipe) / (_EFFICIENCY * (speed or processor_speed()))
    steps = 60 * minutes / seconds
    if steps >= _ENOUGH_STEPS:
        return recipe, ""
    stem = 1
    while recipe.data.size // (2 * stem) >= _CELLS[kind] and 2 * stem <= network.patch:
        stem *= 2
    if kind is ObjectiveName.VAE:
        network = replace(network, latent=_VAE_LATENT, latent_grid=1, prior_width=_VAE_PRIOR_WIDTH)
        objective = replace(objective, prior_draws=_VAE_PRIOR_DRAWS)
    else:
        network = replace(network, width=max(network.width, _GAN_WIDTH) if stem > 1 else network.width)
        objective = replace(objective, penalty_every=_GAN_PENALTY_EVERY)
        optimiser = replace(optimiser, learning_rate=_GAN_RATE)
    network, run = replace(network, stem=stem), replace(recipe.run, batch=_BATCH)
    small = replace(recipe, network=network, objective=objective, optimiser=optimiser, run=run)
    count = int(float(f"{steps:.1e}"))  # of two digits
    fitting = f"time for {count_of(count, 'step')}" if count else "no time for a single step"
    return small, f"a smaller network, because in {minutes:g} min there is {fitting} of the usual one"


@cache
def processor_speed() -> float:
    """Billions of float32 operations in a second, in products of matrices on all cores."""
    matrix = np.ones((_MATRIX, _MATRIX), np.float32)
    seconds = []
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        matrix @ matrix
        seconds.append(time.perf_counter() - started)
    return 2 * _MATRIX**3 / min(seconds) / 1e9
