"""What the rectified-flow families share: the shift of their ladders, prompts encoded once, and half precision."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)

from diffstudio.diffusion.samplers import SAMPLERS
from diffstudio.diffusion.spacing import SPACINGS
from diffstudio.errors import CheckpointDamaged
from diffstudio.models.components.components import FolderComponents
from diffstudio.models.families import flux, qwen_image, sd3, z_image
from diffstudio.models.families.flow import FlowModel, PromptEmbeds, Shift
from tests.models.small_flow import (
    CPU,
    HEIGHT,
    WIDTH,
    checkpoint_of,
    difference,
    ours,
    small_flux,
    small_qwen_image,
    small_sd3,
    small_z_image,
    theirs,
)

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers, with NumPy 2
SMALL: dict[str, tuple[Callable[..., Any], Callable[..., FlowModel]]] = {
    "flux": (small_flux, flux.load),
    "sd3": (small_sd3, sd3.load),
    "qwen_image": (small_qwen_image, qwen_image.load),
    "z_image": (small_z_image, z_image.load),
}


def load(folder: Path, family: str, dtype: torch.dtype = torch.float32) -> FlowModel:
    build, read = SMALL[family]
    if not (folder / "model_index.json").exists():
        build(folder)
    return read(checkpoint_of(folder, family), FolderComponents(folder), CPU, dtype)


@pytest.mark.parametrize("family", SMALL)
def test_in_half_precision_the_picture_is_about_the_same(tmp_path: Path, family: str) -> None:
    whole, half = load(tmp_path, family), load(tmp_path, family, torch.bfloat16)
    assert next(half.network.parameters()).dtype is torch.bfloat16
    guidance = 0.0 if family == "z_image" else 2.0
    image = ours(half, ["red apple", "blue heart"], guidance=guidance)
    assert image.dtype is torch.float32
    assert difference(image, ours(whole, ["red apple", "blue heart"], guidance=guidance)) < 0.1


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_ends_in_a_picture(tmp_path: Path, sampler: str) -> None:
    model = load(tmp_path, "flux")
    assert bool(ours(model, ["red apple"], guidance=3.5, sampler=sampler).isfinite().all())


@pytest.mark.parametrize("spacing", [name for name in SPACINGS if name != "align_your_steps"])
def test_every_spacing_falls_from_noise_to_nothing(tmp_path: Path, spacing: str) -> None:
    for family in ("sd3", "qwen_image"):
        times = load(tmp_path / family, family).times(8, spacing, 1.0, WIDTH, HEIGHT)
        assert times.dtype is torch.float64 and len(times) == 9
        assert bool((times.diff() < 0).all()) and 0.5 < times[0] <= 1 and times[-1] == 0


@pytest.mark.parametrize(
    "scheduling",
    [
        {"shift": 3.0},
        {"shift": 0.5},
        {"use_dynamic_shifting": True},
        {"use_dynamic_shifting": True, "time_shift_type": "linear"},
        {
            "use_dynamic_shifting": True,
            "base_shift": 0.3,
            "max_shift": 0.9,
            "max_image_seq_len": 8192,
            "shift_terminal": 0.02,
        },
    ],
)
@pytest.mark.parametrize("tokens", [16, 1000, 9000])
def test_shifts_are_diffusers_own(scheduling: dict[str, Any], tokens: int) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(**scheduling)
    shift = Shift.read(scheduler.config)
    config = scheduler.config
    slope = (config.max_shift - config.base_shift) / (config.max_image_seq_len - config.base_image_seq_len)
    even = torch.linspace(1, 1 / 7, 7, dtype=torch.float64)
    scheduler.set_timesteps(sigmas=even.tolist(), mu=config.base_shift + slope * (tokens - config.base_image_seq_len))
    factor = shift.at(tokens)
    shifted = shift.stretched(factor * even / (1 + (factor - 1) * even))
    torch.testing.assert_close(shifted.float(), scheduler.sigmas[:-1], atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "config",
    [
        {"shift": "three"},
        {"shift": 0},
        {"shift": math.nan},
        {"shift_terminal": 1},
        {"base_image_seq_len": 4096},
        {"max_shift": 1e9},
        {"base_shift": None},
    ],
)
def test_a_shift_that_makes_no_sense_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(CheckpointDamaged, match="no valid scheduler configuration"):
        Shift.read(config)


def test_a_prompt_is_encoded_once_and_a_negative_one_only_where_it_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(tmp_path, "sd3")
    asked: list[list[str]] = []
    encode = model._embeds

    def embeds(prompts: Sequence[str]) -> PromptEmbeds:
        asked.append(list(prompts))
        return encode(prompts)

    monkeypatch.setattr(model, "_embeds", embeds)
    prompted = model.encode_prompt("red apple", "ugly", count=3)
    model.denoiser(prompted, 1.0)
    assert asked == [["red apple"]]
    model.denoiser(prompted, 4.5)
    assert asked == [["red apple"], ["ugly"]]


class OnOurTimes:
    """diffusers' multistep samplers for flows, at the times of the model instead of their own."""

    def set_timesteps(
        self, num_inference_steps: int | None = None, device: Any = None, sigmas: Any = None, mu: float = 0.0
    ) -> None:
        del device, mu
        steps = num_inference_steps or len(sigmas)
        super().set_timesteps(steps)  # type: ignore[misc]
        self.sigmas: Any = self.times.float()
        self.timesteps: Any = 1000 * self.times[:-1].float()

    times: Any


def multistep(kind: Any, times: Any, **options: Any) -> Any:
    """`kind` in diffusers, as it is told to sample a rectified flow."""
    scheduler = type("Multistep", (OnOurTimes, kind), {"times": times, "__init__": kind.__init__})
    return scheduler(prediction_type="flow_prediction", use_flow_sigmas=True, **options)


@pytest.mark.parametrize("spacing", ["uniform", "trailing", "leading", "karras"])
@pytest.mark.parametrize(
    ("sampler", "kind"), [("dpmpp_2m", DPMSolverMultistepScheduler), ("unipc", UniPCMultistepScheduler)]
)
@pytest.mark.parametrize("family", ["flux", "sd3", "qwen_image"])
def test_multistep_samplers_are_diffusers_own(
    tmp_path: Path, family: str, sampler: str, kind: Any, spacing: str
) -> None:
    """All of these start from noise alone where our times do, which `leading` and `karras` do not: their start is ours."""
    model = load(tmp_path, family)
    pipeline = DiffusionPipeline.from_pretrained(tmp_path)
    pipeline.set_progress_bar_config(disable=True)
    times = model.times(6, spacing, 1.0, WIDTH, HEIGHT)
    pipeline.scheduler = multistep(kind, times)
    seeded = [torch.Generator().manual_seed(5 + row) for row in (0, 1)]
    noise = torch.stack([torch.randn(model.state_shape(WIDTH, HEIGHT), generator=generator) for generator in seeded])
    start = float(times[0]) * noise
    if family != "sd3":
        start = flux.pack(start)
    prompts, guidance = ["red apple", "blue heart"], {"flux": 3.5, "sd3": 4.5, "qwen_image": 4.0}[family]
    asked: dict[str, Any] = {"true_cfg_scale" if family == "qwen_image" else "guidance_scale": guidance}
    if family != "flux":
        asked["negative_prompt"] = ["ugly"] * 2
    reference = theirs(pipeline, prompts, latents=start, num_inference_steps=6, **asked)
    found = ours(model, prompts, negative="ugly", guidance=guidance, sampler=sampler, spacing=spacing, steps=6)
    assert difference(found, reference) < 2e-5
