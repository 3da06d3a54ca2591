"""Stable Diffusion 3 and 3.5 against diffusers' own pipeline, on small random weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FlowMatchHeunDiscreteScheduler, StableDiffusion3Img2ImgPipeline

from diffstudio.errors import BadRequest, CheckpointMissing
from diffstudio.models.components.components import FolderComponents
from diffstudio.models.families import sd3
from tests.models.small_flow import CPU, HEIGHT, WIDTH, checkpoint_of, difference, ours, small_sd3, theirs

PROMPTS = ["red apple", "a photo of the sleeping cat"]
CLOSE = 1e-5  # relative, in float32


def load(folder: Path) -> sd3.SD3Model:
    return sd3.load(checkpoint_of(folder, "sd3"), FolderComponents(folder), CPU, torch.float32)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, sd3.SD3Model]]:
    folder = tmp_path_factory.mktemp("sd3")
    yield small_sd3(folder), load(folder)


@pytest.mark.parametrize("guidance", [4.5, 1.0, 0.0])
def test_it_draws_diffusers_own_pictures(small: tuple[Any, sd3.SD3Model], guidance: float) -> None:
    pipeline, model = small
    reference = theirs(pipeline, PROMPTS, guidance_scale=guidance, negative_prompt=["ugly", "ugly"])
    assert difference(ours(model, PROMPTS, negative="ugly", guidance=guidance), reference) < CLOSE


def test_what_it_is_told_matters(small: tuple[Any, sd3.SD3Model]) -> None:
    _, model = small
    image = ours(model, PROMPTS[:1], guidance=4.5)
    for options in ({"guidance": 1.0}, {"guidance": 4.5, "negative": "ugly"}):
        assert difference(ours(model, PROMPTS[:1], **options), image) > 100 * CLOSE
    assert difference(ours(model, PROMPTS[1:], guidance=4.5), image) > 100 * CLOSE


def test_heun(small: tuple[Any, sd3.SD3Model]) -> None:
    pipeline, model = small
    euler = pipeline.scheduler
    try:
        pipeline.scheduler = FlowMatchHeunDiscreteScheduler(shift=3.0)
        reference = theirs(pipeline, PROMPTS, guidance_scale=4.5)
    finally:
        pipeline.scheduler = euler
    assert difference(ours(model, PROMPTS, guidance=4.5, sampler="heun"), reference) < CLOSE


def test_one_of_a_batch_is_the_picture_made_alone(small: tuple[Any, sd3.SD3Model]) -> None:
    _, model = small
    assert difference(ours(model, PROMPTS, guidance=4.5)[:1], ours(model, PROMPTS[:1], guidance=4.5)) < CLOSE


def test_the_newer_kind(tmp_path: Path) -> None:
    pipeline, model = small_sd3(tmp_path, newer=True), load(tmp_path)
    assert difference(ours(model, PROMPTS, guidance=4.5), theirs(pipeline, PROMPTS, guidance_scale=4.5)) < CLOSE


def test_without_t5_it_goes_on_as_diffusers_does(tmp_path: Path, small: tuple[Any, sd3.SD3Model]) -> None:
    pipeline, model = small_sd3(tmp_path, t5=False), load(tmp_path)
    assert small[1].has_t5 and not model.has_t5
    image = ours(model, PROMPTS, guidance=4.5)
    assert difference(image, theirs(pipeline, PROMPTS, guidance_scale=4.5)) < CLOSE
    assert difference(ours(small[1], PROMPTS, guidance=4.5), image) > 100 * CLOSE


@pytest.mark.parametrize("name", ["text_encoder_2", "vae", "tokenizer_3"])
def test_a_missing_part_is_named_with_its_place(tmp_path: Path, name: str) -> None:
    small_sd3(tmp_path)
    (tmp_path / name).rename(tmp_path / "away")
    with pytest.raises(CheckpointMissing, match=f"has no {name}.*Put the {name} of the same model there"):
        load(tmp_path)


@pytest.mark.parametrize("scheduling", [{"shift": 3.0}, {"use_dynamic_shifting": True}])
def test_uniform_times_are_diffusers_own(tmp_path: Path, scheduling: dict[str, Any]) -> None:
    pipeline, model = small_sd3(tmp_path, **scheduling), load(tmp_path)
    theirs(pipeline, PROMPTS[:1], num_inference_steps=5)
    torch.testing.assert_close(
        model.times(5, "uniform", 1.0, WIDTH, HEIGHT).float(), pipeline.scheduler.sigmas, atol=1e-6, rtol=0
    )
    assert len(model.times(5, "uniform", 0.4, WIDTH, HEIGHT)) == 3
    assert torch.equal(model.times(1, "uniform", 1.0, WIDTH, HEIGHT), torch.tensor([1.0, 0.0]).double())


def test_no_picture_is_larger_than_the_positions_it_has_learnt(small: tuple[Any, sd3.SD3Model]) -> None:
    _, model = small
    assert model.default_size == (128, 128)
    model.check_size(192, 64)
    with pytest.raises(BadRequest, match="at most 192"):
        model.check_size(208, 64)


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_from_a_given_picture(small: tuple[Any, sd3.SD3Model], strength: float) -> None:
    pipeline, model = small
    image = torch.rand(1, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1)) * 2 - 1
    latents = (pipeline.vae.encode(image).latent_dist.mode() - 0.0609) * 1.5305
    torch.testing.assert_close(model.encode_image(image), latents)
    from_image = StableDiffusion3Img2ImgPipeline(**pipeline.components)
    from_image.set_progress_bar_config(disable=True)
    reference = theirs(
        from_image, PROMPTS, image=latents, strength=strength, guidance_scale=4.5
    )  # latents are taken as they are
    assert difference(ours(model, PROMPTS, guidance=4.5, init=image, strength=strength), reference) < CLOSE
