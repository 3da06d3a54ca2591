"""Models in memory: the last used stay, within a budget; changing checkpoints again and again leaves nothing behind."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import psutil
import pytest
import torch

from diffstudio.models import loading
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.memory import devices
from diffstudio.models.memory.model_cache import ModelCache, weights_bytes
from diffstudio.models.model import Model
from tests.models.tiny import write_tiny_checkpoint

CPU = torch.device("cpu")


@pytest.fixture
def checkpoints(tmp_path: Path) -> list[Checkpoint]:
    return [read_checkpoint(write_tiny_checkpoint(tmp_path / f"{seed}.safetensors", seed=seed)) for seed in range(3)]


def loaded(kept: ModelCache, checkpoint: Checkpoint, budget: int) -> Model:
    """As the worker does it."""
    model = kept.get(checkpoint, CPU)
    if model is None:
        kept.make_room(4 * checkpoint.parameters, budget)
        model = loading.load(checkpoint, CPU)
        kept.put(model)
    return model


def test_the_size_of_a_model_is_that_of_its_weights(checkpoints: list[Checkpoint]) -> None:
    model = loading.load(checkpoints[0], CPU)
    assert weights_bytes(model) >= 4 * checkpoints[0].parameters
    network = model.network
    assert weights_bytes(model) == sum(tensor.nbytes for tensor in (*network.parameters(), *network.buffers()))


def test_what_was_used_last_stays(checkpoints: list[Checkpoint]) -> None:
    kept = ModelCache()
    one = weights_bytes(loading.load(checkpoints[0], CPU))
    first, second = (loaded(kept, checkpoint, 2 * one) for checkpoint in checkpoints[:2])
    assert loaded(kept, checkpoints[0], 2 * one) is first
    assert kept.newest is first
    loaded(kept, checkpoints[2], 2 * one)  # the second was not used for longest
    assert len(kept) == 2
    assert kept.get(checkpoints[1], CPU) is None
    assert kept.get(checkpoints[0], CPU) is first
    assert second is not None


def test_without_a_budget_only_the_one_in_use_stays(checkpoints: list[Checkpoint]) -> None:
    kept = ModelCache()
    for checkpoint in checkpoints:
        model = loaded(kept, checkpoint, 0)
        assert len(kept) == 1
        assert kept.newest is model


def test_a_file_that_has_changed_is_another_model(checkpoints: list[Checkpoint]) -> None:
    kept = ModelCache()
    loaded(kept, checkpoints[0], 1 << 30)
    write_tiny_checkpoint(checkpoints[0].path, seed=9)
    os.utime(checkpoints[0].path, (1, 1))
    assert kept.get(read_checkpoint(checkpoints[0].path), CPU) is None
    assert len(kept) == 0


def test_the_others_can_be_dropped(checkpoints: list[Checkpoint]) -> None:
    kept = ModelCache()
    assert kept.drop_others() == 0
    for checkpoint in checkpoints:
        newest = loaded(kept, checkpoint, 1 << 30)
    assert kept.drop_others() == 2
    assert kept.newest is newest
    assert kept.drop_others() == 0


def test_the_budget_is_what_was_set_or_half_of_what_there_is() -> None:
    assert devices.budget_bytes(CPU, 1.5) == 3 << 29
    assert devices.budget_bytes(CPU, None) == psutil.virtual_memory().total // 2
    assert 0 < devices.free_bytes(CPU) < devices.device_bytes(CPU)


def test_fifty_changes_of_checkpoint_leave_nothing_behind(tmp_path: Path) -> None:
    """Of 8 MB each, so that one left behind in five would show."""
    folder = [
        read_checkpoint(write_tiny_checkpoint(tmp_path / f"{seed}.safetensors", seed=seed, width=512))
        for seed in range(2)
    ]
    kept, process = ModelCache(), psutil.Process()
    state = torch.zeros(1, 3, 16, 16)

    def change(times: int) -> tuple[int, int]:
        for turn in range(times):
            model = loaded(kept, folder[turn % 2], 0)
            prompted = model.encode_prompt("red apple")
            model.denoiser(prompted, 3.0)(state, torch.tensor([0.5]))
            devices.free_unused()
        del model, prompted
        gc.collect()
        return process.memory_info().rss, sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())

    size = weights_bytes(loaded(kept, folder[0], 0))
    assert size > 8_000_000
    resident_before, tensors_before = change(10)
    resident_after, tensors_after = change(50)
    assert tensors_after <= tensors_before
    assert resident_after - resident_before < 5 * size  # fifty were loaded
