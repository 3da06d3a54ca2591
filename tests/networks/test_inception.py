"""FID's Inception against torch-fidelity's, with weights that anyone can make again."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diffstudio.networks.inception import FidInception, resize_like_tensorflow


def known_weights(network: FidInception) -> dict[str, Tensor]:
    state = {}
    for number, (name, value) in enumerate(sorted(network.state_dict().items())):
        drawn = torch.randn(value.shape, generator=torch.Generator().manual_seed(number))
        if name.endswith("num_batches_tracked"):
            state[name] = value
        elif value.ndim == 4:
            state[name] = drawn * (2 / value[0].numel()) ** 0.5
        else:
            state[name] = (drawn * 0.2 + 1).abs() if name.endswith(("var", "bn.weight")) else drawn * 0.1
    return state


def test_torch_fidelitys_network_gives_the_same() -> None:
    """torch-fidelity 0.4.0, FeatureExtractorInceptionV3 with features "2048", these weights and this image: made once as in
    tests/evaluation/test_frechet.py. The largest difference of a feature was 3e-6.
    """
    network = FidInception()
    network.load_state_dict(known_weights(network))
    assert sum(parameter.numel() for parameter in network.parameters()) == 21_785_568
    ramp = torch.linspace(0, 255, 40).round()
    image = torch.stack([ramp.expand(40, 40), ramp[:, None].expand(40, 40), (ramp * ramp[:, None] / 255).round()])
    with torch.inference_mode():
        found = network.eval()((resize_like_tensorflow(image[None], 299) - 128) / 128)[0]
    assert found.shape == (2048,)
    assert float(found.norm()) == pytest.approx(63.5682, rel=1e-4)
    assert found[::400].tolist() == pytest.approx([0.0013, 0.1644, 0.0, 0.1465, 0.0, 0.0], abs=1e-4)


def test_images_are_resized_without_the_shift_by_half_a_pixel() -> None:
    image = torch.arange(4.0).reshape(1, 1, 1, 4).expand(1, 1, 4, 4)
    assert resize_like_tensorflow(image, 8)[0, 0, 3].tolist() == [0, 0.5, 1, 1.5, 2, 2.5, 3, 3]
    assert torch.equal(resize_like_tensorflow(image, 4), image)
