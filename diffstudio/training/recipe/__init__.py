"""The recipe of a training run: its sections, one module each, and their limits."""

from diffstudio.training.recipe.data_recipe import DataRecipe
from diffstudio.training.recipe.few_steps_recipe import FewStepsRecipe
from diffstudio.training.recipe.network_recipe import NetworkRecipe
from diffstudio.training.recipe.objective_recipe import ObjectiveRecipe
from diffstudio.training.recipe.optimiser_recipe import OptimiserRecipe
from diffstudio.training.recipe.recipe import Recipe, read_recipe
from diffstudio.training.recipe.run_recipe import RunRecipe
from diffstudio.training.recipe.upper_recipe import UpperRecipe

__all__ = [
    "DataRecipe",
    "FewStepsRecipe",
    "NetworkRecipe",
    "ObjectiveRecipe",
    "OptimiserRecipe",
    "Recipe",
    "RunRecipe",
    "UpperRecipe",
    "read_recipe",
]
