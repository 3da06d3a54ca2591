"""Calibration against scikit-learn, closed forms and the frequencies that are promised."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from diffstudio.errors import BadRequest
from diffstudio.evaluation.anomalies.calibration import (
    auroc,
    auroc_interval,
    combined,
    outliers,
    p_values,
    smallest_rate,
    standardised,
    threshold,
    two_sided,
)

RNG = np.random.default_rng(0)


def test_p_values_are_ranks_among_the_normals() -> None:
    np.testing.assert_allclose(p_values([5.0, 2.0, 0.0], [1.0, 2.0, 3.0]), [1 / 4, 3 / 4, 1.0])


@pytest.mark.parametrize("rate", [0.05, 0.2])
def test_as_many_normal_images_are_called_anomalous_as_promised(rate: float) -> None:
    """Over many sets of 39 normals, the share of new ones beyond the threshold, or with a p-value up to the rate."""
    by_threshold, by_p = [], []
    for _ in range(400):
        known, new = RNG.normal(size=39) ** 3, RNG.normal(size=50) ** 3
        by_threshold.append(np.mean(new > threshold(known, rate)))
        by_p.append(np.mean(p_values(new, known) <= rate))
    assert np.mean(by_threshold) == pytest.approx(rate, abs=0.01)
    np.testing.assert_allclose(by_p, by_threshold)


def test_a_rate_that_so_few_normals_do_not_support_is_refused() -> None:
    assert smallest_rate(19) == pytest.approx(0.05)
    assert threshold(np.arange(19.0), 0.05) == 18.0
    with pytest.raises(BadRequest, match="18 were held out, which support rates of 0.0526 and above"):
        threshold(np.arange(18.0), 0.05)


def test_the_area_is_that_of_scikit_learn_with_ties_too() -> None:
    high, low = RNG.integers(2, 8, 60).astype(float), RNG.integers(0, 6, 90).astype(float)
    labels = np.r_[np.ones(60), np.zeros(90)]
    assert auroc(high, low) == pytest.approx(roc_auc_score(labels, np.r_[high, low]))
    with pytest.raises(BadRequest, match="one kind is missing"):
        auroc([], low)


def test_the_interval_holds_the_true_area() -> None:
    """Of normal values one deviation apart: Phi(1 / sqrt 2)."""
    truth, held = norm.cdf(1 / np.sqrt(2)), 0
    for _ in range(60):
        found = auroc_interval(list(RNG.normal(1, 1, 40)), list(RNG.normal(0, 1, 60)))
        held += found.low <= truth <= found.high
    assert held >= 52


def test_pixels_of_an_image_stay_together() -> None:
    """Twenty equal pixels of each image widen nothing and narrow nothing."""
    high, low = RNG.normal(1, 1, 30), RNG.normal(0, 1, 30)
    single = auroc_interval(list(high), list(low))
    repeated = auroc_interval([np.full(20, one) for one in high], [np.full(20, one) for one in low])
    assert repeated.value == pytest.approx(single.value)
    assert repeated.high - repeated.low == pytest.approx(single.high - single.low, rel=1e-9)


def test_scores_are_in_deviations_of_the_normals_whatever_a_few_of_them_are() -> None:
    normals = np.r_[RNG.normal(10, 2, 5000), [1e6] * 50]
    np.testing.assert_allclose(standardised([10.0, 14.0], normals), [0, 2], atol=0.1)
    np.testing.assert_allclose(standardised([4.0], [1.0, 1.0, 1.0, 5.0]), [3 / np.std([1, 1, 1, 5])])
    np.testing.assert_allclose(standardised([3.0], [1.0, 1.0]), [2.0])


def test_two_sided_scores_are_high_on_both_sides() -> None:
    np.testing.assert_allclose(two_sided([0.0, 5.0, 9.0], [4.0, 5.0, 6.0]), [5, 0, 4])


def test_a_combination_follows_whichever_detector_is_sure() -> None:
    """Two kinds of anomalies, each seen by one detector only: the mean of both scores is worse for either."""
    normals = {name: RNG.normal(size=400) for name in ("a", "b")}
    tested = {name: RNG.normal(size=400) for name in normals}
    for seen in normals:
        found = {name: RNG.normal(size=400) + 4 * (name == seen) for name in normals}
        area = auroc(combined(found, normals, {"a": 1.0, "b": 1.0}), combined(tested, normals, {"a": 1.0, "b": 1.0}))
        mean = auroc(found["a"] + found["b"], tested["a"] + tested["b"])
        assert area > mean + 0.003 and area > auroc(found[seen], tested[seen]) - 0.005


def test_a_combination_is_the_logarithm_of_a_weighted_mean_of_exponentials() -> None:
    scores = {"a": RNG.normal(size=5), "b": RNG.normal(size=5)}
    normals = {name: RNG.normal(size=300) for name in scores}
    one, other = (standardised(scores[name], normals[name]) for name in "ab")
    expected = np.log(0.75 * np.exp(one) + 0.25 * np.exp(other))
    np.testing.assert_allclose(combined(scores, normals, {"a": 3.0, "b": 1.0}), expected)
    np.testing.assert_allclose(combined(scores, normals, {"a": 1.0, "b": 0.0}), one)
    far = {name: np.array([2000.0]) for name in scores}
    assert np.isfinite(combined(far, normals, {"a": 1.0, "b": 1.0})).all()


def test_far_outliers_among_normals_are_found_worst_first() -> None:
    normals = np.r_[RNG.normal(size=200), 30.0, 50.0]
    assert outliers(normals).tolist() == [201, 200]
    assert outliers(RNG.normal(size=200)).tolist() == []


def test_scores_without_a_rank_are_refused() -> None:
    """NaN would sort above all others, so that its p-value would be the lowest one."""
    good, bad = [1.0, 2.0, 3.0], [1.0, float("nan"), float("inf")]
    for compute in (
        lambda: p_values(bad, good),
        lambda: p_values(good, bad),
        lambda: threshold(bad, 0.5),
        lambda: standardised(bad, good),
        lambda: two_sided(good, bad),
        lambda: auroc(bad, good),
        lambda: outliers(bad),
    ):
        with pytest.raises(BadRequest, match="2 of 3 are NaN or infinite"):
            compute()
    for compute in (lambda: standardised(good, []), lambda: two_sided(good, []), lambda: outliers([])):
        with pytest.raises(BadRequest, match="nothing to calibrate the scores with: there are no normal images"):
            compute()
