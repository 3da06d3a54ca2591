"""Splits labelled images into training, validation and test parts, with every class in each. No torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TRAINING, VALIDATION, TEST = "training", "validation", "test"
FEWEST_OF_A_CLASS = 5  # images of a class, so that each part has one
_VALIDATION_SHARE, _TEST_SHARE = 0.2, 0.2


@dataclass(frozen=True, slots=True)
class Parts:
    """Indices of the images of each part, ascending."""

    training: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]

    def name_of(self, index: int) -> str:
        """The name of the part of an image; empty if it is in none."""
        for name, part in ((TRAINING, self.training), (VALIDATION, self.validation), (TEST, self.test)):
            if index in part:
                return name
        return ""


def split_parts(labels: NDArray[np.int64], seed: int, test: NDArray[np.int64] | None = None) -> Parts:
    """Split images at random within each class: a fifth for validation, and another fifth for testing.

    `test` gives the indices of the test part instead, such as the images that a run held out.
    """
    rng = np.random.default_rng(seed)
    given = np.zeros(len(labels), np.bool_)
    if test is not None:
        given[test] = True
    parts: dict[str, list[int]] = {TRAINING: [], VALIDATION: [], TEST: list(np.flatnonzero(given))}
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero((labels == label) & ~given))
        validation = max(1, round(_VALIDATION_SHARE * len(members)))
        last = validation if test is not None else validation + max(1, round(_TEST_SHARE * len(members)))
        parts[VALIDATION] += members[:validation].tolist()
        parts[TEST] += members[validation:last].tolist()
        parts[TRAINING] += members[last:].tolist()
    return Parts(*(np.array(sorted(parts[name]), np.int64) for name in (TRAINING, VALIDATION, TEST)))
