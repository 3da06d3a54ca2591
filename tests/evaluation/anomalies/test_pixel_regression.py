"""Combined heat maps against scikit-learn's regression, and on maps whose errors follow the detail of an image."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from diffstudio.evaluation.anomalies.calibration import auroc
from diffstudio.evaluation.anomalies.pixel_regression import (
    _RIDGE,
    PixelRegression,
    balanced_weights,
    detail_of,
    highest,
)

RNG = np.random.default_rng(0)
COUNT, SIDE = 24, 16


def images_with_detail() -> tuple[np.ndarray, np.ndarray]:
    """Images [N,1,H,W], the right half of each with as much noise as the image has detail; and errors [N,H,W] like it."""
    images = np.zeros((COUNT, 1, SIDE, SIDE), np.float32)
    errors = RNG.gamma(2.0, 0.02, (COUNT, SIDE, SIDE)).astype(np.float32)
    images[..., SIDE // 2 :] = RNG.normal(size=(COUNT, 1, SIDE, SIDE // 2)) * 0.3
    errors[..., SIDE // 2 :] *= 10
    return images, errors


def with_defects(errors: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Five times the error in a patch of each: on the left it is still below that of the right half."""
    masks = [np.zeros((SIDE, SIDE), bool) for _ in errors]
    for number, mask in enumerate(masks):
        left = 1 if number % 2 else SIDE // 2 + 1
        mask[4:9, left : left + 5] = True
    return np.where(np.stack(masks), 5 * errors, errors).astype(np.float32), masks


def test_errors_are_judged_by_the_detail_around_them() -> None:
    images, errors = images_with_detail()
    defective, masks = with_defects(errors)
    other = RNG.normal(size=errors.shape).astype(np.float32)  # a map that tells nothing, with values below 0
    fitted = PixelRegression.of(
        {"errors": defective, "other": other}, {"errors": errors, "other": other}, (images, images), masks
    )
    new_images, new_errors = images_with_detail()
    new, inside = with_defects(new_errors)
    noise = RNG.normal(size=errors.shape).astype(np.float32)
    mask = np.stack(inside)
    found = fitted.maps({"errors": new, "other": noise}, new_images)
    assert found.dtype == np.float32 and found.shape == new.shape
    assert auroc(new[mask], new[~mask]) < 0.85 and auroc(found[mask], found[~mask]) > 0.93
    normal = fitted.maps({"errors": new_errors, "other": noise}, new_images)
    assert auroc(highest(found), highest(normal)) > 0.9 > auroc(new.max(axis=(1, 2)), new_errors.max(axis=(1, 2)))
    alone = fitted.maps({name: maps[:1] for name, maps in {"errors": new, "other": noise}.items()}, new_images[:1])
    np.testing.assert_allclose(alone, found[:1], atol=1e-4)  # of one image as of many


@pytest.mark.parametrize("share", [0.5, 0.02])
def test_the_weights_are_those_of_scikit_learn(share: float) -> None:
    x = RNG.normal(size=(2000, 3))
    y = (x @ [1.0, -2.0, 0.5] + RNG.logistic(size=2000) > np.quantile(x @ [1.0, -2.0, 0.5], 1 - share)).astype(float)
    expected = LogisticRegression(C=1 / (_RIDGE * len(x)), class_weight="balanced", tol=1e-8).fit(x, y)
    found = balanced_weights(x, y)
    np.testing.assert_allclose(found[:-1], expected.coef_[0], atol=1e-4)
    assert found[-1] == pytest.approx(expected.intercept_[0], abs=1e-4)


def test_features_with_rare_large_values_give_the_optimum_too() -> None:
    """Whole steps of Newton's method would go too far here."""
    rng = np.random.default_rng(4)
    x = rng.normal(size=(400, 2)) ** 5
    x /= x.std(axis=0)
    y = (x[:, 0] + 0.3 * rng.normal(size=400) > 1).astype(float)
    expected = LogisticRegression(C=1 / (_RIDGE * len(x)), class_weight="balanced", tol=1e-8).fit(x, y)
    np.testing.assert_allclose(balanced_weights(x, y)[:-1], expected.coef_[0], atol=0.02)


def test_separable_defects_and_maps_that_never_vary_give_finite_weights() -> None:
    flat = np.zeros((2, 8, 8), np.float32)
    defective, mask = flat.copy(), np.zeros((8, 8), bool)
    mask[2:5, 2:5] = True
    defective[:, mask] = 1.0
    images = np.zeros((2, 3, 8, 8), np.float32)
    fitted = PixelRegression.of({"a": defective}, {"a": flat}, (images, images), [mask, mask])
    found = fitted.maps({"a": defective}, images)
    assert np.isfinite(found).all() and found[:, mask].min() > found[:, ~mask].max()


def test_the_detail_is_the_gradient_and_a_score_the_mean_of_the_highest_pixels() -> None:
    images = np.zeros((1, 2, 4, 4), np.float32)
    images[0, :, :, 2:] = 1.0
    np.testing.assert_array_equal(detail_of(images)[0], [[0, 1, 0, 0]] * 4)
    maps = np.arange(400, dtype=np.float32).reshape(2, 10, 20)[:, :, :]
    np.testing.assert_allclose(highest(maps), [198.5, 398.5])
