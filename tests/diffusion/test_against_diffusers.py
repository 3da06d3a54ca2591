"""Our samplers against diffusers' schedulers, from the same start, down the same ladder, with the same noise.

The differences left are those of float32 in another order of operations: measured, 3e-8 to 1.2e-6 of the picture's
norm.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import diffusers
import pytest
import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from diffstudio.diffusion.denoiser import CleanPrediction, Denoiser, EpsPrediction, FlowPrediction, VPrediction
from diffstudio.diffusion.noise import SeededNoise
from diffstudio.diffusion.samplers import SAMPLERS
from diffstudio.diffusion.schedule import RectifiedFlow, VariancePreserving
from diffstudio.diffusion.spacing import sampling_times

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # theirs, with NumPy 2

ROUNDING = 3e-6  # of the picture's norm
SEEDS = (1, 2)
SHAPE = (3, 16, 16)

SCALED_LINEAR = VariancePreserving.scaled_linear()
BETAS: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
INDICES = (999, 900, 750, 600, 450, 300, 200, 120, 60, 20, 5)  # explicit, uneven training indices


def network(x: Tensor, time: Tensor) -> Tensor:
    """Bounded, uneven over pixels, channels and time: not one that any sampler finds easy."""
    phase = time.view(-1, 1, 1, 1) / 150
    return torch.tanh(0.8 * x + 0.3 * torch.sin(phase)) + 0.1 * x.roll(1, -1) - 0.2 * x.flip(1) * torch.cos(phase)


def theirs(scheduler: Any, predict: Callable[[Tensor, Tensor], Tensor] = network, **options: Any) -> Tensor:
    """The loop of diffusers' pipelines."""
    generators = [torch.Generator().manual_seed(seed) for seed in SEEDS]
    x = randn_tensor((len(SEEDS), *SHAPE), generator=generators) * getattr(scheduler, "init_noise_sigma", 1.0)
    if options.pop("stochastic", False):
        options["generator"] = generators
    for time in scheduler.timesteps:
        model_input = scheduler.scale_model_input(x, time) if hasattr(scheduler, "scale_model_input") else x
        x = scheduler.step(predict(model_input, time.float().expand(len(x))), time, x, **options).prev_sample
    return x


def ours(name: str, denoiser: Denoiser, times: Tensor, start: float = 1.0) -> Tensor:
    noise = SeededNoise(SEEDS)
    *_, last = SAMPLERS[name](denoiser, noise.start(SHAPE) * start, times, noise)
    return last.x


def difference(one: Tensor, other: Tensor) -> float:
    return ((one - other).norm() / other.norm()).item()


def training_steps(indices: Any) -> Tensor:
    return torch.tensor([*(index + 1 for index in indices), 0], dtype=torch.float64)


def start_of(scheduler: Any, times: Tensor) -> float:
    """Schedulers that are variance exploding inside start from init_noise_sigma, which is x / alpha to us."""
    return float(scheduler.init_noise_sigma * SCALED_LINEAR.alpha(times[0]))


def test_noise_is_theirs() -> None:
    generators = [torch.Generator().manual_seed(seed) for seed in SEEDS]
    noise = SeededNoise(SEEDS)
    for _ in range(2):
        assert torch.equal(randn_tensor((2, *SHAPE), generator=generators), noise(torch.zeros(2, *SHAPE)))


@pytest.mark.parametrize(("schedule", "named"), [
    (VariancePreserving.linear(), {}),
    (SCALED_LINEAR, BETAS),
    (VariancePreserving.cosine(), {"beta_schedule": "squaredcos_cap_v2"}),
    (VariancePreserving.sigmoid(), {"beta_schedule": "sigmoid"}),
    (SCALED_LINEAR.with_zero_terminal_snr(), BETAS | {"rescale_betas_zero_snr": True}),
])  # fmt: skip
def test_schedules_are_theirs(schedule: VariancePreserving, named: dict[str, Any]) -> None:
    alpha_bar = diffusers.DDPMScheduler(**named).alphas_cumprod.double()
    t = torch.arange(1, 1001, dtype=torch.float64)
    torch.testing.assert_close(schedule.alpha(t)[:-1] ** 2, alpha_bar[:-1], rtol=1e-4, atol=1e-8)
    assert (schedule.alpha(t)[-1] ** 2).item() == pytest.approx(alpha_bar[-1].item(), rel=1e-4, abs=6e-8)


@pytest.mark.parametrize(("spacing", "options"), [
    ("uniform", {"timestep_spacing": "linspace"}),
    ("trailing", {"timestep_spacing": "trailing"}),
    ("leading", {"timestep_spacing": "leading"}),
    ("karras", {"use_karras_sigmas": True}),
    ("exponential", {"use_exponential_sigmas": True}),
])  # fmt: skip
def test_ladders_are_theirs(spacing: str, options: dict[str, Any]) -> None:
    scheduler = diffusers.EulerDiscreteScheduler(**BETAS, **options)
    scheduler.set_timesteps(13)
    sigmas = SCALED_LINEAR.scheduler_sigma(sampling_times(SCALED_LINEAR, 13, spacing))
    torch.testing.assert_close(sigmas, scheduler.sigmas.double(), rtol=3e-5, atol=0)  # 1 - alpha_bar is float32 there


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_ladders_are_those_of_their_flow_pipelines(shift: float) -> None:
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(sigmas=[1 - step / 13 for step in range(13)])
    torch.testing.assert_close(sampling_times(RectifiedFlow(shift), 13, "trailing"), scheduler.sigmas.double())


@pytest.mark.parametrize(("name", "scheduler", "options"), [
    ("ddpm", diffusers.DDPMScheduler, {"clip_sample": False}),
    ("dpmpp_2m", diffusers.DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++"}),
    ("dpmpp_2m_sde", diffusers.DPMSolverMultistepScheduler, {"algorithm_type": "sde-dpmsolver++"}),
    ("euler", diffusers.EulerDiscreteScheduler, {}),
    ("heun", diffusers.HeunDiscreteScheduler, {}),
])  # fmt: skip
@pytest.mark.parametrize("wrapper", [EpsPrediction, VPrediction])
def test_samplers_on_an_explicit_ladder(name: str, scheduler: Any, options: dict[str, Any], wrapper: Any) -> None:
    predicts = "epsilon" if wrapper is EpsPrediction else "v_prediction"
    reference = scheduler(**BETAS, **options, prediction_type=predicts)
    reference.set_timesteps(timesteps=list(INDICES))
    times = training_steps(INDICES)
    start = start_of(reference, times) if name in ("euler", "heun") else 1.0
    expected = theirs(reference, stochastic=name in ("ddpm", "dpmpp_2m_sde"))
    assert difference(ours(name, wrapper(network, SCALED_LINEAR), times, start), expected) < ROUNDING


@pytest.mark.parametrize(("name", "scheduler", "spacing", "options"), [
    ("ddim", diffusers.DDIMScheduler, "leading", {"clip_sample": False}),  # trailing, it takes steps it did not list
    ("unipc", diffusers.UniPCMultistepScheduler, "trailing", {}),
    ("euler_ancestral", diffusers.EulerAncestralDiscreteScheduler, "trailing", {}),
])  # fmt: skip
@pytest.mark.parametrize("steps", [3, 11, 40])
def test_samplers_on_their_own_ladder(
    name: str, scheduler: Any, spacing: str, options: dict[str, Any], steps: int
) -> None:
    reference = scheduler(**BETAS, **options, timestep_spacing=spacing)
    reference.set_timesteps(steps)
    times = sampling_times(SCALED_LINEAR, steps, spacing)
    assert times.tolist() == training_steps(reference.timesteps.tolist()).tolist()
    start = start_of(reference, times) if name == "euler_ancestral" else 1.0
    expected = theirs(reference, stochastic=name == "euler_ancestral")
    assert difference(ours(name, EpsPrediction(network, SCALED_LINEAR), times, start), expected) < ROUNDING


def test_zero_terminal_snr_starts_as_theirs() -> None:
    """Their state begins 4096 times as large, which costs it digits that ours keeps: measured 9e-6."""
    schedule = SCALED_LINEAR.with_zero_terminal_snr()
    reference = diffusers.EulerDiscreteScheduler(
        **BETAS, rescale_betas_zero_snr=True, timestep_spacing="trailing", prediction_type="v_prediction"
    )
    reference.set_timesteps(12)
    times = sampling_times(schedule, 12, "trailing")
    start = float(reference.init_noise_sigma * schedule.alpha(times[0]))
    assert difference(ours("euler", VPrediction(network, schedule), times, start), theirs(reference)) < 2e-5


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize(("name", "scheduler"), [
    ("euler", diffusers.FlowMatchEulerDiscreteScheduler), ("heun", diffusers.FlowMatchHeunDiscreteScheduler),
])  # fmt: skip
def test_flow_samplers(name: str, scheduler: Any, shift: float) -> None:
    reference = scheduler(shift=shift)
    reference.set_timesteps(11)
    times = reference.sigmas.double().unique().flip(0)  # Heun's lists most of them twice
    denoiser = FlowPrediction(lambda x, t: network(x, 1000 * t), RectifiedFlow(shift))
    assert difference(ours(name, denoiser, times), theirs(reference)) < ROUNDING


def test_consistency_sampling_with_their_boundary() -> None:
    """diffusers puts the boundary condition of the distilled network into the scheduler; to us it is the denoiser's."""
    reference = diffusers.LCMScheduler(**BETAS)
    reference.set_timesteps(4)
    times = training_steps(reference.timesteps.tolist())
    eps_prediction = EpsPrediction(network, SCALED_LINEAR)

    def consistent(x: Tensor, index: Tensor) -> Tensor:
        c_skip, c_out = reference.get_scalings_for_boundary_condition_discrete(index[0].item())
        return c_skip * x + c_out * eps_prediction(x, index + 1)

    expected = theirs(reference, stochastic=True)
    assert difference(ours("lcm", CleanPrediction(consistent, SCALED_LINEAR), times), expected) < ROUNDING
    assert difference(ours("lcm", eps_prediction, times), expected) < ROUNDING  # at these times it amounts to nothing


def test_the_start_of_a_given_picture_is_theirs() -> None:
    picture, eps = torch.rand(2, 1, 3, 8, 8).unbind(0)
    t = torch.tensor([601.0], dtype=torch.float64)
    start = SCALED_LINEAR.alpha(t).float() * picture + SCALED_LINEAR.sigma(t).float() * eps
    expected = diffusers.DDIMScheduler(**BETAS).add_noise(picture, eps, torch.tensor([600]))
    torch.testing.assert_close(start, expected)
    assert math.isclose(start.norm().item(), expected.norm().item(), rel_tol=1e-6)
