"""The recipe settings that the window offers: size, optimiser, noise levels, augmentation.

A recipe has many more settings; those without a control keep the recipe's values.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from diffstudio.studio.curves.curve import NoiseCurve
from diffstudio.studio.curves.saved import saved_curves
from diffstudio.training.network_sizes.one_call_size import with_image_size
from diffstudio.training.recipe import Recipe
from diffstudio.training.recipe.network_recipe import NetworkName
from diffstudio.training.recipe.objective_recipe import NoiseLevelsName, ObjectiveName
from diffstudio.training.recipe.optimiser_recipe import OptimiserName
from diffstudio.training.recipe_from_checkpoint import RATE_FROM_CHECKPOINT
from diffstudio.ui.widgets.formatting import human_bytes


class TwoLevels(NamedTuple):
    """Images in two levels: the side of the smaller ones, and how many times as large the others are."""

    size: int  # px
    factor: int


SIZES = (32, 48, 64, 96, 128, 192, 256)
IN_TWO_LEVELS = (TwoLevels(64, 2), TwoLevels(64, 4))
_PATCH_OF_FACTOR = {2: 8, 4: 16}  # px, so that the larger image has at most 256 patches at 64 px of the smaller one
MINUTES = (1, 2, 3, 5, 7, 10, 15, 20, 30, 45, 60, 90, 120, 180, 240, 360, 480, 720, 1080, 1440, 2880)
DEFAULT_MINUTES = 120.0

FLIPS, ROTATION, SHIFTS = "flips", "rotation", "shifts"
AUGMENTATIONS = (FLIPS, ROTATION, SHIFTS)
_DEFAULT_AMOUNTS = {
    FLIPS: 0.3,
    ROTATION: 8.0,
    SHIFTS: 0.06,
}  # probability, degrees, fraction of the side; used if the recipe has 0

OPTIMISER_TIP = "The algorithm that updates the weights"
OPTIMISERS = (
    (OptimiserName.MUON, "Muon + AdamW"),
    (OptimiserName.ADAMW, "AdamW"),
    (OptimiserName.ADAM, "Adam"),
    (OptimiserName.RMSPROP, "RMSprop"),
    (OptimiserName.SGD, "SGD"),
)
NOISE_LEVELS = (
    (NoiseLevelsName.LOGIT_NORMAL, "Logit-normal"),
    (NoiseLevelsName.LOG_NORMAL, "Log-normal"),
    (NoiseLevelsName.UNIFORM, "Uniform"),
    (NoiseLevelsName.COSINE, "Cosine"),
    (NoiseLevelsName.ADAPTIVE, "Adaptive"),
)

DRAWN = "Drawn schedule"  # noise levels of a curve that is not saved under a name

# The recipe's learning rate, mean and deviation fit its own optimiser and distribution; another choice uses these.
_LEARNING_RATES = {
    OptimiserName.MUON: 6e-4,
    OptimiserName.ADAMW: 6e-4,
    OptimiserName.ADAM: 6e-4,
    OptimiserName.RMSPROP: 2e-4,
    OptimiserName.SGD: 2e-2,
}
_MEAN_AND_DEVIATION = {
    NoiseLevelsName.LOGIT_NORMAL: (0.6, 0.9),
    NoiseLevelsName.ADAPTIVE: (0.6, 0.9),
    NoiseLevelsName.LOG_NORMAL: (-1.2, 1.2),
}  # Karras et al. 2022, table 1


@dataclass(frozen=True, slots=True)
class RecipeOptions:
    """The values of the controls."""

    size: int | TwoLevels  # px per side
    optimiser: OptimiserName
    noise_levels: NoiseLevelsName | NoiseCurve  # a drawn schedule instead of CURVE
    augmentations: tuple[str, ...]  # of FLIPS, ROTATION, SHIFTS

    @classmethod
    def from_recipe(cls, recipe: Recipe) -> RecipeOptions:
        amounts = zip(
            AUGMENTATIONS, (recipe.data.flips, recipe.data.rotation_degrees, recipe.data.translation), strict=True
        )
        return cls(
            _size_of(recipe),
            recipe.optimiser.name,
            _noise_levels(recipe),
            tuple(name for name, amount in amounts if amount > 0),
        )

    def apply_to(self, recipe: Recipe) -> Recipe:
        """The recipe with these values; the same object if nothing differs."""
        before = RecipeOptions.from_recipe(recipe)
        if self == before:
            return recipe
        data, optimiser, objective, upper = recipe.data, recipe.optimiser, recipe.objective, recipe.upper
        network = recipe.network
        size, factor = self.size if isinstance(self.size, TwoLevels) else (self.size, 0)
        if factor != upper.factor:
            patch = _PATCH_OF_FACTOR.get(factor, upper.patch)
            upper = replace(upper, factor=factor, patch=patch, margin=patch // 2)
        if size != data.size:
            network = with_image_size(recipe, size).network
        data = replace(
            data,
            size=size,
            cross_splits=0 if factor else data.cross_splits,  # of models of one level
            fit="crop" if factor and data.fit == "bucket" else data.fit,  # both levels have images of one size
            # Else chosen for the size when the run starts.
            buckets=data.buckets if size == data.size and not factor else (),
            flips=self._amount(FLIPS, data.flips),
            rotation_degrees=self._amount(ROTATION, data.rotation_degrees),
            translation=self._amount(SHIFTS, data.translation),
        )
        if self.optimiser != before.optimiser:
            rate = _LEARNING_RATES[self.optimiser] * (RATE_FROM_CHECKPOINT if recipe.run.start_from else 1)
            optimiser = replace(optimiser, name=self.optimiser, learning_rate=rate)
        if isinstance(self.noise_levels, NoiseCurve):
            objective = replace(objective, noise_levels=NoiseLevelsName.CURVE, noise_curve=self.noise_levels.pairs)
        elif self.noise_levels != before.noise_levels:
            mean, deviation = _MEAN_AND_DEVIATION.get(self.noise_levels, (objective.mean, objective.deviation))
            objective = replace(objective, noise_levels=self.noise_levels, mean=mean, deviation=deviation)
        return replace(recipe, data=data, network=network, upper=upper, optimiser=optimiser, objective=objective)

    def _amount(self, augmentation: str, recipe_amount: float) -> float:
        return 0.0 if augmentation not in self.augmentations else recipe_amount or _DEFAULT_AMOUNTS[augmentation]


def has_two_levels(recipe: Recipe) -> bool:
    """Whether the model of a recipe can have an upper level."""
    diffusion = recipe.objective.kind is ObjectiveName.DIFFUSION and not recipe.few_steps.enabled
    return diffusion and recipe.network.kind is NetworkName.TRANSFORMER


def size_choices(current: int | TwoLevels, *, two_levels: bool) -> list[tuple[int | TwoLevels, str]]:
    """The sizes on offer, with the `current` one and, if a model can have them, those in two levels."""
    plain = {*SIZES, *(() if isinstance(current, TwoLevels) else (current,))}
    levels = {*(IN_TWO_LEVELS if two_levels else ()), *((current,) if isinstance(current, TwoLevels) else ())}
    return [*((size, size_text(size)) for size in sorted(plain)), *((size, size_text(size)) for size in sorted(levels))]


def size_text(size: int | TwoLevels) -> str:
    return f"{size.size * size.factor} px in two levels" if isinstance(size, TwoLevels) else f"{size} px"


def short_size_texts(choices: Sequence[tuple[int | TwoLevels, str]]) -> dict[str, str]:
    """What is shown in place of sizes in two levels where there is little room: `64 → 128 px`."""
    return {
        text: f"{size.size} → {size.size * size.factor} px" for size, text in choices if isinstance(size, TwoLevels)
    }


def recipe_size_text(recipe: Recipe) -> str:
    return size_text(_size_of(recipe))


def _size_of(recipe: Recipe) -> int | TwoLevels:
    return TwoLevels(recipe.data.size, recipe.upper.factor) if recipe.upper.factor else recipe.data.size


def optimiser_text(name: OptimiserName) -> str:
    return dict(OPTIMISERS)[name]


def _noise_levels(recipe: Recipe) -> NoiseLevelsName | NoiseCurve:
    objective = recipe.objective
    if objective.noise_levels is NoiseLevelsName.CURVE:
        return NoiseCurve.from_pairs(objective.noise_curve)
    return objective.noise_levels


def noise_levels_choices(current: NoiseLevelsName | NoiseCurve) -> list[tuple[NoiseLevelsName | NoiseCurve, str]]:
    """The distributions, the noise schedules that were drawn and saved, and the `current` one if it is none of these."""
    drawn = {one.curve: one.name for one in saved_curves().curves}
    if isinstance(current, NoiseCurve):
        drawn.setdefault(current, DRAWN)
    return [*NOISE_LEVELS, *drawn.items()]


def noise_levels_text(recipe: Recipe) -> str:
    return dict(noise_levels_choices(levels := _noise_levels(recipe)))[levels]


def augmentation_text(recipe: Recipe) -> str:
    """The augmentation of a recipe: `flips, rotation up to 8°, shifts up to 6%`."""
    parts = []
    if recipe.data.flips > 0:
        parts.append("flips")
    if recipe.data.rotation_degrees > 0:
        parts.append(f"rotation up to {recipe.data.rotation_degrees:g}°")
    if recipe.data.translation > 0:
        parts.append(f"shifts up to {100 * recipe.data.translation:g}%")
    return ", ".join(parts) or "none"


def estimate_text(
    minutes: float, images_per_second: float | None, now: float | None = None, *, memory: int | None = None
) -> str:
    """`About 310,000 images seen · 1.6 GB of memory · ready near 14:20`; without the images if the throughput is unknown."""
    now = time.time() if now is None else now
    ready = time.localtime(now + 60 * minutes)
    days = (
        time.mktime((*ready[:3], 0, 0, 0, 0, 0, -1)) - time.mktime((*time.localtime(now)[:3], 0, 0, 0, 0, 0, -1))
    ) / 86400
    clock = time.strftime("%H:%M", ready)
    when = clock if round(days) == 0 else f"{clock} tomorrow" if round(days) == 1 else f"{clock} in {round(days)} days"
    needs = f"about {human_bytes(memory)} of memory · " if memory is not None else ""
    if not images_per_second:
        text = f"{needs}ready near {when}"
        return text[:1].upper() + text[1:]
    seen = 60 * minutes * images_per_second
    digits = max(0, int(math.log10(max(seen, 1))) - 1)
    return f"About {int(round(seen, -digits)):,} images seen · {needs}ready near {when}"
