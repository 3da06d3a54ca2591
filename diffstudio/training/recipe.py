"""Recipe: all settings of a training run, stored as a TOML file.

A recipe in `resources/recipes/` may leave values out, which then take their defaults. The `recipe.toml` of a run has
every value written out, so that a resumed run stays the same run when the defaults change.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import tomli_w

from diffstudio.atomic import write_text
from diffstudio.errors import RunProblem, newer_format
from diffstudio.imaging.levels import PixelForm
from diffstudio.imaging.value_range import Range, SampleType
from diffstudio.models.detection.families_table import PIXEL
from diffstudio.models.output_format import OutputFormat, ValueType
from diffstudio.training.recipe_limits import RANGES, check_limits
from diffstudio.training.recipe_network import NetworkName as NetworkName
from diffstudio.training.recipe_network import NetworkRecipe as NetworkRecipe
from diffstudio.training.recipe_network import check_network
from diffstudio.training.recipe_objective import GanLossName as GanLossName
from diffstudio.training.recipe_objective import NoiseLevelsName as NoiseLevelsName
from diffstudio.training.recipe_objective import ObjectiveName as ObjectiveName
from diffstudio.training.recipe_objective import ObjectiveRecipe as ObjectiveRecipe
from diffstudio.training.recipe_objective import check_noise_curve, with_kind
from diffstudio.training.recipe_values import KEYS, build, shortened

FORMAT = 1


class OptimiserName(StrEnum):
    MUON = "muon"  # Muon for the matrices of the blocks, AdamW for all other parameters
    ADAMW = "adamw"
    ADAM = "adam"
    RMSPROP = "rmsprop"
    SGD = "sgd"


class ClassesName(StrEnum):
    """What the classes of a folder are."""

    FOLDERS = "folders"  # see training.data.folder_classes
    FIRST_FOLDER = "first folder"  # the first subfolder alone, as before version 0.3
    NONE = "none"


class DecayName(StrEnum):
    CONSTANT = "constant"
    LINEAR = "linear"
    COSINE = "cosine"


@dataclass(frozen=True, slots=True)
class RangesRecipe:
    """Which values of images of more than 8 bits a channel become black and white; empty: by the folder's images."""

    uint16: tuple[float, ...] = ()  # two numbers, of files with 16 bits and no sign
    integer: tuple[float, ...] = ()  # of other whole numbers
    floating: tuple[float, ...] = ()

    @classmethod
    def of(cls, ranges: Mapping[SampleType, Range]) -> RangesRecipe:
        return cls(**{sample_type.value: limits for sample_type, limits in ranges.items()})

    def as_mapping(self) -> dict[SampleType, Range]:
        found = {SampleType.UINT16: self.uint16, SampleType.INTEGER: self.integer, SampleType.FLOAT: self.floating}
        return {sample_type: (limits[0], limits[1]) for sample_type, limits in found.items() if limits}


class MasksName(StrEnum):
    """How mask files are used. LEAVE_OUT is the default, as in kohya-ss and OneTrainer."""

    USE = "use"  # they weight the loss of their image, pixel by pixel
    LEAVE_OUT = "leave out"


@dataclass(frozen=True, slots=True)
class DataRecipe:
    size: int = 64  # px, width and height; with `bucket` the side of a square of the same area
    background: str = "#ffffff"  # behind transparent pixels and padding
    fit: str = "auto"  # `crop`: the centre square; `bucket`: aspect buckets; `pad`: the whole image on the background
    buckets: tuple[int, ...] = ()  # of `bucket`: width, height, width, height … in px; empty: by the folder's shapes
    channels: int = 0  # 1: grey, 3: colour, others: those of arrays; 0: by the folder
    alpha: bool = False  # opacity as the last channel, rather than images on the background
    bits: int = 0  # of each value, 8 or 16; 0: by the folder
    held_out: float = 0.02  # fraction of the images that is kept for the held-out loss
    exclude: tuple[str, ...] = ()  # subfolders left out
    cross_splits: int = 0  # splits of the cross-validation that chooses the steps of the run; 0: `held_out` is used
    classes: ClassesName = ClassesName.FOLDERS
    flips: float = 0.3  # probability of a horizontal flip
    rotation_degrees: float = 0.0  # at most, in either direction
    translation: float = 0.0  # at most, in either direction, as a fraction of the side
    ranges: RangesRecipe = field(default_factory=RangesRecipe)
    augment_labels: bool = True  # condition the network on the augmentation (EDM, app. F.2)
    channel_ranges: tuple[float, ...] = ()  # of arrays: lowest and highest value of each channel, in turn
    masks: MasksName = MasksName.LEAVE_OUT
    unmasked_weight: float = 0.1  # weight of the loss where a mask is black; it is 1 where the mask is white

    @property
    def form(self) -> PixelForm:
        """What each file becomes. What is not chosen yet counts as in version 0.2: three channels of 8 bits."""
        limits = iter(self.channel_ranges)
        return PixelForm(
            channels=self.channels or 3 + self.alpha,
            bits=self.bits or 8,
            alpha=self.alpha,
            ranges=self.ranges.as_mapping(),
            channel_ranges=tuple(zip(limits, limits, strict=True)),
        )

    @property
    def output(self) -> OutputFormat:
        """What a network that is trained with it generates, in the values of the folder's files."""
        form = self.form
        if form.bits == 8:
            return OutputFormat(form.channels, form.alpha)
        if not form.is_image:
            return OutputFormat(form.channels, False, ValueType.FLOAT32, form.channel_ranges)
        whole = form.ranges.get(SampleType.UINT16)
        values = ValueType.UINT16 if whole or not form.ranges else ValueType.FLOAT32
        found = whole or next(iter(form.ranges.values()), (0.0, float(values.largest)))
        limits = (found,) * form.colours + ((0.0, 1.0),) * form.alpha
        return OutputFormat(form.channels, form.alpha, values, limits)

    @property
    def bucket_sizes(self) -> tuple[tuple[int, int], ...]:
        """Width and height of each aspect bucket, px; empty unless they are chosen."""
        sides = iter(self.buckets)
        return tuple(zip(sides, sides, strict=True)) if self.fit == "bucket" else ()


@dataclass(frozen=True, slots=True)
class UpperRecipe:
    """The upper level: a second network that enlarges the images of the first (cascade: arXiv 2106.15282)."""

    factor: int = 0  # how many times as large as `data.size` its images are, 2 or 4; 0: there is no upper level
    patch: int = 8  # px; these six are as in `network`
    margin: int = 4
    bottleneck: int = 128
    width: int = 192
    depth: int = 4
    heads: int = 4
    condition_width: int = 256
    noise: float = 0.25  # the largest noise level of the smaller image that it reads in training
    mean: float = 0.0  # of logit(t), the noise levels of the larger image
    deviation: float = 1.0
    sample_noise: float = 0.05  # the noise level of the smaller image when a sample is made
    sample_steps: int = 5


@dataclass(frozen=True, slots=True)
class FewStepsRecipe:
    """Distillation of a trained checkpoint, the teacher, to few steps: see training.few_steps."""

    enabled: bool = False
    segments: int = 1  # of the noise levels; 1: a consistency model
    teacher_calls: int = 8  # network calls of the teacher on each path
    points: int = 3  # states on each path that the network is trained on
    # The teacher's own:
    guidance: float = 1.0  # CFG scale that is distilled into the model
    guidance_interval: tuple[float, float] = (0.05, 0.95)
    teacher: str = ""  # its name
    teacher_sha256: str = ""


@dataclass(frozen=True, slots=True)
class OptimiserRecipe:
    name: OptimiserName = OptimiserName.MUON
    learning_rate: float = 6e-4  # of every optimiser but Muon
    muon_learning_rate: float = 0.02
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.99)
    momentum: float = 0.95  # of Muon, RMSprop and SGD
    muon_dtype: str = "bfloat16"  # in which Muon computes; `auto`: `float32` on a processor where that is faster
    warm_up_steps: int = 200
    decay: DecayName = DecayName.LINEAR
    decay_share: float = 0.3  # last fraction of the run, in which the learning rate falls to 0
    clip_norm: float = 2.0
    ema: float = 0.9995  # decay

    def suited_to(self, network: NetworkRecipe) -> OptimiserRecipe:
        """AdamW instead of Muon for a U-Net, which has no transformer blocks."""
        unsuited = network.kind is NetworkName.UNET and self.name is OptimiserName.MUON
        return dataclasses.replace(self, name=OptimiserName.ADAMW) if unsuited else self


@dataclass(frozen=True, slots=True)
class RunRecipe:
    steps: int = 6000
    minutes: float = 0.0  # if not 0, the run lasts this long, and `steps` is not used
    schedule: str = "steps"  # what ends a run: `steps` or `time`; in earlier runs minutes became steps
    first_step: int = 0  # where the run was last continued: its schedule starts there
    first_seconds: float = 0.0  # of training before that
    end_step: int = 0  # chosen by cross-validation: the run ends there, before its schedule; 0: with its schedule
    patience: int = -1  # end after so many held-out losses without a new minimum; 0: never; -1: if a time is given
    batch: int = 64
    seed: int = 0
    dtype: str = "auto"  # `float32`, `bfloat16` or `auto`: the faster one, measured when the run starts
    device: str = "auto"
    threads: int = 0  # 0: one per core
    compile: bool = False  # torch.compile on a CUDA device: faster steps, after a minute of compiling
    sample_every: int = 500  # steps
    sample_count: int = 16
    checkpoint_every: int = 500
    keep_checkpoints: int = 8  # besides the best and the newest one, evenly spaced over the run
    ema_snapshots: int = 0  # how often the averages of `training.power_ema` are stored, evenly spaced over the run
    start_from: str = ""  # the checkpoint whose weights the run starts from: its path, or `starter`; empty for none
    held_out_every: int = 250
    prompts: tuple[str, ...] = ()  # of the sample sheets; by default captions of the folder
    sample_steps: int = PIXEL.steps  # these four are also the recommended settings of the run's checkpoints
    sample_sampler: str = PIXEL.sampler
    sample_spacing: str = PIXEL.spacing
    sample_guidance: float = PIXEL.guidance


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
        if isinstance(data, Mapping) and "classes" not in data:
            values = {**values, "data": {**data, "classes": ClassesName.FIRST_FOLDER.value}}
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


def _check_cross_splits(recipe: Recipe) -> None:
    """RunProblem for cross-validation of a model whose held-out loss says too little about it, and for a single split."""
    splits = recipe.data.cross_splits
    if splits == 1:
        raise RunProblem("recipe.data.cross_splits is 1", "it must be 0 or at least 2")
    kind = recipe.objective.kind
    if splits and (kind is not ObjectiveName.DIFFUSION or recipe.upper.factor or recipe.few_steps.enabled):
        raise RunProblem(
            f"recipe.data.cross_splits is {splits}",
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
    _check_cross_splits(recipe)
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
