"""FLUX.1 against diffusers' own pipeline, on small random weights: dev and schnell."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchHeunDiscreteScheduler, FluxImg2ImgPipeline

from diffstudio.errors import BadRequest, CheckpointDamaged, CheckpointMissing, CheckpointUnknown
from diffstudio.models.components.components import FolderComponents
from diffstudio.models.families import flux
from diffstudio.models.families.flow import pack, unpack
from tests.models.small_flow import CPU, HEIGHT, WIDTH, checkpoint_of, difference, ours, small_flux, theirs

PROMPTS = ["red apple", "a photo of the sleeping cat"]
CLOSE = 1e-5  # relative, in float32


def load(folder: Path) -> flux.FluxModel:
    return flux.load(checkpoint_of(folder, "flux"), FolderComponents(folder), CPU, torch.float32)


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, flux.FluxModel]]:
    folder = tmp_path_factory.mktemp("dev")
    yield small_flux(folder), load(folder)


def test_dev_draws_diffusers_own_pictures(dev: tuple[Any, flux.FluxModel]) -> None:
    pipeline, model = dev
    for guidance in (3.5, 1.0):
        assert (
            difference(ours(model, PROMPTS, guidance=guidance), theirs(pipeline, PROMPTS, guidance_scale=guidance))
            < CLOSE
        )


def test_guidance_is_an_input_and_prompts_matter(dev: tuple[Any, flux.FluxModel]) -> None:
    _, model = dev
    image = ours(model, PROMPTS[:1], guidance=3.5)
    assert difference(ours(model, PROMPTS[:1], guidance=1.0), image) > 100 * CLOSE
    assert difference(ours(model, PROMPTS[1:], guidance=3.5), image) > 100 * CLOSE
    assert difference(ours(model, PROMPTS[:1], negative="ugly", guidance=3.5), image) < CLOSE


def test_schnell_draws_diffusers_own_pictures(tmp_path: Path) -> None:
    pipeline, model = small_flux(tmp_path, guidance=False), load(tmp_path)
    reference = theirs(pipeline, PROMPTS, guidance_scale=0.0, max_sequence_length=256)
    assert difference(ours(model, PROMPTS, guidance=0.0), reference) < CLOSE
    assert torch.equal(ours(model, PROMPTS, guidance=7.0), ours(model, PROMPTS, guidance=0.0))


class Heun(FlowMatchHeunDiscreteScheduler):
    """diffusers' own steps, on the ladder that the pipeline asks its Euler scheduler for and this class would refuse."""

    def set_timesteps(
        self, num_inference_steps: int | None = None, device: Any = None, sigmas: Any = None, mu: float = 0.0
    ) -> None:
        FlowMatchHeunDiscreteScheduler.set_timesteps(self, len(sigmas))
        shifted = np.exp(mu) / (np.exp(mu) + (1 / np.asarray(sigmas) - 1))
        rungs = torch.tensor(shifted, dtype=torch.float32)
        self.timesteps = torch.cat([rungs[:1], rungs[1:].repeat_interleave(2)]) * 1000
        self.sigmas = torch.cat([rungs[:1], rungs[1:].repeat_interleave(2), torch.zeros(1)])


def test_heun(dev: tuple[Any, flux.FluxModel]) -> None:
    pipeline, model = dev
    euler = pipeline.scheduler
    try:
        pipeline.scheduler = Heun()
        reference = theirs(pipeline, PROMPTS, guidance_scale=3.5)
    finally:
        pipeline.scheduler = euler
    assert difference(ours(model, PROMPTS, guidance=3.5, sampler="heun"), reference) < CLOSE


@pytest.mark.parametrize("size", [(64, 64), (1024, 1024), (1024, 768), (2048, 1024)])
def test_larger_pictures_start_noisier(dev: tuple[Any, flux.FluxModel], size: tuple[int, int]) -> None:
    pipeline, model = dev
    tokens = size[0] * size[1] // 256
    mu = 0.5 + (1.15 - 0.5) / (4096 - 256) * (tokens - 256)
    pipeline.scheduler.set_timesteps(sigmas=np.linspace(1, 1 / 6, 6), mu=mu)
    times = model.times(6, "uniform", 1.0, *size)
    torch.testing.assert_close(times.float(), pipeline.scheduler.sigmas, atol=1e-6, rtol=0)
    assert torch.equal(model.times(6, "uniform", 0.5, *size), times[-4:])


def test_spacings_and_sizes_that_it_has_not_are_refused(dev: tuple[Any, flux.FluxModel]) -> None:
    _, model = dev
    with pytest.raises(BadRequest, match="no scheduler called 'nonsense'"):
        model.times(4, "nonsense", 1.0, WIDTH, HEIGHT)
    with pytest.raises(BadRequest, match="Try 96 × 64"):
        model.check_size(97, 64)


def test_a_picture_is_encoded_to_where_it_is_decoded_from(dev: tuple[Any, flux.FluxModel]) -> None:
    pipeline, model = dev
    image = torch.rand(1, 3, HEIGHT, WIDTH) * 2 - 1
    latents = (pipeline.vae.encode(image).latent_dist.mode() - 0.1159) * 0.3611
    torch.testing.assert_close(model.encode_image(image), latents)
    assert model.state_shape(WIDTH, HEIGHT) == latents.shape[1:]
    assert model.latents_to_rgb(latents).shape == (1, 3, HEIGHT // 8, WIDTH // 8)


def test_packing_is_diffusers_own_and_can_be_undone(dev: tuple[Any, flux.FluxModel]) -> None:
    latents = torch.randn(2, 16, 8, 12)
    packed = pack(latents)
    assert torch.equal(packed, dev[0]._pack_latents(latents, 2, 16, 8, 12))
    assert torch.equal(unpack(packed, 8, 12), latents)


@pytest.mark.parametrize("name", ["text_encoder_2", "vae", "tokenizer_2"])
def test_a_missing_part_is_named_with_its_place(tmp_path: Path, name: str) -> None:
    small_flux(tmp_path)
    (tmp_path / name).rename(tmp_path / "away")
    with pytest.raises(CheckpointMissing, match=f"has no {name}.*Put the {name} of the same model there"):
        load(tmp_path)


def test_tools_that_look_at_a_picture_are_refused(tmp_path: Path) -> None:
    small_flux(tmp_path, in_channels=384, out_channels=64)
    with pytest.raises(CheckpointUnknown, match="one of the FLUX.1 tools"):
        load(tmp_path)


def test_a_scheduler_that_makes_no_sense(tmp_path: Path) -> None:
    small_flux(tmp_path)
    (tmp_path / "scheduler" / "scheduler_config.json").write_text(
        '{"use_dynamic_shifting": true, "base_shift": "much"}'
    )
    with pytest.raises(CheckpointDamaged, match="no valid scheduler configuration"):
        load(tmp_path)


def test_without_a_scheduler_it_is_sampled_as_its_kind_is(tmp_path: Path, dev: tuple[Any, flux.FluxModel]) -> None:
    small_flux(tmp_path)
    (tmp_path / "scheduler" / "scheduler_config.json").unlink()
    (tmp_path / "scheduler").rmdir()
    assert torch.equal(load(tmp_path).times(4, "uniform", 1.0, 512, 512), dev[1].times(4, "uniform", 1.0, 512, 512))


@pytest.mark.parametrize("guidance", [True, False])
@pytest.mark.parametrize("strength", [0.6, 1.0])
def test_going_on_from_a_picture_dev_and_schnell(tmp_path: Path, guidance: bool, strength: float) -> None:
    pipeline, model = small_flux(tmp_path, guidance=guidance), load(tmp_path)
    image = torch.rand(1, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1)) * 2 - 1
    from_image = FluxImg2ImgPipeline(
        **{
            name: part
            for name, part in pipeline.components.items()
            if name not in ("image_encoder", "feature_extractor")
        }
    )
    from_image.set_progress_bar_config(disable=True)
    latents = model.encode_image(image).repeat(2, 1, 1, 1)  # taken as they are; from an image theirs would draw
    reference = theirs(
        from_image,
        PROMPTS,
        image=latents,
        strength=strength,
        guidance_scale=3.5,
        num_inference_steps=5,
        max_sequence_length=512 if guidance else 256,
    )
    assert difference(ours(model, PROMPTS, guidance=3.5, init=image, strength=strength, steps=5), reference) < CLOSE
