"""At which times samplers call a network that was trained here, and at which measurements do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from diffstudio import cli
from diffstudio.models.families import pixel
from diffstudio.models.fitted_steps.stored import rewrite_metadata
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.sampling import SampleOptions, sample
from diffstudio.networks.conditioning import Conditioning
from diffstudio.ui.models.model_info import model_rows
from tests.models.tiny import write_tiny_checkpoint


def model_with(path: Path, minimum: float, conditioning: Conditioning = Conditioning.TEXT) -> pixel.PixelModel:
    write_tiny_checkpoint(path, conditioning=conditioning)
    rewrite_metadata(path, {"diffstudio.sampling": json.dumps({"min_timestep": minimum})}, "no space")
    return pixel.load(read_checkpoint(path), torch.device("cpu"), torch.float32)


def times_called(model: pixel.PixelModel, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Filled with the times at which the network is called."""
    called, real = [], type(model.network).forward

    def forward(network: torch.nn.Module, x_t: Tensor, t: Tensor, condition: object) -> Tensor:
        called.append(round(float(t[0]), 4))
        estimate: Tensor = real(network, x_t, t, condition)  # type: ignore[arg-type]
        return estimate

    monkeypatch.setattr(type(model.network), "forward", forward)
    return called


@pytest.mark.parametrize("conditioning", [Conditioning.NONE, Conditioning.TEXT])
def test_samplers_call_the_network_at_no_earlier_time(
    conditioning: Conditioning, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_with(tmp_path / "own.safetensors", 0.35, conditioning)
    called = times_called(model, monkeypatch)
    options = SampleOptions([0], steps=4, sampler="euler", guidance=3.0)
    *_, step = sample(model, model.encode_prompt([""]), options)
    assert called == [1.0, 0.75, 0.5, 0.35]
    model.min_timestep = 0.0
    *_, other = sample(model, model.encode_prompt([""]), options)
    assert called[4:] == [1.0, 0.75, 0.5, 0.25] and not torch.allclose(step.x, other.x)
    assert bool(step.x.isfinite().all())


def test_img2img_calls_it_at_no_later_time_than_its_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_with(tmp_path / "own.safetensors", 0.35)
    called = times_called(model, monkeypatch)
    image = torch.zeros(1, 3, 16, 16)
    options = SampleOptions([0], steps=20, sampler="euler", guidance=1.0, strength=0.1, init=image)
    list(sample(model, model.encode_prompt([""]), options))
    assert called and set(called) == {max(called)} and max(called) < 0.35


def test_guidance_begins_and_ends_by_the_time_itself(tmp_path: Path) -> None:
    model = model_with(tmp_path / "own.safetensors", 0.5)
    prompt, x = model.encode_prompt(["red apple"]), torch.randn(1, 3, 16, 16)
    early, late = torch.full((1,), 0.25), torch.full((1,), 0.5)
    guided, plain = (model.sampling_denoiser(prompt, scale, interval=(0.4, 1.0)) for scale in (3.0, 1.0))
    assert torch.equal(guided(x, early), plain(x, early)) and not torch.allclose(guided(x, late), plain(x, late))


def test_measurements_call_it_at_the_time_itself(tmp_path: Path) -> None:
    model, plain = (model_with(tmp_path / f"{minimum}.safetensors", minimum) for minimum in (0.35, 0.0))
    prompt, x, t = model.encode_prompt(["red apple"]), torch.randn(1, 3, 16, 16), torch.full((1,), 0.1)
    estimate = model.denoiser(prompt, 1.0)(x, t)
    assert torch.equal(estimate, plain.denoiser(prompt, 1.0)(x, t))
    sampled = model.sampling_denoiser(prompt, 1.0)(x, t)
    assert not torch.allclose(sampled, estimate)
    assert torch.equal(sampled, plain.denoiser(prompt, 1.0)(x * (0.65 / 0.9), torch.full((1,), 0.35)))


def test_the_command_line_and_the_window_say_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "own.safetensors"
    assert cli.main(["models", "show", str(write_tiny_checkpoint(path)), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["min_timestep"] == 0
    assert not dict(model_rows(read_checkpoint(path)))["Minimum timestep"]
    model_with(path, 0.35)
    assert cli.main(["models", "show", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["min_timestep"] == 0.35
    assert dict(model_rows(read_checkpoint(path)))["Minimum timestep"].startswith("t = 0.35")
