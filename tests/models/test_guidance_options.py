"""Guidance interval, autoguidance and CADS on whole models of every family."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from diffstudio.diffusion.guidance import ConditionAnnealing
from diffstudio.diffusion.schedule import VariancePreserving
from diffstudio.errors import BadRequest
from diffstudio.models import loading
from diffstudio.models.components.components import FolderComponents
from diffstudio.models.families import flux, qwen_image, sd3, z_image
from diffstudio.models.families.flow import FlowModel
from diffstudio.models.families.pixel import PixelModel
from diffstudio.models.guidance_options import GuidanceOptions, WeakModel
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.model import Model
from diffstudio.networks.conditioning import Conditioning
from tests.models import small, small_flow
from tests.models.families.beside import load
from tests.models.sampled import sample
from tests.models.small_flow import checkpoint_of
from tests.models.tiny import write_tiny_checkpoint

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers, with NumPy 2
CPU = torch.device("cpu")
CADS = GuidanceOptions(annealing=ConditionAnnealing(0.5, 0.2, 0.9))
FLOWS: dict[str, tuple[Callable[..., Any], Callable[..., FlowModel]]] = {
    "sd3": (small_flow.small_sd3, sd3.load),
    "flux": (small_flow.small_flux, flux.load),
    "z_image": (small_flow.small_z_image, z_image.load),
    "qwen_image": (small_flow.small_qwen_image, qwen_image.load),
}


def pixel_model(path: Path, **options: Any) -> PixelModel:
    model = loading.load(read_checkpoint(write_tiny_checkpoint(path, **options)), CPU)
    assert isinstance(model, PixelModel)
    return model


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    """One of each family that is sampled here."""
    folder = tmp_path_factory.mktemp("models")
    found: dict[str, Model] = {
        "pixel": pixel_model(folder / "text.safetensors"),
        "class": pixel_model(folder / "class.safetensors", conditioning=Conditioning.CLASS),
    }
    for name, build in (("sd1", small.small_sd1), ("sdxl", small.small_sdxl)):
        build(folder / name)
        found[name] = load(folder / name, name)
    for name, (build_flow, read) in FLOWS.items():
        build_flow(folder / name)
        found[name] = read(checkpoint_of(folder / name, name), FolderComponents(folder / name), CPU, torch.float32)
    return found


NAMES = ("pixel", "class", "sd1", "sdxl", *FLOWS)
PROMPTS = {"class": "apple"}


def made(model: Model, name: str, seeds: tuple[int, ...] = (1,), **options: Any) -> Tensor:
    """The final state after four steps of Euler."""
    prompt = model.encode_prompt([PROMPTS.get(name, "a red apple")] * len(seeds))
    side = model.default_size[0] if isinstance(model, PixelModel) else 32
    settings = {"steps": 4, "sampler": "euler", "guidance": 3.0, "width": side, "height": side} | options
    *_, last = sample(model, conditioning=prompt, seeds=seeds, **settings)
    return last.x


@pytest.mark.parametrize("name", NAMES)
def test_cads_changes_the_image_by_its_seed_alone(models: dict[str, Model], name: str) -> None:
    model = models[name]
    plain, noisy = made(model, name), made(model, name, guidance_options=CADS)
    assert not torch.equal(plain, noisy) and bool(noisy.isfinite().all())
    assert torch.equal(noisy, made(model, name, guidance_options=CADS))
    assert torch.equal(plain, made(model, name, guidance_options=GuidanceOptions(annealing=ConditionAnnealing(0.0))))
    assert torch.equal(plain, made(model, name))  # it leaves nothing behind
    if name in ("class", "sdxl", "qwen_image"):  # one of each kind of condition
        batch = made(model, name, seeds=(7, 1), guidance_options=CADS)
        torch.testing.assert_close(batch[1:], noisy, atol=2e-4, rtol=1e-3)


def test_a_restart_needs_no_noise_of_the_steps_before(models: dict[str, Model]) -> None:
    """Estimates that were recorded are given back in place of the network's: those after them are the same."""
    model, recorded = models["pixel"], list[Tensor]()

    def record(denoiser: Any) -> Any:
        def call(x_t: Tensor, t: Tensor) -> Tensor:
            recorded.append(denoiser(x_t, t))
            return recorded[-1]

        return with_schedule(call, denoiser)

    def replay(denoiser: Any) -> Any:
        def call(x_t: Tensor, t: Tensor) -> Tensor:
            found = next(known, None)
            return denoiser(x_t, t) if found is None else found

        return with_schedule(call, denoiser)

    options = {"guidance_options": CADS, "sampler": "euler_ancestral", "steps": 6}
    whole = made(model, "pixel", wrap=record, **options)
    known = iter(recorded[:3].copy())
    assert torch.equal(made(model, "pixel", wrap=replay, **options), whole)


def with_schedule(call: Callable[[Tensor, Tensor], Tensor], denoiser: Any) -> Any:
    class Wrapped:
        schedule = denoiser.schedule

        def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
            return call(x_t, t)

    return Wrapped()


@pytest.mark.parametrize("name", ["pixel", "class"])
def test_the_negative_prompt_is_not_annealed(models: dict[str, Model], name: str) -> None:
    model = models[name]
    assert isinstance(model, PixelModel)
    prompt = model.encode_prompt([PROMPTS.get(name, "red apple")] * 2)
    found: Any = model.annealed(prompt, lambda rows: [torch.zeros_like(row) for row in rows])
    embed = model.network.cond_embed.embed
    assert not found.positive.first.embedded.any() and torch.equal(found.negative.embedded, embed(found.negative))
    same: Any = model.annealed(prompt, list)
    x, t = torch.randn(2, 3, 16, 16), torch.tensor([0.5, 0.5])
    assert torch.equal(model.denoiser(same, 3.0)(x, t), model.denoiser(prompt, 3.0)(x, t))


def test_what_has_no_condition_is_refused(tmp_path: Path) -> None:
    model = pixel_model(tmp_path / "none.safetensors", conditioning=Conditioning.NONE)
    with pytest.raises(BadRequest, match="CADS does not work with none: it is unconditional"):
        made(model, "none", guidance_options=CADS)


class Calls:
    """The batch of each network call."""

    def __init__(self, model: Model) -> None:
        self.batches: list[int] = []
        self._hook = model.network.register_forward_pre_hook(self._note, with_kwargs=True)

    def _note(self, module: Any, given: Any, named: Any) -> None:
        first = given[0] if given else named.get("hidden_states", named.get("sample"))
        self.batches.append(len(first))

    def __enter__(self) -> list[int]:
        return self.batches

    def __exit__(self, *_: object) -> None:
        self._hook.remove()


@pytest.mark.parametrize("name", [name for name in NAMES if name != "flux"])
def test_outside_the_interval_only_the_prompt_is_asked(models: dict[str, Model], name: str) -> None:
    model = models[name]
    with Calls(model) as everywhere:
        whole = made(model, name, guide_last_call=True, guidance_options=GuidanceOptions((0.0, 1.0)))
    with Calls(model) as half:
        partly = made(model, name, guide_last_call=True, guidance_options=GuidanceOptions((0.0, 0.6)))
    with Calls(model) as nowhere:
        none = made(model, name, guide_last_call=True, guidance_options=GuidanceOptions((1e-9, 2e-9)))
    assert sum(everywhere) == 8 and 4 < sum(half) < 8 and sum(nowhere) == 4
    assert torch.equal(none, made(model, name, guide_last_call=True, guidance=model.unguided_scale))
    assert not torch.equal(whole, partly) and not torch.equal(partly, none)
    if name not in ("pixel", "class"):  # whose own interval is narrower
        assert torch.equal(whole, made(model, name, guide_last_call=True))


def test_the_interval_of_models_trained_here_is_what_it_was(models: dict[str, Model]) -> None:
    model = models["pixel"]
    assert torch.equal(made(model, "pixel", guidance_options=GuidanceOptions((0.05, 0.95))), made(model, "pixel"))
    wide = made(model, "pixel", guidance_options=GuidanceOptions((0.0, 1.0)))
    assert not torch.equal(wide, made(model, "pixel"))


@pytest.fixture(scope="module")
def weak(tmp_path_factory: pytest.TempPathFactory) -> PixelModel:
    return pixel_model(tmp_path_factory.mktemp("weak") / "weak.safetensors", seed=1)


def guided_by(weak: Model, scale: float, name: str = "pixel", count: int = 1) -> GuidanceOptions:
    return GuidanceOptions(weak=WeakModel(weak, weak.encode_prompt([PROMPTS.get(name, "a red apple")] * count), scale))


def test_autoguidance_is_the_difference_of_two_models(models: dict[str, Model], weak: PixelModel) -> None:
    model = models["pixel"]
    plain = made(model, "pixel", guidance=1.0, steps=1)
    one = made(weak, "pixel", guidance=1.0, steps=1)
    found = made(model, "pixel", guidance=1.0, steps=1, guidance_options=guided_by(weak, 2.5))
    torch.testing.assert_close(found, one + 2.5 * (plain - one))  # one step: the sample is the estimate
    with_cfg = made(model, "pixel", steps=1, guidance_options=GuidanceOptions((0.0, 1.0)))
    options = replace(guided_by(weak, 2.5), interval=(0.0, 1.0))
    torch.testing.assert_close(made(model, "pixel", steps=1, guidance_options=options), with_cfg + 1.5 * (plain - one))
    assert torch.equal(made(model, "pixel", guidance_options=guided_by(weak, 1.0)), made(model, "pixel"))


def test_autoguidance_leaves_the_last_call_alone_where_cfg_does(models: dict[str, Model], weak: PixelModel) -> None:
    with Calls(weak) as calls:
        made(models["pixel"], "pixel", guidance=1.0, guidance_options=guided_by(weak, 2.0))
    assert calls == [1, 1, 1]
    with Calls(weak) as calls:
        made(models["pixel"], "pixel", guidance=1.0, guide_last_call=True, guidance_options=guided_by(weak, 2.0))
    assert calls == [1] * 4


@pytest.mark.parametrize("name", ["sd1", "flux", "qwen_image"])
def test_a_model_guided_away_from_itself_stays_where_it_is(models: dict[str, Model], name: str) -> None:
    model = models[name]
    found = made(model, name, guidance_options=guided_by(model, 3.0, name))
    torch.testing.assert_close(found, made(model, name), atol=1e-4, rtol=1e-3)


def test_unconditional_models_are_guided_too(tmp_path: Path) -> None:
    model, other = (
        pixel_model(tmp_path / f"{seed}.safetensors", conditioning=Conditioning.NONE, seed=seed) for seed in (0, 1)
    )
    plain = made(model, "none", guidance=1.0)
    assert not torch.equal(plain, made(model, "none", guidance=1.0, guidance_options=guided_by(other, 2.0)))


def test_a_weak_model_of_other_states_or_noise_is_refused(models: dict[str, Model], tmp_path: Path) -> None:
    model = models["pixel"]
    with pytest.raises(BadRequest, match="sd1 cannot be used for autoguidance: it was trained with another noise"):
        made(model, "pixel", guidance_options=guided_by(models["sd1"], 2.0))
    other = load(tmp_path_of(models["sd1"]), "sd1")
    other.schedule = VariancePreserving.linear()
    with pytest.raises(BadRequest, match="another noise schedule"):
        made(models["sd1"], "sd1", guidance_options=guided_by(other, 2.0))
    with pytest.raises(BadRequest, match="its images or latents have another shape"):
        made(models["sd3"], "sd3", guidance_options=guided_by(model, 2.0))
    larger = pixel_model(tmp_path / "larger.safetensors", size=64)
    made(model, "pixel", guidance_options=guided_by(larger, 2.0))  # any size up to twice its own


def tmp_path_of(model: Model) -> Path:
    assert model.checkpoint is not None
    return model.checkpoint.path


class OwnSampler:
    def run(self, *given: Any) -> Iterator[Any]:
        raise AssertionError("it was to be refused")


def test_a_model_with_its_own_sampler_is_refused(models: dict[str, Model], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PixelModel, "own_sampler", OwnSampler())
    with pytest.raises(BadRequest, match="This checkpoint supports no guidance besides the CFG scale"):
        made(models["pixel"], "pixel", guidance_options=CADS)
    with pytest.raises(BadRequest, match="it has its own sampler"):
        made(models["sd3"], "sd3", guidance_options=guided_by(models["pixel"], 2.0))
