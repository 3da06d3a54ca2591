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
from diffstudio.plurals import by_number, count_of
from diffstudio.training.data.folder_report import FOLDER_NAMES, HELD_OUT, FolderReport
from diffstudio.training.data.pixel_choice import choose_pixels
from diffstudio.training.data.split import MIN_IMAGES_TO_HOLD_OUT, count_held_out, count_leaks
from diffstudio.training.data.usable_images import is_usable
from diffstudio.training.few_steps import check_conditioning, distillation_recipe, no_teacher, title
from diffstudio.training.network_sizes.one_call_size import with_diff_augment, with_one_call_size
from diffstudio.training.network_sizes.quick_size import with_quick_size
from diffstudio.training.recipe import Recipe, read_recipe
from diffstudio.training.recipe.data_recipe import ClassesName
from diffstudio.training.recipe.network_recipe import NetworkName
from diffstudio.training.recipe.objective_recipe import ObjectiveName
from diffstudio.training.recipe.recipe import read_table
from diffstudio.training.recipe_from_checkpoint import (
    FROM_SCRATCH,
    STARTER,
    channels_of_start,
    kept_name,
    started_from,
    starting_checkpoint,
)

AUTO = "auto"
_MIN_CAPTIONED = 0.5  # fraction of the images, for a network that reads captions
_MIN_IMAGES_PER_CLASS = 2  # the median, for a network of classes
_MEDIUM_FROM_IMAGES = 2000  # with an accelerator
_TINY_BELOW_MINUTES = 20  # without one
_STARTER_BELOW_IMAGES = 5000
_COMPARED_CHANNELS = 1, 3  # of the folders on which the starter was compared with training from scratch
_BATCH_FROM_STARTER = 32  # without an accelerator: more steps in little time
_MOST_HELD_OUT_PERCENT = 30
_FEW_LEAKS = 0.1  # of the held-out images
CROSS_VALIDATED_BELOW_IMAGES = 50  # below, fewer than ten would be held out
FEWEST_TO_SPLIT = 12  # different images
_FOLDS = 4
_CROSS_VALIDATED_FROM_MINUTES = 10  # without an accelerator: each network has a fifth of them


@dataclass(frozen=True, slots=True)
class RecipeChoice:
    """A recipe that fits a folder of images, and the reason in a sentence."""

    recipe: Recipe
    why: str
    fits_captions: bool = (
        True  # the network reads as many tokens as the captions have: not where a user's file says how many
    )

    def write(self, path: Path) -> None:
        """Write a recipe file with the extra key `why`, which `choose_recipe` accepts unchanged. StorageProblem."""
        write_text(path, tomli_w.dumps(self.recipe.to_json() | {"why": self.why}))


def read_choice(path: Path) -> RecipeChoice:
    """Read a recipe file; `why` is empty if a user wrote it. RunProblem when it is damaged."""
    values = read_table(path)
    why = str(values.pop("why", ""))
    network = values.get("network")
    chosen_by_hand = not why and isinstance(network, dict) and "text_tokens" in network
    return RecipeChoice(Recipe.from_json(values), why, fits_captions=not chosen_by_hand)


@cache
def named_recipes() -> dict[str, Recipe]:
    """The recipes that ship with the program: diffusion models, smallest transformer first, then U-Net, VAE and GANs."""
    recipes = {file.stem: read_recipe(file) for file in (paths.resources() / "recipes").glob("*.toml")}
    kinds = list(ObjectiveName)

    def order(item: tuple[str, Recipe]) -> tuple[int, bool, bool, int, str]:
        name, recipe = item
        return (
            kinds.index(recipe.objective.kind),
            recipe.few_steps.enabled,
            recipe.network.kind is NetworkName.UNET,
            recipe.network.width * recipe.network.depth,
            name,
        )

    return dict(sorted(recipes.items(), key=order))


def check_recipe_name(name: str) -> None:
    """RunProblem for a name that `choose_recipe` rejects for any folder."""
    if name.endswith(".toml") and name not in named_recipes():
        read_choice(Path(name))
    elif name not in (AUTO, *named_recipes()):
        raise _unknown(name)


def choose_recipe(
    name: str,
    report: FolderReport,
    *,
    accelerator: bool = False,
    minutes: float | None = None,
    start_from: str | None = None,
    cross_validate: bool = True,
) -> RecipeChoice:
    """The recipe for a folder: `auto`, the name of a recipe that ships with the program, or the path of a .toml.

    `start_from` is what the person chose to start from, `none` for nothing; otherwise `auto` may choose the starter.
    With `cross_validate` a small folder's steps are chosen by cross-validation; a .toml file says so itself.
    Its conditioning is one that the folder has data for: captions, else classes, else none. RunProblem for an unknown
    name and for a file that cannot be read.
    """
    choice = _choose(name, report, accelerator, minutes, start_from, cross_validate)
    if any(is_usable(record, choice.recipe.data) for record in report.images):
        return choice
    return replace(choice, why="With its own settings it can use none of the images.")


def _choose(
    name: str,
    report: FolderReport,
    accelerator: bool,
    minutes: float | None,
    start_from: str | None,
    cross_validate: bool,
) -> RecipeChoice:
    recipes = named_recipes()
    cross_validated = cross_validate and _has_time_to_cross_validate(accelerator, minutes)
    if name == AUTO:
        choice = _automatic_choice(report, accelerator, minutes, start_from)
        return _with_leaks(_with_cross_validation(choice, report) if cross_validated else choice, report)
    if name in recipes and recipes[name].few_steps.enabled:
        return _distillation_choice(recipes[name], report, start_from)
    if name in recipes:
        sides = [max(record.width, record.height) for record in report.images]
        recipe, why = with_one_call_size(_started(recipes[name], start_from), sides, accelerator=accelerator)
        if minutes is not None and not accelerator:
            recipe, smaller = with_quick_size(recipe, minutes)
            why = "; ".join(filter(None, (why, smaller)))
        choice = _with_enough_held_out(_for_folder(recipe, report, why), report)
        return _with_leaks(_with_cross_validation(choice, report) if cross_validated else choice, report)
    if name.endswith(".toml"):
        choice = read_choice(Path(name))
        if choice.recipe.few_steps.enabled and not choice.why:
            return _distillation_choice(choice.recipe, report, start_from)
        recipe = choice.recipe if start_from is None else started_from(choice.recipe, start_from)
        if choice.why:
            return replace(choice, recipe=recipe)
        return _with_leaks(replace(_for_folder(recipe, report), fits_captions=choice.fits_captions), report)
    raise _unknown(name)


def _distillation_choice(recipe: Recipe, report: FolderReport, start_from: str | None) -> RecipeChoice:
    """The few-steps recipe for the checkpoint to distil. It is never chosen automatically."""
    start_from = start_from or recipe.run.start_from
    if start_from in ("", FROM_SCRATCH):
        raise no_teacher(recipe)
    checkpoint = starting_checkpoint(start_from)
    recipe = replace(recipe, optimiser=replace(recipe.optimiser, muon_dtype="auto"))
    recipe = distillation_recipe(recipe, checkpoint, kept_name(start_from, checkpoint))
    choice = _for_folder(
        recipe, report, f"It distils {title(checkpoint)} with that checkpoint's own settings", names_start=True
    )
    check_conditioning(choice.recipe, checkpoint)
    return replace(_with_enough_held_out(choice, report), fits_captions=False)


def _automatic_choice(
    report: FolderReport, accelerator: bool, minutes: float | None, start_from: str | None
) -> RecipeChoice:
    """Small folders start from the starter, which was better on every grey and colour folder in the same time (manual, Figures)."""
    recipes = named_recipes()
    if start_from is None and len(report.images) < _STARTER_BELOW_IMAGES:
        recipe = _started(recipes["small"], STARTER)
        if not accelerator:
            recipe = replace(recipe, run=replace(recipe.run, batch=_BATCH_FROM_STARTER))
        different = _different(report)
        count = count_of(len(report.images), "image")
        why = f"It fine-tunes the starter, which works better than training from scratch with {count}"
        if different < FEWEST_TO_SPLIT:
            only, them = count_of(different, "different image"), "it" if different == 1 else "them"
            why = f"It fine-tunes the starter; with only {only} it can hardly do more than repeat {them}"
        choice = _for_folder(recipe, report, why, names_start=True)
        if choice.recipe.data.channels not in _COMPARED_CHANNELS:
            why = "It fine-tunes the starter, which was compared with training from scratch on grey and colour images only"
            choice = _for_folder(recipe, report, why, names_start=True)
        return _with_enough_held_out(choice, report)
    chosen, why = _automatic(report, accelerator, minutes)
    return _with_enough_held_out(_for_folder(_started(recipes[chosen], start_from), report, why), report)


def _started(recipe: Recipe, start_from: str | None) -> Recipe:
    """A recipe that ships with the program, with what is measured on this machine, and its starting point."""
    recipe = replace(recipe, optimiser=replace(recipe.optimiser, muon_dtype="auto"))
    return started_from(recipe, start_from) if start_from is not None else recipe


def _with_enough_held_out(choice: RecipeChoice, report: FolderReport) -> RecipeChoice:
    """The choice with a fraction that holds out enough images, whichever are dealt out by it."""
    recipe = choice.recipe
    data = recipe.data
    for percent in range(round(100 * data.held_out), _MOST_HELD_OUT_PERCENT + 1):
        data = replace(recipe.data, held_out=percent / 100)
        if count_held_out(report, data) >= enough_held_out(len(report.images)):
            break
    return replace(choice, recipe=replace(recipe, data=data))


def _has_time_to_cross_validate(accelerator: bool, minutes: float | None) -> bool:
    return minutes is None or accelerator or minutes >= _CROSS_VALIDATED_FROM_MINUTES


def _with_cross_validation(choice: RecipeChoice, report: FolderReport) -> RecipeChoice:
    """The choice with cross-validation, if the folder is too small for one held-out part to say when to stop."""
    recipe, count = choice.recipe, len(report.images)
    different = _different(report)
    divided = any(record.split == HELD_OUT for record in report.images)  # by the person
    plain = recipe.objective.kind is ObjectiveName.DIFFUSION and not recipe.upper.factor
    if count >= CROSS_VALIDATED_BELOW_IMAGES or different < FEWEST_TO_SPLIT or divided or not plain:
        return choice
    why = f"{choice.why} Too few images can be held out: cross-validation over {_FOLDS} folds chooses the number of steps."
    return replace(choice, recipe=replace(recipe, data=replace(recipe.data, cross_splits=_FOLDS)), why=why)


def _with_leaks(choice: RecipeChoice, report: FolderReport) -> RecipeChoice:
    """The choice, and what is said where so many images are alike that both parts have some of them."""
    leaks = 0 if report.held_out else count_leaks(report, choice.recipe.data)
    if not leaks:
        return choice
    have = "image has a near-duplicate" if leaks == 1 else "images have near-duplicates"
    if choice.recipe.data.cross_splits:
        why = f"{leaks:,} {have} in another fold: the cross-validated loss will be"
        measured = len(report.images)
    else:
        why = f"{leaks:,} held-out {have} among those that are trained on: the held-out loss will be"
        measured = count_held_out(report, choice.recipe.data)
    why += " a little too low." if leaks <= _FEW_LEAKS * measured else " too low."
    return replace(choice, why=f"{choice.why} {why}".strip())


def _different(report: FolderReport) -> int:
    """The number of images without duplicates and near-duplicates: of a chain of near-duplicates, as many as differ."""
    repeats: set[Path] = {copy for _, copy in report.duplicates}
    for first, later in report.near_duplicates:  # sorted by the later one
        if first not in repeats:
            repeats.add(later)
    return len(report.images) - len(repeats)


def without_cross_validation(choice: RecipeChoice, why: str) -> RecipeChoice:
    """The choice without the cross-validation of its recipe, and the reason."""
    data = replace(choice.recipe.data, cross_splits=0)
    return replace(choice, recipe=replace(choice.recipe, data=data), why=f"{choice.why} {why}".strip())


def enough_held_out(images: int) -> int:
    """How many images must be held out so that their loss means something; 0 where there are too few to hold any out."""
    return 0 if images < MIN_IMAGES_TO_HOLD_OUT else min(50, max(4, images // 5))


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
        return (
            "tiny",
            f"Chosen because a small network learns most in {minutes:g} "
            f"{by_number(minutes, 'minute', 'minutes')} without an accelerator",
        )
    device = "an accelerator" if accelerator else "no accelerator"
    return "small", f"Chosen because there are {count:,} images and {device}"


def _for_folder(recipe: Recipe, report: FolderReport, why: str = "", *, names_start: bool = False) -> RecipeChoice:
    """The recipe with the channels and shapes of the folder's images, and a conditioning that it has data for.

    Captions, else classes, else none. `names_start`: whether `why` says what the run starts from.
    """
    requested = recipe.network.conditioning
    captions, classes = _use_of_captions(report), _use_of_classes(report, requested)
    by_name = set(report.caption_sources) == {FOLDER_NAMES}  # the class again
    if requested is Conditioning.TEXT and captions and not (by_name and classes):
        conditioning, because = Conditioning.TEXT, "captions describe the images"
        if len(report.groups) > 1 and not by_name:
            because += f"; the {len(report.groups):,} classes of the subfolders are not used"
    elif requested is not Conditioning.NONE and classes:
        conditioning, because = Conditioning.CLASS, f"the {len(report.groups):,} subfolders are the classes"
        if report.captioned and not by_name:
            because += f"; the captions of {count_of(report.captioned, 'image')} are not used"
    else:
        conditioning, because = Conditioning.NONE, f"unconditional: {_why_unconditional(requested, report)}"
    named = recipe.data.classes
    if named is not ClassesName.FIRST_FOLDER:
        named = ClassesName.FOLDERS if conditioning is Conditioning.CLASS else ClassesName.NONE
    data, clauses = choose_pixels(recipe.data, report, recipe.network.multiple, squares=recipe.upper.factor > 0)
    if recipe.run.start_from:
        if not names_start:
            start = starting_checkpoint(recipe.run.start_from)
            left_out = ", without its upper level" if start.upper_factor and not recipe.upper.factor else ""
            because = f"it starts from the weights of {title(start)}{left_out}; {because}"
        clauses += channels_of_start(recipe.run.start_from, data)
    recipe = with_diff_augment(recipe, len(report.images))
    sentence = "; ".join(part for part in (why, because, *clauses) if part)
    return RecipeChoice(
        replace(recipe, network=replace(recipe.network, conditioning=conditioning), data=replace(data, classes=named)),
        f"{sentence[:1].upper()}{sentence[1:]}.",
    )


def _use_of_captions(report: FolderReport) -> bool:
    return report.captioned > 0 and report.captioned >= _MIN_CAPTIONED * len(report.images)


def _use_of_classes(report: FolderReport, requested: Conditioning) -> bool:
    """Whether the subfolders can be learnt as classes; a recipe that asks for classes gets them however few images they have."""
    if len(report.groups) < 2:
        return False
    return requested is Conditioning.CLASS or _images_per_class(report) >= _MIN_IMAGES_PER_CLASS


def _images_per_class(report: FolderReport) -> int:
    """The median."""
    return sorted(report.groups.values())[len(report.groups) // 2]


def _why_unconditional(requested: Conditioning, report: FolderReport) -> str:
    have = by_number(report.captioned, "has a caption", "have captions")
    captioned = f"only {report.captioned:,} of {len(report.images):,} images {have}"
    match requested:
        case Conditioning.NONE:
            return "the recipe asks for no conditioning"
        case _ if len(report.groups) > 1:
            usual = _images_per_class(report)
            which = "none of them has" if max(report.groups.values()) == usual else "half of them have no"
            few = (
                f"the {len(report.groups):,} subfolders are not used as classes, because {which} more than "
                f"{count_of(usual, 'image')}"
            )
            return f"{captioned}, and {few}" if report.captioned else few
        case Conditioning.TEXT if report.captioned:
            return f"{captioned}, and there are no classes"
        case Conditioning.CLASS:
            return "there are no subfolders to use as classes"
    return "there are no captions or classes"
