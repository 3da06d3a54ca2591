"""Batches to fit with: they draw what a request draws, in parts if need be."""

from __future__ import annotations

import pytest
import torch

from diffstudio.models import loading
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.model import Model
from diffstudio.models.sampling import SampleOptions, sample
from diffstudio.studio.evaluations.fitted_steps import batches
from diffstudio.studio.evaluations.fitted_steps.batches import Batch
from tests.models.tiny import write_tiny_checkpoint


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    path = write_tiny_checkpoint(tmp_path_factory.mktemp("models") / "tiny.safetensors")
    return loading.load(read_checkpoint(path), torch.device("cpu"))


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_2m", "unipc"])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_a_ladder_draws_what_a_request_with_its_times_draws(model: Model, sampler: str, guidance: float) -> None:
    """With and without guidance, whose last call is left out."""
    calls: list[int] = []
    batch = Batch.of(model, ["red apple", "rocket"], 3, 7, guidance, calls.append)
    ladder = (1.0, 0.93, 0.5, 0.1)
    state = batch.runs(sampler).state((*ladder, 0.0))
    options = SampleOptions(seeds=[7, 8, 9], sampler=sampler, steps=4, guidance=guidance, times=ladder)
    *_, last = sample(model, model.encode_prompt(["red apple", "rocket", "red apple"]), options)
    assert torch.equal(state, last.x) and set(calls) == {3}
    images = batch.images(state)
    assert images.shape == (3, 3, 16, 16) and 0 <= float(images.min()) <= float(images.max()) <= 1


def test_in_parts_it_is_the_same(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Batch.of(model, ["red apple", "rocket"], 5, 0, 3.0, lambda images: None)
    monkeypatch.setattr(batches, "images_at_once", lambda *_: 2)
    calls: list[int] = []
    parts = Batch.of(model, ["red apple", "rocket"], 5, 0, 3.0, calls.append)
    monkeypatch.undo()
    expected = whole.runs("euler").image((1.0, 0.5))
    monkeypatch.setattr(batches, "images_at_once", lambda *_: 2)
    assert torch.allclose(parts.runs("euler").image((1.0, 0.5)), expected, atol=1e-5)
    assert calls == [2, 2, 1, 2, 2, 1]


def test_a_part_of_a_batch_has_the_same_prompts_and_seeds(model: Model) -> None:
    batch = Batch.of(model, ["a", "b", "c"], 6, 10, 1.0, lambda images: None)
    part = batch.part(3)
    assert part.seeds == (10, 12, 14) and part.prompts == ("a", "c", "b")
    assert batch.part(100) == batch


def test_what_a_call_raises_ends_it(model: Model) -> None:
    def stop(images: int) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        Batch.of(model, ["a"], 1, 0, 3.0, stop).runs("euler").image((1.0,))
