"""Every sampler with every spacing it is offered with, on data whose exact images and distribution are known."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import pytest
import torch
from torch import Tensor

from diffstudio.diffusion.denoiser import CleanPrediction
from diffstudio.diffusion.noise import SeededNoise
from diffstudio.diffusion.samplers import HEUN_STEP_OF_CLEAN_PREDICTION, SAMPLERS
from diffstudio.diffusion.schedule import RectifiedFlow, Schedule
from diffstudio.diffusion.spacing import SPACINGS, leading, sampling_times
from diffstudio.models.detection.families_table import FLOW_SPACING_NAMES, SAMPLER_NAMES
from tests.diffusion.exact import SCHEDULES, Gaussian, Mixture, no_noise

# Variance-exploding models are not offered: their scheduler configurations are refused.
OFFERED = {name: schedule for name, schedule in SCHEDULES.items() if name != "variance_exploding"}
FLOWS = ("rectified_flow", "shifted_flow")
CLEAN = torch.zeros((), dtype=torch.float64)
PIXELS = torch.linspace(-2, 2, 41, dtype=torch.float64).view(1, 1, 1, 41)  # in standard deviations of the start

every_spacing = pytest.mark.parametrize(
    ("schedule", "spacing"),
    [
        (schedule, spacing)
        for schedule in OFFERED
        for spacing in SPACINGS
        if schedule not in FLOWS or spacing in FLOW_SPACING_NAMES
    ],
)


@cache
def exact_image(schedule: str, t: float) -> Tensor:
    """Where the probability flow leads from PIXELS at time t."""
    start = torch.tensor(t, dtype=torch.float64)
    return Mixture(OFFERED[schedule]).flow(OFFERED[schedule].sigma(start) * PIXELS, start, CLEAN)


def sampled(sampler: str, schedule: Schedule, times: Tensor) -> Tensor:
    *_, last = SAMPLERS[sampler](Mixture(schedule), schedule.sigma(times[0]) * PIXELS, times, no_noise)
    return last.x


@every_spacing
@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_2m", "unipc"])  # ddim is euler
def test_deterministic_samplers_make_the_exact_image(sampler: str, schedule: str, spacing: str) -> None:
    """Mean squared error of pixels with a variance of about 0.6."""
    times = sampling_times(OFFERED[schedule], 50, spacing)
    error = (sampled(sampler, OFFERED[schedule], times) - exact_image(schedule, float(times[0]))).square().mean()
    assert error < (0.01 if sampler == "euler" else 3e-3)


@pytest.mark.parametrize("spacing", ["uniform", "trailing", "leading"])
@pytest.mark.parametrize("schedule", ["cosine", "zero_terminal_snr"])
def test_heun_survives_a_long_first_step(schedule: str, spacing: str) -> None:
    """sigma / alpha falls a thousandfold in the first of ten steps; averaged slopes gave errors of up to 130."""
    times = sampling_times(OFFERED[schedule], 10, spacing)
    error = (sampled("heun", OFFERED[schedule], times) - exact_image(schedule, float(times[0]))).square().mean()
    assert error < 0.01


@dataclass(frozen=True)
class Imprecise:
    """A network that predicts the clean image a little wrongly, also where there is hardly any noise."""

    schedule: RectifiedFlow
    error: float = 0.02

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        return Mixture(self.schedule)(x_t, t) + self.error * torch.sin(40 * x_t + 900 * t.view(-1, 1, 1, 1))


@pytest.mark.parametrize("steps", [2, 3, 5, 10, 50])
@pytest.mark.parametrize("spacing", FLOW_SPACING_NAMES)
def test_heun_does_not_magnify_errors_of_a_clean_prediction(spacing: str, steps: int) -> None:
    """The last but one time of `leading` is 0.001: a slope there is the network's error times 1,000."""
    flow = RectifiedFlow()
    times, network = sampling_times(flow, steps, spacing), Imprecise(flow)
    *_, last = SAMPLERS["heun"](CleanPrediction(network, flow), PIXELS, times, no_noise)
    *_, exact = SAMPLERS["heun"](CleanPrediction(Mixture(flow), flow), PIXELS, times, no_noise)
    assert (last.x - exact.x).abs().max() < 12 * network.error
    assert HEUN_STEP_OF_CLEAN_PREDICTION > 2  # the longest of even steps, which stay Heun's own


# ---- the stochastic samplers -----------------------------------------------------------------------------------------


def distance(schedule: Schedule, x: Tensor) -> float:
    """Kolmogorov and Smirnov's distance of samples to the mixture; by chance 0.013 in one of a hundred tests."""
    quantiles = Mixture(schedule).quantile_of(x.flatten().double(), CLEAN).sort().values
    return (quantiles - (torch.arange(len(quantiles)) + 0.5) / len(quantiles)).abs().max().item()


@pytest.mark.parametrize(
    ("schedule", "spacing"),
    [
        (schedule, spacing)
        for schedule in ("scaled_linear", "rectified_flow")
        for spacing in SPACINGS
        if schedule not in FLOWS or spacing in FLOW_SPACING_NAMES
    ],
)
@pytest.mark.parametrize("sampler", ["ddpm", "euler_ancestral", "dpmpp_2m_sde"])
def test_stochastic_samplers_draw_from_the_exact_distribution(sampler: str, schedule: str, spacing: str) -> None:
    noise, times = SeededNoise([3]), sampling_times(OFFERED[schedule], 100, spacing)
    start = noise.start((1, 128, 128)) * OFFERED[schedule].sigma(times[0]).float()
    *_, last = SAMPLERS[sampler](Mixture(OFFERED[schedule]), start, times, noise)
    crowded = spacing in ("karras", "exponential", "log_snr")
    assert distance(OFFERED[schedule], last.x) < (0.026 if crowded else 0.037)


@dataclass(frozen=True)
class ExactJump:
    """What a consistency model learns: the end of the probability flow."""

    schedule: Schedule

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        return Mixture(self.schedule).flow(x_t.double(), t[0], CLEAN).to(x_t)


@pytest.mark.parametrize("schedule", ["scaled_linear", "rectified_flow"])
@pytest.mark.parametrize("spacing", ["uniform", "trailing", "karras"])
def test_consistency_sampling_draws_from_the_exact_distribution(spacing: str, schedule: str) -> None:
    noise, times = SeededNoise([3]), sampling_times(OFFERED[schedule], 3, spacing)
    start = noise.start((1, 96, 96)) * OFFERED[schedule].sigma(times[0]).float()
    *_, last = SAMPLERS["lcm"](ExactJump(OFFERED[schedule]), start, times, noise)
    assert distance(OFFERED[schedule], last.x) < 0.025


# ---- extremes --------------------------------------------------------------------------------------------------------


@every_spacing
def test_any_number_of_steps_gives_finite_images(schedule: str, spacing: str) -> None:
    noise = SeededNoise([1])
    for steps, names in ((1, SAMPLERS), (2, SAMPLERS), (3, SAMPLERS), (1000, ["dpmpp_2m"])):
        times = sampling_times(OFFERED[schedule], steps, spacing)
        for name in names:
            start = noise.start((1, 1, 4)) * OFFERED[schedule].sigma(times[0]).float()
            *_, last = SAMPLERS[name](Gaussian(OFFERED[schedule]), start, times, noise)
            assert last.x.isfinite().all() and last.x.abs().max() < 10, (steps, name)


@pytest.mark.parametrize("steps", [1, 333, 999, 1000])
@pytest.mark.parametrize("offset", [1, 7])
def test_an_offset_stays_within_the_trained_steps(steps: int, offset: int) -> None:
    """At 1,000 steps it would have begun beyond the last one, with a step of no length."""
    times = sampling_times(OFFERED["scaled_linear"], steps, lambda schedule, steps: leading(schedule, steps, offset))
    assert times[0] <= 1000
    *_, last = SAMPLERS["dpmpp_2m"](Gaussian(OFFERED["scaled_linear"]), PIXELS, times, no_noise)
    assert last.x.isfinite().all()


def test_names_known_without_torch() -> None:
    assert set(SAMPLER_NAMES) == set(SAMPLERS)
    assert [*FLOW_SPACING_NAMES, "align_your_steps"] == list(SPACINGS)
