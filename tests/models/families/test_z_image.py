"""Z-Image against diffusers' own pipeline, on small random weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from diffstudio.errors import CheckpointMissing
from diffstudio.models.components.components import FolderComponents
from diffstudio.models.families import z_image
from tests.models.sampled import sample
from tests.models.small_flow import CPU, HEIGHT, WIDTH, checkpoint_of, difference, ours, small_z_image, theirs

PROMPTS = ["red apple", "a photo of the sleeping cat"]
CLOSE = 1e-5  # relative, in float32


def load(folder: Path) -> z_image.ZImageModel:
    return z_image.load(checkpoint_of(folder, "z_image"), FolderComponents(folder), CPU, torch.float32)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, z_image.ZImageModel]]:
    folder = tmp_path_factory.mktemp("z_image")
    yield small_z_image(folder), load(folder)


@pytest.mark.parametrize("guidance", [0.0, 0.5, 4.0])  # it counts from zero: 0.5 already guides
def test_it_draws_diffusers_own_pictures(small: tuple[Any, z_image.ZImageModel], guidance: float) -> None:
    pipeline, model = small
    reference = theirs(pipeline, PROMPTS, guidance_scale=guidance, negative_prompt=["ugly", "ugly"])
    assert difference(ours(model, PROMPTS, negative="ugly", guidance=guidance), reference) < CLOSE


def test_an_unguided_last_call_is_the_conditional_prediction(small: tuple[Any, z_image.ZImageModel]) -> None:
    """At scale 0, not 1, which is a CFG scale of 2. One Euler step from the state before it gives the image."""
    _, model = small
    options: dict[str, Any] = {"prompts": PROMPTS[:1], "seeds": [0], "steps": 4, "sampler": "euler", "guidance": 4.0}
    steps = list(sample(model, width=WIDTH, height=HEIGHT, guide_last_call=False, **options))
    conditional = model.denoiser(model.encode_prompt(PROMPTS[0]), 0.0)
    times = model.times(4, "uniform", 1.0, WIDTH, HEIGHT)
    torch.testing.assert_close(steps[-1].x, conditional(steps[-2].x, times[3].expand(1)))


def test_what_it_is_told_matters(small: tuple[Any, z_image.ZImageModel]) -> None:
    _, model = small
    image = ours(model, PROMPTS[:1], guidance=0.5)
    for options in ({"guidance": 0.0}, {"guidance": 0.5, "negative": "ugly"}):
        assert difference(ours(model, PROMPTS[:1], **options), image) > 100 * CLOSE
    assert difference(ours(model, PROMPTS[1:], guidance=0.5), image) > 100 * CLOSE


def test_one_of_a_batch_is_the_picture_made_alone(small: tuple[Any, z_image.ZImageModel]) -> None:
    _, model = small
    assert difference(ours(model, PROMPTS, guidance=4.0)[:1], ours(model, PROMPTS[:1], guidance=4.0)) < CLOSE


def test_uniform_times_are_diffusers_own(small: tuple[Any, z_image.ZImageModel]) -> None:
    pipeline, model = small
    theirs(pipeline, PROMPTS[:1], guidance_scale=0.0, num_inference_steps=9)
    torch.testing.assert_close(
        model.times(9, "uniform", 1.0, WIDTH, HEIGHT).float(), pipeline.scheduler.sigmas, atol=1e-6, rtol=0
    )


def test_a_tokenizer_without_a_template_asks_as_qwen_does(
    tmp_path: Path, small: tuple[Any, z_image.ZImageModel]
) -> None:
    small_z_image(tmp_path)
    for template in (tmp_path / "tokenizer").glob("chat_template*"):
        template.unlink()
    model = load(tmp_path)
    assert model.tokenizers["tokenizer"].chat_template is None
    assert difference(ours(model, PROMPTS, guidance=0.0), ours(small[1], PROMPTS, guidance=0.0)) < CLOSE


def test_a_missing_part_is_named_with_its_place(tmp_path: Path) -> None:
    small_z_image(tmp_path)
    (tmp_path / "tokenizer").rename(tmp_path / "away")
    with pytest.raises(CheckpointMissing, match="has no tokenizer.*Put the tokenizer of the same model there"):
        load(tmp_path)
