"""Features of random convolutions: the same in every run, of any channels and sizes."""

from __future__ import annotations

import pytest
import torch

from diffstudio.evaluation.features.random_network import random_network


@pytest.mark.parametrize(("channels", "side"), [(1, 8), (3, 64), (5, 2)])
def test_of_any_channels_and_sizes_and_the_same_again(channels: int, side: int) -> None:
    images = torch.rand(4, channels, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1
    torch.manual_seed(5)
    first = random_network(channels)
    state = torch.get_rng_state()
    again = random_network(channels).features(images)
    assert torch.equal(first.features(images), again) and torch.equal(torch.get_rng_state(), state)
    assert again.shape == (4, first.width) and bool(torch.isfinite(again).all())
    assert not torch.equal(random_network(channels, seed=1).features(images), again)


def test_other_patterns_have_other_features_where_their_means_are_equal() -> None:
    stripes = torch.ones(1, 1, 16, 16)
    stripes[..., ::2] = -1
    network = random_network(1)
    apart = (network.features(stripes) - network.features(stripes.transpose(2, 3))).norm()
    same = (network.features(stripes) - network.features(stripes.roll(2, dims=3))).norm()
    assert apart > 1 and same < 1e-3
