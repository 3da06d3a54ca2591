"""Stable Diffusion 1 and 2 through our loop against diffusers' own pipelines, on small random weights of the real
architecture.

The same prompts, noise and ladder give the same picture to float32's rounding: measured, 2e-7 to 2e-6 of the latents'
norm. What is led around on the way is said in `beside`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from diffstudio.diffusion.samplers import SAMPLERS
from diffstudio.errors import BadRequest, CheckpointUnknown
from diffstudio.models.components.components import FolderComponents
from diffstudio.models.conditioning.image_inputs import ImageInputs
from diffstudio.models.families import stable_diffusion
from diffstudio.models.families.stable_diffusion import StableDiffusion
from tests.models import small
from tests.models.families.beside import (
    CPU,
    KARRAS,
    NEGATIVE,
    PROMPTS,
    ROUNDING,
    SEEDS,
    Build,
    checkpoint,
    difference,
    generators,
    load,
    ours,
    start,
    their_scheduler,
    theirs,
    told_our_times,
    watched,
)
from tests.models.sampled import sample

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning",  # diffusers, with NumPy 2
    "ignore:`Transformer2DModelOutput` is deprecated:FutureWarning",
)


# ---- the same picture ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sampler", "spacing"),
    [
        *(
            (sampler, spacing)
            for sampler in ("euler", "heun")
            for spacing in ("uniform", "trailing", "leading", "karras")
        ),
        ("ddim", "trailing"),
        ("ddim", "leading"),
        ("dpmpp_2m", "trailing"),
        ("dpmpp_2m", "karras"),
        ("unipc", "trailing"),
        ("unipc", "karras"),
    ],
)
@pytest.mark.parametrize(
    ("builder", "family", "prediction"),
    [
        (builder, family, prediction)
        for prediction in ("epsilon", "v_prediction")
        for builder, family in ((small.small_sd1, "sd1"), (small.small_sd2, "sd2"), (small.small_sdxl, "sdxl"))
    ],
)
def test_the_picture_is_theirs(
    build: Build, builder: Any, family: str, prediction: str, sampler: str, spacing: str
) -> None:
    pipeline, model = build(builder, family, prediction=prediction)
    pipeline.scheduler = their_scheduler(sampler, spacing, prediction_type=prediction)
    steps = 3 if sampler in ("euler", "heun") else 5  # a multistep method needs some for its highest order
    latents = start(model, pipeline.scheduler, sampler, steps, model.times(steps, spacing, 1.0, 64, 64))
    found = ours(model, sampler=sampler, spacing=spacing, guidance=7.0, steps=steps)
    if spacing == "karras" and sampler in ("dpmpp_2m", "unipc"):
        pipeline.scheduler = told_our_times(pipeline.scheduler, model)
    tolerance = KARRAS if spacing == "karras" else ROUNDING
    expected = theirs(pipeline, latents=latents, guidance_scale=7.0, num_inference_steps=steps)
    assert difference(found, expected) < tolerance


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("sampler", ["dpmpp_2m", "unipc"])  # DDIM steps 1000 / N down from each, wherever the next lies
@pytest.mark.parametrize("spacing", ["uniform", "leading"])
def test_on_the_times_that_they_list(build: Build, sampler: str, spacing: str, prediction: str) -> None:
    pipeline, model = build(small.small_sd1, "sd1", prediction=prediction)
    pipeline.scheduler = their_scheduler(sampler, spacing, prediction_type=prediction)
    pipeline.scheduler.set_timesteps(7)
    times = torch.tensor([*(index + 1 for index in pipeline.scheduler.timesteps.tolist()), 0], dtype=torch.float64)
    latents = start(model, pipeline.scheduler, sampler, 7, times)
    denoiser = model.denoiser(model.encode_prompt(PROMPTS, NEGATIVE), 7.0)
    *_, last = SAMPLERS[sampler](denoiser, latents, times, torch.randn_like)
    assert difference(last.x, theirs(pipeline, latents=latents, guidance_scale=7.0, num_inference_steps=7)) < ROUNDING


@pytest.mark.parametrize("sampler", ["euler", "heun"])
def test_the_same_seeds_are_enough(build: Build, sampler: str) -> None:
    """With diffusers' `linspace` both begin from sigma * noise: nothing but seeds, steps, prompts and guidance is
    shared.
    """
    pipeline, model = build(small.small_sd1, "sd1", prediction="epsilon")
    pipeline.scheduler = their_scheduler(sampler, "uniform")
    expected = theirs(pipeline, generator=generators(), guidance_scale=7.0, output_type="pt")  # [2,3,64,64] in [0,1]
    found = model.decode(ours(model, sampler=sampler, spacing="uniform", guidance=7.0)) / 2 + 0.5
    assert (found.clamp(0, 1) - expected).abs().max() < 1e-5 and expected.std() > 0.01


def test_noise_renewed_at_every_step_is_theirs(build: Build) -> None:
    pipeline, model = build(small.small_sd1, "sd1", prediction="epsilon")
    pipeline.scheduler = their_scheduler("euler_ancestral", "trailing")
    expected = theirs(pipeline, generator=generators(), guidance_scale=7.0)
    assert difference(ours(model, sampler="euler_ancestral", spacing="trailing", guidance=7.0), expected) < ROUNDING


def test_zero_terminal_snr_with_rescaled_guidance(build: Build) -> None:
    """Their state begins 4096 times as large, which costs it digits that ours keeps."""
    pipeline, model = build(small.small_sd2, "sd2", rescale_betas_zero_snr=True, timestep_spacing="trailing")
    assert model.rescale == 0.7 and model.schedule.alpha(torch.tensor(1000.0)) < 1e-3
    pipeline.scheduler = their_scheduler(
        "euler", "trailing", prediction_type="v_prediction", rescale_betas_zero_snr=True
    )
    expected = theirs(pipeline, generator=generators(), guidance_scale=7.0, guidance_rescale=0.7)
    assert difference(ours(model, sampler="euler", spacing="trailing", guidance=7.0), expected) < 5e-5
    plain = theirs(pipeline, generator=generators(), guidance_scale=7.0)
    assert difference(plain, expected) > 1e-2


# ---- guidance --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("guidance", [0.0, 1.0])
def test_without_guidance_the_network_is_asked_once_a_step(
    build: Build, monkeypatch: pytest.MonkeyPatch, guidance: float
) -> None:
    pipeline, model = build(small.small_sd1, "sd1", prediction="v_prediction")
    pipeline.scheduler = their_scheduler("euler", "uniform", prediction_type="v_prediction")
    expected = theirs(pipeline, generator=generators(), guidance_scale=guidance)
    calls = watched(model, monkeypatch)
    assert difference(ours(model, sampler="euler", guidance=guidance), expected) < ROUNDING
    assert calls == [2] * 5


def test_guidance_is_one_call_of_twice_the_batch_and_moves_the_picture(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, model = build(small.small_sd1, "sd1", prediction="v_prediction")
    without = ours(model, sampler="euler", guidance=1.0)
    calls = watched(model, monkeypatch)
    with_guidance = ours(model, sampler="euler", guidance=7.0)
    assert calls == [4] * 5 and difference(with_guidance, without) > 1e-2
    other = ours(model, sampler="euler", guidance=7.0, conditioning=model.encode_prompt(PROMPTS, "green dog"))
    assert difference(other, with_guidance) > 1e-3


# ---- pictures that are given -----------------------------------------------------------------------------------------


@pytest.fixture
def mask() -> Tensor:
    """[1,1,64,64]: a rectangle is painted anew."""
    mask = torch.zeros(1, 1, small.SIDE, small.SIDE)
    mask[..., 13:45, 22:60] = 1.0
    return mask


@pytest.mark.parametrize(
    ("sampler", "spacing"),
    [("euler", "uniform"), ("heun", "trailing"), ("ddim", "leading"), ("dpmpp_2m", "trailing"), ("unipc", "trailing")],
)
def test_image_to_image(build: Build, image: Tensor, sampler: str, spacing: str) -> None:
    pipeline, model = build(small.small_sd1, "sd1", prediction="epsilon")
    given = diffusers.StableDiffusionImg2ImgPipeline(**pipeline.components, requires_safety_checker=False)
    given.set_progress_bar_config(disable=True)
    given.scheduler = their_scheduler(sampler, spacing)
    latents = model.encode_image(image).repeat(2, 1, 1, 1)  # theirs would draw from the encoder's distribution
    expected = theirs(given, image=latents, strength=0.6, generator=generators(), guidance_scale=5.0)
    found = ours(model, init=image, strength=0.6, sampler=sampler, spacing=spacing, guidance=5.0)
    assert difference(found, expected) < ROUNDING


@pytest.mark.parametrize("strength", [1.0, 0.6])
@pytest.mark.parametrize(
    ("builder", "family"), [(small.small_sd1, "sd1"), (small.small_sd2, "sd2"), (small.small_sdxl, "sdxl")]
)
def test_painting_networks(
    build: Build, image: Tensor, mask: Tensor, builder: Any, family: str, strength: float
) -> None:
    pipeline, model = build(builder, family, prediction="v_prediction", inpainting=True)
    assert model.inpaints
    pipeline.scheduler = their_scheduler("euler", "uniform", prediction_type="v_prediction")
    clean = model.encode_image(image).repeat(2, 1, 1, 1)
    around = model.encode_image(image * (1 - mask)).repeat(2, 1, 1, 1)
    expected = theirs(
        pipeline,
        **painted(model, pipeline, clean, strength),
        mask_image=mask,
        masked_image_latents=around,
        height=small.SIDE,
        width=small.SIDE,
        strength=strength,
        generator=generators(),
        guidance_scale=5.0,
    )
    found = ours(model, init=image, mask=mask, strength=strength, sampler="euler", spacing="uniform", guidance=5.0)
    assert difference(found, expected) < ROUNDING
    unmasked = ours(model, init=image, mask=torch.ones_like(mask), strength=strength, sampler="euler", guidance=5.0)
    assert difference(unmasked, expected) > 1e-3


def painted(model: StableDiffusion, pipeline: Any, clean: Tensor, strength: float) -> dict[str, Any]:
    """At full strength theirs begins from noise alone; ours keeps what the last training step leaves of the picture."""
    if strength < 1:
        return {"image": clean}
    times = model.times(5, "uniform", 1.0, 64, 64)
    noise = start(model, pipeline.scheduler, "euler", 5, times)
    return {"image": clean, "latents": noise + clean / float(pipeline.scheduler.init_noise_sigma)}


def test_a_painting_network_without_a_picture_paints_all_of_it(build: Build) -> None:
    _, model = build(small.small_sd1, "sd1", prediction="v_prediction", inpainting=True)
    blank, everywhere = torch.zeros(1, 3, small.SIDE, small.SIDE), torch.ones(1, 1, small.SIDE, small.SIDE)
    prompted, x, t = model.encode_prompt(PROMPTS), torch.randn(2, 4, 8, 8), torch.full((2,), 500.0)
    found = model.denoiser(prompted, 5.0)(x, t)
    assert torch.equal(found, model.denoiser(prompted, 5.0, ImageInputs(blank, everywhere))(x, t))


# ---- consistency models ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("builder", "family"), [(small.small_sd1, "sd1"), (small.small_sdxl, "sdxl")])
def test_consistency_models_read_their_guidance_and_are_asked_once(
    build: Build, monkeypatch: pytest.MonkeyPatch, builder: Any, family: str
) -> None:
    pipeline, model = build(builder, family, lcm=True)
    assert model.guidance == 8.0
    pipeline.scheduler = their_scheduler("lcm", "leading")
    times = model.times(4, "trailing", 1.0, 64, 64)
    pipeline.scheduler.set_timesteps(4)
    assert times.tolist() == [index + 1 for index in pipeline.scheduler.timesteps.tolist()] + [0]
    noise = generators()
    latents = torch.stack([torch.randn(4, 8, 8, generator=generator) for generator in noise])
    latents = latents * float(model.schedule.sigma(times[0]))
    expected = theirs(pipeline, latents=latents, generator=noise, guidance_scale=3.0, num_inference_steps=4)
    calls = watched(model, monkeypatch)
    assert difference(ours(model, sampler="lcm", spacing="trailing", guidance=3.0, steps=4), expected) < ROUNDING
    assert calls == [2] * 4
    assert difference(ours(model, sampler="lcm", spacing="trailing", guidance=8.0, steps=4), expected) > 1e-3
    with pytest.raises(BadRequest, match="distilled at 50"):
        model.times(51, "trailing", 1.0, 64, 64)


# ---- what a checkpoint says of itself --------------------------------------------------------------------------------


def test_sizes(build: Build) -> None:
    _, model = build(small.small_sd1, "sd1", prediction="epsilon")
    assert model.default_size == (64, 64) and model.state_shape(72, 64) == (4, 8, 9)
    model.check_size(72, 128)
    for width, height, near in ((70, 64, "72 × 64"), (64, 4096, "64 × 256")):
        with pytest.raises(BadRequest, match=f"multiples of 8 px, and at most 256.*Try {near}"):
            model.check_size(width, height)


def test_long_prompts_are_read_in_chunks(build: Build) -> None:
    _, model = build(small.small_sd1, "sd1", prediction="epsilon")
    prompted = model.encode_prompt("a red apple, " * 40, NEGATIVE, 2)
    assert prompted.positive.first.prompt_embeds.shape == prompted.negative.prompt_embeds.shape == (2, 3 * 77, 32)
    steps = list(sample(model, conditioning=prompted, seeds=SEEDS, steps=2))
    assert bool(steps[-1].x.isfinite().all())


def test_previews_are_what_is_published_of_the_latent_space(build: Build) -> None:
    _, model = build(small.small_sd1, "sd1", prediction="epsilon")
    rgb = model.latents_to_rgb(torch.eye(4).view(4, 4, 1, 1))
    assert rgb.shape == (4, 3, 1, 1)
    assert rgb[1].flatten().tolist() == pytest.approx([0.187, 0.286, 0.173])


def test_checkpoints_distilled_for_few_steps_begin_without_guidance(tmp_path: Path) -> None:
    for name, guidance in (("sd-turbo", 1.0), ("plain", 7.0)):
        small.small_sd1(tmp_path / name)
        assert load(tmp_path / name, "sd1").guidance == guidance


@pytest.mark.parametrize(
    ("part", "changes", "why"),
    [
        ("unet", {"in_channels": 5}, "takes 5 channels"),
        ("scheduler", {"_class_name": "EDMEulerScheduler"}, "its scheduler is EDMEulerScheduler"),
        ("scheduler", {"trained_betas": [0.1]}, "it has custom betas"),
        ("scheduler", {"beta_schedule": "magic"}, "its beta_schedule is 'magic'"),
        ("scheduler", {"prediction_type": "magic"}, "its prediction_type is 'magic'"),
        ("scheduler", {"beta_schedule": ["linear"]}, r"its beta_schedule is \['linear'\]"),
        ("scheduler", {"prediction_type": ["epsilon"]}, r"its prediction_type is \['epsilon'\]"),
        ("scheduler", {"beta_end": 2.0}, "betas must be between 0 and 1, not from 0.00085 to 2"),
        ("scheduler", {"steps_offset": "one"}, "its steps_offset is 'one'"),
    ],
)
def test_what_cannot_be_sampled_is_refused_with_its_reason(
    tmp_path: Path, part: str, changes: dict[str, Any], why: str
) -> None:
    small.small_sd1(tmp_path / "odd")

    class Odd(FolderComponents):
        def config(self, name: str) -> Any:
            return dict(super().config(name)) | (changes if name == part else {})

    with pytest.raises(CheckpointUnknown, match=why):
        stable_diffusion.load(checkpoint(tmp_path / "odd", "sd1"), Odd(tmp_path / "odd"), CPU, torch.float32)
