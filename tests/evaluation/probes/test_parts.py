"""Parts of labelled images: every class in each, no image in two."""

from __future__ import annotations

import numpy as np

from diffstudio.evaluation.probes.parts import TEST, TRAINING, VALIDATION, split_parts


def test_every_class_is_in_each_part() -> None:
    labels = np.repeat([0, 1, 2], (5, 20, 75))
    parts = split_parts(labels, seed=3)
    everything = np.concatenate([parts.training, parts.validation, parts.test])
    assert sorted(everything) == list(range(100))
    assert [np.bincount(labels[part]).tolist() for part in (parts.training, parts.validation, parts.test)] == [
        [3, 12, 45],
        [1, 4, 15],
        [1, 4, 15],
    ]
    again = split_parts(labels, seed=3)
    assert (again.test == parts.test).all() and (split_parts(labels, seed=4).test != parts.test).any()


def test_the_test_part_may_be_given() -> None:
    labels = np.tile([0, 1], 10)
    parts = split_parts(labels, 0, np.array([19, 3, 4]))
    assert parts.test.tolist() == [3, 4, 19] and len(parts.validation) == 4 and len(parts.training) == 13
    assert parts.name_of(4) == TEST and parts.name_of(int(parts.training[0])) == TRAINING
    assert parts.name_of(int(parts.validation[0])) == VALIDATION and parts.name_of(99) == ""
