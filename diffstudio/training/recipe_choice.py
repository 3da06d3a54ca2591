"""Which recipe suits a folder, and why: said in a sentence that a person can read. No torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from diffstudio import paths
from diffstudio.errors import RunProblem
from diffstudio.networks.conditioning import Conditioning
from diffstudio.training.data.inspect_folder import FolderReport
from diffstudio.training.recipe import Recipe, read_recipe

AUTO = "auto"
_CAPTIONED_ENOUGH = 0.5  # of the pictures, for a network that reads text


@dataclass(frozen=True, slots=True)
class RecipeChoice:
    recipe: Recipe
    why: str


@cache
def named_recipes() -> dict[str, Recipe]:
    """The recipes that ship with the program, smallest network first."""
    recipes = {file.stem: read_recipe(file) for file in (paths.resources() / "recipes").glob("*.toml")}
    return dict(sorted(recipes.items(), key=lambda item: (item[1].network.width * item[1].network.depth, item[0])))


def check_recipe_name(name: str) -> None:
    """RunProblem for what `choose` would refuse whatever the folder holds."""
    if name.endswith(".toml") and name not in named_recipes():
        read_recipe(Path(name))
    elif name not in (AUTO, *named_recipes()):
        raise _unknown(name)


def _unknown(name: str) -> RunProblem:
    return RunProblem(
        f"There is no recipe called {name[:80]!r}",
        remedy=f"Choose one of {AUTO}, {', '.join(named_recipes())}, or a .toml file",
    )


def choose_recipe(
    name: str, report: FolderReport, *, accelerator: bool = False, minutes: float | None = None
) -> RecipeChoice:
    """The recipe called `name`, at a path, or for `auto` the one that suits; told what the folder can teach it.

    RunProblem for a name that is not known or a file that cannot be read.
    """
    recipes = named_recipes()
    if name == AUTO:
        chosen, why = _suited(report, accelerator, minutes)
        recipe = recipes[chosen]
    elif name in recipes:
        recipe, why = recipes[name], ""
    elif name.endswith(".toml"):
        recipe, why = read_recipe(Path(name)), ""
    else:
        raise _unknown(name)
    return _taught_by(recipe, report, why)


def _suited(report: FolderReport, accelerator: bool, minutes: float | None) -> tuple[str, str]:
    count = len(report.images)
    if accelerator and count >= 2000:
        return "medium", f"Chosen because there are {count:,} pictures and an accelerator"
    if not accelerator and minutes is not None and minutes < 20:
        return "tiny", f"Chosen because a small network learns most in {_minutes(minutes)} without an accelerator"
    device = "an accelerator" if accelerator else "no accelerator"
    return "small", f"Chosen because there are {count:,} pictures and {device}"


def _minutes(minutes: float) -> str:
    return f"{minutes:g} minute{'' if minutes == 1 else 's'}"


def _untold(asked: Conditioning, report: FolderReport) -> str:
    """Why a network is told nothing."""
    match asked:
        case Conditioning.NONE:
            return "as the recipe says"
        case Conditioning.TEXT if report.captioned:
            return f"for only {report.captioned:,} of {len(report.images):,} pictures have captions, and there are no classes"
        case Conditioning.CLASS:
            return "for there are no sub-folders to be classes"
    return "for there are no captions or classes"


def _taught_by(recipe: Recipe, report: FolderReport, why: str) -> RecipeChoice:
    """The recipe with a conditioning that the folder has something for."""
    asked = recipe.network.conditioning
    known = Conditioning.NONE
    because = f"pictures come from noise alone, {_untold(asked, report)}"
    enough = report.captioned >= _CAPTIONED_ENOUGH * len(report.images)
    if asked is Conditioning.TEXT and enough:
        known, because = asked, "captions say what the pictures show"
    elif asked is not Conditioning.NONE and len(report.groups) > 1:
        known, because = Conditioning.CLASS, f"its {len(report.groups)} sub-folders are the classes"
    parts = [part for part in (why, because) if part]
    sentence = "; ".join(parts)
    return RecipeChoice(
        replace(recipe, network=replace(recipe.network, conditioning=known)), sentence[:1].upper() + sentence[1:] + "."
    )
