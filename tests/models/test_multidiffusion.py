"""Tiled sampling: what is local comes out as if whole, a blurring prior without a seam, in the memory of one tile."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from diffstudio.diffusion.noise import SeededNoise
from diffstudio.diffusion.samplers import SAMPLERS, Step
from diffstudio.diffusion.schedule import NoiseSchedule, RectifiedFlow, VariancePreserving
from diffstudio.diffusion.spacing import sampling_times
from diffstudio.errors import BadRequest, Interrupted
from diffstudio.models import loading
from diffstudio.models.conditioning.image_inputs import ControlNetInput, ImageInputs
from diffstudio.models.families.pixel import PixelModel
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.multidiffusion import TiledDenoiser, Tiling, cropped, tiled_denoiser, tiling_for
from diffstudio.models.tiling import Tile
from tests.diffusion.exact import Gaussian
from tests.models.sampled import sample
from tests.models.tiny import write_tiny_checkpoint

FLOW = RectifiedFlow()


@dataclass(frozen=True)
class Smooth:
    """Rows of a stationary Gaussian process: each tile knows only its own pixels, and so only the prior beyond its
    edges.
    """

    schedule: NoiseSchedule
    length: float = 6.0  # px over which pixels resemble each other

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = float(self.schedule.alpha(t[0])), float(self.schedule.sigma(t[0]))
        at = torch.arange(x_t.shape[-1], dtype=torch.float64)
        prior = torch.exp(-(at[:, None] - at).square() / (2 * self.length**2))
        gain = alpha * prior @ torch.linalg.inv(alpha**2 * prior + sigma**2 * torch.eye(len(at), dtype=torch.float64))
        return (x_t.double() @ gain.T).to(x_t)


def walked(denoiser: Any, shape: tuple[int, ...], sampler: str = "heun", steps: int = 8) -> list[Step]:
    noise = SeededNoise([7])
    times = sampling_times(denoiser.schedule, steps, "uniform")
    x = noise.start(shape).double() * denoiser.schedule.sigma(times[0])
    return list(SAMPLERS[sampler](denoiser, x, times, noise))


@pytest.mark.parametrize("sampler", ["heun", "dpmpp_2m", "euler_ancestral"])
@pytest.mark.parametrize("schedule", [FLOW, VariancePreserving.scaled_linear()])
def test_data_whose_pixels_know_nothing_of_each_other_are_sampled_as_if_whole(
    schedule: NoiseSchedule, sampler: str
) -> None:
    exact = Gaussian(schedule)
    tiled = TiledDenoiser(lambda tile: exact, schedule, 16, 4)
    whole, parts = (walked(denoiser, (3, 40, 56), sampler) for denoiser in (exact, tiled))
    for one, other in zip(whole, parts, strict=True):
        assert (one.x - other.x).abs().max() < 1e-6
        assert (one.denoised - other.denoised).abs().max() < 1e-6


def test_no_seam_where_tiles_see_only_themselves() -> None:
    """The estimate of one noisy state, whole and in tiles: where tiles meet it is as smooth as elsewhere."""
    prior = Smooth(FLOW)
    noise = SeededNoise(range(64))
    t = torch.full((64,), 0.6, dtype=torch.float64)
    x_t = noise.start((1, 1, 160)).double()
    tiled = TiledDenoiser(lambda tile: prior, FLOW, 48, 16)
    steps = tiled(x_t, t).diff(dim=-1).square().mean((0, 1, 2)).sqrt()  # between neighbours, for each place
    hard = (
        torch.cat([prior(part, t) for part in x_t.split(40, dim=-1)], dim=-1)
        .diff(dim=-1)
        .square()
        .mean((0, 1, 2))
        .sqrt()
    )
    usual = float(prior(x_t, t).diff(dim=-1).square().mean().sqrt())
    assert hard[[39, 79, 119]].min() > 2.5 * usual  # what a seam would look like
    assert steps.max() < 1.5 * usual


def test_tiled_samples_have_the_variance_of_the_data() -> None:
    prior = Smooth(FLOW)
    noise, times = SeededNoise(range(200)), sampling_times(FLOW, 24, "uniform")
    x = noise.start((1, 1, 120)).double()
    tiled = TiledDenoiser(lambda tile: prior, FLOW, 48, 24)
    *_, last = SAMPLERS["heun"](tiled, x, times, noise)
    spread = last.x.std(dim=0).flatten()
    assert spread.min() > 0.7 and spread.max() < 1.2
    assert last.x.diff(dim=-1).square().mean((0, 1, 2)).sqrt().max() < 1.5 * 6.0**-1  # the prior's own: 1 / length


def test_before_tile_is_called_and_the_network_sees_tiles_only() -> None:
    seen: list[tuple[int, ...]] = []

    class Watched(Gaussian):
        def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
            seen.append(tuple(x_t.shape))
            return super().__call__(x_t, t)

    def stop_after_two() -> None:
        if len(seen) == 2:
            raise Interrupted("Stopped")

    denoiser = TiledDenoiser(lambda tile: Watched(FLOW), FLOW, 16, 4, stop_after_two)
    with pytest.raises(Interrupted):
        denoiser(torch.randn(1, 3, 40, 40), torch.ones(1))
    assert seen == [(1, 3, 16, 16)] * 2


def test_image_inputs_are_cropped_to_each_tile() -> None:
    image = torch.arange(64.0).view(1, 1, 8, 8)
    hints = ImageInputs(
        image.expand(-1, 3, -1, -1), image, (ControlNetInput("net", image.expand(-1, 3, -1, -1), 0.5),), torch.ones(3)
    )
    part = cropped(hints, Tile(top=1, left=2, height=2, width=2), 2)
    assert part.mask is not None and torch.equal(part.mask, image[..., 2:6, 4:8])
    assert part.image is not None and part.image.shape == (1, 3, 4, 4)
    assert torch.equal(part.controls[0].image[:, :1], image[..., 2:6, 4:8]) and part.controls[0].scale == 0.5
    assert part.times is hints.times


class Pictures:
    """A model whose denoiser answers with what it is shown."""

    schedule = FLOW

    def denoiser(self, hints: ImageInputs) -> Any:
        made.append(hints)
        return lambda x_t, t: torch.zeros_like(x_t) if hints.image is None else hints.image.expand_as(x_t)


made: list[ImageInputs] = []


def test_each_tile_is_given_its_crop_and_one_denoiser_is_shared_without_image_inputs() -> None:
    made.clear()
    model: Any = Pictures()
    picture = torch.rand(1, 3, 40, 40)
    answer = tiled_denoiser(model, model.denoiser, ImageInputs(picture), 1, Tiling(16, 8))(
        torch.zeros(2, 3, 40, 40), torch.ones(2)
    )
    assert torch.allclose(answer, picture.expand(2, -1, -1, -1), atol=1e-6) and len(made) == 16
    made.clear()
    tiled_denoiser(model, model.denoiser, ImageInputs(), 1, Tiling(16, 8))(torch.zeros(1, 3, 40, 40), torch.ones(1))
    assert len(made) == 1


@pytest.fixture
def model(tmp_path: Path) -> PixelModel:
    model = loading.load(read_checkpoint(write_tiny_checkpoint(tmp_path / "tiny.safetensors")), torch.device("cpu"))
    assert isinstance(model, PixelModel)
    return model


def test_an_image_too_large_for_the_model_is_sampled_in_tiles(model: PixelModel) -> None:
    assert tiling_for(model, 32, 32) is None and tiling_for(model, 32, 32, always=True) is not None
    tiled = tiling_for(model, 64, 40)
    assert tiled == Tiling(16, 8) and tiled.count(64, 40) == 7 * 4
    picture = torch.rand(1, 3, 40, 64) * 2 - 1
    options: dict[str, Any] = {
        "prompts": ["apple"],
        "seeds": [3],
        "width": 64,
        "height": 40,
        "steps": 4,
        "strength": 0.5,
    }
    *_, step = sample(model, init=picture, tiling=tiled, **options)
    assert step.x.shape == (1, 3, 40, 64) and bool(step.x.isfinite().all())
    *_, same = sample(model, clean=picture, tiling=tiled, **options)
    assert torch.equal(step.x, same.x)
    with pytest.raises(BadRequest, match="at most 32"):
        sample(model, init=picture, **options)
    with pytest.raises(BadRequest, match="multiples of 8 px"):
        sample(model, init=picture, tiling=tiled, **replace_size(options, 60))


def replace_size(options: dict[str, Any], width: int) -> dict[str, Any]:
    return options | {"width": width}


def test_one_tile_is_the_whole_to_the_bit(model: PixelModel) -> None:
    options: dict[str, Any] = {"prompts": ["apple"], "seeds": [3], "steps": 3}
    *_, whole = sample(model, **options)
    *_, tiled_step = sample(model, tiling=Tiling(16, 8), **options)
    assert torch.equal(whole.x, tiled_step.x)


def test_tiles_are_frozen_and_fit_the_picture() -> None:
    tiling = Tiling(512, 128)
    assert tiling.tile_size_of(2048, 384) == (512, 384) and replace(tiling, tile_size=256).tile_size == 256
