"""diffusers' pipelines and our models side by side: what the tests of the Stable Diffusion families share.

Three things in diffusers' schedulers are not ours and are led around: `linspace` means another ladder in DDIM, DPM++
and UniPC, so they are compared on the times that they list; on the ladder `karras` DPM++ and UniPC tell the network the
nearest whole training step (8e-3 of the latents' norm, if they may); and their pictures do not all start from sigma *
noise, so they are given our start as `latents`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from diffstudio.diffusion.samplers import Step
from diffstudio.models.checkpoint import Checkpoint, Origin
from diffstudio.models.components.components import FolderComponents
from diffstudio.models.families import stable_diffusion, stable_diffusion_xl
from diffstudio.models.families.stable_diffusion import StableDiffusion
from diffstudio.networks.conditioning import Conditioning
from tests.models import small
from tests.models.sampled import sample

CPU = torch.device("cpu")
ROUNDING = 5e-6  # of the latents' norm
KARRAS = 5e-5  # whose ladder shows that they add up betas in float32: sigma is 1e-5 off at its small end; measured 2e-5
SEEDS = (5, 6)
PROMPTS = ["a red apple", "the blue heart"]
NEGATIVE = "ugly"
SCHEDULERS: dict[str, Any] = {
    "euler": diffusers.EulerDiscreteScheduler,
    "heun": diffusers.HeunDiscreteScheduler,
    "ddim": diffusers.DDIMScheduler,
    "dpmpp_2m": diffusers.DPMSolverMultistepScheduler,
    "unipc": diffusers.UniPCMultistepScheduler,
    "euler_ancestral": diffusers.EulerAncestralDiscreteScheduler,
    "lcm": diffusers.LCMScheduler,
}
OPTIONS: dict[str, dict[str, Any]] = {"ddim": {"clip_sample": False, "set_alpha_to_one": True}}
THEIR_SPACING = {"uniform": "linspace", "karras": "linspace"}
OVER_ALPHA = ("euler", "heun", "euler_ancestral")  # whose states are ours over alpha

Pair = tuple[Any, StableDiffusion]
Build = Callable[..., Pair]


def checkpoint(folder: Path, family: str) -> Checkpoint:
    return Checkpoint(
        path=folder,
        name=folder.name,
        title=folder.name,
        family=family,
        conditioning=Conditioning.TEXT,
        classes=(),
        width=0,
        height=0,
        parameters=0,
        dtype="F32",
        size_bytes=0,
        origin=Origin.IMPORTED,
        modified=0.0,
    )


def load(folder: Path, family: str) -> StableDiffusion:
    read = stable_diffusion_xl.load if family.startswith("sdxl") else stable_diffusion.load
    return read(checkpoint(folder, family), FolderComponents(folder), CPU, torch.float32)


def their_scheduler(name: str, spacing: str, **options: Any) -> Any:
    karras = {"use_karras_sigmas": True} if spacing == "karras" else {}
    return SCHEDULERS[name](
        **small.SCHEDULER
        | {"timestep_spacing": THEIR_SPACING.get(spacing, spacing)}
        | OPTIONS.get(name, {})
        | karras
        | options
    )


def told_our_times(scheduler: Any, model: StableDiffusion) -> Any:
    """The same scheduler on the same ladder of sigmas, without rounding the times that it tells the network."""

    class ToldOurTimes(type(scheduler)):  # type: ignore[misc]
        def set_timesteps(self, *args: Any, **options: Any) -> None:
            super().set_timesteps(*args, **options)
            self.timesteps = model.schedule.t_from_scheduler_sigma(self.sigmas[:-1].double()).float() - 1

    return ToldOurTimes.from_config(scheduler.config)


def generators() -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in SEEDS]


def start(
    model: StableDiffusion,
    scheduler: Any,
    sampler: str,
    steps: int,
    times: Tensor,
    width: int = small.SIDE,
    height: int = small.SIDE,
) -> Tensor:
    """The `latents` argument that begins their pipeline where ours begins: sigma * noise."""
    scheduler.set_timesteps(steps)
    noise = torch.stack(
        [torch.randn(model.state_shape(width, height), generator=generator) for generator in generators()]
    )
    alpha = float(model.schedule.alpha(times[0])) if sampler in OVER_ALPHA else 1.0
    return noise * float(model.schedule.sigma(times[0])) / alpha / float(scheduler.init_noise_sigma)


def ours(model: StableDiffusion, **options: Any) -> Tensor:
    defaults: dict[str, Any] = {"conditioning": model.encode_prompt(PROMPTS, NEGATIVE), "seeds": SEEDS, "steps": 5}
    steps: list[Step] = list(sample(model, **defaults | options))
    return steps[-1].x


def theirs(pipeline: Any, **options: Any) -> Tensor:
    defaults: dict[str, Any] = {"num_inference_steps": 5, "output_type": "latent", "negative_prompt": [NEGATIVE] * 2}
    found: Tensor = pipeline(PROMPTS, **defaults | options).images
    return found


def difference(one: Tensor, other: Tensor) -> float:
    assert one.shape == other.shape
    return ((one - other).norm() / other.norm()).item()


def watched(model: StableDiffusion, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The batch of each of the network's calls."""
    calls: list[int] = []
    real = model.network.forward

    def forward(x: Tensor, *args: Any, **options: Any) -> Any:
        calls.append(len(x))
        return real(x, *args, **options)

    monkeypatch.setattr(model.network, "forward", forward)
    return calls
