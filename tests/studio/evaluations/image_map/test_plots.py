"""The colours of a map: the same for the same kind of part, and for the most frequent classes."""

from __future__ import annotations

import numpy as np

from diffstudio.studio.evaluations.image_map.plots import NO_CLASS, OTHER, by_class, by_part, plot_of
from diffstudio.studio.evaluations.image_map.result import MapLayout, MapPart, MapResult, PartKind


def part(kind: PartKind, count: int, classes: tuple[str, ...] = (), seeds: tuple[int, ...] = ()) -> MapPart:
    names = tuple(f"{place}.png" for place in range(count))
    return MapPart(str(kind), kind, count, names=names, classes=classes, labels=classes, seeds=seeds)


def test_a_kind_of_part_has_the_same_colour_on_every_map() -> None:
    training, held_out = part(PartKind.TRAINING, 3), part(PartKind.HELD_OUT, 2)
    samples, folder = part(PartKind.SAMPLES, 1), part(PartKind.FOLDER, 2)
    groups, group = by_part([training, held_out, samples, folder])
    assert [one.colour for one in groups] == [0, 1, 2, 3] and group.tolist() == [0, 0, 0, 1, 1, 2, 3, 3]
    fewer, _ = by_part([training, samples])
    assert [one.colour for one in fewer] == [0, 2]


def test_the_most_frequent_classes_have_colours_of_their_own() -> None:
    few = by_class([part(PartKind.TRAINING, 3, ("b", "a", "b")), part(PartKind.SAMPLES, 2)])
    assert few is not None
    assert [one.name for one in few[0]] == ["a", "b", NO_CLASS] and few[1].tolist() == [1, 0, 1, 2, 2]
    names = tuple(name for place, name in enumerate("abcdefghij") for _ in range(20 - place))
    many = by_class([part(PartKind.TRAINING, len(names), names)])
    assert many is not None
    assert [one.name for one in many[0]] == [*"abcdef", OTHER] and len({one.colour for one in many[0]}) == 7
    assert np.bincount(many[1]).tolist() == [20, 19, 18, 17, 16, 15, 14 + 13 + 12 + 11]
    assert by_class([part(PartKind.TRAINING, 3)]) is None


def test_a_plot_names_every_point() -> None:
    parts = [part(PartKind.TRAINING, 1, ("a",)), part(PartKind.SAMPLES, 2, seeds=(8, 9))]
    layout = MapLayout("pca", "PCA", "About it.", np.zeros((3, 2)), None, 1, 3)
    plot = plot_of(MapResult("folder", "network", parts, [layout]), layout, by_part(parts))
    assert list(plot.names) == ["0.png", "seed 8", "seed 9"] and list(plot.labels) == ["a", "", ""]
    assert plot.name == "map-pca" and "3 images" in plot.title
