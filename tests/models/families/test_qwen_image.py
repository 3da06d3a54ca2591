"""Qwen-Image against diffusers' own pipeline, on small random weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from diffstudio.diffusion.denoiser import Network
from diffstudio.errors import CheckpointMissing, CheckpointUnknown
from diffstudio.models.components.components import FolderComponents
from diffstudio.models.conditioning.composition import Composition
from diffstudio.models.families import qwen_image
from diffstudio.models.families.flow import FlowModel
from tests.models.small_flow import CPU, HEIGHT, WIDTH, checkpoint_of, difference, ours, small_qwen_image, theirs

PROMPTS = ["red apple", "a photo of the sleeping cat"]  # of different lengths: the shorter one is masked
CLOSE = 1e-5  # relative, in float32


def load(folder: Path) -> qwen_image.QwenImageModel:
    return qwen_image.load(checkpoint_of(folder, "qwen_image"), FolderComponents(folder), CPU, torch.float32)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, qwen_image.QwenImageModel]]:
    folder = tmp_path_factory.mktemp("qwen_image")
    yield small_qwen_image(folder), load(folder)


def test_it_draws_diffusers_own_pictures(small: tuple[Any, qwen_image.QwenImageModel]) -> None:
    pipeline, model = small
    reference = theirs(pipeline, PROMPTS, true_cfg_scale=4.0, negative_prompt=["ugly dog"] * 2)
    assert difference(ours(model, PROMPTS, negative="ugly dog", guidance=4.0), reference) < CLOSE
    assert difference(ours(model, PROMPTS, guidance=1.0), theirs(pipeline, PROMPTS, true_cfg_scale=1.0)) < CLOSE


def test_an_empty_negative_prompt_is_its_makers_space(small: tuple[Any, qwen_image.QwenImageModel]) -> None:
    pipeline, model = small
    reference = theirs(pipeline, PROMPTS[:1], true_cfg_scale=4.0, negative_prompt=[" "])
    assert difference(ours(model, PROMPTS[:1], guidance=4.0), reference) < CLOSE


def test_guidance_keeps_the_length_of_each_token(small: tuple[Any, qwen_image.QwenImageModel]) -> None:
    _, model = small
    positive, untold = model._embeds(PROMPTS), model._embeds(["ugly"] * 2)
    plain = Composition((positive,), ((1.0, 1.0),))
    x, t = torch.randn(2, 16, 8, 12, generator=torch.Generator().manual_seed(0)), torch.tensor([0.7, 0.7])

    def lengths(network: Network) -> Tensor:
        with torch.no_grad():
            return qwen_image.pack(network(x, t)).norm(dim=-1)

    alone = lengths(model._network(positive, 1.0))
    torch.testing.assert_close(lengths(model._guided(plain, untold, 9.0, None)), alone)
    assert (
        (lengths(FlowModel._guided(model, plain, untold, 9.0, None)) - alone).abs() > 0.01 * alone
    ).any()  # what others do


def test_what_it_is_told_matters(small: tuple[Any, qwen_image.QwenImageModel]) -> None:
    _, model = small
    image = ours(model, PROMPTS[:1], guidance=4.0)
    assert difference(ours(model, PROMPTS[:1], guidance=1.0), image) > 100 * CLOSE
    assert difference(ours(model, PROMPTS[1:], guidance=4.0), image) > 100 * CLOSE


def test_one_of_a_batch_is_the_picture_made_alone(small: tuple[Any, qwen_image.QwenImageModel]) -> None:
    _, model = small
    assert difference(ours(model, PROMPTS, guidance=4.0)[:1], ours(model, PROMPTS[:1], guidance=4.0)) < CLOSE


def test_its_times_end_at_two_hundredths(small: tuple[Any, qwen_image.QwenImageModel]) -> None:
    pipeline, model = small
    theirs(pipeline, PROMPTS[:1], true_cfg_scale=1.0, num_inference_steps=6)
    times = model.times(6, "uniform", 1.0, WIDTH, HEIGHT)
    torch.testing.assert_close(times.float(), pipeline.scheduler.sigmas, atol=1e-6, rtol=0)
    assert times[-2].item() == pytest.approx(0.02)
    assert model.times(6, "karras", 1.0, WIDTH, HEIGHT)[-2].item() == pytest.approx(0.02)
    assert model.times(1, "uniform", 1.0, WIDTH, HEIGHT).tolist() == [1, 0]


def test_its_autoencoder_is_a_films_with_a_mean_for_each_channel(small: tuple[Any, qwen_image.QwenImageModel]) -> None:
    pipeline, model = small
    image = torch.rand(2, 3, HEIGHT, WIDTH) * 2 - 1
    vae = pipeline.vae
    mean, spread = (
        torch.tensor(values).view(1, 16, 1, 1) for values in (vae.config.latents_mean, vae.config.latents_std)
    )
    with torch.no_grad():
        latents = (vae.encode(image[:, :, None]).latent_dist.mode()[:, :, 0] - mean) / spread
        decoded = vae.decode((latents * spread + mean)[:, :, None]).sample[:, :, 0]
    torch.testing.assert_close(model.encode_image(image), latents)
    torch.testing.assert_close(model.decode(latents), decoded)
    assert model.state_shape(WIDTH, HEIGHT) == latents.shape[1:]


def test_a_missing_part_is_named_with_its_place(tmp_path: Path) -> None:
    small_qwen_image(tmp_path)
    (tmp_path / "text_encoder").rename(tmp_path / "away")
    with pytest.raises(CheckpointMissing, match="has no text_encoder.*Put the text_encoder of the same model there"):
        load(tmp_path)


def test_those_that_change_a_picture_are_refused(tmp_path: Path) -> None:
    small_qwen_image(tmp_path)
    path = tmp_path / "transformer" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"zero_cond_t": True}))
    with pytest.raises(CheckpointUnknown, match="edits images"):
        load(tmp_path)
