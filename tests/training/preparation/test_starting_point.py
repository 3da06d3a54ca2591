"""Start a run from a checkpoint: what it knows is kept, what it does not know is new."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from diffstudio import paths
from diffstudio.diffusion.objectives.parameterisation import Prediction
from diffstudio.errors import CheckpointMissing, RunProblem
from diffstudio.models.families import pixel_file
from diffstudio.models.fitted_steps.stored import rewrite_metadata
from diffstudio.models.library.records import read_checkpoint
from diffstudio.networks.caption_tokenizer import CaptionTokenizer
from diffstudio.networks.conditioning import Conditioning
from diffstudio.networks.transformer import Condition
from diffstudio.training.loop import train
from diffstudio.training.preparation.starting_point import starting_point
from diffstudio.training.recipe import DataRecipe, Recipe, UpperRecipe
from diffstudio.training.recipe_from_checkpoint import started_from, starting_checkpoint
from diffstudio.training.run.events import RunHeldOut, RunStarted
from diffstudio.training.run.run_folder import RunFolder
from diffstudio.training.trainer import Trainer


def checkpoint(recipe: Recipe, path: Path, captions: list[str], classes: tuple[str, ...] = ()) -> Path:
    """Written as a run writes it, with random weights."""
    text = recipe.network.conditioning is Conditioning.TEXT
    tokenizer = CaptionTokenizer.learn(captions, 300) if text else None
    trainer = Trainer(
        recipe,
        classes=len(classes),
        vocabulary=tokenizer.vocabulary if tokenizer is not None else 0,
        device=torch.device("cpu"),
    )
    with torch.no_grad():
        for parameter in trainer.network.parameters():
            parameter.normal_(0, 0.1, generator=torch.Generator().manual_seed(parameter.numel()))
    pixel_file.save(
        path,
        trainer.network,
        title="known",
        tokenizer=tokenizer,
        classes=classes,
        parameterisation=recipe.objective.parameterisation,
    )
    return path


def started(recipe: Recipe, path: Path, tokenizer: CaptionTokenizer | None, classes: tuple[str, ...] = ()) -> Trainer:
    recipe = started_from(recipe, str(path))
    vocabulary = tokenizer.vocabulary if tokenizer is not None else 0
    trainer = Trainer(recipe, classes=len(classes), vocabulary=vocabulary, device=torch.device("cpu"))
    starting_point(str(path)).load_into(trainer, tokenizer, classes)
    return trainer


def test_known_captions_give_the_same_prediction_and_new_words_have_rows_of_their_own(
    recipe: Recipe, tmp_path: Path
) -> None:
    known = ["red disc", "blue disc", "red square"] * 3
    path = checkpoint(recipe, tmp_path / "known.safetensors", known)
    point = starting_point(str(path))
    joined = point.tokenizer(["zebra disc"] * 3)
    assert joined is not None and point.loaded.tokenizer is not None
    longer = replace(recipe, network=replace(recipe.network, text_tokens=9, width=64, vocabulary=999))
    trainer = started(longer, path, joined)
    assert trainer.network.config.text_tokens == 9 and trainer.network.config.hidden_size == 32
    x_t = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([0.3, 0.8])
    before = Condition(point.loaded.tokenizer.encode(["red disc", "blue disc"], 6))
    after = Condition(joined.encode(["red disc", "blue disc"], 6))
    torch.testing.assert_close(before.token_ids, after.token_ids)
    rows = trainer.network.cond_embed.token_embed.weight
    assert torch.equal(rows[: point.loaded.tokenizer.vocabulary], point.loaded.network.cond_embed.token_embed.weight)
    assert len(rows) == joined.vocabulary > point.loaded.tokenizer.vocabulary and joined.count("zebra") == 1
    with torch.no_grad():  # six tokens of the checkpoint, nine here: the first six have its positions
        mine = trainer.network.cond_embed.token_pos_embed[:, :6]
        assert torch.equal(mine, point.loaded.network.cond_embed.token_pos_embed)
    same = started(recipe, path, point.loaded.tokenizer)
    with torch.no_grad():
        expected = point.loaded.network(x_t, t, before)
        torch.testing.assert_close(same.network.eval()(x_t, t, before), expected)
        torch.testing.assert_close(same.ema_network.eval()(x_t, t, before), expected)


def test_classes_of_the_same_name_are_kept_and_others_are_new(recipe: Recipe, tmp_path: Path) -> None:
    by_class = replace(recipe, network=replace(recipe.network, conditioning=Conditioning.CLASS))
    path = checkpoint(by_class, tmp_path / "known.safetensors", [], ("cat", "dog", "fish"))
    known = starting_point(str(path)).loaded.network.cond_embed.class_embed.weight
    rows = started(by_class, path, None, ("Dog", "bird")).network.cond_embed.class_embed.weight
    assert torch.equal(rows[0], known[1]) and torch.equal(rows[2], known[3]) and not torch.equal(rows[1], known[0])


def test_another_size_and_another_conditioning_keep_the_rest(recipe: Recipe, tmp_path: Path) -> None:
    path = checkpoint(recipe, tmp_path / "known.safetensors", ["red disc"] * 3)
    plain = replace(recipe, network=replace(recipe.network, conditioning=Conditioning.NONE))
    trainer = started(replace(plain, data=replace(plain.data, size=24)), path, None)
    known = starting_point(str(path)).loaded.network
    assert trainer.network.pos_embed.shape[-2:] == (6, 6)
    assert torch.equal(trainer.network.blocks[0].mlp.w3.weight, known.blocks[0].mlp.w3.weight)
    assert started_from(replace(plain, data=replace(plain.data, size=18)), str(path)).data.size == 16


def test_the_recipe_says_what_it_starts_from_and_has_half_the_rates(recipe: Recipe) -> None:
    changed = started_from(recipe, "starter")
    assert changed.run.start_from == "starter" and changed.optimiser.learning_rate == recipe.optimiser.learning_rate / 2
    assert (changed.network.width, changed.network.depth, changed.network.condition_width) == (256, 6, 512)
    assert started_from(changed, "none").run.start_from == ""


def test_layers_of_arrays_start_new_and_what_else_does_is_said(recipe: Recipe, tmp_path: Path) -> None:
    plain = replace(recipe, network=replace(recipe.network, conditioning=Conditioning.NONE))
    path = checkpoint(plain, tmp_path / "known.safetensors", [])
    known = starting_point(str(path))
    array = started_from(replace(recipe, data=replace(recipe.data, channels=5, bits=8)), str(path))
    trainer = Trainer(array, classes=0, vocabulary=300, device=torch.device("cpu"))
    before = trainer.network.patch_embed.proj1.weight.clone()
    assert known.load_into(trainer, None, ()) == "known has no weights for captions; they are trained from scratch."
    assert torch.equal(trainer.network.patch_embed.proj1.weight, before)
    assert not trainer.network.final_layer.linear.weight.any()
    assert torch.equal(trainer.network.blocks[0].mlp.w3.weight, known.loaded.network.blocks[0].mlp.w3.weight)
    by_class = replace(recipe, network=replace(recipe.network, conditioning=Conditioning.CLASS))
    path = checkpoint(by_class, tmp_path / "classes.safetensors", [], ("cat", "dog"))
    trainer = Trainer(started_from(by_class, str(path)), classes=2, vocabulary=0, device=torch.device("cpu"))
    new = starting_point(str(path)).load_into(trainer, None, ("Dog", "bird"))
    assert new == "classes has no weights for the class bird; they are trained from scratch."


@pytest.mark.parametrize("channels", [1, 4, 2])
def test_the_adapted_network_on_a_grey_image_equals_the_original_on_it_in_rgb(channels: int, recipe: Recipe) -> None:
    """The mean over red, green and blue; new opacity is neither read nor drawn."""
    data = DataRecipe(size=64, channels=channels, bits=8, alpha=channels != 1, fit="crop")
    captions = ["red apple", ""]
    plain = started_from(replace(recipe, data=data), "starter")
    point = starting_point("starter")
    tokenizer = point.tokenizer(["red apple", "an unheard-of caption"])
    assert tokenizer is not None
    trainer = Trainer(plain, classes=0, vocabulary=tokenizer.vocabulary, device=torch.device("cpu"))
    assert point.load_into(trainer, tokenizer, ()) == ""
    grey = torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    colours, opacity = 3 if channels == 4 else 1, channels - (3 if channels == 4 else 1)
    t = torch.tensor([0.2, 0.9])
    condition = Condition(tokenizer.encode(captions, trainer.network.config.text_tokens))
    known = Condition(point.loaded.tokenizer.encode(captions, point.loaded.network.config.text_tokens))  # type: ignore[union-attr]
    with torch.no_grad():
        expected = point.loaded.network(grey.expand(-1, 3, -1, -1), t, known)
        given = torch.cat([grey.expand(-1, colours, -1, -1), torch.randn(2, opacity, 64, 64)], dim=1)
        predicted = trainer.network.eval()(given, t, condition)
    assert predicted.shape[1] == channels and expected.std() > 0.1
    wanted = expected if colours == 3 else expected.mean(dim=1, keepdim=True)
    torch.testing.assert_close(predicted[:, :colours], wanted, rtol=1e-4, atol=1e-4)
    assert not predicted[:, colours:].any()
    assert torch.equal(trainer.ema_network.patch_embed.proj1.weight, trainer.network.patch_embed.proj1.weight)


def test_the_folder_of_a_run_stands_for_its_latest_checkpoint(tmp_path: Path) -> None:
    latest = RunFolder(tmp_path).latest_checkpoint
    with pytest.raises(CheckpointMissing, match="the folder of its run"):
        starting_checkpoint(str(tmp_path))
    latest.parent.mkdir()
    shutil.copyfile(paths.starter(), latest)
    assert starting_checkpoint(str(tmp_path)).path == latest
    choice = started_from(Recipe(), str(tmp_path))
    assert choice.run.start_from == str(latest)


def test_other_models_and_missing_files_are_refused(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(CheckpointMissing, match="There is no checkpoint"):
        starting_checkpoint(str(tmp_path / "nowhere.safetensors"))
    with pytest.raises(RunProblem, match="not trained here"):
        starting_checkpoint(str(paths.resources() / "features" / "efficientnet_lite0.safetensors"))
    with pytest.raises(CheckpointMissing, match="There is no checkpoint"):
        train(tmp_path / "run", tmp_path / "nowhere", start_from="other")


def test_a_run_from_a_checkpoint_begins_where_that_ended(folder: Path, recipe: Recipe, tmp_path: Path) -> None:
    """On the same folder its first held-out loss is near the last one of the run before, not near that of nothing."""
    longer = replace(recipe, run=replace(recipe.run, steps=60, sample_every=60, checkpoint_every=60, held_out_every=4))
    longer.write(tmp_path / "long.toml")
    first = train(tmp_path / "first", folder, recipe=str(tmp_path / "long.toml"))
    before = [event.loss for event in first.events()[0] if isinstance(event, RunHeldOut)]
    second = train(
        tmp_path / "second",
        folder,
        recipe=str(tmp_path / "long.toml"),
        steps=4,
        start_from=str(first.latest_checkpoint),
    )
    events = second.events()[0]
    after = next(event.loss for event in events if isinstance(event, RunHeldOut))
    assert after < (before[0] + before[-1]) / 2
    begun = next(event for event in events if isinstance(event, RunStarted))
    assert begun.starter == "first" and second.recipe().run.start_from == str(first.latest_checkpoint)
    assert RunFolder(second.path).tokenizer_file.is_file()


def test_weights_that_predict_something_else_are_refused(recipe: Recipe, tmp_path: Path) -> None:
    path = checkpoint(recipe, tmp_path / "known.safetensors", ["red disc"] * 3)
    other = replace(recipe, objective=replace(recipe.objective, prediction=Prediction.EPS))
    with pytest.raises(RunProblem, match="predicts x0, and the recipe trains one that predicts eps"):
        started_from(other, str(path))
    trainer = Trainer(other, classes=0, vocabulary=300, device=torch.device("cpu"))
    with pytest.raises(RunProblem, match="objective.prediction"):
        starting_point(str(path)).load_into(trainer, None, ())
    edm, wider = (
        replace(recipe, objective=replace(recipe.objective, prediction=Prediction.EDM, sigma_data=deviation))
        for deviation in (0.5, 0.25)
    )
    path = checkpoint(edm, tmp_path / "edm.safetensors", ["red disc"] * 3)
    assert started_from(edm, str(path)).objective == edm.objective
    with pytest.raises(RunProblem, match=r"Set objective.sigma_data to 0.5"):
        started_from(wider, str(path))


@pytest.mark.parametrize("sizes", [{"width": math.inf}, {"patch": 0}, {"text_tokens": math.nan}])
def test_sizes_that_cannot_be_are_refused(recipe: Recipe, tmp_path: Path, sizes: dict[str, float]) -> None:
    path = checkpoint(recipe, tmp_path / "known.safetensors", ["red disc"] * 3)
    header = read_checkpoint(path).json("network") | sizes
    rewrite_metadata(path, {"diffstudio.network": json.dumps(header)}, "it cannot be changed")
    with pytest.raises(RunProblem, match="its header is damaged: a value in it"):
        started_from(recipe, str(path))


def test_an_upper_level_is_kept_or_new_and_never_in_the_way(recipe: Recipe, tmp_path: Path) -> None:
    two = replace(recipe, upper=UpperRecipe(2, 8, 2, 16, 32, 1, 2, 32))
    known = ["red disc", "blue disc"] * 3
    of_two, of_one = (checkpoint(one, tmp_path / f"{one.upper.factor}.safetensors", known) for one in (two, recipe))
    tokenizer = starting_point(str(of_two)).tokenizer(known)
    assert tokenizer is not None
    kept = started(two, of_two, tokenizer).network.state_dict()
    for name, value in pixel_file.load(of_two).network.state_dict().items():
        assert torch.equal(kept[name], value), name
    without = started(recipe, of_two, tokenizer).network.state_dict()
    assert all(torch.equal(kept[name], value) for name, value in without.items())
    started_two = started_from(two, str(of_one))
    trainer = Trainer(started_two, classes=0, vocabulary=tokenizer.vocabulary, device=torch.device("cpu"))
    said = starting_point(str(of_one)).load_into(trainer, tokenizer, ())
    assert said == f"{of_one.stem} has no weights for the upper level; they are trained from scratch."
    assert torch.equal(
        trainer.network.state_dict()["pos_embed"], pixel_file.load(of_one).network.state_dict()["pos_embed"]
    )
