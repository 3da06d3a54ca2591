"""A checkpoint of two levels draws with its base and enlarges the result; the base draws what it would draw alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from diffstudio.diffusion.noise import SeededNoise
from diffstudio.diffusion.samplers import Step
from diffstudio.errors import BadRequest, CheckpointDamaged
from diffstudio.models.families import pixel_file
from diffstudio.models.families.pixel import PixelModel
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.multidiffusion import Tiling
from diffstudio.models.upper_level import UpperLevel
from diffstudio.networks.cascade import CascadedTransformer, noised, reduced
from tests.models.sampled import sample
from tests.models.test_sampling import load
from tests.models.tiny import write_tiny_checkpoint


@pytest.fixture
def model(tmp_path: Path) -> PixelModel:
    return load(write_tiny_checkpoint(tmp_path / "two.safetensors", upper=True))


@pytest.fixture
def alone(tmp_path: Path) -> PixelModel:
    return load(write_tiny_checkpoint(tmp_path / "one.safetensors"))


def upper_of(model: PixelModel) -> UpperLevel:
    assert model.upper is not None
    return model.upper


def steps_of(model: PixelModel, seeds: tuple[int, ...] = (0,), size: int = 0, **options: object) -> list[Step]:
    prompts = ["red apple"] * len(seeds)
    settings = {"steps": 4, "sampler": "euler_ancestral", "width": size, "height": size} | options
    return list(sample(model, prompts=prompts, seeds=list(seeds), **settings))


def test_the_base_draws_what_it_draws_alone_and_the_upper_level_goes_on(model: PixelModel, alone: PixelModel) -> None:
    assert model.default_size == (32, 32) and model.network_size == (16, 16) and model.multiple == 16
    both, base = steps_of(model), steps_of(alone)
    assert [step.index for step in both] == list(range(1, 8))  # three of the upper level
    for mine, theirs in zip(both[:4], base, strict=True):
        assert torch.equal(mine.x, theirs.x)
    assert [step.x.shape[-1] for step in both] == [16] * 4 + [32] * 3
    at_its_size = steps_of(model, size=16)
    assert len(at_its_size) == 4 and torch.equal(at_its_size[-1].x, base[-1].x)


def test_the_upper_level_reads_what_the_base_drew(model: PixelModel) -> None:
    """Noised with the image's own generator, after all noise of the base: the whole of the second pass, by hand."""
    upper, noise = upper_of(model), SeededNoise([5])
    base = list(sample(model, prompts=["rocket"], seeds=[5], width=16, height=16, steps=3, sampler="euler"))[-1].x
    noise.start((3, 16, 16))
    low = noised(base, torch.tensor([0.05]), noise.start((3, 16, 16)))
    x, times = noise.start((3, 32, 32)), upper.times()
    first = upper.denoiser(low, 0.05)(x, times[:1].expand(1))
    found = list(sample(model, prompts=["rocket"], seeds=[5], steps=3, sampler="euler"))[3]
    torch.testing.assert_close(found.denoised, first)


def test_an_image_does_not_depend_on_its_batch(model: PixelModel) -> None:
    together = steps_of(model, (3, 4))[-1].x
    for index, seed in enumerate((3, 4)):
        torch.testing.assert_close(steps_of(model, (seed,))[-1].x[0], together[index], rtol=1e-4, atol=1e-4)


def test_every_call_of_both_levels_can_be_wrapped(model: PixelModel) -> None:
    shapes: list[int] = []

    class Watched:
        def __init__(self, denoiser: object) -> None:
            self.denoiser, self.schedule = denoiser, denoiser.schedule  # type: ignore[attr-defined]

        def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
            shapes.append(x_t.shape[-1])
            return self.denoiser(x_t, t)  # type: ignore[no-any-return, operator]

    steps_of(model, guidance=1.0, sampler="euler", wrap=Watched)
    assert shapes == [16] * 4 + [32] * 3


def test_from_an_image_both_levels_start_from_it(model: PixelModel) -> None:
    """The base from the reduced one; each takes the last part of its steps, and an unmasked part stays as it is."""
    init = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    half, quarter = (steps_of(model, init=init, strength=strength, steps=8) for strength in (0.5, 0.1))
    assert [step.x.shape[-1] for step in half] == [16] * 4 + [32] * len(upper_of(model).times(0.5)[1:])
    assert [step.x.shape[-1] for step in quarter] == [16, 32]
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., 17:] = 1
    painted = steps_of(model, init=init, mask=mask)
    torch.testing.assert_close(painted[-1].x[..., :17], init[..., :17])
    assert not torch.allclose(painted[-1].x[..., 17:], init[..., 17:], atol=0.1)
    torch.testing.assert_close(painted[3].x[..., :8], reduced(init, 2)[..., :8])  # the whole square counts as painted


@pytest.mark.parametrize("size", [17, 24, 40, 80])
def test_sizes_it_cannot_draw(model: PixelModel, size: int) -> None:
    with pytest.raises(BadRequest, match="multiples of"):
        model.check_size(size, size)
    for possible in (8, 16, 32, 48, 64):
        model.check_size(possible, possible)


def test_tiles_are_refused(model: PixelModel) -> None:
    with pytest.raises(BadRequest, match="generates images of more than 16 px in two levels"):
        steps_of(model, size=32, tiling=Tiling(32, 16))


def test_what_looks_into_the_base_is_refused_larger_images(model: PixelModel) -> None:
    upper_of(model).check_base_alone(16, 16)
    with pytest.raises(BadRequest, match="Images of 32 × 16 px are too large to inspect.* Choose at most 16 × 16 px"):
        upper_of(model).check_base_alone(32, 16)


def test_an_enlarged_image_equals_the_given_one_when_it_is_reduced(model: PixelModel) -> None:
    low = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(1)) * 1.6 - 0.8
    larger = list(upper_of(model).enlarged(low, SeededNoise([0, 1])))[-1].x
    assert larger.shape == (2, 3, 32, 48)
    torch.testing.assert_close(reduced(larger, 2), low, rtol=0, atol=1e-5)


def test_a_header_that_lies_about_the_upper_level_is_refused(tmp_path: Path) -> None:
    path = write_tiny_checkpoint(tmp_path / "two.safetensors", upper=True)
    network = pixel_file.load(path).network
    assert isinstance(network, CascadedTransformer)
    tensors, metadata = safetensors.torch.load_file(path), dict(read_checkpoint(path).metadata)
    for wrong in ("{}", "3", '{"network": {}}', metadata["diffstudio.upper"].replace('"width": 16', '"width": 4096')):
        safetensors.torch.save_file(tensors, path, metadata | {"diffstudio.upper": wrong})
        with pytest.raises(CheckpointDamaged):
            pixel_file.load(path)
    for wrong in ("{}", "3", '{"network": {"size": "x"}}', '{"network": {"size": Infinity}}'):
        safetensors.torch.save_file(tensors, path, metadata | {"diffstudio.upper": wrong})
        with pytest.raises(CheckpointDamaged, match="no valid upper"):
            _ = read_checkpoint(path).upper_factor
    safetensors.torch.save_file({k: v for k, v in tensors.items() if k != "upper.pos_embed"}, path, metadata)
    with pytest.raises(CheckpointDamaged, match="do not match"):
        pixel_file.load(path)
