"""The small classifier on scikit-learn's digits, and its augmentations on images with known results."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from diffstudio.errors import BadRequest
from diffstudio.evaluation.classifier import NO_AUGMENTATION, ClassicAugmentation, augmentations, train_classifier


@cache
def digits() -> tuple[Tensor, np.ndarray]:
    images, labels = load_digits(return_X_y=True)
    return torch.tensor(images / 8 - 1, dtype=torch.float32).reshape(-1, 1, 8, 8), labels


def test_it_learns_digits_and_one_seed_gives_one_classifier() -> None:
    images, labels = digits()

    def found(seed: int) -> np.ndarray:
        classifier = train_classifier(lambda chosen: images[chosen], labels[:1297], 10, seed=seed, steps=150)
        return classifier.predict(lambda chosen: images[1297:][chosen], 500)

    first = found(0)
    assert (first == labels[1297:]).mean() > 0.88
    assert (first == found(0)).all() and (first != found(1)).any()


def test_images_of_one_class_are_refused() -> None:
    with pytest.raises(BadRequest, match="its training images have fewer than two classes"):
        train_classifier(lambda chosen: torch.zeros(len(chosen), 1, 8, 8), [1, 1, 1], 2)


def test_augmentations_move_turn_and_mirror_images() -> None:
    image = torch.zeros(64, 1, 9, 9)
    image[:, :, 4, 6] = 1.0  # right of the middle
    assert NO_AUGMENTATION.apply(image, torch.Generator()) is image

    def places(augmentation: ClassicAugmentation) -> Tensor:
        found = augmentation.apply(image, torch.Generator().manual_seed(0))[:, 0]
        weights = found / found.sum(dim=(1, 2), keepdim=True)
        axis = torch.arange(9.0) - 4
        return torch.stack([(weights.sum(1) * axis).sum(1), (weights.sum(2) * axis).sum(1)], dim=1)  # x, y

    mirrored = places(ClassicAugmentation("flips", flips=True))
    assert set(mirrored[:, 0].round().tolist()) == {-2.0, 2.0} and mirrored[:, 1].abs().max() < 1e-4
    moved = places(ClassicAugmentation("shifts", shift=1 / 9))
    assert 0.5 < (moved - torch.tensor([2.0, 0.0])).abs().max() <= 1.01  # at most a ninth of nine pixels
    turned = places(ClassicAugmentation("turns", rotation_degrees=30))
    assert turned.norm(dim=1).sub(2).abs().max() < 0.3 and 0.5 < turned[:, 1].abs().max() < 1.2


def test_flips_are_tried_only_where_an_image_may_be_mirrored() -> None:
    assert not any(one.flips for one in augmentations(False)) and all(one.flips for one in augmentations(True))
    assert len({one.name for one in (*augmentations(False), *augmentations(True))}) == 6


def test_images_that_are_not_square_are_resized() -> None:
    images, labels = digits()
    wide = images[:60].repeat_interleave(2, dim=3)  # [60,1,8,16]
    classifier = train_classifier(lambda chosen: wide[chosen], labels[:60], 10, steps=2)
    predicted = classifier.predict(lambda chosen: wide[chosen], 60)
    assert (
        classifier.side == 8 and (predicted == classifier.predict(lambda chosen: images[:60][chosen], 60)).mean() > 0.7
    )
