"""The recipe of a run that starts from the weights of a checkpoint. No torch is imported here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from diffstudio import paths
from diffstudio.diffusion.objectives.parameterisation import Parameterisation, Prediction
from diffstudio.errors import CheckpointMissing, RunProblem, damaged_header
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.families_table import PIXEL, is_trained_here
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.output_format import PLAIN
from diffstudio.training.channel_adapter import channel_clauses
from diffstudio.training.recipe import DataRecipe, Recipe
from diffstudio.training.recipe.network_recipe import NetworkName, network_like
from diffstudio.training.recipe.objective_recipe import ObjectiveName

FROM_SCRATCH = "none"  # for --from
STARTER = "starter"
RATE_FROM_CHECKPOINT = 0.5  # factor of the learning rates for training from scratch


def started_from(recipe: Recipe, name: str) -> Recipe:
    """The recipe for starting from a checkpoint's weights: its network's sizes, and half of the learning rates.

    `none`: from scratch. CheckpointMissing, CheckpointDamaged, RunProblem for a model that was not trained here.
    """
    if name == FROM_SCRATCH:
        return replace(recipe, run=replace(recipe.run, start_from=""))
    if recipe.objective.kind is not ObjectiveName.DIFFUSION:
        raise RunProblem(
            f"A {recipe.objective.kind.value.upper()} cannot start from {name}",
            "it is trained from scratch",
            "Start from scratch: `none`",
        )
    checkpoint = starting_checkpoint(name)
    shape = checkpoint.json("network")
    try:
        network = network_like(recipe.network, shape)
        size = recipe.data.size if recipe.data.size % network.multiple == 0 else int(shape["size"])
        known = checkpoint.parameterisation
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise cannot_start_from(checkpoint.name, damaged_header(error)) from error
    check_prediction(checkpoint.name, known, recipe)
    if recipe.upper.factor and network.kind is NetworkName.UNET:
        raise cannot_start_from(
            checkpoint.name,
            "its network is a U-Net, and the recipe has an upper level, which needs a transformer",
            "Start from a transformer or `none`, or choose a size in one level (upper.factor = 0)",
        )
    rates = recipe.optimiser.suited_to(network)
    return replace(
        recipe,
        data=replace(recipe.data, size=size),
        network=network,
        optimiser=replace(
            rates,
            learning_rate=RATE_FROM_CHECKPOINT * rates.learning_rate,
            muon_learning_rate=RATE_FROM_CHECKPOINT * rates.muon_learning_rate,
        ),
        run=replace(recipe.run, start_from=kept_name(name, checkpoint)),
    )


def starting_checkpoint(name: str) -> Checkpoint:
    """The checkpoint at that path, of the run in that folder, or included under that name, from its header.

    CheckpointMissing, CheckpointDamaged, RunProblem.
    """
    path = _included().get(name) or Path(name).absolute()
    if path.is_dir():
        path = paths.latest_checkpoint(path)
    if not path.is_file():
        raise CheckpointMissing(
            f"There is no checkpoint {name[:200]}",
            remedy=f"Give the file of a checkpoint that was trained here, the folder of its run, {included_names()} or `none`",
        )
    checkpoint = read_checkpoint(path)
    if checkpoint.family != PIXEL.name:
        here = is_trained_here(checkpoint.family)
        why = f"it is a {checkpoint.family.upper()}, not a diffusion model" if here else "it was not trained here"
        raise cannot_start_from(path.name, why)
    return checkpoint


def kept_name(name: str, checkpoint: Checkpoint) -> str:
    """What a recipe keeps of the checkpoint that was asked for: the name of an included one, or else its path."""
    return name if name in _included() else str(checkpoint.path)


def included_names() -> str:
    """`starter`, `four-styles`: what a run can start from by its name."""
    return ", ".join(f"`{name}`" for name in _included())


def _included() -> dict[str, Path]:
    return {STARTER: paths.starter()} | {path.stem: path for path in paths.included_checkpoints()}


def channels_of_start(name: str, data: DataRecipe) -> list[str]:
    """Clauses about the first and last layers of a checkpoint that was trained on other channels."""
    checkpoint = starting_checkpoint(name)
    try:
        known = checkpoint.output_format(int(checkpoint.json("network").get("channels", PLAIN.channels)))
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise cannot_start_from(checkpoint.name, damaged_header(error)) from error
    return channel_clauses(known, data.form, checkpoint.name)


def cannot_start_from(
    name: str, why: str, remedy: str = "Choose a checkpoint that diffstudio trained, or `none`"
) -> RunProblem:
    return RunProblem(f"The run cannot start from {name}", why, remedy)


def check_prediction(name: str, known: Parameterisation, recipe: Recipe) -> None:
    """RunProblem for a checkpoint `name` whose network predicts something other than the recipe's."""
    wanted = recipe.objective.parameterisation
    if Prediction.EDM is wanted.prediction is known.prediction and wanted.sigma_data != known.sigma_data:
        raise cannot_start_from(
            name,
            f"its network is for a sigma_data of {known.sigma_data:g}, and the recipe's is {wanted.sigma_data:g}",
            f"Set objective.sigma_data to {known.sigma_data:g}, or start from `none`",
        )
    if wanted.prediction is not known.prediction:
        raise cannot_start_from(
            name,
            f"its network predicts {known.prediction}, and the recipe trains one that predicts {wanted.prediction}",
            f"Set objective.prediction to {known.prediction}, or start from `none`",
        )
