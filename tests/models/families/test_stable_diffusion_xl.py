"""Stable Diffusion XL through our loop against diffusers' own pipelines: base, refiner, few steps, sizes that are not
square.

Measured: 1e-7 to 2e-6 of the latents' norm.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from diffstudio.diffusion.tables import ALIGNED_SDXL
from diffstudio.models.families.stable_diffusion_xl import StableDiffusionXL
from tests.models import small
from tests.models.families.beside import (
    NEGATIVE,
    PROMPTS,
    ROUNDING,
    Build,
    difference,
    generators,
    ours,
    start,
    their_scheduler,
    theirs,
    watched,
)

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers, with NumPy 2


@pytest.mark.parametrize("negative", [NEGATIVE, ""])
@pytest.mark.parametrize(
    ("sampler", "spacing", "prediction"),
    [("euler", "leading", "epsilon"), ("dpmpp_2m", "trailing", "epsilon"), ("heun", "uniform", "v_prediction")],
)
def test_the_base_at_a_size_of_its_own(
    build: Build, sampler: str, spacing: str, prediction: str, negative: str
) -> None:
    """Without a negative prompt diffusers puts zeros in its place, and so do we."""
    pipeline, model = build(small.small_sdxl, "sdxl", prediction=prediction)
    assert isinstance(model, StableDiffusionXL) and not model.is_refiner
    pipeline.scheduler = their_scheduler(sampler, spacing, prediction_type=prediction)
    latents = start(model, pipeline.scheduler, sampler, 5, model.times(5, spacing, 1.0, 96, 64), 96, 64)
    expected = theirs(
        pipeline,
        latents=latents,
        guidance_scale=6.0,
        width=96,
        height=64,
        negative_prompt=[negative] * 2 if negative else None,
    )
    found = ours(
        model,
        conditioning=model.encode_prompt(PROMPTS, negative),
        sampler=sampler,
        spacing=spacing,
        guidance=6.0,
        width=96,
        height=64,
    )
    assert found.shape == (2, 4, 8, 12) and difference(found, expected) < ROUNDING


def test_it_is_told_its_size(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    _, model = build(small.small_sdxl, "sdxl", prediction="epsilon")
    time_ids: list[Any] = []
    real = model.network.forward

    def forward(*args: Any, **options: Any) -> Any:
        time_ids.append(options["added_cond_kwargs"]["time_ids"])
        return real(*args, **options)

    monkeypatch.setattr(model.network, "forward", forward)
    ours(model, steps=1, guidance=6.0, width=96, height=64)
    assert time_ids[0].tolist() == [[64, 96, 0, 0, 64, 96]] * 4


@pytest.mark.parametrize("guidance", [0.0, 1.0])
@pytest.mark.parametrize("sampler", ["euler_ancestral", "euler"])  # Turbo's, Lightning's
def test_few_steps_without_guidance(
    build: Build, monkeypatch: pytest.MonkeyPatch, sampler: str, guidance: float
) -> None:
    """As SDXL Turbo and Lightning are run: trailing, no guidance, one call of the network a step."""
    pipeline, model = build(small.small_sdxl, "sdxl", prediction="epsilon")
    pipeline.scheduler = their_scheduler(sampler, "trailing")
    latents = start(model, pipeline.scheduler, sampler, 4, model.times(4, "trailing", 1.0, 64, 64))
    noise = generators()
    for generator in noise:
        torch.randn(4, 8, 8, generator=generator)  # what the start took
    expected = theirs(pipeline, latents=latents, generator=noise, guidance_scale=guidance, num_inference_steps=4)
    calls = watched(model, monkeypatch)
    found = ours(model, sampler=sampler, spacing="trailing", guidance=guidance, steps=4)
    assert difference(found, expected) < ROUNDING and calls == [2] * 4


@pytest.mark.parametrize("negative", [NEGATIVE, ""])
def test_the_refiner_goes_on_with_a_picture(build: Build, image: Tensor, negative: str) -> None:
    pipeline, model = build(small.small_refiner, "sdxl_refiner")
    assert isinstance(model, StableDiffusionXL) and model.is_refiner
    pipeline.scheduler = their_scheduler("euler", "leading")
    latents = model.encode_image(image).repeat(2, 1, 1, 1)
    expected = theirs(
        pipeline,
        image=latents,
        strength=0.4,
        generator=generators(),
        guidance_scale=6.0,
        negative_prompt=[negative] * 2 if negative else None,
    )
    found = ours(
        model,
        conditioning=model.encode_prompt(PROMPTS, negative),
        init=image,
        strength=0.4,
        sampler="euler",
        spacing="leading",
        guidance=6.0,
    )
    assert difference(found, expected) < ROUNDING


def test_its_own_align_your_steps_and_its_own_colours(build: Build) -> None:
    _, model = build(small.small_sdxl, "sdxl", prediction="epsilon")
    times = model.times(10, "align_your_steps", 1.0, 64, 64)
    sigmas = (model.schedule.sigma(times) / model.schedule.alpha(times)).tolist()
    assert sigmas[1:-1] == pytest.approx(ALIGNED_SDXL[1:-1], rel=1e-4)
    grey = model.latents_to_rgb(torch.zeros(1, 4, 1, 1)).flatten()
    assert grey.tolist() == pytest.approx([150 / 127.5 - 1, 140 / 127.5 - 1, 130 / 127.5 - 1])
