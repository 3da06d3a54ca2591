"""What the form for a new run hands to whoever starts it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from diffstudio.training.distributed.cluster import Cluster
from diffstudio.training.recipe import Recipe
from diffstudio.training.recipe_choice import RecipeChoice


@dataclass(frozen=True, slots=True)
class RunSettings:
    """The settings of a run that is about to start."""

    folder: Path
    recipe_choice: RecipeChoice  # with the changes made in the form
    minutes: float
    name: str  # of the run; empty: the name of the folder
    start_from: str | None = None  # a checkpoint, an included one's name or `none`; None: as the recipe says
    cluster: Cluster = Cluster()  # noqa: RUF009 (immutable)

    @property
    def recipe(self) -> Recipe:
        return self.recipe_choice.recipe
