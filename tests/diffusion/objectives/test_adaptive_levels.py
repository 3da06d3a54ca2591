from __future__ import annotations

import torch
from torch import Tensor

from diffstudio.diffusion.losses import LogitNormalTimes, UniformTimes
from diffstudio.diffusion.objectives.adaptive_levels import BASE_SHARE, BINS, AdaptiveLevels
from diffstudio.diffusion.schedule import RectifiedFlow

FLOW, BASE = RectifiedFlow(), LogitNormalTimes(0.6, 0.9)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def error_of_gaussian(t: Tensor, deviation: float) -> Tensor:
    """The least mean squared error of x_0 ~ N(0, s^2) at t: s^2 / (1 + s^2 SNR)."""
    return deviation**2 / (1 + deviation**2 * ((1 - t) / t) ** 2)


def told(deviation: float, batches: int = 400, begin: bool = True) -> AdaptiveLevels:
    levels = AdaptiveLevels(BASE.sample, FLOW)
    draws = generator()
    for _ in range(batches):
        t = levels.sample(64, draws)
        levels.update(levels.sums(t, error_of_gaussian(t, deviation)), begin)
    return levels


def test_before_it_begins_the_levels_are_those_of_the_base_to_the_bit() -> None:
    levels = told(0.5, 3, begin=False)
    assert not levels.begun
    assert torch.equal(levels.sample(50, generator()), BASE.sample(50, FLOW, generator()))


def test_the_profile_is_the_rate_of_the_conditional_entropy() -> None:
    """Of Gaussian data in closed form: mmse / sigma^2 = s^2 / (sigma^2 + s^2) for each log sigma, sigma = t / (1 - t).

    Within the width of a bin.
    """
    levels = told(0.5)
    assert levels.begun and abs(float(levels.profile.sum()) - 1) < 1e-12
    t = torch.linspace(0.2, 0.9, 15, dtype=torch.float64)
    sigma = t / (1 - t)
    expected = 0.25 / (sigma**2 + 0.25) / (t * (1 - t))  # a density over t
    found = levels.density(t)
    torch.testing.assert_close(found / found.mean(), expected / expected.mean(), rtol=0.1, atol=0.0)
    torch.testing.assert_close(levels.errors_at(t), error_of_gaussian(t, 0.5), rtol=0.1, atol=0.0)


def test_samples_have_the_density_of_profile_and_base_together() -> None:
    levels = told(0.5)
    t = levels.sample(200_000, generator(1)).double()
    base = BASE.sample(200_000, FLOW, generator(2)).double()
    edges = torch.linspace(0.12, 0.94, 12, dtype=torch.float64)
    found, of_base = (torch.histogram(one, edges).hist / 200_000 for one in (t, base))
    fine = torch.linspace(0.12, 0.94, 11 * 200 + 1, dtype=torch.float64)
    middle = (fine[1:] + fine[:-1]) / 2
    of_profile = (levels.density(middle) * fine.diff()).view(11, 200).sum(1)
    expected = (1 - BASE_SHARE) * of_profile + BASE_SHARE * of_base
    torch.testing.assert_close(found, expected, rtol=0.03, atol=0.001)
    assert float(t.min()) >= FLOW.t_min and float(t.max()) <= FLOW.t_max


def test_data_with_less_detail_draws_more_noise() -> None:
    """The smaller the images vary, the less noise hides them."""
    assert float(told(0.2).sample(5000, generator()).mean()) < float(told(2.0).sample(5000, generator()).mean()) - 0.05


def test_an_error_beyond_that_of_the_noisy_image_counts_as_its() -> None:
    """A network that has learned nothing at little noise does not draw all levels there."""
    levels = AdaptiveLevels(UniformTimes().sample, FLOW)
    t = torch.linspace(0.01, 0.99, 4096)
    levels.update(levels.sums(t, torch.full_like(t, 5.0)), begin=True)
    seen = levels.profile[levels.counts > 0]
    assert float(seen.max() / seen[: BINS // 4].mean()) < 2


def test_what_is_outside_or_not_finite_is_not_counted() -> None:
    levels = AdaptiveLevels(BASE.sample, FLOW)
    t = torch.tensor([1e-3, 0.5, 0.6, 0.7, 1.0])
    sums = levels.sums(t, torch.tensor([1.0, 2.0, float("nan"), 4.0, 1.0]))
    assert sums.sum(dim=1).tolist() == [6.0, 2.0]
    levels.update(torch.zeros(2, BINS), begin=True)
    assert not levels.begun  # nothing was seen
    assert bool(levels.errors_at(torch.tensor([0.001, 0.5])).isnan().all())
    assert levels.density(torch.tensor([0.001, 0.5])).tolist() == [0.0, 0.0]
    levels.update(levels.sums(torch.tensor([0.5]), torch.tensor([0.0])), begin=True)
    assert not levels.begun  # an error of 0 everywhere says nothing


def test_the_profile_is_renewed_now_and_then_and_its_state_comes_back() -> None:
    levels = told(0.5, 150)
    other = AdaptiveLevels(BASE.sample, FLOW)
    other.load_state_dict(levels.state_dict())
    before = levels.profile.clone()
    for index in range(100):
        for one in (levels, other):
            one.update(one.sums(torch.full((8,), 0.5), torch.full((8,), 0.3)), begin=True)
        if index < 49:
            assert torch.equal(levels.profile, before)
    assert not torch.equal(levels.profile, before)
    assert torch.equal(levels.sample(20, generator()), other.sample(20, generator()))


def test_a_base_that_reaches_pure_noise_adapts_too() -> None:
    levels = AdaptiveLevels(LogitNormalTimes(0.6, 20.0).sample, RectifiedFlow())
    t = torch.linspace(0.01, 1.0, 200)
    levels.update(levels.sums(t, 0.1 * t**2), begin=True)
    assert levels.begun
    drawn = levels.sample(256, torch.Generator().manual_seed(0))
    assert bool(((drawn > 0) & (drawn <= 1)).all()) and len(drawn.unique()) > 100
