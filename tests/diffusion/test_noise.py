from __future__ import annotations

import math

import pytest
import torch

from diffstudio.diffusion.noise import InterpolatedNoise, SeededNoise, spherical_interpolation


def test_an_image_has_the_same_noise_alone_and_in_any_batch() -> None:
    together, alone, last = SeededNoise([7, 8, 9]), SeededNoise([8]), SeededNoise([11, 8])
    for _ in range(3):
        like = torch.zeros(3, 4, 8, 8)
        noise = together(like)
        assert torch.equal(noise[1:2], alone(like[:1]))
        assert torch.equal(noise[1], last(like[:2])[1])


def test_draws_go_on_and_are_repeated_by_the_same_seeds() -> None:
    one, other = SeededNoise([5]), SeededNoise([5])
    first, second = one.start((3, 16, 16)), one(torch.zeros(1, 3, 16, 16))
    assert not torch.equal(first, second)
    assert torch.equal(other.start((3, 16, 16)), first) and torch.equal(other(torch.zeros(1, 3, 16, 16)), second)


def test_it_is_drawn_as_float32_whatever_it_becomes() -> None:
    whole, half = SeededNoise([3]).start((2, 8, 8)), SeededNoise([3])(torch.zeros(1, 2, 8, 8, dtype=torch.bfloat16))
    assert whole.dtype is torch.float32 and half.dtype is torch.bfloat16
    assert torch.equal(whole.bfloat16(), half)


def test_it_is_standard_normal() -> None:
    noise = SeededNoise(range(4)).start((1, 256, 256))
    assert noise.mean().item() == pytest.approx(0, abs=0.01)
    assert noise.std().item() == pytest.approx(1, abs=0.01)


def test_the_largest_seed_is_a_seed() -> None:
    assert SeededNoise([2**64 - 1]).start((1, 2, 2)).isfinite().all()


def test_one_seed_is_not_enough_for_two_images() -> None:
    with pytest.raises(ValueError, match="1 seeds for 2 images"):
        SeededNoise([1])(torch.zeros(2, 1, 2, 2))


SHARES = torch.tensor([0.0, 0.1, 0.5, 0.9, 1.0])


def test_between_two_noises_the_length_is_kept_and_the_angle_grows_evenly() -> None:
    first, last = (torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    last = last * (first.norm() / last.norm())
    between = spherical_interpolation(first, last, SHARES)
    assert between.shape == (5, 3, 8, 8) and between.dtype is torch.float32
    torch.testing.assert_close(between.flatten(1).norm(dim=1), first.norm().expand(5))
    unit = between.flatten(1).double() / first.double().norm()
    angle = torch.arccos(unit[0] @ unit[-1])
    torch.testing.assert_close(
        torch.arccos((unit @ unit[0]).clamp(-1, 1)), SHARES.double() * angle, rtol=1e-5, atol=1e-3
    )
    assert torch.equal(between[0], first) and torch.equal(between[-1], last)
    longer = spherical_interpolation(first, 3 * last, SHARES)
    torch.testing.assert_close(longer.flatten(1).norm(dim=1), first.norm() * (1 + 2 * SHARES))


def test_at_a_right_angle_it_is_sine_and_cosine() -> None:
    x, y = torch.eye(2, dtype=torch.float64)
    angles = SHARES.double() * math.pi / 2
    torch.testing.assert_close(
        spherical_interpolation(x, y, SHARES), torch.stack([torch.cos(angles), torch.sin(angles)], dim=1)
    )


def test_opposite_vectors_are_joined_by_half_a_circle() -> None:
    first = torch.randn(20, generator=torch.Generator().manual_seed(3))
    between = spherical_interpolation(first, -first, SHARES)
    torch.testing.assert_close(between.norm(dim=1), first.norm().expand(5))
    assert torch.equal(between[-1], -first)
    unit = between.double() / first.double().norm()
    torch.testing.assert_close(
        torch.arccos((unit @ unit[0]).clamp(-1, 1)), SHARES.double() * math.pi, rtol=0, atol=2e-3
    )
    assert torch.equal(between, spherical_interpolation(first, -first, SHARES))  # always the same half
    alone = spherical_interpolation(torch.ones(1), -torch.ones(1), SHARES)  # where nothing is perpendicular
    assert bool(torch.isfinite(alone).all()) and float(alone[-1]) == -1


def test_equal_vectors_stay_and_a_zero_vector_has_a_straight_line() -> None:
    first = torch.randn(20, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(spherical_interpolation(first, first, SHARES), first.expand(5, 20))
    torch.testing.assert_close(spherical_interpolation(first, 2 * first, SHARES), (1 + SHARES)[:, None] * first)
    torch.testing.assert_close(
        spherical_interpolation(torch.zeros(20), first, SHARES), SHARES[:, None] * first, rtol=1e-6, atol=0
    )


def test_interpolated_noise_is_that_of_its_seeds_at_both_ends_in_every_draw() -> None:
    noise, first, last = InterpolatedNoise(5, 6, [0, 0.5, 1]), SeededNoise([5]), SeededNoise([6])
    for draw in range(3):
        drawn = noise.start((3, 4, 4)) if draw == 0 else noise(torch.zeros(3, 3, 4, 4))
        one, other = (each.start((3, 4, 4))[0] for each in (first, last))
        assert torch.equal(drawn[0], one) and torch.equal(drawn[2], other)
        torch.testing.assert_close(drawn[1], spherical_interpolation(one, other, torch.tensor([0.5]))[0])
    with pytest.raises(ValueError, match="3 shares for 2 images"):
        noise(torch.zeros(2, 3, 4, 4))
