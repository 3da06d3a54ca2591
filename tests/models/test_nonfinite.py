"""Weights that are no numbers: whatever a checkpoint is stored as, loading says which tensor; what is sound passes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import safetensors
import safetensors.torch
import torch
from torch import nn

from diffstudio.errors import CheckpointDamaged, CheckpointUnknown, Interrupted
from diffstudio.models import loading
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.nonfinite import check_finite
from diffstudio.models.tools.convert import convert
from diffstudio.studio.requests import GenerateRequest
from tests.models import small
from tests.models.small_files import made, record, small_world
from tests.models.tiny import write_tiny_checkpoint
from tests.studio.run_request import run_request

CPU = torch.device("cpu")
__all__ = ["small_world"]
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers, with NumPy 2


def spoilt(path: Path, name: str, value: float) -> Path:
    """The same file with one number changed."""
    with safetensors.safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = safetensors.torch.load_file(path)
    tensors = {key: one.clone() for key, one in tensors.items()}
    tensors[name].view(-1)[-1] = value
    safetensors.torch.save_file(tensors, path, metadata)
    return path


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_trained_here(tmp_path: Path, value: float) -> None:
    path = write_tiny_checkpoint(tmp_path / "tiny.safetensors")
    loading.load(read_checkpoint(path), CPU)
    spoilt(path, _a_matrix(path), value)
    with pytest.raises(CheckpointDamaged, match=r"tiny.safetensors contains NaN or Inf values"):
        loading.load(read_checkpoint(path), CPU)


def _a_matrix(path: Path) -> str:
    return next(
        name for name, one in safetensors.torch.load_file(path).items() if one.ndim == 2 and one.is_floating_point()
    )


@pytest.mark.parametrize(
    ("part", "file", "name"),
    [
        ("unet", "diffusion_pytorch_model", "mid_block.resnets.1.conv2.bias"),
        ("vae", "diffusion_pytorch_model", "decoder.conv_out.bias"),
        ("text_encoder", "model", "encoder.layers.1.mlp.fc1.weight"),
    ],
)
def test_in_a_folder(tmp_path: Path, part: str, file: str, name: str) -> None:
    """When the weights are cast; as they are stored, when a picture comes apart, but for the autoencoder."""
    folder = tmp_path / "sd"
    small.small_sd1(folder)
    path = folder / part / f"{file}.safetensors"
    name = next(key for key in safetensors.torch.load_file(path) if key.endswith(name))
    spoilt(path, name, torch.nan)
    message = f"{name.removeprefix('text_model.')} in its {'network' if part == 'unet' else part.replace('_', ' ')}"
    with pytest.raises(CheckpointDamaged, match=message):
        loading.load(read_checkpoint(folder), CPU, torch.bfloat16)
    if part == "vae":
        with pytest.raises(CheckpointDamaged, match=message):
            loading.load(read_checkpoint(folder), CPU)
        return
    model = loading.load(read_checkpoint(folder), CPU)
    request = GenerateRequest(prompt="a cat", checkpoint="sd", steps=2, sampler="euler", spacing="uniform")
    with pytest.raises(CheckpointDamaged, match=message):
        list(run_request(request, model, _Nowhere()))


class _Nowhere:
    def add(self, image: Any, request: GenerateRequest, *, extra: Any) -> Any:
        raise AssertionError("nothing is to be saved")


def test_in_one_file_and_in_a_pickle(small_world: Callable[[str], Path], tmp_path: Path) -> None:
    one = made(convert(record(small_world("sd1"), "sd1"), tmp_path / "one.safetensors")).path
    loading.load(record(one, "sd1"), CPU)
    pickled = tmp_path / "one.ckpt"
    torch.save({"state_dict": safetensors.torch.load_file(one), "epoch": 3}, pickled)
    assert loading.load(record(pickled, "sd1"), CPU).sha256  # and it is usable at all
    name = "model.diffusion_model.middle_block.0.in_layers.2.weight"
    tensors = {key: value.clone() for key, value in safetensors.torch.load_file(one).items()}
    tensors[name].view(-1)[0] = torch.inf
    torch.save({"state_dict": tensors}, pickled)
    safetensors.torch.save_file(tensors, one)
    for path in (one, pickled):
        with pytest.raises(CheckpointDamaged, match=r"mid_block.resnets.0.conv1.weight in its network"):
            loading.load(record(path, "sd1"), CPU, torch.bfloat16)


def module(weight: torch.Tensor) -> dict[str, nn.Module]:
    made = nn.Module()
    made.register_parameter("weight", nn.Parameter(weight, requires_grad=False))
    made.register_buffer("mask", torch.full((2, 2), -torch.inf))  # which is meant to be infinite
    return {"network": made}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn])
def test_what_is_sound_passes(dtype: torch.dtype) -> None:
    largest = torch.finfo(dtype).max
    check_finite(
        _named("F16"), module(torch.tensor([largest, -largest, 0.0], dtype=torch.float64).to(dtype)), lambda: None
    )
    check_finite(_named("F16"), module(torch.zeros(0, 3, dtype=dtype)), lambda: None)


def test_what_does_not_fit_into_halves_is_said_so() -> None:
    with pytest.raises(CheckpointUnknown, match=r"weight in its network has values beyond 65,504. Use bfloat16"):
        check_finite(_named("F32"), module(torch.tensor([1e6]).half()), lambda: None)
    with pytest.raises(CheckpointDamaged):
        check_finite(_named("F16"), module(torch.tensor([torch.inf]).half()), lambda: None)
    with pytest.raises(CheckpointDamaged):
        check_finite(_named("F32"), module(torch.tensor([torch.nan]).half()), lambda: None)


def test_it_can_be_stopped() -> None:
    def look() -> None:
        raise Interrupted("enough")

    with pytest.raises(Interrupted):
        check_finite(_named("F32"), module(torch.ones(1)), look)


def _named(dtype: str) -> Any:
    return SimpleNamespace(name="x", dtype=dtype)
