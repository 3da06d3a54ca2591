"""The optimiser section of a recipe. No torch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import StrEnum

from diffstudio.training.recipe.network_recipe import NetworkName, NetworkRecipe


class OptimiserName(StrEnum):
    MUON = "muon"  # Muon for the matrices of the blocks, AdamW for all other parameters
    ADAMW = "adamw"
    ADAM = "adam"
    RMSPROP = "rmsprop"
    SGD = "sgd"


class DecayName(StrEnum):
    CONSTANT = "constant"
    LINEAR = "linear"
    COSINE = "cosine"


@dataclass(frozen=True, slots=True)
class OptimiserRecipe:
    name: OptimiserName = OptimiserName.MUON
    learning_rate: float = 6e-4  # of every optimiser but Muon
    muon_learning_rate: float = 0.02
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.99)
    momentum: float = 0.95  # of Muon, RMSprop and SGD
    muon_dtype: str = "bfloat16"  # in which Muon computes; `auto`: `float32` on a processor where that is faster
    warm_up_steps: int = 200
    decay: DecayName = DecayName.LINEAR
    decay_share: float = 0.3  # last fraction of the run, in which the learning rate falls to 0
    clip_norm: float = 2.0
    ema: float = 0.9995  # decay

    def suited_to(self, network: NetworkRecipe) -> OptimiserRecipe:
        """AdamW instead of Muon for a U-Net, which has no transformer blocks."""
        unsuited = network.kind is NetworkName.UNET and self.name is OptimiserName.MUON
        return dataclasses.replace(self, name=OptimiserName.ADAMW) if unsuited else self
