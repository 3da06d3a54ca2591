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
from diffstudio.training.data.dataset import ImageDataset
from diffstudio.training.preparation import machine_speed
from diffstudio.training.preparation.machine_speed import resolve_dtypes
from diffstudio.training.recipe import Recipe
from diffstudio.training.trainer import Trainer


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


def test_a_chosen_type_is_not_measured(recipe: Recipe) -> None:
    assert resolved(replace(recipe, network=replace(recipe.network, conditioning=Conditioning.NONE)))[1] == ""
