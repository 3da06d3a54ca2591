"""Modes of sets whose modes are known: a small StackedMNIST of three classes in three channels has 27."""

from __future__ import annotations

import numpy as np
import pytest

from diffstudio.errors import BadRequest
from diffstudio.evaluation.modes import class_diversity, k_means, mode_coverage

RNG = np.random.default_rng(6)
MODES = np.array([(a, b, c) for a in range(3) for b in range(3) for c in range(3)], float) * 10
FEW = 8  # resamples


def stacked(modes: np.ndarray, each: int, noise: float = 0.5, seed: int = 0) -> tuple[np.ndarray, list[int]]:
    rng = np.random.default_rng(seed)
    labels = np.repeat(modes, each)
    return MODES[labels] + rng.normal(size=(len(labels), 3)) * noise + 1, labels.tolist()


ALL = np.arange(27)
REAL, REAL_LABELS = stacked(ALL, 10)


@pytest.mark.parametrize("modes", [1, 9, 18, 27])
def test_the_share_of_modes_that_a_sampler_reaches(modes: int) -> None:
    images, _ = stacked(ALL[:modes], 30, noise=0.2, seed=1)
    found = mode_coverage(images, REAL)
    assert found.value == pytest.approx(modes / 27, abs=0.08)
    assert found.low <= found.value <= found.high


def test_images_far_from_all_modes_reach_none() -> None:
    assert mode_coverage(REAL + 1000, REAL).value == 0
    assert mode_coverage(np.full((50, 3), 5.0), REAL).value <= 1 / 27
    assert mode_coverage(np.ones((30, 3)), np.ones((40, 3))).value == 1  # one image, whatever the number of clusters


def test_k_means_finds_clusters_that_are_far_apart() -> None:
    found = k_means(REAL, 27)
    distances = np.linalg.norm(found[:, None] - (MODES + 1)[None], axis=-1).min(axis=0)
    assert np.count_nonzero(distances < 1) >= 22


def test_each_class_has_its_own_diversity_beside_that_of_its_real_images() -> None:
    images, asked = stacked(ALL, 12, seed=2)
    images[np.array(asked) == 3] = MODES[3] + 1  # one class has collapsed to one image
    images[np.array(asked) == 5] = MODES[6] + 1  # and another to an image of a third class
    wide = np.random.default_rng(3).normal(size=(len(images), 40)) * 0.5
    wide[(np.array(asked) == 3) | (np.array(asked) == 5)] = 0.1
    features = np.concatenate([images, wide], axis=1)
    real = np.concatenate([REAL, np.random.default_rng(4).normal(size=(len(REAL), 40)) * 0.5], axis=1)
    found = class_diversity(features, asked, real, REAL_LABELS, FEW)
    assert found.missing == (5,) and found.reached.value == pytest.approx(26 / 27)
    assert found.by_class[3].vendi == pytest.approx(1) and found.by_class[3].real_vendi > 1.02
    assert found.by_class[3].compared == 10 and found.by_class[3].generated == 12
    assert found.by_class[5].coverage == 0 and found.by_class[4].coverage > 0.9
    assert 1 <= found.vendi.low <= found.vendi.value <= found.vendi.high
    assert found.vendi.value == pytest.approx(np.mean([one.vendi for one in found.by_class.values()]))
    assert found.real_vendi.value > found.vendi.value - 0.5


def test_classes_of_few_images_and_unknown_ones_are_left_out() -> None:
    images, asked = stacked(ALL[:3], 12, seed=2)
    few = class_diversity(images[:24], asked[:24], REAL[:16], REAL_LABELS[:16], FEW)
    assert set(few.by_class) == {0} and few.reached.value == 1  # of the second class there are six real images
    none = class_diversity(images, ["never"] * len(images), REAL, REAL_LABELS, FEW)
    assert none.by_class == {} and none.missing == () and none.reached.high == 1 and none.vendi.value == 0
    with pytest.raises(BadRequest, match="the number of labels differs from the number of images"):
        class_diversity(images, asked[:-1], REAL, REAL_LABELS)


def test_k_means_ends_after_its_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffstudio.evaluation.modes._ROUNDS", 1)
    one = k_means(REAL, 5)
    monkeypatch.setattr("diffstudio.evaluation.modes._ROUNDS", 50)
    assert one.shape == (5, 3) and not np.array_equal(one, k_means(REAL, 5))


def test_a_class_whose_real_images_are_all_the_same_is_not_measured() -> None:
    rng = np.random.default_rng(0)
    real = np.concatenate([np.ones((20, 3)), rng.normal(size=(20, 3))])
    labels = ["same"] * 20 + ["varied"] * 20
    found = class_diversity(rng.normal(size=(40, 3)), labels, real, labels)
    assert list(found.by_class) == ["varied"]
