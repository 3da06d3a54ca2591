"""What a person changed in a recipe, put on another one: that of another start, time or state of the folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from diffstudio.errors import RunProblem
from diffstudio.training.recipe import Recipe
from diffstudio.training.recipe.network_recipe import NetworkName
from diffstudio.training.recipe.objective_recipe import ObjectiveName
from diffstudio.training.recipe.optimiser_recipe import OptimiserName
from diffstudio.ui.train.recipe_labels import SETTINGS
from diffstudio.ui.train.recipe_options import RecipeOptions, TwoLevels, has_two_levels

_OPTION_NAMES = {
    "size": "size",
    "optimiser": "optimiser",
    "noise_levels": "noise levels",
    "augmentations": "augmentation",
}
_CHOSEN = "run.start_from"  # in the form itself
_OF_THE_START = {"objective.prediction", "objective.sigma_data"} | {  # settings that a checkpoint to start from fixes
    f"network.{name}"
    for name in (
        "kind",
        "channels",
        "layers",
        "attention",
        "patch",
        "margin",
        "bottleneck",
        "width",
        "depth",
        "heads",
        "condition_width",
    )
}
_OF_A_TEACHER = (
    "network.",
    "objective.",
    "data.size",
)  # how settings begin that a distilled model has from its teacher


@dataclass(frozen=True, slots=True)
class KeptChanges:
    """The recipe with the changes, whether some have no control in the form, and the names of those it cannot have."""

    recipe: Recipe
    by_hand: bool = False
    lost: tuple[str, ...] = ()

    def text(self) -> str:
        """`Size and depth were set back: …`; empty if everything was kept."""
        if not self.lost:
            return ""
        names = " and ".join(filter(None, (", ".join(self.lost[:-1]), self.lost[-1])))
        were = "was" if len(self.lost) == 1 else "were"
        what = "what the run starts from" if self.recipe.run.start_from else "the recipe"
        return f"{names[:1].upper()}{names[1:]} {were} set back, because {what} does not allow the change."


def kept_changes(before: Recipe, changed: Recipe, new: Recipe) -> KeptChanges:
    """The `new` recipe with all that was changed from `before` to `changed`, as far as it can have it."""
    was, now, usual = (RecipeOptions.from_recipe(recipe) for recipe in (before, changed, new))
    names = [field.name for field in fields(RecipeOptions) if getattr(now, field.name) != getattr(was, field.name)]
    kept = {name: getattr(now, name) for name in names if _fits(name, now, usual, new)}
    lost = [_OPTION_NAMES[name] for name in names if name not in kept]
    with_options = replace(usual, **kept).apply_to(new)
    alone = replace(was, **{name: getattr(now, name) for name in names}).apply_to(before)
    recipe, lost_by_hand = _with_values(with_options, _differences(alone, changed))
    if changed.run.start_from not in (before.run.start_from, new.run.start_from):  # the form has a control for it
        lost_by_hand.append(_label(_CHOSEN))
    return KeptChanges(recipe, recipe != with_options, (*lost, *lost_by_hand))


def _fits(name: str, now: RecipeOptions, usual: RecipeOptions, new: Recipe) -> bool:
    """Whether the recipe can have the changed value of a control."""
    if getattr(now, name) == getattr(usual, name):
        return True
    denoises = new.objective.kind is ObjectiveName.DIFFUSION
    match name:
        case "size":
            side = now.size.size if isinstance(now.size, TwoLevels) else now.size
            whole = not new.run.start_from or side % new.network.multiple == 0
            levels = has_two_levels(new) or not isinstance(now.size, TwoLevels)
            return whole and levels and not new.few_steps.enabled
        case "noise_levels":
            return denoises and not new.few_steps.enabled
        case "optimiser":
            has_blocks = denoises and new.network.kind is NetworkName.TRANSFORMER
            return has_blocks or now.optimiser is not OptimiserName.MUON
        case _:
            return True


def _differences(before: Recipe, after: Recipe) -> dict[str, Any]:
    """The values that were changed, by `section.name`."""
    old, new = _flat(before.to_json()), _flat(after.to_json())
    return {name: value for name, value in new.items() if value != old.get(name) and name != _CHOSEN}


def _flat(values: Mapping[str, Any], section: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= _flat(value, f"{section}{name}.") if isinstance(value, Mapping) else {f"{section}{name}": value}
    return found


def _with_values(recipe: Recipe, values: Mapping[str, Any]) -> tuple[Recipe, list[str]]:
    """The recipe with these values, which may need one another, and the names of those that it cannot have."""
    own = _flat(recipe.to_json())
    waiting = {name: value for name, value in values.items() if name in own and value != own[name]}
    fixed = [name for name in waiting if _is_fixed(name, recipe)]
    for name in fixed:
        del waiting[name]
    try:
        return _with_all(recipe, waiting), [_label(name) for name in fixed]
    except RunProblem:
        left = len(waiting) + 1
    while len(waiting) < left:  # again: some values need another one
        left = len(waiting)
        for name, value in list(waiting.items()):
            try:
                recipe = _with_all(recipe, {name: value})
            except RunProblem:
                continue
            del waiting[name]
    return recipe, [_label(name) for name in (*fixed, *waiting)]


def _is_fixed(name: str, recipe: Recipe) -> bool:
    if recipe.few_steps.enabled:
        return name.startswith(_OF_A_TEACHER)
    return bool(recipe.run.start_from) and name in _OF_THE_START


def _with_all(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    if not values:
        return recipe
    table = recipe.to_json()
    for name, value in values.items():
        *sections, key = name.split(".")
        place = table
        for section in sections:
            place = place[section]
        place[key] = value
    return Recipe.from_json(table)


def _label(name: str) -> str:
    """What the dialog of all settings calls a value, as in a sentence."""
    text = SETTINGS[name].label if name in SETTINGS else name.rpartition(".")[2].replace("_", " ")
    return text if text[:2].isupper() else text[:1].lower() + text[1:]
