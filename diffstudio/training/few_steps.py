"""Recipes that distil a trained checkpoint to few steps: all but the training settings are those of the checkpoint."""

from __future__ import annotations

from dataclasses import replace

from diffstudio.errors import RunProblem, damaged_header
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.files.hashes import sha256_of
from diffstudio.models.fitted_steps.distilled import distilled
from diffstudio.models.recommended import min_timestep_of, recommended_for
from diffstudio.networks.conditioning import Conditioning
from diffstudio.training.recipe import FewStepsRecipe, Recipe
from diffstudio.training.recipe.network_recipe import network_like


def no_teacher(recipe: Recipe) -> RunProblem:
    return RunProblem(
        f"The recipe {recipe.name!r} needs a checkpoint",
        "it distils a model that is already trained",
        "Choose a checkpoint to start from",
    )


def cannot_tune(name: str, why: str, remedy: str = "") -> RunProblem:
    return RunProblem(f"{name} cannot be distilled to few steps", why, remedy or "Choose another checkpoint")


def distillation_recipe(recipe: Recipe, checkpoint: Checkpoint, start_from: str) -> Recipe:
    """The recipe that distils a checkpoint as `recipe` says, with the checkpoint's own data, network and guidance.

    RunProblem for a checkpoint that cannot be distilled. CheckpointDamaged for an invalid header.
    """
    name, header = checkpoint.name, checkpoint.json("network")
    if distilled(checkpoint) is not None:
        raise cannot_tune(name, "it was distilled already", "Choose the checkpoint that it was distilled from")
    if checkpoint.upper_factor:
        raise cannot_tune(name, "it generates images in two levels", "Choose a checkpoint without an upper level")
    try:
        known = Recipe.from_run(checkpoint.json("recipe"))
        network = replace(
            network_like(known.network, header),
            conditioning=Conditioning(header["conditioning"]),
            text_tokens=int(header["text_tokens"]),
        )
        size, labels, predicted = int(header["size"]), int(header["told_width"]), checkpoint.parameterisation
    except RunProblem as error:
        raise cannot_tune(name, f"its recipe cannot be read: {error.why or error.what}") from error
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise cannot_tune(name, damaged_header(error)) from error
    held_out = max(known.data.held_out, recipe.data.held_out)
    return replace(
        recipe,
        data=replace(known.data, size=size, held_out=held_out, augment_labels=labels > 0),
        network=network,
        objective=replace(
            known.objective,
            learned_variance=False,
            perceptual=0.0,
            prediction=predicted.prediction,  # a merged checkpoint has no recipe
            sigma_data=predicted.sigma_data,
        ),
        optimiser=recipe.optimiser.suited_to(network),
        few_steps=with_guidance(recipe.few_steps, checkpoint),
        run=replace(recipe.run, start_from=start_from, prompts=known.run.prompts),
    )


def with_guidance(distillation: FewStepsRecipe, checkpoint: Checkpoint) -> FewStepsRecipe:
    """With the guidance that the checkpoint recommends, and the checkpoint's name."""
    family = recommended_for(checkpoint)
    scale = 1.0 if family is None or checkpoint.conditioning is Conditioning.NONE else family.guidance
    values = checkpoint.json("guidance")
    interval = values.get("interval") if isinstance(values, dict) else None
    try:
        low, high = map(float, interval or distillation.guidance_interval)
        if not 0 <= low <= high <= 1:
            raise ValueError(f"the interval is {low}, {high}")
    except (TypeError, ValueError, OverflowError) as error:
        raise cannot_tune(checkpoint.name, "its header has no valid guidance interval") from error
    return replace(
        distillation,
        guidance=scale,
        guidance_interval=(low, high),
        min_timestep=min_timestep_of(checkpoint),
        teacher=title(checkpoint),
    )


def title(checkpoint: Checkpoint) -> str:
    """The checkpoint's title; of a run's `latest`, the run's name."""
    return checkpoint.title or checkpoint.name


def for_run(recipe: Recipe, checkpoint: Checkpoint) -> Recipe:
    """With the hash of the checkpoint's file, which is stored in the header of the distilled one. CheckpointMissing.

    Several segments are sampled with one Euler step each, whatever the recipe says: new noise in between would lead to
    states that are on no path.
    """
    distillation, run = recipe.few_steps, recipe.run
    if distillation.segments > 1:
        run = replace(run, sample_sampler="euler", sample_spacing="uniform", sample_steps=distillation.segments)
    return replace(recipe, few_steps=replace(distillation, teacher_sha256=sha256_of(checkpoint.path)), run=run)


def check_conditioning(recipe: Recipe, checkpoint: Checkpoint) -> None:
    """RunProblem if the folder lacks what the checkpoint is conditioned on; `recipe` was made for the folder."""
    needed = checkpoint.conditioning
    if recipe.network.conditioning is needed:
        return
    what = {Conditioning.TEXT: "captions", Conditioning.CLASS: "classes"}.get(needed, "")
    why = f"it needs {what}, and the folder has none" if what else "it is unconditional"
    raise cannot_tune(checkpoint.name, why, "Choose the folder that it was trained on, or one like it")
