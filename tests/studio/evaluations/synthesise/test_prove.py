"""Proofs on data where it is known whether more images help."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from diffstudio.errors import BadRequest
from diffstudio.evaluation.classifier import Batch
from diffstudio.evaluation.interval import Interval
from diffstudio.studio.evaluations.synthesise import prove as module
from diffstudio.studio.evaluations.synthesise.prove import Labelled, Proving
from diffstudio.studio.evaluations.synthesise.result import ALONE, AUGMENTED, REAL, Proof, Trained


class NearestNeighbours:
    """In place of the network: fifteen neighbours by the means of rows and columns, of nine tenths of the images."""

    def __init__(self, batch: Batch, labels: np.ndarray, classes: int, *, seed: int, **_: object) -> None:
        chosen = np.sort(np.random.default_rng(seed).permutation(len(labels))[: -(-9 * len(labels) // 10)])
        self._known, self._labels = self._features(batch(chosen)), labels[chosen]

    @staticmethod
    def _features(images: torch.Tensor) -> np.ndarray:
        means = torch.cat([images[:, 0].mean(dim=2), images[:, 0].mean(dim=1)], dim=1)
        return means.numpy()

    def predict(self, batch: Batch, count: int) -> np.ndarray:
        distances = np.linalg.norm(self._features(batch(np.arange(count)))[:, None] - self._known, axis=2)
        nearest = np.argsort(distances, axis=1, kind="stable")[:, : min(15, len(self._labels))]
        return np.asarray(self._labels[nearest].mean(axis=1) > 0.5, np.int64)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "train_classifier", NearestNeighbours)


def stripes(count: int, seed: int, noise: float = 2.0, wrong: float = 0.0) -> Labelled:
    """Horizontal and vertical stripes at random places under noise; `wrong` is the share with the other's label."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    images = rng.normal(size=(count, 1, 8, 8)) * noise
    for image, label in zip(images, labels, strict=True):
        if label:
            image[0, rng.integers(8)] += 4
        else:
            image[0, :, rng.integers(8)] += 4
    shown = torch.tensor(images, dtype=torch.float32)
    flipped = rng.random(count) < wrong
    return Labelled(lambda chosen: shown[chosen], np.where(flipped, 1 - labels, labels))


def proof(training: Labelled, synthetic: Labelled, ratios: tuple[float, ...]) -> Proof:
    proving = Proving(
        training, stripes(300, 1), 2, False, torch.device("cpu"), 5, lambda: None, lambda what, done, total: None
    )
    return proving.prove(synthetic, ratios, left_out=3)


def test_more_images_of_the_same_kind_help_and_it_says_by_how_much() -> None:
    found = proof(stripes(24, 0), stripes(240, 2), (1.0, 10.0))
    assert found.helped and found.best_ratio == 10.0 and found.sentence.startswith("Synthetic images helped: with 10 ")
    rows = {row.name: row for row in found.rows}
    assert list(rows) == [REAL, AUGMENTED, "real + 1 x synthetic", "real + 10 x synthetic", ALONE]
    best = rows["real + 10 x synthetic"]
    assert best.over_augmented is not None and best.over_augmented.low > 0 and best.images == 264
    assert best.accuracy.value > rows[AUGMENTED].accuracy.value and found.left_out == 3 and found.seeds == 5
    assert rows[REAL].over_real is None and rows[AUGMENTED].over_augmented is None


def test_images_with_wrong_labels_do_harm_and_it_says_so() -> None:
    found = proof(stripes(120, 0), stripes(600, 2, wrong=1.0), (5.0,))
    assert not found.helped and found.best_ratio is None
    assert found.sentence.startswith("Synthetic images did harm: even with 5 for each real one")


def test_images_that_add_nothing_are_said_to_add_nothing() -> None:
    training = stripes(400, 0, noise=1.0)
    found = proof(training, training, (0.5,))
    assert not found.helped and "Synthetic images did not help: with the best ratio, 0.5" in found.sentence


def test_ratios_without_enough_images_are_named_and_what_there_is_is_used() -> None:
    found = proof(stripes(40, 0), stripes(10, 2), (1e-6, 0.5, 1.0))
    assert found.rows[2].ratio == 0.25 and found.rows[2].images == 50
    assert found.notes == (
        "The ratio 1e-06 is less than one synthetic image for 40 real ones.",
        "The ratio 0.5 needs 20 synthetic images, and there are 10.",
        "The ratio 1 needs 40 synthetic images, and there are 10.",
        "3 of the synthetic images are near-copies of held-out images and were not used in the proof.",
    )


def test_each_ratio_has_all_classes_although_images_come_in_an_order_that_cycles(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[np.ndarray] = []

    class Watching(NearestNeighbours):
        def __init__(self, batch: Batch, labels: np.ndarray, *given: int, **named: Any) -> None:
            seen.append(labels[60:])
            super().__init__(batch, labels, *given, **named)

    monkeypatch.setattr(module, "train_classifier", Watching)
    proof(stripes(60, 0), stripes(120, 2), (0.5, 1.0))
    counts = {len(labels): np.bincount(labels, minlength=2).tolist() for labels in seen}
    assert counts[30] == [15, 15] and counts[60] == [30, 30]


@pytest.mark.parametrize(
    ("gains", "says"),
    [
        ([(-0.01, -0.015, -0.005), (-0.05, -0.2, 0.1)], "and its interval lies below 0 (−0.015 to −0.005)"),
        ([(0.01, -0.02, 0.03), (-0.05, -0.2, -0.1)], "and 0 lies in its interval (−0.020 to +0.030)"),
    ],
)
def test_the_sentence_says_what_the_interval_of_the_best_ratio_shows(
    gains: list[tuple[float, float, float]], says: str
) -> None:
    rows = [
        Trained(f"row {number}", 10, Interval(0.5, 0.4, 0.6), number + 1.0, None, Interval(*gain))
        for number, gain in enumerate(gains)
    ]
    sentence, best = module._sentence(rows)
    assert best is None and sentence.startswith("Synthetic images did not help") and says in sentence


def test_two_sets_of_images_are_read_as_one_in_any_order() -> None:
    first = Labelled(lambda part: torch.tensor(part).float()[:, None], np.array([0, 1, 0]))
    other = Labelled(lambda part: 10 + torch.tensor(part).float()[:, None], np.array([1, 1]))
    both = first.and_also(other)
    assert both.batch(np.array([4, 0, 3, 2])).flatten().tolist() == [11, 0, 10, 2]
    assert both.labels.tolist() == [0, 1, 0, 1, 1] and both.chosen(np.array([3])).batch(np.array([0])).item() == 10


def test_what_cannot_be_proved() -> None:
    with pytest.raises(BadRequest, match="too few training images for a proof: it needs 10, and there are 4"):
        proof(stripes(4, 0), stripes(10, 2), (1.0,))
    one = stripes(40, 0).chosen(np.arange(0, 40, 2))
    with pytest.raises(BadRequest, match="all real images have the same class"):
        proof(one, stripes(10, 2), (1.0,))
