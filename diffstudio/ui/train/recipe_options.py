"""What of a recipe a person chooses in the window: the controls' values as a recipe, and a recipe as the controls' values.

A recipe says far more than these controls show; what they do not show stays as the recipe has it.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

from diffstudio.training.recipe import NoiseLevelsName, OptimiserName, Recipe

SIZES = (32, 48, 64, 96, 128, 192, 256)
MINUTES = (1, 2, 3, 5, 7, 10, 15, 20, 30, 45, 60, 90, 120, 180, 240, 360, 480, 720, 1080, 1440, 2880)
DEFAULT_MINUTES = 120.0

FLIPS, TURNS, SHIFTS = "flips", "turns", "shifts"
CHANGES = (FLIPS, TURNS, SHIFTS)
_USUAL = {FLIPS: 0.3, TURNS: 8.0, SHIFTS: 0.06}  # probability, degrees, fraction of the side: where the recipe has none

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
)

# Where another optimiser or distribution than the recipe's own is chosen, the recipe's numbers mean nothing to it.
_LEARNING_RATES = {
    OptimiserName.MUON: 6e-4,
    OptimiserName.ADAMW: 6e-4,
    OptimiserName.ADAM: 6e-4,
    OptimiserName.RMSPROP: 2e-4,
    OptimiserName.SGD: 2e-2,
}
_MEAN_AND_DEVIATION = {
    NoiseLevelsName.LOGIT_NORMAL: (0.6, 0.9),
    NoiseLevelsName.LOG_NORMAL: (-1.2, 1.2),
}  # Karras et al. 2022, table 1


@dataclass(frozen=True, slots=True)
class Options:
    size: int  # px a side
    optimiser: OptimiserName
    noise_levels: NoiseLevelsName
    changes: tuple[str, ...]  # of FLIPS, TURNS, SHIFTS

    @classmethod
    def of(cls, recipe: Recipe) -> Options:
        amounts = zip(CHANGES, (recipe.data.flips, recipe.data.rotation_degrees, recipe.data.translation), strict=True)
        return cls(
            recipe.data.size,
            recipe.optimiser.name,
            recipe.objective.noise_levels,
            tuple(name for name, amount in amounts if amount > 0),
        )

    def applied_to(self, recipe: Recipe) -> Recipe:
        """The recipe with these values; the very same recipe when it has them already."""
        before = Options.of(recipe)
        if self == before:
            return recipe
        data, optimiser, objective = recipe.data, recipe.optimiser, recipe.objective
        data = replace(
            data,
            size=self.size,
            flips=self._amount(FLIPS, data.flips),
            rotation_degrees=self._amount(TURNS, data.rotation_degrees),
            translation=self._amount(SHIFTS, data.translation),
        )
        if self.optimiser != before.optimiser:
            optimiser = replace(optimiser, name=self.optimiser, learning_rate=_LEARNING_RATES[self.optimiser])
        if self.noise_levels != before.noise_levels:
            mean, deviation = _MEAN_AND_DEVIATION.get(self.noise_levels, (objective.mean, objective.deviation))
            objective = replace(objective, noise_levels=self.noise_levels, mean=mean, deviation=deviation)
        return replace(recipe, data=data, optimiser=optimiser, objective=objective)

    def _amount(self, change: str, own: float) -> float:
        return 0.0 if change not in self.changes else own or _USUAL[change]


def optimiser_text(name: OptimiserName) -> str:
    return dict(OPTIMISERS)[name]


def noise_levels_text(name: NoiseLevelsName) -> str:
    return dict(NOISE_LEVELS)[name]


def changes_text(recipe: Recipe) -> str:
    """What is done to the pictures, in words: `flips, turns to 8°, shifts to 6 %`."""
    said = []
    if recipe.data.flips > 0:
        said.append("flips")
    if recipe.data.rotation_degrees > 0:
        said.append(f"rotation up to {recipe.data.rotation_degrees:g}°")
    if recipe.data.translation > 0:
        said.append(f"shifts up to {100 * recipe.data.translation:g} %")
    return ", ".join(said) or "none"


def estimate(minutes: float, images_per_second: float | None, now: float | None = None) -> str:
    """`About 310,000 pictures seen · ready near 14:20`, as far as it can be known."""
    now = time.time() if now is None else now
    ready = time.localtime(now + 60 * minutes)
    days = (
        time.mktime((*ready[:3], 0, 0, 0, 0, 0, -1)) - time.mktime((*time.localtime(now)[:3], 0, 0, 0, 0, 0, -1))
    ) / 86400
    clock = time.strftime("%H:%M", ready)
    when = clock if round(days) == 0 else f"{clock} tomorrow" if round(days) == 1 else f"{clock} in {round(days)} days"
    if not images_per_second:
        return f"Ready near {when}"
    seen = 60 * minutes * images_per_second
    digits = max(0, int(math.log10(max(seen, 1))) - 1)
    return f"About {int(round(seen, -digits)):,} images seen · ready near {when}"
