"""Sampling with a whole, tiny model: seeds, batches, sizes, guidance, and starting from a picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from diffstudio.diffusion.samplers import SAMPLERS, Step, network_calls
from diffstudio.diffusion.spacing import SPACINGS
from diffstudio.errors import BadRequest, CheckpointDamaged, CheckpointUnknown, Interrupted
from diffstudio.models import loading
from diffstudio.models.families.pixel import PixelModel
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.memory import devices, limits
from diffstudio.networks.conditioning import Conditioning
from diffstudio.networks.transformer import Condition, PixelTransformer
from diffstudio.studio.requests import SamplerName, SpacingName
from diffstudio.studio.requests.choices import CARRIED
from tests.models.sampled import sample
from tests.models.tiny import CLASSES, write_tiny_checkpoint

CPU = torch.device("cpu")


def load(path: Path) -> PixelModel:
    model = loading.load(read_checkpoint(path), CPU)
    assert isinstance(model, PixelModel)
    return model


@pytest.fixture
def model(tmp_path: Path) -> PixelModel:
    return load(write_tiny_checkpoint(tmp_path / "tiny.safetensors"))


def last(steps: Iterator[Step]) -> Tensor:
    return list(steps)[-1].x


def made(model: PixelModel, **changes: Any) -> Tensor:
    return last(sample(model, **{"prompts": ["red apple"], "seeds": [0], "steps": 4} | changes))


def test_the_names_in_requests_are_those_of_the_mathematics() -> None:
    assert set(SamplerName) == set(SAMPLERS)
    assert set(SpacingName) - {*CARRIED, SpacingName.CUSTOM} == set(SPACINGS)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_makes_the_same_picture_twice_and_another_from_another_seed(
    model: PixelModel, sampler: str
) -> None:
    image = made(model, sampler=sampler)
    assert image.shape == (1, 3, 16, 16) and bool(image.isfinite().all())
    assert torch.equal(image, made(model, sampler=sampler))
    assert not torch.equal(image, made(model, sampler=sampler, seeds=[1]))


@pytest.mark.parametrize("spacing", [name for name in SPACINGS if name != "align_your_steps"])
def test_spacings(model: PixelModel, spacing: str) -> None:
    times = model.times(5, spacing, 1.0, 16, 16)
    assert len(times) == 6 and times[-1] == 0
    assert bool(made(model, spacing=spacing).isfinite().all())


def test_a_spacing_without_times_for_this_schedule_is_refused(model: PixelModel) -> None:
    with pytest.raises(BadRequest, match="Choose another scheduler"):
        made(model, spacing="align_your_steps")


@pytest.mark.parametrize("sampler", ["heun", "euler_ancestral", "dpmpp_2m_sde"])
def test_an_image_is_the_same_alone_and_in_a_batch(model: PixelModel, sampler: str) -> None:
    together = last(sample(model, prompts=["red apple"] * 5, seeds=[7, 8, 9, 10, 11], steps=6, sampler=sampler))
    for row, seed in enumerate([7, 8, 9, 10, 11]):
        alone = made(model, seeds=[seed], steps=6, sampler=sampler)[0]
        assert (together[row] - alone).abs().max() < 1 / 255


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_the_last_call_is_not_guided_where_there_are_three_or_more(model: PixelModel, sampler: str, steps: int) -> None:
    """Guidance doubles the batch of a call, which tells."""
    batches: list[int] = []
    model.network.register_forward_pre_hook(lambda module, given: batches.append(len(given[0])))
    model._guidance_interval = (0.0, 1.0)
    made(model, sampler=sampler, steps=steps)
    calls = network_calls(sampler, model.schedule, model.times(steps, "uniform", 1.0, 16, 16))
    assert len(batches) == calls
    assert batches == [2] * (calls - 1) + [1 if calls >= 3 else 2]
    batches.clear()
    made(model, sampler=sampler, steps=steps, guide_last_call=True)
    assert batches == [2] * calls


def test_the_last_call_is_that_of_the_part_of_the_ladder_that_is_walked(model: PixelModel) -> None:
    batches: list[int] = []
    model.network.register_forward_pre_hook(lambda module, given: batches.append(len(given[0])))
    made(model, sampler="euler", steps=10, init=torch.zeros(1, 3, 16, 16), strength=0.4)
    assert batches == [2, 2, 2, 1]
    batches.clear()
    made(model, sampler="euler", steps=10, init=torch.zeros(1, 3, 16, 16), strength=0.2)
    assert batches == [2, 2]


def test_prompts_and_guidance_matter_and_guidance_0_and_1_are_what_they_say(model: PixelModel) -> None:
    apple = made(model)
    assert not torch.equal(apple, made(model, prompts=["purple heart"]))
    assert not torch.equal(apple, made(model, guidance=5.0))
    nothing = made(model, prompts=[""], guidance=1.0)
    assert torch.equal(made(model, guidance=0.0), nothing)
    against_heart = model.encode_prompt("red apple", "purple heart", 1)
    assert not torch.equal(apple, last(sample(model, conditioning=against_heart, seeds=[0], steps=4)))
    for guidance, expected in ((1.0, made(model, guidance=1.0)), (0.0, nothing)):
        assert torch.equal(
            expected, last(sample(model, conditioning=against_heart, seeds=[0], steps=4, guidance=guidance))
        )


def test_guidance_is_one_call_of_twice_the_batch_inside_its_interval(
    model: PixelModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[int, float]] = []
    real = model.network.forward

    def forward(x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        calls.append((len(x_t), round(float(t[0]), 3)))
        return real(x_t, t, condition)

    monkeypatch.setattr(model.network, "forward", forward)
    made(model, prompts=["red apple"] * 2, seeds=[0, 1], sampler="euler", steps=4)
    assert calls == [(2, 1.0), (4, 0.75), (4, 0.5), (2, 0.25)]  # t = 1 is outside of 0.05 .. 0.95; the last is plain


def test_sizes_are_multiples_of_the_patch_up_to_twice_the_trained(model: PixelModel) -> None:
    assert made(model, width=24, height=8).shape == (1, 3, 8, 24)
    for width, height, near in ((20, 16, ""), (128, 16, "32 × 16, or "), (17, 31, "16 × 32, or ")):
        with pytest.raises(BadRequest, match=f"multiples of 8 px.*Try {near}16 × 16, for which it was trained"):
            sample(model, prompts=[""], seeds=[0], width=width, height=height)


def test_an_unknown_sampler_is_refused(model: PixelModel) -> None:
    with pytest.raises(BadRequest, match="Choose one of"):
        made(model, sampler="magic")


def test_strength_walks_the_end_of_the_ladder_from_the_given_picture(model: PixelModel) -> None:
    init = torch.rand(1, 3, 16, 16) * 2 - 1
    steps = list(sample(model, prompts=["red apple"], seeds=[0], steps=10, init=init, strength=0.3))
    assert [step.index for step in steps] == [1, 2, 3]
    started: list[Tensor] = []

    def look(denoiser: Any) -> Any:
        def call(x_t: Tensor, t: Tensor) -> Tensor:
            started.append(x_t)
            return denoiser(x_t, t)

        call.schedule = denoiser.schedule  # type: ignore[attr-defined]
        return call

    next(sample(model, prompts=["red apple"], seeds=[0], steps=10, init=init, strength=0.3, wrap=look))
    noise = torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(started[0][0], 0.7 * init[0] + 0.3 * noise)
    assert torch.equal(made(model, strength=0.3), made(model))  # without a picture there is nothing to keep


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_outside_the_mask_every_state_is_the_given_picture_noised_to_its_level(model: PixelModel, sampler: str) -> None:
    init = torch.rand(1, 3, 16, 16) * 2 - 1
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., :8] = 1
    steps = list(sample(model, prompts=["red apple"], seeds=[0], steps=6, sampler=sampler, init=init, mask=mask))
    noise = torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(0))
    for step in steps:
        kept = (step.x - (1 - step.t) * init)[0, :, :, 8:]
        if sampler in ("euler", "ddim", "heun", "dpmpp_2m", "unipc"):
            torch.testing.assert_close(kept, step.t * noise[:, :, 8:], atol=1e-5, rtol=1e-5)
        elif step.t > 0:
            assert 0.75 < float(kept.std()) / step.t < 1.25
    torch.testing.assert_close(steps[-1].x[..., 8:], init[..., 8:], atol=1e-6, rtol=0)
    assert (steps[-1].x[..., :8] - init[..., :8]).abs().max() > 0.1


def test_a_network_in_training_samples_without_gradients_and_stays_as_it_is(model: PixelModel) -> None:
    network: PixelTransformer = model.network.train().requires_grad_(True)
    live = PixelModel(None, network, model.tokenizer)
    image = made(live)
    assert not image.requires_grad and live.default_size == (16, 16) and network.training
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())


def test_classes_are_taken_by_name(tmp_path: Path) -> None:
    model = load(write_tiny_checkpoint(tmp_path / "classes.safetensors", conditioning=Conditioning.CLASS))
    assert model.encode_prompt(list(CLASSES) + ["", " ROCKET "]).positive.first.class_labels.tolist() == [0, 1, 2, 3, 1]
    assert not torch.equal(made(model, prompts=["apple"]), made(model, prompts=["rocket"]))
    with pytest.raises(BadRequest, match="the prompt must be the name of a class. Try: rocket"):
        model.encode_prompt("rockett")
    with pytest.raises(BadRequest, match="Try: apple, rocket, heart"):
        model.encode_prompt("zzz")


def test_a_model_that_is_told_nothing_ignores_prompt_and_guidance(tmp_path: Path) -> None:
    model = load(write_tiny_checkpoint(tmp_path / "nothing.safetensors", conditioning=Conditioning.NONE))
    assert torch.equal(made(model, prompts=["red apple"], guidance=7.0), made(model, prompts=["rocket"], guidance=1.0))


@pytest.mark.parametrize("prompt", ["", "a" * 10_000, "🍎 красное яблоко 赤いリンゴ تفاحة", "\x00\n\t"])
def test_prompts_of_any_kind(model: PixelModel, prompt: str) -> None:
    assert bool(made(model, prompts=[prompt]).isfinite().all())


def test_loading_tells_how_far_it_is_and_can_be_stopped(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(write_tiny_checkpoint(tmp_path / "tiny.safetensors"))
    heard: list[float] = []
    loading.load(checkpoint, CPU, on_progress=heard.append)
    assert heard[0] == 0.0 and heard[-1] == 1.0 and heard == sorted(heard)
    with pytest.raises(Interrupted):
        loading.load(checkpoint, CPU, cancelled=lambda: True)


def test_a_checkpoint_of_another_kind_is_refused_in_a_sentence(tmp_path: Path) -> None:
    import safetensors.torch

    safetensors.torch.save_file({"weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointUnknown, match="Choose another checkpoint, or set its type"):
        loading.load(read_checkpoint(tmp_path / "other.safetensors"), CPU)


def test_a_checkpoint_damaged_after_it_was_listed(tmp_path: Path) -> None:
    path = write_tiny_checkpoint(tmp_path / "tiny.safetensors")
    checkpoint = read_checkpoint(path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CheckpointDamaged):
        loading.load(checkpoint, CPU)


def test_devices() -> None:
    assert devices.choose_device("cpu") == CPU
    assert devices.choose_device("auto").type in ("cpu", "cuda", "mps")
    for name in ("cuda:99", "nonsense"):
        with pytest.raises(BadRequest, match="Choose one of auto, cpu"):
            devices.choose_device(name)
    assert devices.choose_dtype(CPU, 10**12) is torch.float32


def test_how_many_at_once() -> None:
    assert limits.images_at_once(64, 64, "cpu", False) == 16
    assert limits.images_at_once(128, 64, "cpu", False) == 8
    assert limits.images_at_once(8192, 8192, "cpu", False) == 1


def test_what_running_out_of_memory_looks_like() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 50)
    assert devices.is_out_of_memory(caught.value)
    assert devices.is_out_of_memory(MemoryError()) and devices.is_out_of_memory(torch.OutOfMemoryError("CUDA"))
    assert not devices.is_out_of_memory(RuntimeError("shapes do not match"))
