"""Compiling a network, and how its convolutions lie: the same pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from diffstudio.models import compile, loading
from diffstudio.models.library.folder_records import read_folder
from diffstudio.models.memory.offload import offload
from diffstudio.models.model import OffloadLevel
from tests.models import small, small_flow
from tests.models.sampled import sample


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(
        compile, "BACKEND", "eager"
    )  # what is traced runs as it is: that it is traced is what is tested
    small_flow.small_sd3(tmp_path / "small")  # traced in a tenth of the time that a U-Net takes
    yield loading.load(read_folder(tmp_path / "small"), torch.device("cpu"))
    torch._dynamo.reset()


@pytest.fixture
def convolutional(tmp_path: Path) -> Any:
    small.small_sd1(tmp_path / "small")
    return loading.load(read_folder(tmp_path / "small"), torch.device("cpu"))


def picture(model: Any) -> torch.Tensor:
    *_, last = sample(model, prompts=["a red apple"], seeds=[3], width=64, height=64, steps=2, sampler="euler")
    return last.x


def test_a_compiled_network_makes_the_same_picture_and_can_be_left_as_it_was(model: Any) -> None:
    plain = picture(model)
    assert compile.compile_network(model, True) == "" and compile.is_compiled(model.network)
    torch._dynamo.utils.counters.clear()
    torch.testing.assert_close(picture(model), plain, rtol=1e-5, atol=1e-5)
    assert torch._dynamo.utils.counters["frames"]["ok"] > 0
    assert compile.compile_network(model, False) == "" and not compile.is_compiled(model.network)


def test_without_a_compiler_it_says_so_and_runs_as_it_is(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compile, "BACKEND", "inductor")
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert "no C++ compiler" in compile.compile_network(model, True)
    assert not compile.is_compiled(model.network)


def test_what_is_offloaded_is_not_compiled(model: Any) -> None:
    compile.compile_network(model, True)
    offload(model, OffloadLevel.NONE)
    assert not compile.is_compiled(model.network)
    model.offload_level = OffloadLevel.MODULES
    assert "offloaded to main memory" in compile.compile_network(model, True)


def test_convolutions_lie_channels_last_on_cuda_only(convolutional: Any) -> None:
    model = convolutional
    compile.for_convolutions(model)
    assert not model.network.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    plain, model.device = picture(model), torch.device("cuda")  # as far as it is asked
    compile.for_convolutions(model)
    model.device = torch.device("cpu")
    assert model.network.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(picture(model), plain, rtol=1e-3, atol=1e-4)
