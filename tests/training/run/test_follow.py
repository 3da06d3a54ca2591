"""A process that leads a run, and one that follows it: in threads of this process."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from diffstudio.errors import RunProblem
from diffstudio.training.data.dataset import ImageDataset
from diffstudio.training.distributed.cluster import Place
from diffstudio.training.distributed.team import ALONE, Kind, Order, Processes, Team
from diffstudio.training.preparation.stored_dataset import StoredDataset
from diffstudio.training.recipe import Recipe
from diffstudio.training.run.follow import follow, lead, pixels_digest, restore_everywhere
from diffstudio.training.run.run_folder import RunFolder
from diffstudio.training.run.setup import RunContext, new_run
from diffstudio.training.run.setup_progress import SetupProgress
from tests.training.conftest import folder, recipe, write_pictures
from tests.training.distributed.threads import together

__all__ = ["folder", "recipe"]
pytestmark = pytest.mark.usefixtures("home")


def quiet(run: Path) -> SetupProgress:
    return SetupProgress(RunFolder(run), lambda event: None, lambda: False)


@pytest.fixture
def new_context(tmp_path: Path, folder: Path, recipe: Recipe) -> Callable[[], RunContext]:
    replace(recipe, optimiser=replace(recipe.optimiser, muon_dtype="float32")).write(tmp_path / "recipe.toml")
    numbers = itertools.count()

    def new() -> RunContext:
        run = tmp_path / f"run {next(numbers)}"
        return new_run(run, folder, str(tmp_path / "recipe.toml"), steps=6, minutes=None, progress=quiet(run))

    return new


def led(context: RunContext, act: Callable[[RunContext], object], images: Path | None = None) -> None:
    """`act` on a run with another process, which has the images in another folder if one is given."""

    def member(team: Processes) -> None:
        if team.is_leader:
            lead(context, team)
            act(context)
            team.close()
        else:
            follow(team, images, quiet(context.run.path), Place(1, 1))

    together(2, member)


def weights(context: RunContext) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in context.trainer.network.parameters()])


def step(context: RunContext) -> None:
    trainer = context.trainer
    trainer.team.order(Order(Kind.STEP, trainer.step_number, trainer.progress, trainer.rate_scale))
    trainer.step(context.batches.at(trainer.step_number))


def with_a_roll_back(context: RunContext) -> None:
    """Two steps, back to the state after the first, and two more with half the rate."""
    trainer, file = context.trainer, context.run.good_state_file
    step(context)
    torch.save(trainer.state(), file)
    step(context)
    restore_everywhere(trainer, file)
    trainer.rate_scale = 0.5
    step(context)
    step(context)


def test_it_has_the_leaders_state_also_after_a_roll_back(new_context: Callable[[], RunContext]) -> None:
    alone, together_with = new_context(), new_context()
    with_a_roll_back(alone)
    assert alone.trainer.team is ALONE
    led(together_with, with_a_roll_back)
    torch.testing.assert_close(weights(together_with), weights(alone), rtol=0, atol=1e-5)


def test_a_state_that_was_trained_before_is_sent(new_context: Callable[[], RunContext]) -> None:
    alone, together_with = new_context(), new_context()
    for context in (alone, together_with):
        step(context)
    step(alone)
    led(together_with, step)
    torch.testing.assert_close(weights(together_with), weights(alone), rtol=0, atol=1e-5)


def test_images_in_another_folder_will_do_if_they_are_the_same(
    new_context: Callable[[], RunContext], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StoredDataset, "open_prepared", lambda self: None)  # as on another machine
    elsewhere = write_pictures(tmp_path / "elsewhere")
    led(new_context(), step, elsewhere)
    changed = next(elsewhere.rglob("*.png"))
    Image.new("RGB", (20, 20), "black").save(changed)
    with pytest.raises(
        RunProblem, match="The images of this machine differ from those of the first one: 24 of 24 are here, or some"
    ):
        led(new_context(), step, elsewhere)
    shutil.rmtree(elsewhere / "disc")
    with pytest.raises(RunProblem, match="12 of 24 are here.*Copy the folder from the first machine"):
        led(new_context(), step, elsewhere)


def test_a_batch_that_cannot_be_divided_is_refused(new_context: Callable[[], RunContext]) -> None:
    class Many(Team):
        rank, world = 0, 9

    with pytest.raises(RunProblem, match="A batch of 8 images cannot be divided among 9 processes"):
        lead(new_context(), Many())


def test_the_digest_is_of_the_pixels(new_context: Callable[[], RunContext]) -> None:
    dataset: ImageDataset = new_context().dataset
    other = replace(dataset, images=255 - dataset.images)
    assert pixels_digest(dataset) == pixels_digest(replace(dataset, captions=("x",) * len(dataset)))
    assert pixels_digest(dataset) != pixels_digest(other)
