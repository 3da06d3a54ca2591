"""Augmentation: images match their labels, and zero labels mean unchanged images."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from diffstudio.training.data.augmentation import AUGMENTED_FRACTION, Augmentation
from diffstudio.training.recipe import DataRecipe

STILL = DataRecipe(flips=0.0, rotation_degrees=0.0, translation=0.0, background="#ff8000")
BACKGROUND = torch.tensor([255, 128, 0]) / 127.5 - 1
ALL_KINDS = replace(STILL, flips=0.3, rotation_degrees=25.0, translation=0.15)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int, side: int = 24) -> Tensor:
    return torch.rand((count, 3, side, side), generator=generator(99)) * 2 - 1


def test_nothing_asked_nothing_done() -> None:
    images = pictures(8)
    moved, labels = Augmentation(STILL).apply(images, generator())
    assert torch.equal(moved, images)
    assert torch.equal(labels, torch.zeros(8, Augmentation.label_dim))


def test_bytes_become_numbers_from_minus_one_to_one() -> None:
    images = torch.tensor([0, 51, 255], dtype=torch.uint8)[None, :, None, None].expand(2, 3, 8, 8)
    moved, _ = Augmentation(STILL).apply(images, generator())
    torch.testing.assert_close(moved[0, :, 0, 0], torch.tensor([-1.0, -0.6, 1.0]))


def test_mirrored_pictures_are_exact_and_as_many_as_asked() -> None:
    images = pictures(4000, side=4)
    moved, labels = Augmentation(replace(STILL, flips=0.3)).apply(images, generator())
    mirrored = labels[:, 0] == 1
    assert torch.equal(moved[mirrored], images[mirrored].flip(-1))
    assert torch.equal(moved[~mirrored], images[~mirrored])
    assert float(mirrored.float().mean()) == pytest.approx(0.3, abs=0.03)
    assert torch.equal(labels[:, 5], labels[:, 0])
    assert not labels[:, 1:5].any()


def test_translations_are_whole_pixels_onto_the_background() -> None:
    images = pictures(200)
    moved, labels = Augmentation(replace(STILL, translation=0.2)).apply(images, generator())
    shifts = (labels[:, 3:5] * 24).round().int()
    assert shifts.abs().max() == 5
    for image, result, (right, down) in zip(images, moved, shifts.tolist(), strict=True):
        expected = BACKGROUND[:, None, None].expand_as(image).clone()
        expected[:, max(0, down) : 24 + min(0, down), max(0, right) : 24 + min(0, right)] = image[
            :, max(0, -down) : 24 + min(0, -down), max(0, -right) : 24 + min(0, -right)
        ]
        torch.testing.assert_close(result, expected, atol=2e-4, rtol=0)


def test_a_spot_goes_where_the_telling_says() -> None:
    """A soft spot off the middle: mirrored, then turned anticlockwise, then moved; its centre is where that puts it."""
    side, count = 65, 64
    axis = torch.linspace(-1, 1, side) * (side - 1) / side
    down, right = torch.meshgrid(axis, axis, indexing="ij")
    spot = torch.exp(-((right - 0.4) ** 2 + (down + 0.2) ** 2) / 0.02)
    images = (2 * spot - 1).expand(count, 3, side, side)
    moved, labels = Augmentation(replace(ALL_KINDS, background="#000000")).apply(images, generator(3))
    brightness = (moved[:, 0] + 1) / 2
    weight = brightness.sum((1, 2))
    seen_right, seen_down = (brightness * right).sum((1, 2)) / weight, (brightness * down).sum((1, 2)) / weight

    mirrored, sin, cos, shift_right, shift_down = (
        labels[:, 0],
        labels[:, 1],
        labels[:, 2] + 1,
        labels[:, 3],
        labels[:, 4],
    )
    x, up = 0.4 * (1 - 2 * mirrored), torch.full((count,), 0.2)
    expected_right = cos * x - sin * up + 2 * shift_right
    expected_down = -(sin * x + cos * up) + 2 * shift_down
    assert (labels[:, 1] != 0).any()
    assert (labels[:, 3:5] != 0).any()
    torch.testing.assert_close(seen_right, expected_right, atol=4e-3, rtol=0)
    torch.testing.assert_close(seen_down, expected_down, atol=4e-3, rtol=0)


def test_angles_and_moves_stay_within_the_recipe() -> None:
    _, labels = Augmentation(ALL_KINDS).apply(pictures(5000, side=20), generator())
    assert labels[:, 1].abs().max() <= math.sin(math.radians(25.0)) + 1e-6
    assert labels[:, 1].abs().max() > math.sin(math.radians(24.0))
    torch.testing.assert_close(labels[:, 1] ** 2 + (labels[:, 2] + 1) ** 2, torch.ones(5000))
    assert labels[:, 3:5].abs().max() == pytest.approx(3 / 20)


def test_zero_labels_is_a_case_the_network_meets_often_and_exactly() -> None:
    """Images with zero labels are unchanged to the bit, and they are a good part of all."""
    images = pictures(2000, side=12)
    moved, labels = Augmentation(ALL_KINDS).apply(images, generator())
    untouched = labels[:, 5] == 0
    assert torch.equal(moved[untouched], images[untouched])
    assert not labels[untouched].any()
    assert float(untouched.float().mean()) == pytest.approx(0.7 * AUGMENTED_FRACTION**2, abs=0.06)
    differ = (moved[~untouched] != images[~untouched]).flatten(1).any(1)
    assert differ.all()
    assert torch.equal(labels[:1] * 0, Augmentation(ALL_KINDS).zero_labels(1))


def test_values_stay_in_range() -> None:
    hard = pictures(300).sign()
    moved, _ = Augmentation(ALL_KINDS).apply(hard, generator())
    assert moved.min() >= -1
    assert moved.max() <= 1
    assert moved.dtype == torch.float32


def test_a_recipe_that_tells_nothing() -> None:
    told_too = Augmentation(ALL_KINDS).apply(pictures(50), generator())
    silent = Augmentation(replace(ALL_KINDS, augment_labels=False)).apply(pictures(50), generator())
    assert torch.equal(silent[0], told_too[0])
    assert torch.equal(silent[1], torch.zeros(50, Augmentation.label_dim))


def test_the_same_generator_gives_the_same_and_every_recipe_draws_as_much() -> None:
    first, second, third = generator(5), generator(5), generator(5)
    one = Augmentation(ALL_KINDS).apply(pictures(30), first)
    two = Augmentation(ALL_KINDS).apply(pictures(30), second)
    Augmentation(STILL).apply(pictures(30), third)
    assert torch.equal(one[0], two[0])
    assert torch.equal(one[1], two[1])
    assert torch.equal(first.get_state(), third.get_state())


def test_images_that_are_not_square_are_rotated_by_true_angles() -> None:
    """The middle of a wide image turns as the same square does; shifts are fractions of each side."""
    wide = torch.rand((60, 3, 24, 40), generator=generator(3)) * 2 - 1
    turned, labels = Augmentation(replace(STILL, rotation_degrees=25.0)).apply(wide, generator())
    square, same_labels = Augmentation(replace(STILL, rotation_degrees=25.0)).apply(wide[..., 8:32], generator())
    assert torch.equal(labels, same_labels)
    torch.testing.assert_close(turned[..., 8:16, 16:24], square[..., 8:16, 8:16], rtol=0, atol=1e-4)
    moved, labels = Augmentation(replace(STILL, translation=0.25)).apply(wide, generator())
    right, down = (labels[:, 3] * 40).round().int(), (labels[:, 4] * 24).round().int()
    assert right.abs().max() > down.abs().max() == 6
    for index in range(60):
        column, row = 20 + int(right[index]), 12 + int(down[index])
        torch.testing.assert_close(moved[index, :, row, column], wide[index, :, 12, 20], rtol=0, atol=1e-4)


@pytest.mark.parametrize("data", [replace(STILL, channels=5), replace(STILL, channels=1, bits=16)])
def test_any_number_of_channels(data: DataRecipe) -> None:
    channels = data.form.channels
    images = torch.rand((20, channels, 16, 16), generator=generator(3)) * 2 - 1
    moved, labels = Augmentation(replace(data, translation=0.25)).apply(images, generator())
    came_in = moved[labels[:, 3] > 0][:, :, :, 0]
    expected = -1.0 if channels == 5 else 2 * (151 / 255) - 1
    torch.testing.assert_close(came_in, torch.full_like(came_in, expected), rtol=0, atol=1e-3)
