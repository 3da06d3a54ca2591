"""Tests for copies: on copies, on none, on duplicates, and on digits with the values of METHODS' anchors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from diffstudio.errors import BadRequest
from diffstudio.evaluation.features import feature_arrays
from diffstudio.evaluation.memorisation import combined_copies, copies, loss_gap, nearer_to_training

RNG = np.random.default_rng(6)
TRAINING, HELD_OUT = RNG.normal(size=(64, 12)), RNG.normal(size=(40, 12))


def test_copies_are_found_and_named_closest_first() -> None:
    fresh = RNG.normal(size=(90, 12))
    near = TRAINING[:10] + RNG.normal(size=(10, 12)) * np.linspace(0.01, 0.1, 10)[:, None]
    found = copies(np.concatenate([fresh, near]), TRAINING, HELD_OUT)
    assert found.share.value == pytest.approx(0.1)
    assert list(found.indices()[:3]) == [90, 91, 92]
    assert list(found.nearest[90:]) == list(range(10))
    assert found.threshold <= 1 / 3


def test_a_memorised_folder_reads_as_copies_and_fresh_images_do_not() -> None:
    memorised = TRAINING[RNG.integers(0, 64, 200)] + RNG.normal(size=(200, 12)) * 0.05
    assert copies(memorised, TRAINING, HELD_OUT).share.value >= 0.9
    assert nearer_to_training(memorised, TRAINING, HELD_OUT).value > 0.6
    assert copies(RNG.normal(size=(400, 12)), RNG.normal(size=(1000, 12)), HELD_OUT).share.value <= 0.01


def test_where_nothing_was_memorised_the_interval_holds_one_half_in_95_of_100_cases() -> None:
    """Also where few real images are compared with many samples: the split decides more than the samples do."""
    held = 0
    for number in range(200):
        samples, training, held_out = RNG.normal(size=(300, 6)), RNG.normal(size=(60, 6)), RNG.normal(size=(25, 6))
        found = nearer_to_training(samples, training, held_out, seed=number)
        held += found.low <= 0.5 <= found.high
    assert held >= 180


@pytest.mark.parametrize(("name", "low", "high"), [("overtrained", 0.9, 1.0), ("short_run", 0.0, 0.01)])
def test_runs_that_copied_and_that_did_not(name: str, low: float, high: float) -> None:
    """Digits at 16 px and 100 samples of models trained on them: 57 images for 2,000 steps of 32, unconditional, and 1,057
    images for 300 steps of 64, with classes. The features are the pixels. resources/manual/evaluate.md has the commands.
    """
    with np.load(Path(__file__).parents[1] / "data" / "evaluation" / f"{name}.npz") as stored:
        generated, training, held_out = (
            stored[part].reshape(len(stored[part]), -1) / 127.5 - 1 for part in ("generated", "training", "held_out")
        )
    assert low <= copies(generated, training, held_out).share.value <= high
    assert copies(held_out, training, generated).share.value <= 0.03  # real images that are no copies
    nearer = nearer_to_training(generated, training, held_out)
    assert nearer.low > 0.5 if name == "overtrained" else nearer.low < 0.5 < nearer.high


def test_duplicates_in_the_folder_do_not_hide_copies() -> None:
    """d1 / d2, the ratio of other programs, is 1 where every training image is there twice."""
    twice = np.repeat(TRAINING, 2, axis=0) + RNG.normal(size=(128, 12)) * 1e-6
    memorised = TRAINING + RNG.normal(size=TRAINING.shape) * 0.02
    assert copies(memorised, twice, HELD_OUT).share.value == 1.0


@pytest.mark.parametrize("leaked", [1, 10, 40])
def test_held_out_images_that_are_training_images_do_not_hide_copies(leaked: int) -> None:
    """They would make the threshold 0, and two such tests together divide by it."""
    held_out = HELD_OUT.copy()
    held_out[:leaked] = TRAINING[:leaked]
    found = copies(TRAINING, TRAINING, held_out)
    assert found.share.value == combined_copies(found, found).share.value == 1.0
    fresh = copies(RNG.normal(size=(400, 12)), TRAINING, held_out)
    assert fresh.share.value <= 0.05


def test_flips_do_not_hide_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies of flipped training images, which a flip of the generated image uncovers; fresh images stay no copies."""
    monkeypatch.setattr(feature_arrays.blocks, "__defaults__", (30,))

    def views(images: np.ndarray) -> np.ndarray:
        return np.stack([images, images[:, ::-1]])

    flipped = TRAINING[:, ::-1] + RNG.normal(size=TRAINING.shape) * 0.02
    assert copies(flipped, TRAINING, HELD_OUT).share.value == 0
    found = copies(views(flipped), TRAINING, views(HELD_OUT))
    assert found.share.value == 1.0 and list(found.nearest) == list(range(64))
    assert copies(views(RNG.normal(size=(400, 12))), TRAINING, views(HELD_OUT)).share.value <= 0.01
    assert nearer_to_training(flipped, TRAINING, HELD_OUT).low < 0.5
    assert nearer_to_training(views(flipped), TRAINING, views(HELD_OUT)).low > 0.5


def test_the_parts_drawn_are_compared_as_if_they_were_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten rounds in one pass over the training images, in blocks of which some hold no drawn image."""
    monkeypatch.setattr(feature_arrays.blocks, "__defaults__", (5,))
    generated, few = RNG.normal(size=(30, 12)), HELD_OUT[:3]
    rng, shares = np.random.default_rng(0), []
    for _ in range(10):
        drawn = TRAINING[rng.choice(64, 3, replace=False)]
        distances = [np.linalg.norm(generated[:, None] - real, axis=2).min(axis=1) for real in (drawn, few)]
        shares.append(np.mean(distances[0] < distances[1]))
    assert nearer_to_training(generated, TRAINING, few).value == pytest.approx(np.mean(shares))


def test_every_training_image_drawn_exactly_once_is_nearer_to_training_in_digits() -> None:
    """0.697 is what the training part itself reads where features are pixels (500 held out of 1,797)."""
    digits = load_digits().data[RNG.permutation(1797)]
    found = nearer_to_training(digits[500:], digits[500:], digits[:500])
    assert 0.6 < found.value < 0.8


def test_ties_count_half_and_equal_images_are_no_division_by_zero() -> None:
    same = np.ones((10, 3))
    assert nearer_to_training(same, same, same).value == 0.5
    assert copies(same, same, same).share.value == 1.0


def test_the_gap_of_losses_has_welchs_interval() -> None:
    training, held_out = RNG.normal(size=(300, 2)), RNG.normal(size=(200, 2)) + [0.0, 0.5]
    none, gap = loss_gap(training, held_out)
    assert none.low < 0 < none.high
    assert gap.low > 0.2 and gap.value == pytest.approx(held_out[:, 1].mean() - training[:, 1].mean())
    assert gap.high - gap.low == pytest.approx(2 * 1.96 * np.sqrt(1 / 300 + 1 / 200), rel=0.15)


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(BadRequest, match=r"there are fewer of them \(40 and 64\)"):
        nearer_to_training(HELD_OUT, HELD_OUT, TRAINING)
    with pytest.raises(BadRequest, match="too few training images: this measure needs 3"):
        copies(HELD_OUT, TRAINING[:2], HELD_OUT)
    with pytest.raises(BadRequest, match="other numbers of noise levels|different numbers of noise levels"):
        loss_gap(np.zeros((3, 2)), np.zeros((3, 4)))
