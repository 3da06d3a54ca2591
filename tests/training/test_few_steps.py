"""Distil a finished run to few steps: a run like any other, whose teacher's guidance is built in."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from diffstudio import paths
from diffstudio.errors import RunProblem
from diffstudio.models.families import pixel
from diffstudio.models.fitted_steps.distilled import distilled
from diffstudio.models.fitted_steps.stored import rewrite_metadata
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.recommended import min_timestep_of, recommended_values
from diffstudio.networks.conditioning import Conditioning
from diffstudio.training.data.inspect_folder import finish_inspection
from diffstudio.training.loop import train
from diffstudio.training.recipe import Recipe, read_recipe
from diffstudio.training.recipe.network_recipe import NetworkName
from diffstudio.training.recipe.optimiser_recipe import OptimiserName
from diffstudio.training.recipe_choice import choose_recipe, named_recipes
from diffstudio.training.run.events import RunFinished, RunHeldOut, RunSamples, RunStarted
from diffstudio.training.run.run_folder import Command, RunFolder
from tests.training.test_loop import assert_same, at_step, events_of


@pytest.fixture
def teacher(folder: Path, recipe_file: str, tmp_path: Path) -> Path:
    return train(tmp_path / "teacher", folder, recipe=recipe_file).latest_checkpoint


@pytest.fixture
def quick(tmp_path: Path) -> str:
    """The recipe few-steps for a small network and a few steps."""
    recipe = named_recipes()["few-steps"]
    run = replace(recipe.run, batch=4, steps=8, sample_every=8, checkpoint_every=4, held_out_every=4, sample_count=2)
    recipe = replace(
        recipe,
        few_steps=replace(recipe.few_steps, teacher_calls=3),
        optimiser=replace(recipe.optimiser, warm_up_steps=0, ema=0.5),
        run=replace(run, dtype="float32", device="cpu", threads=1),
    )
    recipe.write(tmp_path / "few.toml")
    return str(tmp_path / "few.toml")


def test_a_tuned_run_keeps_the_teacher_and_says_what_it_was_tuned_from(
    teacher: Path, quick: str, folder: Path, tmp_path: Path
) -> None:
    before = hashlib.sha256(teacher.read_bytes()).hexdigest()
    run = train(tmp_path / "few", folder, recipe=quick, start_from=str(teacher))
    known, recipe = Recipe.from_run(read_checkpoint(teacher).json("recipe")), run.recipe()
    assert recipe.data == replace(known.data, held_out=recipe.data.held_out)
    assert recipe.network == known.network and recipe.objective == known.objective
    assert (recipe.few_steps.guidance, recipe.few_steps.guidance_interval) == (known.run.sample_guidance, (0.05, 0.95))
    losses = [event.loss for event in events_of(run, RunHeldOut)]  # type: ignore[attr-defined]
    assert len(losses) == 2 and losses[1] < losses[0]
    assert events_of(run, RunSamples) and events_of(run, RunFinished)
    checkpoint = read_checkpoint(run.latest_checkpoint)
    found = distilled(checkpoint)
    assert found is not None and found.sha256 == before and found.guidance == known.run.sample_guidance
    assert recommended_values(checkpoint) == {"sampler": "lcm", "spacing": "uniform", "steps": 4, "guidance": 1.0}
    model = pixel.load(checkpoint, torch.device("cpu"), torch.float32)
    assert model.tokenizer is not None
    original = pixel.load(read_checkpoint(teacher), torch.device("cpu"), torch.float32)
    assert original.tokenizer is not None and model.tokenizer.to_json() == original.tokenizer.to_json()
    x, t = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)), torch.tensor([0.7])
    prompt, negative = model.encode_prompt(["disc 1"]), model.encode_prompt(["disc 1"], "square")
    plain = model.denoiser(prompt, 1.0)(x, t)
    for other in (model.denoiser(prompt, 3.0), model.denoiser(negative, 3.0), model.denoiser(prompt, 0.0)):
        assert torch.equal(other(x, t), plain)
    assert not torch.equal(original.denoiser(original.encode_prompt(["disc 1"]), 3.0)(x, t), plain)


def test_a_resumed_run_gives_the_same_weights_without_the_teachers_file(
    teacher: Path, quick: str, folder: Path, tmp_path: Path
) -> None:
    whole = train(tmp_path / "whole", folder, recipe=quick, start_from=str(teacher))
    stopped = RunFolder(tmp_path / "stopped")
    train(
        stopped.path,
        folder,
        recipe=quick,
        start_from=str(teacher),
        on_event=at_step(4, lambda: stopped.send(Command.STOP)),
    )
    assert not events_of(stopped, RunFinished)
    shutil.rmtree(teacher.parents[1])
    train(stopped.path, resume=True)
    assert_same(whole, stopped)
    losses = [[event.loss for event in events_of(run, RunHeldOut)] for run in (whole, stopped)]  # type: ignore[attr-defined]
    assert losses[0] == losses[1]


def test_a_source_that_cannot_be_tuned_is_refused(teacher: Path, quick: str, folder: Path, tmp_path: Path) -> None:
    report = finish_inspection(folder, lambda _: None)
    for start in (None, "none"):
        with pytest.raises(RunProblem, match="needs a checkpoint.*already trained"):
            choose_recipe("few-steps", report, start_from=start)
    with pytest.raises(RunProblem, match="not trained here"):
        choose_recipe(
            "few-steps", report, start_from=str(paths.resources() / "features" / "efficientnet_lite0.safetensors")
        )
    few = train(tmp_path / "few", folder, recipe=quick, steps=1, start_from=str(teacher))
    with pytest.raises(RunProblem, match="distilled already"):
        choose_recipe("few-steps", report, start_from=str(few.latest_checkpoint))
    for caption in folder.rglob("*.txt"):
        caption.unlink()
    with pytest.raises(RunProblem, match="it needs captions, and the folder has none"):
        choose_recipe("few-steps", finish_inspection(folder, lambda _: None), start_from=str(teacher))


def test_classes_are_those_of_the_teacher(folder: Path, recipe: Recipe, quick: str, tmp_path: Path) -> None:
    """Those that the folder lacks are said; those that the teacher does not know are refused."""
    shutil.copytree(folder / "square", folder / "hexagon")
    for index, image in enumerate(sorted((folder / "hexagon").glob("*.png"))):
        Image.new("RGB", (20, 20), (index * 20, 0, 200)).save(image)
    by_class = replace(recipe, network=replace(recipe.network, conditioning=Conditioning.CLASS))
    by_class.write(tmp_path / "classes.toml")
    teacher = train(tmp_path / "teacher", folder, recipe=str(tmp_path / "classes.toml")).latest_checkpoint
    assert read_checkpoint(teacher).classes == ("disc", "hexagon", "square")
    (folder / "hexagon").rename(folder / "star")
    with pytest.raises(RunProblem, match="cannot be distilled to few steps: .* has no weights for the class star"):
        train(tmp_path / "unknown", folder, recipe=quick, start_from=str(teacher))
    shutil.rmtree(folder / "star")
    run = train(tmp_path / "few", folder, recipe=quick, start_from=str(teacher))
    (started,) = events_of(run, RunStarted)
    assert isinstance(started, RunStarted) and "no longer knows hexagon, which the folder lacks" in started.why
    assert read_checkpoint(run.latest_checkpoint).classes == ("disc", "square")


def test_a_choice_from_the_window_keeps_the_network_but_not_with_another_size(
    teacher: Path, quick: str, folder: Path, tmp_path: Path
) -> None:
    """The window writes its choice for the process that trains."""
    next(folder.rglob("*.txt")).write_text("a caption of many more words than the six tokens that it reads")
    choice = choose_recipe(quick, finish_inspection(folder, lambda _: None), start_from=str(teacher))
    assert choice.why and choice.recipe.data.size == 16
    choice.write(tmp_path / "choice.toml")
    run = train(tmp_path / "run", folder, recipe=str(tmp_path / "choice.toml"))
    assert run.recipe().network.text_tokens == choice.recipe.network.text_tokens == 6
    changed = replace(choice.recipe, data=replace(choice.recipe.data, size=24))
    replace(choice, recipe=changed).write(tmp_path / "changed.toml")
    with pytest.raises(RunProblem, match="it was trained at 16 px, and the recipe says 24 px"):
        train(tmp_path / "few", folder, recipe=str(tmp_path / "changed.toml"))


def test_several_segments_are_sampled_with_a_step_of_euler_each(
    teacher: Path, quick: str, folder: Path, tmp_path: Path
) -> None:
    recipe = read_recipe(Path(quick))
    replace(recipe, few_steps=replace(recipe.few_steps, segments=2)).write(tmp_path / "segments.toml")
    run = train(tmp_path / "few", folder, recipe=str(tmp_path / "segments.toml"), start_from=str(teacher), steps=2)
    found = recommended_values(read_checkpoint(run.latest_checkpoint))
    assert found == {"sampler": "euler", "spacing": "uniform", "steps": 2, "guidance": 1.0}


def test_the_teacher_is_called_as_it_is_sampled(teacher: Path, quick: str, folder: Path, tmp_path: Path) -> None:
    sampling = json.dumps({"min_timestep": 0.4})
    rewrite_metadata(teacher, {"diffstudio.sampling": sampling}, "it cannot be changed")
    run = train(tmp_path / "few", folder, recipe=quick, start_from=str(teacher), steps=2)
    assert run.recipe().few_steps.min_timestep == 0.4
    assert min_timestep_of(read_checkpoint(run.latest_checkpoint)) == 0  # it is in the paths that were distilled


def test_headers_that_do_not_say_what_distillation_needs_are_refused(teacher: Path, folder: Path) -> None:
    report = finish_inspection(folder, lambda _: None)
    broken = teacher.with_name("broken.safetensors")
    for key, value, why in (
        ("network", {"conditioning": "text"}, "its header is damaged: “text_tokens” is missing"),
        (
            "network",
            {"conditioning": "none", "text_tokens": math.inf},
            "its header is damaged: a value in it is missing, of the wrong type",
        ),
        ("recipe", {"data": {"unheard": 1}}, "its recipe cannot be read"),
        *(
            ("guidance", {"interval": interval}, "no valid guidance interval")
            for interval in (["a", "b"], [0.1, 10**400], [math.nan, 1], [0.9, 0.1])
        ),
    ):
        shutil.copyfile(teacher, broken)
        rewrite_metadata(broken, {f"diffstudio.{key}": json.dumps(value)}, "it cannot be changed")
        with pytest.raises(RunProblem, match=f"cannot be distilled to few steps: .*{why}"):
            choose_recipe("few-steps", report, start_from=str(broken))


def test_a_unet_is_tuned_by_adamw(quick: str, folder: Path, recipe: Recipe, tmp_path: Path) -> None:
    network = replace(recipe.network, kind=NetworkName.UNET, channels=(8, 16), attention=8)
    unet = replace(recipe, network=network, optimiser=replace(recipe.optimiser, name=OptimiserName.ADAMW))
    unet.write(tmp_path / "unet.toml")
    teacher = train(tmp_path / "teacher", folder, recipe=str(tmp_path / "unet.toml"), steps=4).latest_checkpoint
    run = train(tmp_path / "few", folder, recipe=quick, start_from=str(teacher))
    assert run.recipe().network == replace(network, vocabulary=run.recipe().network.vocabulary)
    assert run.recipe().optimiser.name is OptimiserName.ADAMW and events_of(run, RunFinished)
    checkpoint = read_checkpoint(run.latest_checkpoint)
    assert distilled(checkpoint) is not None and checkpoint.family_title == "pixel U-Net"
