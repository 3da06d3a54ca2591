"""Features of a network that was trained on the images themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffstudio.errors import BadRequest
from diffstudio.evaluation.features.folder_network import WIDTH, folder_network
from diffstudio.evaluation.features.neighbours import nearest


def images(count: int, channels: int = 3, side: int = 12, seed: int = 0) -> tuple[Tensor, list[int]]:
    """Bars across or upright, at random places, in noise."""
    rng = np.random.default_rng(seed)
    labels, found = [], rng.normal(size=(count, channels, side, side)) * 0.2
    for number in range(count):
        labels.append(int(rng.integers(2)))
        at = int(rng.integers(2, side - 3))
        found[number, :, at : at + 2, :] += labels[-1]
        found[number, :, :, at : at + 2] += 1 - labels[-1]
    return torch.from_numpy(found).float().clamp(-1, 1), labels


def nearest_has_the_same_label(features: NDArray[np.float32], labels: list[int]) -> float:
    found = nearest(features, features, 1, same=True)[1][:, 0]
    return float(np.mean([labels[index] == label for index, label in zip(found, labels, strict=True)]))


@pytest.mark.parametrize("with_labels", [True, False])
def test_it_learns_what_the_images_show(with_labels: bool) -> None:
    known, labels = images(64)
    steps: list[int] = []
    network = folder_network(
        lambda indices: known[indices], 64, labels if with_labels else (), steps=30, check=steps.append
    )
    assert steps == list(range(30)) and network.width == WIDTH
    others, their_labels = images(60, seed=1)
    found = network.features(others).numpy()
    assert found.shape == (60, WIDTH)
    assert nearest_has_the_same_label(found, their_labels) > 0.8
    assert ("2 classes" if with_labels else "without labels") in network.name
    assert network.resizing == "resized to 12 px, bilinear"


def test_it_is_the_same_by_its_seed_and_takes_any_channels_and_sizes() -> None:
    known, labels = images(20, channels=5, side=40)
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    one, same, other = (
        folder_network(lambda indices: known[indices], 20, labels, steps=2, seed=seed) for seed in (0, 0, 1)
    )
    assert torch.equal(before, torch.random.get_rng_state())
    torch.testing.assert_close(one.features(known), same.features(known))
    assert not torch.allclose(one.features(known), other.features(known))
    assert "resized to 32 px" in one.label()


def test_small_classes_are_learnt_without_labels() -> None:
    known, _ = images(12)
    assert "without labels" in folder_network(lambda i: known[i], 12, [0] * 9 + [1] * 3, steps=1).name
    assert "without labels" in folder_network(lambda i: known[i], 12, [0] * 12, steps=1).name


def test_one_image_is_too_few() -> None:
    with pytest.raises(BadRequest, match="there is 1 training image"):
        folder_network(lambda indices: torch.zeros(1, 3, 8, 8), 1)
