"""A request on its whole way with somebody else's checkpoint: a small Stable Diffusion in a diffusers folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor

from diffstudio import cli
from diffstudio.errors import Interrupted
from diffstudio.models import loading
from diffstudio.models.families.stable_diffusion import StableDiffusion
from diffstudio.models.library.folder_records import read_folder
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.memory.model_cache import ModelCache
from diffstudio.models.state_dicts.to_original import vae_to_original
from diffstudio.studio.events import Event, Finished, ImageSaved, Picture, Stepped
from diffstudio.studio.jobs.job_control import JobControl
from diffstudio.studio.jobs.recording import Recording, Replay
from diffstudio.studio.requests import GenerateRequest
from tests.models import small
from tests.models.families.beside import their_scheduler
from tests.studio.run_request import run_request

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers, with NumPy 2

REQUEST = GenerateRequest(
    prompt="a red apple",
    negative="ugly",
    checkpoint="small",
    seed=11,
    steps=5,
    sampler="euler",
    spacing="uniform",
    guidance=7.0,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "small"
    small.small_sd1(folder, prediction="v_prediction")
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> StableDiffusion:
    model = loading.load(read_folder(folder), torch.device("cpu"))
    assert isinstance(model, StableDiffusion)
    return model


class Saved:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pixels: list[Picture] = []

    def add(self, image: Image.Image, request: GenerateRequest, *, extra: Any) -> Any:
        self.pixels.append(np.array(image))
        self.path = self.folder / f"{len(self.pixels)}.png"
        image.save(self.path)
        return self


def run(
    model: StableDiffusion, request: GenerateRequest, folder: Path, **options: Any
) -> tuple[list[Picture], list[Event]]:
    saved = Saved(folder)
    return saved.pixels, list(run_request(request, model, saved, **options))


def calls_of(
    model: StableDiffusion, monkeypatch: pytest.MonkeyPatch, then: Callable[[int], None] = lambda number: None
) -> list[int]:
    """The batch of each of the network's calls; `then` hears their numbers, from 1."""
    calls: list[int] = []
    real = model.network.forward

    def forward(x: Tensor, *args: Any, **options: Any) -> Any:
        calls.append(len(x))
        then(len(calls))
        return real(x, *args, **options)

    monkeypatch.setattr(model.network, "forward", forward)
    return calls


def test_the_saved_pictures_are_those_of_diffusers(model: StableDiffusion, folder: Path, tmp_path: Path) -> None:
    pixels, events = run(model, replace(REQUEST, count=2), tmp_path)
    pipeline = small.small_sd1(prediction="v_prediction")
    pipeline.scheduler = their_scheduler("euler", "uniform", prediction_type="v_prediction")
    expected = pipeline(
        ["a red apple"] * 2,
        negative_prompt=["ugly"] * 2,
        num_inference_steps=5,
        guidance_scale=7.0,
        generator=[torch.Generator().manual_seed(seed) for seed in (11, 12)],
    ).images
    assert [picture.shape for picture in pixels] == [(64, 64, 3)] * 2
    for ours, theirs in zip(pixels, expected, strict=True):
        assert np.abs(ours.astype(int) - np.array(theirs)).max() <= 1 and ours.std() > 3
    steps = [event for event in events if isinstance(event, Stepped)]
    assert all(preview.shape == (8, 8, 3) and preview.std() > 3 for step in steps for preview in step.previews)
    assert isinstance(events[-1], Finished) and sum(isinstance(event, ImageSaved) for event in events) == 2


@pytest.mark.parametrize("sampler", ["heun", "dpmpp_2m", "unipc", "euler_ancestral"])
def test_restarting_from_a_step_asks_the_network_only_from_there(
    model: StableDiffusion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sampler: str
) -> None:
    request = replace(REQUEST, sampler=sampler)
    pixels, _ = run(model, request, tmp_path, recording=(recording := Recording()))
    calls = calls_of(model, monkeypatch)
    again, _ = run(model, request, tmp_path, replay=Replay(recording, 4))
    assert np.array_equal(pixels[0], again[0])
    assert len(calls) == (3 if sampler == "heun" else 2)


def test_stop_and_pause_act_after_the_call_in_flight(
    model: StableDiffusion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels, _ = run(model, REQUEST, tmp_path)
    control = JobControl()
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        calls = calls_of(model, patch, lambda number: control.stop() if number == 2 else None)
        run(model, REQUEST, tmp_path, job_control=control)
    assert len(calls) == 2
    resumed: list[int] = []
    control = JobControl(on_pause=lambda: (resumed.append(len(calls)), control.resume())[0])
    with monkeypatch.context() as patch:
        calls = calls_of(model, patch, lambda number: control.pause() if number == 3 else None)
        paused, _ = run(model, REQUEST, tmp_path, job_control=control)
    assert resumed == [3] and np.array_equal(paused[0], pixels[0])


def test_from_a_picture_and_into_a_part_of_it(model: StableDiffusion, tmp_path: Path) -> None:
    given = np.random.default_rng(1).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    white = np.zeros((64, 64), np.uint8)
    white[16:48, 16:48] = 255
    Image.fromarray(given).save(tmp_path / "init.png")
    Image.fromarray(white).save(tmp_path / "mask.png")
    request = replace(REQUEST, init=tmp_path / "init.png", strength=0.6)
    whole, events = run(model, request, tmp_path)
    assert sum(isinstance(event, Stepped) for event in events) == 3 and not np.array_equal(whole[0], given)
    part, _ = run(model, replace(request, mask=tmp_path / "mask.png"), tmp_path)
    assert np.array_equal(part[0][white == 0], given[white == 0]) and not np.array_equal(part[0], given)


def test_from_the_command_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "apple.png"
    assert (
        cli.main(
            [
                "generate",
                "a (red:1.2) apple",
                "--negative",
                "ugly",
                "--checkpoint",
                str(folder),
                "--steps",
                "3",
                "--sampler",
                "dpmpp_2m",
                "--spacing",
                "karras",
                "--guidance",
                "5",
                "--seed",
                "4",
                "--out",
                str(out),
            ]
        )
        == 0
    )
    with Image.open(out) as picture:
        assert picture.size == (64, 64)
        about = json.loads(picture.text["diffstudio"])  # type: ignore[attr-defined]
    assert "step 3 of 3" in capsys.readouterr().err and "(red:1.2)" in json.dumps(about)


def test_another_autoencoder_from_the_command_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--vae`: the picture is another one, and says which it was made with."""
    vae = tmp_path / "blessed.safetensors"
    safetensors.torch.save_file(vae_to_original(small.small_vae(seed=77).state_dict()), vae)
    asked = ["generate", "a red apple", "--checkpoint", str(folder), "--steps", "2", "--sampler", "euler", "--out"]
    assert cli.main([*asked, str(tmp_path / "own.png")]) == 0
    assert cli.main([*asked, str(tmp_path / "other.png"), "--vae", str(vae)]) == 0
    assert "small uses the VAE from blessed.safetensors." in capsys.readouterr().err
    with Image.open(tmp_path / "own.png") as own, Image.open(tmp_path / "other.png") as other:
        assert not np.array_equal(np.array(own), np.array(other))
        message, request = other.text["parameters"], json.loads(other.text["diffstudio"])  # type: ignore[attr-defined]
        assert "VAE: blessed," in message and request["vae"] == "blessed" and str(tmp_path) not in message
        assert "VAE" not in own.text["parameters"]  # type: ignore[attr-defined]
    assert cli.main([*asked, str(tmp_path / "none.png"), "--vae", "nonsense"]) == 2
    assert "nonsense" in capsys.readouterr().err


def test_a_model_in_memory_is_kept_apart_by_its_autoencoder(folder: Path, tmp_path: Path) -> None:
    vae = tmp_path / "other.safetensors"
    safetensors.torch.save_file(small.small_vae(seed=77).state_dict(), vae)
    record, cpu = read_folder(folder), torch.device("cpu")
    kept, chosen = ModelCache(), read_checkpoint(vae)
    plain, other = loading.load(record, cpu), loading.load(record, cpu, vae=chosen)
    kept.put(plain)
    assert kept.get(record, cpu, chosen) is None
    kept.put(other)
    assert kept.get(record, cpu, chosen) is other and kept.get(record, cpu) is plain
