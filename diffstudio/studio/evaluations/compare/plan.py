"""The planned runs of a comparison: their recipes, chosen once, and their states. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil, log
from pathlib import Path

from diffstudio.atomic import make_folder
from diffstudio.errors import BadRequest
from diffstudio.evaluation.report import FEWEST
from diffstudio.networks.conditioning import Conditioning
from diffstudio.plurals import count_of
from diffstudio.studio.evaluations.compare.request import DIFFUSION, CompareRequest
from diffstudio.studio.evaluations.job_runs import State, check_plan, state_of
from diffstudio.training.data.dataset import MIN_SIZE
from diffstudio.training.data.folder_report import FolderReport
from diffstudio.training.data.pixel_choice import BUCKET, CROP
from diffstudio.training.data.split import count_held_out
from diffstudio.training.recipe import DataRecipe, Recipe
from diffstudio.training.recipe.data_recipe import ClassesName
from diffstudio.training.recipe.objective_recipe import ObjectiveName
from diffstudio.training.recipe_choice import AUTO, RecipeChoice, check_recipe_name, choose_recipe, read_choice
from diffstudio.training.recipe_from_checkpoint import FROM_SCRATCH
from diffstudio.training.run.run_folder import RunFolder

RUNS = "runs"
_FEWEST_HELD_OUT, _HELD_OUT, _MOST_HELD_OUT = 120, 0.25, 1000  # images, share, images
_MOST_OF_FOLDER = 0.5  # share that may be held out to reach the minimum


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One model with one seed."""

    model: str  # `diffusion`, or the name of a recipe
    seed: int
    run: RunFolder
    recipe_file: Path

    @property
    def name(self) -> str:
        return f"{self.model}, seed {self.seed}"

    def state(self) -> State:
        return state_of(self.run)


def planned_runs(request: CompareRequest, out: Path) -> list[PlannedRun]:
    """The runs, seed by seed, so that a comparison that is stopped early has every model."""
    names = [(recipe, _title(recipe)) for recipe in request.models]
    return [
        PlannedRun(name, seed, RunFolder(out / RUNS / f"{name}-{seed}"), out / "recipes" / f"{name}-{seed}.toml")
        for seed in range(request.seeds)
        for _, name in names
    ]


def total_sentence(request: CompareRequest) -> str:
    """A sentence about the total training time, for the start of the job."""
    runs = len(request.models) * request.seeds
    if not runs:
        return "No model is trained."
    return (
        f"{count_of(len(request.models), 'model')}, {count_of(request.seeds, 'seed')}, {request.minutes:g} min each: "
        f"{_duration(request.training_minutes)} of training in all, then the images of each are generated and measured."
    )


def check_models(models: Sequence[str]) -> None:
    """RunProblem for a model without a recipe, BadRequest for two models with the same name."""
    titles = [_title(name) for name in models]
    for name, title in zip(models, titles, strict=True):
        if name != DIFFUSION:
            check_recipe_name(name)
        if titles.count(title) > 1:
            raise BadRequest(f"Two models are called {title}", remedy="Rename the file of one recipe")


def prepare(
    request: CompareRequest, out: Path, report: FolderReport, data: DataRecipe | None = None, *, accelerator: bool
) -> list[PlannedRun]:
    """Write the recipe of each run into `out` unless it is already there; returns the runs.

    `data` is the data section of the other checkpoints in the table; by default it is chosen for the folder.
    BadRequest if `out` holds another comparison; RunProblem, StorageProblem.
    """
    check_plan(out, report.folder, request.minutes, "comparison")
    runs = planned_runs(request, out)
    if any(not planned.recipe_file.is_file() for planned in runs):
        choices = dict(
            zip(map(_title, request.models), _choices(request, report, data, accelerator, runs), strict=True)
        )
        make_folder(out / "recipes")
        for planned in runs:
            if not planned.recipe_file.is_file():
                choice = choices[planned.model]
                seeded = replace(choice.recipe, run=replace(choice.recipe.run, seed=planned.seed))
                replace(choice, recipe=seeded).write(planned.recipe_file)
    return runs


def _choices(
    request: CompareRequest,
    report: FolderReport,
    data: DataRecipe | None,
    accelerator: bool,
    runs: Sequence[PlannedRun],
) -> Iterator[RecipeChoice]:
    """The recipe of each model; all have the data section of the first one, and therefore the same split."""
    data = next((read_choice(run.recipe_file).recipe.data for run in runs if run.recipe_file.is_file()), data)
    for name in request.models:
        recipe = AUTO if name == DIFFUSION else name
        choice = choose_recipe(
            recipe,
            report,
            accelerator=accelerator,
            minutes=request.minutes,
            start_from=_start_from(name),
            cross_validate=False,
        )
        if choice.recipe.upper.factor:
            raise BadRequest(
                f"{_title(name)} cannot be compared",
                "its recipe has an upper level, and the models of a comparison must generate images of one size",
                "Set upper.factor to 0, or train it separately and evaluate its checkpoint",
            )
        if data is None:
            data = _small_enough(choice.recipe.data, report, name)
            if name == DIFFUSION and data.fit == BUCKET:  # every model has images of one size
                data = replace(data, fit=CROP, buckets=())
            data = data if name.endswith(".toml") else _with_held_out(data, report)
            data = replace(data, cross_splits=0)  # all are measured on the same held-out images
        if data.fit == BUCKET and choice.recipe.objective.kind is not ObjectiveName.DIFFUSION:
            raise BadRequest(
                f"{_title(name)} cannot be compared with {_title(request.models[0])}",
                "it needs images of one size, and the other uses several aspect ratios",
                "Choose fit = 'crop' or 'pad' in the recipe",
            )
        yield replace(choice, recipe=_with_data(choice.recipe, data))


def _start_from(name: str) -> str | None:
    """`none`, so that every model is trained from scratch, unless the user's own recipe says otherwise."""
    return None if name.endswith(".toml") else FROM_SCRATCH


def _small_enough(data: DataRecipe, report: FolderReport, name: str) -> DataRecipe:
    """The data section at the size of the folder's images if that is smaller; a user's own recipe keeps its size."""
    side = max(MIN_SIZE, 4 * ceil(report.sides[1] / 4))
    return data if name.endswith(".toml") or side >= data.size else replace(data, size=side, buckets=())


def _with_data(recipe: Recipe, data: DataRecipe) -> Recipe:
    """The recipe with this data section, and a patch size that divides its image size: about as many patches as before."""
    network = recipe.network
    patches = recipe.data.size / network.patch
    if data.size != recipe.data.size:
        sides = [side for side in range(1, data.size + 1) if data.size % side == 0]
        sides = [side for side in sides if side & (side - 1) == 0] or sides  # a VAE needs a power of two
        patch = min(sides, key=lambda side: (abs(log(data.size / side / patches)), side))
        network = replace(network, patch=patch, margin=patch // 2, stem=min(network.stem, patch))
    if network.conditioning is Conditioning.CLASS and data.classes is ClassesName.NONE:
        data = replace(data, classes=recipe.data.classes)
    return replace(recipe, data=data, network=network)


def _with_held_out(data: DataRecipe, report: FolderReport) -> DataRecipe:
    """The data section with enough held-out images for the table, if possible: a quarter, at most about 1,000."""
    count = len(report.images)
    if count < 2 * FEWEST:
        return data
    wanted = min(_MOST_HELD_OUT, round(_HELD_OUT * count))
    fraction = max(wanted, min(_FEWEST_HELD_OUT, count // 2)) / count
    for percent in range(max(1, round(100 * fraction)), round(100 * _MOST_OF_FOLDER) + 1):
        found = replace(data, held_out=percent / 100)
        if count_held_out(report, found) >= min(_FEWEST_HELD_OUT, count // 2):
            return found
    return replace(data, held_out=_MOST_OF_FOLDER)


def _title(recipe: str) -> str:
    """The name of a model in the table."""
    return Path(recipe).stem if recipe.endswith(".toml") else recipe


def _duration(minutes: float) -> str:
    if minutes < 90:
        return f"{minutes:g} min"
    return f"{int(minutes // 60)} h {round(minutes % 60)} min"
