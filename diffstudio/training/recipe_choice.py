"""Choose the recipe that suits a folder of images, and say why. No torch is imported here.

`inspect_folder(folder)` -> FolderReport -> `choose_recipe(name, report)` -> RecipeChoice. A run in another process is
given the choice as a file (`RecipeChoice.write`), so that it is not made twice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import tomli_w

from diffstudio import paths
from diffstudio.atomic import write_text
from diffstudio.errors import RunProblem
from diffstudio.networks.conditioning import Conditioning
from diffstudio.training.data.folder_report import FolderReport
from diffstudio.training.recipe import Recipe, read_recipe, read_table

AUTO = "auto"
_MIN_CAPTIONED = 0.5  # fraction of the images, for a network that reads captions
_MEDIUM_FROM_IMAGES = 2000  # with an accelerator
_TINY_BELOW_MINUTES = 20  # without one


@dataclass(frozen=True, slots=True)
class RecipeChoice:
    """A recipe that fits a folder of images, and the reason in a sentence."""

    recipe: Recipe
    why: str

    def write(self, path: Path) -> None:
        """Write a recipe file with the extra key `why`, which `choose_recipe` accepts unchanged. StorageProblem."""
        write_text(path, tomli_w.dumps(self.recipe.to_json() | {"why": self.why}))


def read_choice(path: Path) -> RecipeChoice:
    """Read a recipe file; `why` is empty if a user wrote it. RunProblem when it is damaged."""
    values = read_table(path)
    why = values.pop("why", "")
    return RecipeChoice(Recipe.from_json(values), str(why))


@cache
def named_recipes() -> dict[str, Recipe]:
    """The recipes that ship with the program, smallest network first."""
    recipes = {file.stem: read_recipe(file) for file in (paths.resources() / "recipes").glob("*.toml")}
    return dict(sorted(recipes.items(), key=lambda item: (item[1].network.width * item[1].network.depth, item[0])))


def check_recipe_name(name: str) -> None:
    """RunProblem for a name that `choose_recipe` rejects for any folder."""
    if name.endswith(".toml") and name not in named_recipes():
        read_choice(Path(name))
    elif name not in (AUTO, *named_recipes()):
        raise _unknown(name)


def choose_recipe(
    name: str, report: FolderReport, *, accelerator: bool = False, minutes: float | None = None
) -> RecipeChoice:
    """The recipe for a folder: `auto`, the name of a recipe that ships with the program, or the path of a .toml.

    Its conditioning is one that the folder has data for: captions, else classes, else none. RunProblem for an unknown
    name and for a file that cannot be read.
    """
    recipes = named_recipes()
    if name == AUTO:
        chosen, why = _automatic(report, accelerator, minutes)
        return _with_conditioning(recipes[chosen], report, why)
    if name in recipes:
        return _with_conditioning(recipes[name], report)
    if name.endswith(".toml"):
        choice = read_choice(Path(name))
        return choice if choice.why else _with_conditioning(choice.recipe, report)
    raise _unknown(name)


def _unknown(name: str) -> RunProblem:
    return RunProblem(
        f"There is no recipe named {name[:80]!r}",
        remedy=f"Choose one of {AUTO}, {', '.join(named_recipes())}, or a .toml file",
    )


def _automatic(report: FolderReport, accelerator: bool, minutes: float | None) -> tuple[str, str]:
    """The name of a recipe, and the reason for it."""
    count = len(report.images)
    if accelerator and count >= _MEDIUM_FROM_IMAGES:
        return "medium", f"Chosen because there are {count:,} images and an accelerator"
    if not accelerator and minutes is not None and minutes < _TINY_BELOW_MINUTES:
        plural = "" if minutes == 1 else "s"
        return (
            "tiny",
            f"Chosen because a small network learns most in {minutes:g} minute{plural} without an accelerator",
        )
    device = "an accelerator" if accelerator else "no accelerator"
    return "small", f"Chosen because there are {count:,} images and {device}"


def _with_conditioning(recipe: Recipe, report: FolderReport, why: str = "") -> RecipeChoice:
    """The recipe with a conditioning that the folder has data for."""
    requested = recipe.network.conditioning
    conditioning: Conditioning
    enough = report.captioned >= _MIN_CAPTIONED * len(report.images)
    if requested is Conditioning.TEXT and enough:
        conditioning, because = requested, "captions describe the images"
    elif requested is not Conditioning.NONE and len(report.groups) > 1:
        conditioning, because = Conditioning.CLASS, f"the {len(report.groups)} sub-folders are the classes"
    else:
        conditioning = Conditioning.NONE
        because = f"unconditional: {_why_unconditional(requested, report)}"
    sentence = "; ".join(part for part in (why, because) if part)
    return RecipeChoice(
        replace(recipe, network=replace(recipe.network, conditioning=conditioning)),
        f"{sentence[:1].upper()}{sentence[1:]}.",
    )


def _why_unconditional(requested: Conditioning, report: FolderReport) -> str:
    match requested:
        case Conditioning.NONE:
            return "the recipe asks for no conditioning"
        case Conditioning.TEXT if report.captioned:
            return f"only {report.captioned:,} of {len(report.images):,} images have captions, and there are no classes"
        case Conditioning.CLASS:
            return "there are no sub-folders to use as classes"
    return "there are no captions or classes"
