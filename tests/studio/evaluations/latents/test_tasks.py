"""What pages ask about latents, run as the worker runs it: the same images as Generate makes at both ends."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffstudio.errors import BadRequest, CheckpointUnknown, ImageProblem, Interrupted
from diffstudio.imaging import reader
from diffstudio.models import loading
from diffstudio.models.fitted_steps.stored import store
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.model import Model
from diffstudio.models.recommended import sampling_values
from diffstudio.models.sampling import SampleOptions, sample
from diffstudio.networks.autoencoder import Autoencoder
from diffstudio.studio.evaluations.latents.tasks import InterpolateSeeds, LatentPoint, ShowLatents
from tests.models.families.test_one_call import written
from tests.models.fitted_steps.some_ladders import ladder
from tests.models.tiny import write_tiny_checkpoint
from tests.studio.evaluations.small_models import write_checkpoint

CPU = torch.device("cpu")


def nothing() -> None:
    """No newer task."""


def one_call(tmp_path: Path, kind: str) -> Model:
    model = loading.load(read_checkpoint(written(tmp_path / f"{kind}.safetensors", kind)), CPU)
    if isinstance(network := model.network, Autoencoder):
        network.set_directions(torch.randn(60, 48, generator=torch.Generator().manual_seed(0)) * 2)
    return model


def generated(model: Model, seed: int, prompt: str, truncation: float = 1.0) -> np.ndarray:
    """As Generate makes it."""
    values = sampling_values(model.checkpoint) if model.checkpoint is not None else {}
    if model.own_sampler is not None:
        values = {}
    options = SampleOptions([seed], truncation=truncation, **values)
    *_, step = sample(model, model.encode_prompt([prompt]), options)
    images = model.decode(step.x).float().clamp(-1, 1)
    return ((images[0] + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).numpy()


def difference(one: np.ndarray, other: np.ndarray) -> int:
    return int(np.abs(one.astype(int) - other.astype(int)).max())


@pytest.mark.parametrize("kind", ["vae", "gan"])
def test_a_seed_and_the_way_to_another(tmp_path: Path, kind: str) -> None:
    model = one_call(tmp_path, kind)
    shown = ShowLatents("any", "red", 0.7, LatentPoint(3), LatentPoint(9), 5).run(model, nothing)
    assert difference(shown.image, generated(model, 3, "red", 0.7)) <= 1
    assert len(shown.between) == 5 and shown.original is None and shown.reconstruction is None
    assert np.array_equal(shown.between[0], shown.image)
    assert difference(shown.between[-1], generated(model, 9, "red", 0.7)) <= 1
    assert shown.directions == (32 if kind == "vae" else 0)


def test_an_image_is_reconstructed_and_moved(tmp_path: Path) -> None:
    model = one_call(tmp_path, "vae")
    Image.effect_noise((40, 24), 80).convert("RGB").save(tmp_path / "a.png")
    still = ShowLatents("any", "red", 1.0, LatentPoint(image=tmp_path / "a.png")).run(model, nothing)
    assert still.original is not None and still.original.shape == (16, 16, 3) and not still.between
    assert still.reconstruction is not None and np.array_equal(still.image, still.reconstruction)
    point = LatentPoint(image=tmp_path / "a.png", amounts=((0, 3.0),))
    moved = ShowLatents("any", "red", 1.0, point, LatentPoint(image=tmp_path / "a.png"), 3).run(model, nothing)
    assert moved.reconstruction is not None and difference(moved.reconstruction, still.image) <= 1
    assert difference(moved.image, still.image) > 1
    assert difference(moved.between[-1], still.image) <= 1 and difference(moved.between[0], moved.image) <= 1


def test_transparent_pixels_lie_on_the_background_of_the_run(tmp_path: Path) -> None:
    model = one_call(tmp_path, "vae")
    Image.new("RGBA", (16, 16), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    shown = ShowLatents("any", "red", 1.0, LatentPoint(image=tmp_path / "clear.png")).run(model, nothing)
    assert shown.original is not None and (shown.original == 255).all()


def test_what_a_model_has_not_got_is_named(tmp_path: Path) -> None:
    gan = one_call(tmp_path, "gan")
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    with pytest.raises(BadRequest, match="A GAN cannot encode images"):
        ShowLatents("any", "red", 1.0, LatentPoint(image=tmp_path / "a.png")).run(gan, nothing)
    diffusion = loading.load(read_checkpoint(write_tiny_checkpoint(tmp_path / "tiny.safetensors")), CPU)
    with pytest.raises(CheckpointUnknown, match="no latent space"):
        ShowLatents("any", "", 1.0, LatentPoint()).run(diffusion, nothing)
    with pytest.raises(BadRequest, match="1 image is too few to interpolate"):
        InterpolateSeeds("any", (1, 2), count=1).run(gan, nothing)


@pytest.mark.parametrize("kind", ["vae", "gan", "diffusion", "diffusion with fitted steps"])
def test_the_ends_of_an_interpolation_are_the_images_of_its_seeds(tmp_path: Path, kind: str) -> None:
    if "diffusion" in kind:
        checkpoint = read_checkpoint(write_checkpoint(tmp_path / "small.safetensors"))
        if "fitted" in kind:
            store(checkpoint, [ladder("heun", 3, recommended=True)])
        model: Model = loading.load(read_checkpoint(checkpoint.path), CPU)
    else:
        model = one_call(tmp_path, kind)
    shown = InterpolateSeeds("any", (4, 11), ("red", "blue"), 5).run(model, nothing)
    assert len(shown) == 5
    assert difference(shown[0], generated(model, 4, "red")) <= 1
    assert difference(shown[-1], generated(model, 11, "blue")) <= 1
    assert all(difference(one, other) > 0 for one, other in zip(shown, shown[1:], strict=False))


def test_a_newer_task_interrupts_it(tmp_path: Path) -> None:
    model = loading.load(read_checkpoint(write_checkpoint(tmp_path / "small.safetensors")), CPU)
    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise Interrupted

    with pytest.raises(Interrupted):
        InterpolateSeeds("any", (4, 11), ("red", "red"), 5).run(model, check)


def test_a_pipeline_draws_its_own_noise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = loading.load(read_checkpoint(write_checkpoint(tmp_path / "small.safetensors")), CPU)
    monkeypatch.setattr(type(model), "own_sampler", object())
    with pytest.raises(BadRequest, match="Interpolation is not available for this checkpoint"):
        InterpolateSeeds("any", (4, 11)).run(model, nothing)


def test_an_image_is_read_again_only_when_its_file_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, path = one_call(tmp_path, "vae"), tmp_path / "a.png"
    read: list[Path] = []
    true = reader.read_image
    monkeypatch.setattr(reader, "read_image", lambda path, **options: read.append(path) or true(path, **options))
    for colour, times in (("red", 1), ("blue", 2)):
        Image.new("RGB", (20, 20), colour).save(path)
        os.utime(path, ns=(times, times))
        for amount in (0.5, 1.0):
            point = LatentPoint(image=path, amounts=((0, amount),))
            shown = ShowLatents("any", "red", 1.0, point).run(model, nothing)
        assert len(read) == times and shown.original is not None
        assert shown.original[8, 8, 0] == (255 if colour == "red" else 0)
    path.unlink()
    with pytest.raises(ImageProblem):
        ShowLatents("any", "red", 1.0, LatentPoint(image=path)).run(model, nothing)
