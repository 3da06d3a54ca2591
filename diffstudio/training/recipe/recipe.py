"""Recipe: all settings of a training run, stored as a TOML file.

A recipe in `resources/recipes/` may leave values out, which then take their defaults. The `recipe.toml` of a run has
every value written out, so that a resumed run stays the same run when the defaults change.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w

from diffstudio.atomic import write_text
from diffstudio.diffusion.objectives.parameterisation import Prediction
from diffstudio.errors import RunProblem, newer_format
from diffstudio.imaging.value_range import Range, SampleType
from diffstudio.training.recipe.data_recipe import ClassesName, DataRecipe, MasksName
from diffstudio.training.recipe.few_steps_recipe import FewStepsRecipe
from diffstudio.training.recipe.limits import RANGES, check_limits
from diffstudio.training.recipe.network_recipe import NetworkName, NetworkRecipe, check_network
from diffstudio.training.recipe.objective_recipe import ObjectiveName, ObjectiveRecipe, check_noise_curve, with_kind
from diffstudio.training.recipe.optimiser_recipe import OptimiserName, OptimiserRecipe
from diffstudio.training.recipe.run_recipe import RunRecipe
from diffstudio.training.recipe.upper_recipe import UpperRecipe
from diffstudio.training.recipe.values import KEYS, build, shortened

FORMAT = 1
MIN_TIMESTEP = 0.2


@dataclass(frozen=True, slots=True)
class Recipe:
    name: str = "from scratch"
    description: str = ""
    data: DataRecipe = field(default_factory=DataRecipe)
    network: NetworkRecipe = field(default_factory=NetworkRecipe)
    upper: UpperRecipe = field(default_factory=UpperRecipe)
    objective: ObjectiveRecipe = field(default_factory=ObjectiveRecipe)
    few_steps: FewStepsRecipe = field(default_factory=FewStepsRecipe)
    optimiser: OptimiserRecipe = field(default_factory=OptimiserRecipe)
    run: RunRecipe = field(default_factory=RunRecipe)

    @property
    def prepared(self) -> DataRecipe:
        """The data section with the size at which images are prepared: that of the upper level, if there is one."""
        return dataclasses.replace(self.data, size=self.data.size * max(1, self.upper.factor))

    @property
    def min_timestep(self) -> float:
        """The smallest t with which samplers call the network of a diffusion model: see `diffusion.denoiser.MinTimestep`.

        If it is chosen by images at the end of the run, this is what the run has until then. Networks that do not predict
        the clean image keep more of the noise that their errors add.
        """
        if not self.chooses_min_timestep:
            return max(0.0, self.run.sample_min_timestep)
        return 0.0 if self.objective.prediction is Prediction.X0 else MIN_TIMESTEP

    @property
    def chooses_min_timestep(self) -> bool:
        """Whether images at the end of the run choose between none and MIN_TIMESTEP."""
        generates_in_many_steps = self.objective.kind is ObjectiveName.DIFFUSION and not self.few_steps.enabled
        return self.run.sample_min_timestep < 0 and generates_in_many_steps

    def to_json(self) -> dict[str, Any]:
        """A JSON or TOML object with every value."""
        values = dataclasses.asdict(self)
        values["data"] = {KEYS.get(name, name): value for name, value in values["data"].items()}
        return {"format": FORMAT} | values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Recipe:
        """Missing values take their defaults. RunProblem for an unknown key and for an invalid value."""
        if not isinstance(values, Mapping):
            raise RunProblem("The recipe is not a table")
        values = dict(values)
        written = values.pop("format", FORMAT)
        if type(written) is not int or written > FORMAT:
            raise newer_format("The recipe", written, FORMAT)
        recipe = build(cls, with_kind(values), "recipe")
        _check(recipe)
        return recipe

    @classmethod
    def from_run(cls, values: dict[str, Any]) -> Recipe:
        """The recipe of a run or a checkpoint, which has every value: those it lacks are what its version did."""
        data = values.get("data") if isinstance(values, Mapping) else None
        if isinstance(data, Mapping):
            earlier = {"classes": ClassesName.FIRST_FOLDER.value, "sequences_together": False}
            values = {**values, "data": {**earlier, **data}}
        run = values.get("run") if isinstance(values, Mapping) else None
        if isinstance(run, Mapping):
            values = {**values, "run": {"sample_min_timestep": 0.0, **run}}
        return cls.from_json(values)

    def write(self, path: Path) -> None:
        """Write every value, defaults included. StorageProblem when that fails."""
        write_text(path, tomli_w.dumps(self.to_json()))


def read_recipe(path: Path) -> Recipe:
    """The recipe in a TOML file. RunProblem when the file cannot be read or holds an unknown or invalid value."""
    return Recipe.from_json(read_table(path))


def ranges_of_recipe(values: object) -> dict[SampleType, Range]:
    """The ranges of values in the recipe of a checkpoint's header; empty without any. RunProblem for invalid ones."""
    data = values.get("data") if isinstance(values, Mapping) else None
    ranges = data.get("ranges") if isinstance(data, Mapping) else None
    return Recipe.from_json({"data": {"ranges": ranges}}).data.ranges.as_mapping() if ranges else {}


def read_table(path: Path) -> dict[str, Any]:
    """The values of a TOML file. RunProblem when it cannot be read."""
    what = f"The recipe {path} cannot be read"
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunProblem(what, error.strerror or str(error), "Check the path") from error
    except (ValueError, RecursionError) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        raise RunProblem(what, str(error), "Correct the file") from error


def _check_kind(recipe: Recipe) -> None:
    """RunProblem for settings that a VAE or GAN does not support."""
    kind = recipe.objective.kind
    if kind is ObjectiveName.DIFFUSION:
        return
    name, patch = kind.value.upper(), recipe.network.patch
    if patch & (patch - 1):
        raise RunProblem(f"recipe.network.patch is {patch}", f"it must be a power of two for a {name}")
    if recipe.data.fit == "bucket":
        raise RunProblem("recipe.data.fit is 'bucket'", f"a {name} has images of one size", "Choose crop or pad")
    if kind is ObjectiveName.GAN and recipe.data.masks is MasksName.USE:
        raise RunProblem("recipe.data.masks is 'use'", "a GAN has no loss per pixel", "Choose 'leave out'")
    if recipe.optimiser.name is OptimiserName.MUON:
        raise RunProblem(
            "recipe.optimiser.name is 'muon'", f"a {name} has no transformer blocks", "Choose adam or adamw"
        )
    if recipe.run.dtype == "bfloat16":
        raise RunProblem("recipe.run.dtype is 'bfloat16'", f"a {name} is trained in float32", "Choose float32 or auto")
    if recipe.run.start_from:
        raise RunProblem(
            "recipe.run.start_from names a checkpoint", f"a {name} is trained from scratch", "Omit it, or name `none`"
        )


def _check_upper(recipe: Recipe) -> None:
    """RunProblem for settings that cannot be combined with an upper level."""
    upper, kind, where = recipe.upper, recipe.objective.kind, f"recipe.upper.factor is {recipe.upper.factor}"
    if not upper.factor:
        return
    if kind is not ObjectiveName.DIFFUSION:
        raise RunProblem(where, f"a {kind.value.upper()} has no upper level", "Set it to 0")
    if recipe.network.kind is NetworkName.UNET:
        raise RunProblem(where, "a U-Net has no upper level", "Set it to 0, or choose a transformer")
    if recipe.data.fit == "bucket":
        raise RunProblem(where, "aspect buckets are not possible with an upper level", "Set data.fit to crop or pad")
    if (largest := int(RANGES["data.size"][1])) < recipe.prepared.size:
        raise RunProblem(
            f"{where} and recipe.data.size is {recipe.data.size}",
            f"the larger images would have {recipe.prepared.size} px, and the limit is {largest} px",
        )
    if upper.sample_noise > upper.noise:
        raise RunProblem(
            f"recipe.upper.sample_noise is {upper.sample_noise:g}",
            f"it must not exceed recipe.upper.noise, which is {upper.noise:g}",
        )


def _check_cross_validation(recipe: Recipe) -> None:
    """RunProblem for cross-validation of a model whose held-out loss says too little about it, and for a single fold."""
    folds = recipe.data.cross_splits
    if folds == 1:
        raise RunProblem("recipe.data.cross_splits is 1", "it must be 0 or at least 2")
    kind = recipe.objective.kind
    if folds and (kind is not ObjectiveName.DIFFUSION or recipe.upper.factor or recipe.few_steps.enabled):
        raise RunProblem(
            f"recipe.data.cross_splits is {folds}",
            "only diffusion models without an upper level, trained on images, can be cross-validated",
            "Set it to 0",
        )


def _check_few_steps(recipe: Recipe) -> None:
    """RunProblem for a model that cannot be distilled to few steps, and for an invalid interval."""
    kind, interval = recipe.objective.kind, recipe.few_steps.guidance_interval
    if recipe.few_steps.enabled and (kind is not ObjectiveName.DIFFUSION or recipe.upper.factor):
        why, remedy = (
            "the recipe has an upper level, which cannot be distilled",
            "Set it to false, or upper.factor to 0",
        )
        if kind is not ObjectiveName.DIFFUSION:
            why, remedy = f"a {kind.value.upper()} generates an image in one call already", "Set it to false"
        raise RunProblem("recipe.few_steps.enabled is true", why, remedy)
    if not 0 <= interval[0] <= interval[1] <= 1:
        where = f"recipe.few_steps.guidance_interval is {shortened(interval)}"
        raise RunProblem(where, "it must be two numbers from 0 to 1, the lower one first")


def _check_channels(data: DataRecipe) -> None:
    if data.alpha and data.channels not in (0, 2, 4):
        raise RunProblem(
            f"recipe.data.channels is {data.channels} with alpha = true",
            "opacity is a second channel of grey images and a fourth of colour images",
        )
    limits = data.channel_ranges
    if limits and (
        len(limits) != 2 * data.channels
        or any(low >= high for low, high in zip(limits[::2], limits[1::2], strict=True))
    ):
        raise RunProblem(
            f"recipe.data.channel_ranges is {shortened(limits)}", "it must be two rising numbers for each channel"
        )
    if len(data.buckets) % 2 or any(not 8 <= side <= 4096 for side in data.buckets):
        raise RunProblem(
            f"recipe.data.buckets is {shortened(data.buckets)}", "it must be widths and heights in turn, in px"
        )


def _check(recipe: Recipe) -> None:
    check_limits(recipe)
    _check_kind(recipe)
    _check_upper(recipe)
    _check_few_steps(recipe)
    _check_cross_validation(recipe)
    check_network(recipe.network, recipe.objective.kind, muon=recipe.optimiser.name is OptimiserName.MUON)
    _check_channels(recipe.data)
    check_noise_curve(recipe.objective)
    for name, limits in dataclasses.asdict(recipe.data.ranges).items():
        if limits and (len(limits) != 2 or limits[0] >= limits[1]):
            raise RunProblem(f"recipe.data.ranges.{name} is {limits}", "it must be two rising numbers")
    if not all(0 <= beta < 1 for beta in recipe.optimiser.betas):
        raise RunProblem(f"recipe.optimiser.betas is {recipe.optimiser.betas}", "both must be at least 0 and below 1")
    if recipe.network.name_share + recipe.network.tags_share > 1:
        raise RunProblem(
            "The recipe's name_share and tags_share add up to more than 1", "they are fractions of the captions"
        )
