"""Parts of labelled images: each has all classes and captions in proportion, and lies in the next larger one."""

from __future__ import annotations

from collections import Counter

import pytest

from diffstudio.studio.evaluations.synthesise.stratified import stratified_order


@pytest.mark.parametrize("count", [50, 100, 205])
def test_each_part_has_all_classes_and_captions_although_they_cycle(count: int) -> None:
    captions = [f"caption {number % 20}" for number in range(1000)]
    classes = [number % 10 for number in range(1000)]
    part = stratified_order(classes, captions)[:count]
    by_class, by_caption = (Counter(labels[index] for index in part) for labels in (classes, captions))
    assert set(by_class.values()) <= {count // 10, -(-count // 10)} and len(by_class) == 10
    assert set(by_caption.values()) <= {count // 20, -(-count // 20)} and len(by_caption) == 20
    assert sorted(stratified_order(classes, captions).tolist()) == list(range(1000))


def test_unequal_classes_keep_their_shares_and_the_images_of_a_class_are_a_random_part() -> None:
    classes = ["cat"] * 900 + ["dog"] * 100
    part = stratified_order(classes)[:100]
    assert Counter(classes[index] for index in part) == {"cat": 90, "dog": 10}
    assert 350 < part[part < 900].mean() < 550
    assert stratified_order([]).tolist() == []
