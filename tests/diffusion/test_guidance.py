from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diffstudio.diffusion.denoiser import CleanPrediction, EpsPrediction, FlowPrediction, VPrediction, alpha_sigma
from diffstudio.diffusion.guidance import ClassifierFreeGuidance
from diffstudio.diffusion.noise import SeededNoise
from diffstudio.diffusion.samplers import dpmpp_2m
from diffstudio.diffusion.schedule import RectifiedFlow, VariancePreserving
from diffstudio.diffusion.spacing import sampling_times
from tests.diffusion.exact import Gaussian, no_noise

FLOW = RectifiedFlow()


def constant(value: float) -> object:
    return lambda x, t: torch.full_like(x, value)


def forbidden(x: Tensor, t: Tensor) -> Tensor:
    raise AssertionError("this half was not to run")


def test_guiding_one_gaussian_away_from_another_gives_a_third() -> None:
    """N(m, s^2)^w / N(n, s^2)^(w-1) is N(n + w (m - n), s^2): exact at every noise level, so exact in the end."""
    guided = ClassifierFreeGuidance(Gaussian(FLOW, 0.5, 0.3), Gaussian(FLOW, 0.1, 0.3), scale=3.0)
    x, t = torch.randn(2, 1, 4, 4, dtype=torch.float64), torch.tensor([0.3, 0.8], dtype=torch.float64)
    torch.testing.assert_close(CleanPrediction(guided, FLOW)(x, t), Gaussian(FLOW, 1.3, 0.3)(x, t))

    noise = SeededNoise([0]).start((1, 128, 128))
    *_, last = dpmpp_2m(CleanPrediction(guided, FLOW), noise, sampling_times(FLOW, 60, "log_snr"), no_noise)
    assert last.x.mean().item() == pytest.approx(1.3, abs=0.01)
    assert last.x.std().item() == pytest.approx(0.3, abs=0.01)


def test_between_gaussians_of_different_width_precisions_are_guided() -> None:
    """The guided noise is -sigma times the score of p^w q^(1-w), of precision w / s^2 + (1 - w) / r^2 at this level."""
    schedule, scale = VariancePreserving.linear(), 2.5
    narrow, wide = Gaussian(schedule, 0.5, 0.2), Gaussian(schedule, -0.2, 0.6)
    x = torch.randn(1, 1, 4, 4, dtype=torch.float64)
    t = torch.tensor([200.0], dtype=torch.float64)
    alpha, sigma = alpha_sigma(schedule, t, x)

    def eps_of(data: Gaussian) -> object:
        return lambda x, index: (x - alpha * data(x, t)) / sigma

    eps = ClassifierFreeGuidance(eps_of(narrow), eps_of(wide), scale)(x, t - 1)
    score = -(scale * (x - alpha * 0.5) / narrow.deviation_at(t) ** 2
              + (1 - scale) * (x + alpha * 0.2) / wide.deviation_at(t) ** 2)  # fmt: skip
    torch.testing.assert_close(eps, -sigma * score)


def test_plain_guidance_is_the_same_whatever_the_network_predicts() -> None:
    schedule = VariancePreserving.scaled_linear()
    x, t = torch.randn(2, 3, 4, 4, dtype=torch.float64), torch.tensor([100.0, 900.0], dtype=torch.float64)
    alpha, sigma = alpha_sigma(schedule, t, x)
    clean, other = torch.randn(2, 2, 3, 4, 4, dtype=torch.float64)
    estimates = []
    for wrapper, message in (
        (CleanPrediction, lambda x_0: x_0),
        (EpsPrediction, lambda x_0: (x - alpha * x_0) / sigma),
        (VPrediction, lambda x_0: (alpha * x - x_0 * (alpha**2 + sigma**2)) / sigma),
        (FlowPrediction, lambda x_0: (x - (alpha + sigma) * x_0) / sigma),
    ):
        guided = ClassifierFreeGuidance(
            lambda *_, say=message: say(clean), lambda *_, say=message: say(other), scale=4.0
        )
        estimates.append(wrapper(guided, schedule)(x, t))
    for estimate in estimates:
        torch.testing.assert_close(estimate, other + 4 * (clean - other))


def test_outside_its_interval_only_the_conditional_half_runs() -> None:
    guided = ClassifierFreeGuidance(constant(1.0), forbidden, scale=3.0, interval=(0.2, 0.8))
    x = torch.zeros(2, 1, 2, 2)
    assert (guided(x, torch.tensor([0.1, 0.9])) == 1).all()
    with pytest.raises(AssertionError, match="not to run"):
        guided(x, torch.tensor([0.1, 0.5]))


def test_each_image_is_guided_by_its_own_time() -> None:
    guided = ClassifierFreeGuidance(constant(1.0), constant(0.0), scale=3.0, interval=(0.2, 0.8), t_max=1000)
    out = guided(torch.zeros(4, 1, 1, 1), torch.tensor([100.0, 200.0, 800.0, 900.0]))
    assert out.flatten().tolist() == [1, 3, 3, 1]


def test_a_scale_of_one_asks_the_unconditional_half_nothing() -> None:
    assert (
        ClassifierFreeGuidance(constant(1.0), forbidden, scale=1.0)(torch.zeros(1, 1, 2, 2), torch.ones(1)) == 1
    ).all()


def test_one_call_may_serve_both_halves() -> None:
    calls: list[int] = []

    def both(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        calls.append(len(x))
        return torch.full_like(x, 1.0), torch.full_like(x, 0.5)

    guided = ClassifierFreeGuidance(forbidden, None, scale=3.0, paired=both)
    assert (guided(torch.zeros(2, 1, 2, 2), torch.ones(2)) == 2).all()
    assert calls == [2]


def test_halves_in_half_precision_are_combined_in_full() -> None:
    conditional, unconditional = torch.tensor([1.0]).bfloat16(), torch.tensor([1 - 2**-8]).bfloat16()
    guided = ClassifierFreeGuidance(lambda *_: conditional, lambda *_: unconditional, scale=5.0)
    assert guided(torch.zeros(1), torch.ones(1)).item() == 1 + 4 * 2**-8


def test_rescaling_brings_back_the_spread_of_each_image() -> None:
    generator = torch.Generator().manual_seed(1)
    conditional, unconditional = torch.randn(2, 3, 4, 8, 8, generator=generator)
    spread = conditional.std(dim=(1, 2, 3))
    x, t = torch.zeros_like(conditional), torch.ones(3)

    def guided(rescale: float) -> Tensor:
        return ClassifierFreeGuidance(lambda *_: conditional, lambda *_: unconditional, 5.0, rescale=rescale)(x, t)

    torch.testing.assert_close(guided(1.0).std(dim=(1, 2, 3)), spread)
    torch.testing.assert_close(guided(0.7), 0.7 * guided(1.0) + 0.3 * guided(0.0))


def test_rescaling_a_constant_prediction_gives_numbers() -> None:
    """Neither its spread nor the guided one's is more than zero: there is nothing to bring back, and nothing to divide
    by.
    """
    x, t = torch.randn(2, 3, 4, 4), torch.tensor([0.3, 0.8])
    guided = ClassifierFreeGuidance(constant(0.5), constant(0.2), 3.0, rescale=0.7)(x, t)
    assert torch.isfinite(guided).all()
    assert (guided.std(dim=(1, 2, 3)) == 0).all()


def test_halves_are_given_once() -> None:
    for unconditional, both in ((None, None), (forbidden, forbidden)):
        with pytest.raises(ValueError, match="either an unconditional or a paired"):
            ClassifierFreeGuidance(forbidden, unconditional, 2.0, paired=both)


def test_an_interval_reaches_the_last_time_as_floats_have_it() -> None:
    guided = ClassifierFreeGuidance(constant(1.0), constant(0.0), scale=3.0, interval=(0.2, 0.8), t_max=1000)
    for last in (1000.0, 1000.0005):
        assert (guided(torch.zeros(1, 3, 2, 2), torch.tensor([last])) == 1).all()
    with pytest.raises(ValueError, match="the time 1000.01 is greater than t_max = 1000"):
        guided(torch.zeros(1, 3, 2, 2), torch.tensor([1000.01]))


def test_an_interval_of_a_network_with_steps_needs_their_number() -> None:
    guided = ClassifierFreeGuidance(constant(1.0), constant(0.0), scale=3.0, interval=(0.2, 0.8))
    with pytest.raises(ValueError, match="t_max"):
        guided(torch.zeros(1, 1, 1, 1), torch.tensor([500.0]))
