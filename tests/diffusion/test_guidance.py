from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diffstudio.diffusion.denoiser import CleanPrediction, EpsPrediction, FlowPrediction, VPrediction, alpha_sigma
from diffstudio.diffusion.guidance import Autoguidance, ClassifierFreeGuidance, ConditionAnnealing
from diffstudio.diffusion.noise import SeededNoise
from diffstudio.diffusion.samplers import dpmpp_2m
from diffstudio.diffusion.schedule import RectifiedFlow, VariancePreserving
from diffstudio.diffusion.spacing import sampling_times
from tests.diffusion.exact import Gaussian, Mixture, no_noise

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


# ---- autoguidance ----------------------------------------------------------------------------------------------------

MEANS = (-1.0, 0.6)


def modes(deviation: float) -> Mixture:
    """Two modes, as a model with this much error draws them: those of the data have a deviation of 0.1."""
    return Mixture(FLOW, (0.3, 0.7), MEANS, (deviation, deviation))


@pytest.mark.parametrize(("scale", "sharper"), [(1.5, 0.85), (2.0, 0.7), (3.0, 0.5)])
def test_autoguidance_sharpens_and_loses_no_mode(scale: float, sharper: float) -> None:
    """Both models draw the modes too wide, the weak one more so: 2406.02507, figure 2."""
    noise, times = SeededNoise([0]).start((1, 64, 64)), sampling_times(FLOW, 40, "log_snr")
    distances, shares = [], []
    main = modes(0.2)
    for denoiser in (main, Autoguidance(main, main, modes(0.3), scale)):
        *_, last = dpmpp_2m(denoiser, noise, times, no_noise)
        distances.append(torch.stack([(last.x - mean).abs() for mean in MEANS]).amin(0).mean().item())
        shares.append((last.x < sum(MEANS) / 2).double().mean().item())
    assert distances[1] < sharper * distances[0]
    assert shares[1] == pytest.approx(0.3, abs=0.02) and shares[0] == pytest.approx(0.3, abs=0.02)


def test_autoguidance_extrapolates_from_the_weak_estimate_and_adds_to_cfg() -> None:
    x, t = torch.randn(2, 1, 4, 4, dtype=torch.float64), torch.tensor([0.3, 0.8], dtype=torch.float64)
    main, weak, guided = Gaussian(FLOW, 0.5, 0.3), Gaussian(FLOW, 0.2, 0.5), Gaussian(FLOW, 1.3, 0.3)
    alone = Autoguidance(main, main, weak, 2.5)
    torch.testing.assert_close(alone(x, t), weak(x, t) + 2.5 * (main(x, t) - weak(x, t)))
    both = Autoguidance(guided, main, weak, 2.5)
    torch.testing.assert_close(both(x, t), guided(x, t) + 1.5 * (main(x, t) - weak(x, t)))
    assert both.schedule is FLOW


def test_autoguidance_calls_no_more_than_it_needs() -> None:
    class Counted(Gaussian):
        calls = 0

        def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
            type(self).calls += 1
            return super().__call__(x_t, t)

    main, x = Counted(FLOW, 0.5, 0.3), torch.zeros(1, 1, 2, 2)
    weak = CleanPrediction(forbidden, FLOW)
    assert torch.equal(Autoguidance(main, main, weak, 1.0)(x, torch.ones(1)), main(x, torch.ones(1)))
    outside = Autoguidance(main, main, weak, 2.0, interval=(0.2, 0.8))
    assert torch.equal(outside(x, torch.tensor([0.9])), main(x, torch.tensor([0.9])))
    Counted.calls = 0
    Autoguidance(main, main, Gaussian(FLOW, 0.1, 0.3), 2.0)(x, torch.ones(1))
    assert Counted.calls == 1
    with pytest.raises(AssertionError, match="not to run"):
        outside(x, torch.tensor([0.5]))
    each = Autoguidance(main, main, Gaussian(FLOW, 0.1, 0.3), 2.0, interval=(0.2, 0.8))
    t = torch.tensor([0.5, 0.9])
    moved, plain = each(x.expand(2, 1, 2, 2), t), main(x.expand(2, 1, 2, 2), t)
    assert torch.equal(moved[1], plain[1]) and not torch.equal(moved[0], plain[0])


# ---- condition annealing ---------------------------------------------------------------------------------------------


def published(y: Tensor, gamma: float, noise_scale: float, psi: float, noise: Tensor) -> Tensor:
    """The pseudocode of 2310.17347, appendix, with the noise given."""
    y_mean, y_std = y.mean(), y.std()
    y = gamma**0.5 * y + noise_scale * (1 - gamma) ** 0.5 * noise
    y_scaled = (y - y.mean()) / y.std() * y_std + y_mean
    return psi * y_scaled + (1 - psi) * y


@pytest.mark.parametrize("mixing", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("t", [0.7, 0.8, 0.95])
def test_the_condition_is_annealed_as_published(t: float, mixing: float) -> None:
    y, noise = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(1))
    gamma = 1.0 if t <= 0.6 else 0.0 if t >= 0.9 else (0.9 - t) / 0.3
    found = ConditionAnnealing(0.25, 0.6, 0.9, mixing).annealed(y + 0.5, noise, t)
    torch.testing.assert_close(found, published(y + 0.5, gamma, 0.25, mixing, noise))
    if mixing == 1:
        assert found.mean().item() == pytest.approx((y + 0.5).mean().item(), abs=1e-5)
        assert found.std().item() == pytest.approx(y.std().item(), rel=1e-5)


def test_the_condition_is_whole_near_the_image_and_noise_alone_near_the_noise() -> None:
    annealing = ConditionAnnealing(0.1, 0.6, 0.9)
    assert [annealing.gamma(t) for t in (0.0, 0.6, 0.9, 1.0)] == [1, 1, 0, 0]
    assert annealing.gamma(0.75) == pytest.approx(0.5)
    y, noise = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(1))
    assert annealing.annealed(y, noise, 0.3) is y
    alone = (noise - noise.mean()) / noise.std() * y.std() + y.mean()
    torch.testing.assert_close(annealing.annealed(y, noise, 1.0), alone)
    assert annealing.annealed(y.bfloat16(), noise, 0.8).dtype is torch.bfloat16
    assert torch.isfinite(annealing.annealed(torch.ones(4, 2), torch.zeros(4, 2), 1.0)).all()  # no spread to give back


def test_without_noise_the_condition_is_what_it_was() -> None:
    y = torch.randn(3, 4)
    for t in (0.0, 0.7, 1.0):
        assert ConditionAnnealing(0.0).annealed(y, torch.randn(3, 4), t) is y
