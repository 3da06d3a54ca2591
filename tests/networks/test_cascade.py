"""Two levels in one module: called like the base, and like the upper level with a low-resolution image."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from diffstudio.networks.cascade import CascadedTransformer, UpperConfig, noised, reduced
from diffstudio.networks.conditioning import Conditioning
from diffstudio.networks.transformer import Condition, PixelTransformer
from diffstudio.networks.transformer_config import TransformerConfig
from tests.networks.test_transformer import small


def small_upper(**changes: object) -> UpperConfig:
    return UpperConfig(small(**{"image_size": 32, "patch_size": 8, "low_channels": 3, **changes}))


def stirred_cascade(base: TransformerConfig | None = None, upper: UpperConfig | None = None) -> CascadedTransformer:
    """Two levels whose gates and outputs are not zero any more, so that everything has an effect."""
    torch.manual_seed(0)
    network = CascadedTransformer(base or small(), upper or small_upper())
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.normal_(std=0.2)
    return network.eval()


def test_without_a_low_resolution_image_it_is_its_base_to_the_bit() -> None:
    both = stirred_cascade()
    base = PixelTransformer(small())
    base.load_state_dict({name: value for name, value in both.state_dict().items() if not name.startswith("upper.")})
    x, t = torch.randn(2, 3, 16, 16), torch.rand(2)
    with torch.no_grad():  # as images are drawn: in training the order of roundings differs
        assert torch.equal(both(x, t), base(x, t))
    assert both.factor == 2


def test_with_one_it_is_the_upper_level_and_each_part_of_the_condition_counts() -> None:
    both = stirred_cascade()
    x, t, low = torch.randn(2, 3, 32, 32), torch.rand(2), torch.randn(2, 3, 16, 16)
    one = both(x, t, Condition(low=low))
    assert torch.equal(one, both.upper(x, t, Condition(low=low)))
    assert torch.equal(one, both(x, t, Condition(low=low, low_noise=torch.zeros(2))))
    for other in (Condition(low=-low), Condition(low=low, low_noise=torch.full((2,), 0.5))):
        assert not torch.allclose(one, both(x, t, other), atol=1e-3)
    assert torch.equal(both.upper(x, t), both.upper(x, t, Condition(low=torch.zeros_like(x))))


def test_an_untrained_upper_level_repeats_the_low_resolution_image() -> None:
    """Interpolated to its own size, whatever size the smaller one has: what is learnt is the difference."""
    network = CascadedTransformer(small(), small_upper())
    low, x, t = torch.randn(1, 3, 16, 16), torch.randn(1, 3, 32, 32), torch.rand(1)
    larger = network(x, t, Condition(low=low))
    torch.testing.assert_close(reduced(larger, 2), low)  # exactly the same image at its size
    torch.testing.assert_close(network(x, t, Condition(low=larger)), larger)
    other = torch.randn(1, 3, 12, 16)
    interpolated = F.interpolate(other, (32, 32), mode="bicubic", align_corners=False)
    torch.testing.assert_close(network(x, t, Condition(low=other)), interpolated)


def test_the_config_comes_back_as_it_was() -> None:
    config = UpperConfig(small(image_size=32, patch_size=8, low_channels=3), 0.3, 0.1, 7)
    assert UpperConfig.from_json(config.to_json()) == config
    assert config.to_json()["network"]["low_channels"] == 3 and "low_channels" not in small().to_json()


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="images of 16 px do not fit a base of 16 px: they must be 2 or 4 times"):
        CascadedTransformer(small(), small_upper(image_size=16))
    with pytest.raises(ValueError, match="nothing else"):
        small_upper(low_channels=0)
    with pytest.raises(ValueError, match="nothing else"):
        small_upper(conditioning=Conditioning.CLASS, num_classes=2)
    with pytest.raises(ValueError, match="out of range"):
        UpperConfig(small(low_channels=3), noise=0.1, sample_noise=0.2)
    with pytest.raises(ValueError, match="1 channels, not 3"):
        small(low_channels=1)


def test_reduced_images_are_means_of_squares() -> None:
    images = torch.arange(16.0).view(1, 1, 4, 4)
    assert reduced(images, 2).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert reduced(torch.zeros(0, 3, 8, 8), 4).shape == (0, 3, 2, 2)


def test_noised_images_are_those_of_a_flow_at_that_time() -> None:
    low, noise = torch.randn(3, 1, 2, 2), torch.randn(3, 1, 2, 2)
    level = torch.tensor([0.0, 0.25, 1.0])
    expected = torch.stack([low[0], 0.75 * low[1] + 0.25 * noise[1], noise[2]])
    torch.testing.assert_close(noised(low, level, noise), expected)
