"""The hires fix with latent families: whole, in tiles, by latents, with ControlNets, and models that do not support it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from diffstudio.errors import BadRequest
from diffstudio.models import loading
from diffstudio.models.conditioning.image_inputs import ControlNetInput
from diffstudio.models.families.latent import LatentModel
from diffstudio.models.library.folder_records import read_folder
from diffstudio.models.memory.oom_fallback import encode
from diffstudio.models.multidiffusion import Tiling
from diffstudio.studio.events import Stepped
from diffstudio.studio.jobs.recording import Recording, Replay
from diffstudio.studio.requests import GenerateRequest
from diffstudio.studio.requests.choices import LATENT
from tests.models import small, small_flow
from tests.models.conditioning.test_controlnet import lively
from tests.models.sampled import sample
from tests.stories.test_generate_latent import run

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers, with NumPy 2

REQUEST = GenerateRequest(
    prompt="a red apple",
    checkpoint="small",
    seed=11,
    steps=4,
    sampler="euler",
    guidance=5.0,
    enlarge=2,
    enlarge_strength=0.5,
)


def load(folder: Path, make: Any, **options: Any) -> Any:
    make(folder, **options)
    return loading.load(read_folder(folder), torch.device("cpu"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load(tmp_path_factory.mktemp("models") / "small", small.small_sd1)


@pytest.mark.parametrize("upscaler", ["lanczos", LATENT])
def test_as_a_whole_up_to_twice_the_trained_side(model: Any, tmp_path: Path, upscaler: str) -> None:
    request = replace(REQUEST, upscaler=upscaler)
    pixels, events = run(model, request, tmp_path, recording=(recording := Recording()))
    steps = [event for event in events if isinstance(event, Stepped)]
    assert pixels[0].shape == (128, 128, 3) and pixels[0].std() > 3
    assert [(step.index, step.steps, step.previews[0].shape[0]) for step in steps] == [
        (1, 6, 8),
        (2, 6, 8),
        (3, 6, 8),
        (4, 6, 8),
        (5, 6, 16),
        (6, 6, 16),
    ]
    again, _ = run(model, request, tmp_path, replay=Replay(recording, 6))
    assert np.array_equal(pixels[0], again[0])


@pytest.mark.parametrize(
    ("make", "side"),
    [
        (small.small_sd1, 64),
        (small.small_sd2, 64),
        (small.small_sdxl, 64),
        (small_flow.small_sd3, 64),
        (small_flow.small_flux, 64),
    ],
)
def test_in_tiles_beyond_the_limit(make: Any, side: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(tmp_path / "small", make)
    assert isinstance(model, LatentModel)
    model._side = side
    seen: set[tuple[int, ...]] = set()
    real = model.denoiser

    def denoiser(*arguments: Any) -> Any:
        inner = real(*arguments)

        def recorded(x_t: Tensor, t: Tensor) -> Tensor:
            seen.add(tuple(x_t.shape[-2:]))
            return inner(x_t, t)

        recorded.schedule = inner.schedule  # type: ignore[attr-defined]
        return recorded

    monkeypatch.setattr(model, "denoiser", denoiser)
    pixels, _ = run(model, replace(REQUEST, width=side, height=side, enlarge=3, guidance=1.0), tmp_path)
    assert pixels[0].shape == (3 * side, 3 * side, 3)
    assert seen == {(side // model.vae_scale_factor, side // model.vae_scale_factor)}


def test_the_ladder_is_that_of_a_window(tmp_path: Path) -> None:
    """A flow leans further towards the noise the larger the picture that its network sees."""
    model = load(tmp_path / "small", small_flow.small_flux)
    times: list[Tensor] = []
    real = model.times
    model.times = lambda *arguments: times.append(real(*arguments)) or times[-1]
    clean = torch.zeros(1, *model.state_shape(256, 256))
    list(
        sample(
            model,
            prompts=["x"],
            seeds=[1],
            width=256,
            height=256,
            steps=3,
            sampler="euler",
            guidance=1.0,
            clean=clean,
            strength=0.7,
            tiling=Tiling(64, 16),
        )
    )
    assert torch.equal(times[0], real(3, "uniform", 0.7, 64, 64))


def test_an_inpainting_checkpoint_paints_all_of_each_window(tmp_path: Path) -> None:
    model = load(tmp_path / "small", small.small_sd1, inpainting=True)
    pixels, _ = run(model, replace(REQUEST, enlarge=3), tmp_path)
    assert model.inpaints and pixels[0].shape == (192, 192, 3) and pixels[0].std() > 3


def test_what_steers_is_cropped_to_each_window(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    control = lively(model.network)
    seen: list[Tensor] = []
    real = control.forward
    monkeypatch.setattr(
        control,
        "forward",
        lambda *arguments, **options: seen.append(options["controlnet_cond"]) or real(*arguments, **options),
    )
    image = torch.rand(1, 3, 128, 128)
    *_, step = sample(
        model,
        prompts=["x"],
        seeds=[1],
        width=128,
        height=128,
        steps=1,
        sampler="euler",
        guidance=1.0,
        controls=(ControlNetInput(control, image),),
        tiling=Tiling(64, 0),
        clean=torch.zeros(1, 4, 16, 16),
    )
    assert bool(step.x.isfinite().all())
    corners = [image[..., top : top + 64, left : left + 64] for top in (0, 64) for left in (0, 64)]
    assert len(seen) == 4 and all(torch.equal(one, other) for one, other in zip(seen, corners, strict=True))


def test_a_picture_that_does_not_fit_is_encoded_in_tiles(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    image = torch.nn.functional.interpolate(torch.rand(1, 3, 12, 12) * 2 - 1, size=(768, 768), mode="bicubic")
    whole = model.encode_image(image)
    real, done = model._encode, []

    def encode_some(part: Tensor) -> Tensor:
        if part.shape[-1] > 512:
            raise MemoryError
        done.append(part.shape[-1])
        return real(part)

    monkeypatch.setattr(model, "_encode", encode_some)
    notes: list[str] = []
    state = encode(model, image, notes.append, lambda: None)
    assert notes == ["The image was encoded in tiles, because it did not fit into memory at once."]
    assert state.shape == whole.shape and set(done) == {512}
    assert (state - whole).abs().mean() < 0.15 * whole.std()  # its norms and its attention see less of the picture


def test_a_pipeline_that_runs_itself_cannot(tmp_path: Path) -> None:
    model = load(tmp_path / "small", small_flow.small_pixart)
    with pytest.raises(BadRequest, match="cannot sample from an enlarged image"):
        run(model, REQUEST, tmp_path)
