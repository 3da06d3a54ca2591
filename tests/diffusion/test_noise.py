from __future__ import annotations

import pytest
import torch

from diffstudio.diffusion.noise import SeededNoise


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
