"""Which data type is faster: measured in rounds, once for each machine and network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from diffstudio import paths
from diffstudio.errors import Interrupted
from diffstudio.networks.conditioning import Conditioning
from diffstudio.training.data.batches import Batch
from diffstudio.training.data.dataset import ImageDataset
from diffstudio.training.preparation import machine_speed
from diffstudio.training.preparation.machine_speed import resolve_dtypes
from diffstudio.training.recipe import Recipe
from diffstudio.training.trainer import StepResult, Trainer


@pytest.fixture
def undecided(recipe: Recipe) -> Recipe:
    return replace(
        recipe,
        network=replace(recipe.network, conditioning=Conditioning.NONE),
        optimiser=replace(recipe.optimiser, muon_dtype="auto"),
        run=replace(recipe.run, dtype="auto"),
    )


def dataset() -> ImageDataset:
    pixels = np.zeros((3, 16, 16, 3), np.uint8)
    names = tuple(Path(f"{index}.png") for index in range(3))
    return ImageDataset(
        pixels,
        ("",) * 3,
        ("",),
        np.zeros(3, np.int64),
        np.zeros(3, bool),
        names,
        (),
        Path("none"),
        np.full((len(pixels), 2), pixels.shape[1]),
    )


def resolved(recipe: Recipe, check: Callable[[], None] = lambda: None) -> tuple[Recipe, str]:
    def build(candidate: Recipe) -> Trainer:
        return Trainer(candidate, classes=1, vocabulary=0, device=torch.device("cpu"))

    return resolve_dtypes(recipe, build, dataset(), None, check)


def test_it_is_measured_once_for_a_machine_and_again_for_another_network(
    undecided: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine_speed, "_HOPELESS", float("inf"))
    asked = list[int]()
    chosen, why = resolved(undecided, lambda: asked.append(1))
    assert chosen.run.dtype in ("float32", "bfloat16") and chosen.run.dtype in why and asked
    assert chosen.optimiser.muon_dtype in ("float32", "bfloat16")
    measured = len(asked)
    assert resolved(undecided, lambda: asked.append(1)) == (chosen, why) and len(asked) == measured
    other = replace(undecided, network=replace(undecided.network, depth=1))
    resolved(other, lambda: asked.append(1))
    assert len(asked) > measured
    (paths.cache() / "speed.json").write_text("damaged", encoding="utf-8")
    assert resolved(undecided)[0].run.dtype in ("float32", "bfloat16")


def test_a_processor_that_is_hopeless_in_bfloat16_is_not_tried(
    undecided: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine_speed, "_of_matrices", lambda: 0.1)
    asked = list[int]()
    chosen, why = resolved(undecided, lambda: asked.append(1))
    assert (chosen.run.dtype, chosen.optimiser.muon_dtype) == ("float32", "float32") and not asked
    assert "many times slower" in why
    monkeypatch.setattr(machine_speed, "_of_matrices", lambda: 2.0)
    assert resolved(undecided)[0].optimiser.muon_dtype == "bfloat16"


def test_measuring_asks_before_every_step_whether_to_end(undecided: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_speed, "_HOPELESS", float("inf"))
    asked = list[int]()

    def check() -> None:
        asked.append(1)
        if len(asked) == 4:
            raise Interrupted("Enough")

    with pytest.raises(Interrupted, match="Enough"):
        resolved(undecided, check)


def test_a_busy_moment_does_not_decide() -> None:
    slow, fast = iter([1.0, 1.1, 1.0]), iter([1.4, 0.9, 0.9])
    found = machine_speed._compare({"float32": lambda: next(slow), "bfloat16": lambda: next(fast)})
    assert found == {"float32": 1.0, "bfloat16": 0.9}


def test_one_busy_moment_does_not_decide() -> None:
    fast, slow = iter([9.0, 0.5]), iter([1.0, 1.1])  # a third round is not needed
    found = machine_speed._compare({"float32": lambda: next(slow), "bfloat16": lambda: next(fast)})
    assert found == {"float32": 1.0, "bfloat16": 0.5}


@pytest.mark.parametrize(("seconds", "rounds"), [(0.01, 5), (1.0, 4), (3.0, 2), (60.0, 2)])
def test_the_time_of_a_measurement_is_bounded(seconds: float, rounds: int) -> None:
    """Beyond the two rounds that are needed, which are of an eighth of a batch each, it takes eight seconds at most."""
    spent = list[float]()

    def timer() -> float:
        spent.append(seconds)
        return seconds

    machine_speed._compare({"float32": timer, "bfloat16": timer}, 8.0)
    assert len(spent) == 2 * rounds
    assert sum(spent) <= 8.0 or rounds == 2


@pytest.mark.parametrize(("minutes", "seconds"), [(0.0, 8.0), (1.0, 2.0), (5.0, 6.0), (600.0, 8.0)])
def test_it_takes_a_small_share_of_a_run_with_a_training_time(recipe: Recipe, minutes: float, seconds: float) -> None:
    run = replace(recipe.run, minutes=minutes)
    assert machine_speed._most_seconds(replace(recipe, run=run)) == pytest.approx(seconds)


def test_on_a_processor_a_part_of_each_batch_is_measured(undecided: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most two to warm up and ten to compare, of an eighth of the images each: less than two steps of the run."""
    monkeypatch.setattr(machine_speed, "_HOPELESS", float("inf"))
    seen = list[int]()
    step = Trainer.step

    def recorded(trainer: Trainer, batch: Batch) -> StepResult:
        seen.append(len(batch.images))
        return step(trainer, batch)

    monkeypatch.setattr(Trainer, "step", recorded)
    large = replace(undecided, run=replace(undecided.run, batch=16))
    why = resolved(large)[1]
    assert set(seen) == {2} and 6 <= len(seen) <= 12 and sum(seen) < 2 * 16 and "because 2 images take" in why
    on_gpu = replace(large, run=replace(large.run, device="cuda"))
    assert machine_speed._part(on_gpu).run.batch == 16


def test_another_folder_of_captions_is_not_measured_again(undecided: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tokenizer's vocabulary and the length of captions are a folder's own."""
    monkeypatch.setattr(machine_speed, "_HOPELESS", float("inf"))
    asked = list[int]()
    chosen, _ = resolved(undecided, lambda: asked.append(1))
    measured = len(asked)
    network = replace(undecided.network, vocabulary=77, text_tokens=5, drop_condition=0.3)
    again, _ = resolved(replace(undecided, network=network), lambda: asked.append(1))
    assert len(asked) == measured and again.run.dtype == chosen.run.dtype


def test_a_chosen_type_is_not_measured(recipe: Recipe) -> None:
    assert resolved(replace(recipe, network=replace(recipe.network, conditioning=Conditioning.NONE)))[1] == ""
