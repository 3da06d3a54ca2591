"""Drawn defects: what they change, where, and that each changes something."""

from __future__ import annotations

import numpy as np
import pytest

from diffstudio.evaluation.anomalies import defects as module
from diffstudio.evaluation.anomalies.defects import KINDS, defects, with_defect

RNG = np.random.default_rng(0)


def images(count: int, channels: int = 3, side: int = 32) -> list[np.ndarray]:
    return [RNG.uniform(-1, 1, (channels, side, side)).astype(np.float32) for _ in range(count)]


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_the_mask_is_what_changed(kind: str, channels: int) -> None:
    image, other = images(2, channels)
    changed, mask = with_defect(image, other, kind, np.random.default_rng(1))
    away = np.abs(changed - image).max(axis=0)
    assert changed.dtype == np.float32 and np.abs(changed).max() <= 1
    np.testing.assert_array_equal(mask, away > 0.1)
    assert 0 < mask.mean() < 0.3


def test_a_defect_that_would_change_nothing_becomes_a_blob() -> None:
    """A patch of the border's colour on an image of that colour."""
    flat = np.full((3, 16, 16), 0.5, np.float32)
    for kind in ("erased patch", "cut and paste"):
        assert with_defect(flat, flat, kind, np.random.default_rng(0))[1].any()


def test_all_kinds_are_drawn_in_turn_and_the_same_each_time() -> None:
    given = images(7, side=8)
    changed, masks, kinds = defects(given, seed=3)
    assert kinds == [*KINDS, *KINDS[:2]] and all(mask.any() for mask in masks)
    again, _, _ = defects(given, seed=3)
    np.testing.assert_array_equal(changed, again)
    assert len(defects(given[:1])[0]) == 1


def test_where_nothing_can_change_the_mask_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_blob", lambda image, other, rng: image)
    monkeypatch.setattr(module, "_KINDS", dict.fromkeys(KINDS, lambda image, other, rng: image))
    image, other = images(2)
    changed, mask = with_defect(image, other, KINDS[0], np.random.default_rng(1))
    np.testing.assert_array_equal(changed, image)
    assert not mask.any()
