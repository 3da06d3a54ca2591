"""The layouts of a map as plots: coloured by part or by class, saved as PNG, SVG and CSV. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diffstudio.atomic import write_bytes, write_text
from diffstudio.plurals import count_of
from diffstudio.studio.evaluations.image_map.result import MapLayout, MapPart, MapResult, PartKind
from diffstudio.studio.evaluations.plots import scatter
from diffstudio.studio.evaluations.plots.scatter import Group, Scatter

_MOST_CLASSES = 7  # with a colour of their own
OTHER, NO_CLASS = "Other classes", "Without class"
_COLOUR_OF = {PartKind.TRAINING: 0, PartKind.IMAGES: 0, PartKind.HELD_OUT: 1}
_FIRST_OF_SUBJECTS = 2


def by_part(parts: Sequence[MapPart]) -> tuple[list[Group], NDArray[np.int64]]:
    """A group for each part, and the group of each point. A kind of part has the same colour on every map."""
    colours, next_colour = [], _FIRST_OF_SUBJECTS
    for part in parts:
        if part.kind in _COLOUR_OF:
            colours.append(_COLOUR_OF[part.kind])
        else:
            colours.append(next_colour)
            next_colour += 1
    groups = [Group(part.name, colour) for part, colour in zip(parts, colours, strict=True)]
    return groups, np.repeat(np.arange(len(parts)), [len(part) for part in parts])


def by_class(parts: Sequence[MapPart]) -> tuple[list[Group], NDArray[np.int64]] | None:
    """A group for each of the most frequent classes, one for the others, and one for images without; None for no class."""
    names = [name for part in parts for name in (part.classes or ("",) * len(part))]
    counts = Counter(name for name in names if name)
    if not counts:
        return None
    ranked = sorted(counts, key=lambda name: (-counts[name], name))
    few = len(ranked) <= _MOST_CLASSES
    own = sorted(ranked if few else ranked[: _MOST_CLASSES - 1])
    groups = [Group(name, place + 1) for place, name in enumerate(own)]
    number = {name: place for place, name in enumerate(own)}
    if not few:
        number |= dict.fromkeys(ranked[_MOST_CLASSES - 1 :], len(groups))
        groups.append(Group(OTHER, _MOST_CLASSES))
    if "" in names:
        number[""] = len(groups)
        groups.append(Group(NO_CLASS, 0))
    return groups, np.array([number[name] for name in names])


def plot_of(result: MapResult, layout: MapLayout, colours: tuple[list[Group], NDArray[np.int64]]) -> Scatter:
    groups, group = colours
    return Scatter(
        f"map-{layout.name}",
        f"{count_of(result.count, 'image')} by the features of {result.features}: {layout.title}",
        layout.trusted(),
        layout.coordinates,
        groups,
        group,
        [name for part in result.parts for name in point_names(part)],
        [label for part in result.parts for label in (part.labels or ("",) * len(part))],
    )


def point_names(part: MapPart) -> Sequence[str]:
    """The path of each image in its folder, or the seed of each sample."""
    return [f"seed {seed}" for seed in part.seeds] if part.seeds else part.names


def save_plots(result: MapResult, folder: Path) -> None:
    """Write map-LAYOUT.svg, .png and .csv of each layout, coloured by part. StorageProblem."""
    for layout in result.layouts:
        plot = plot_of(result, layout, by_part(result.parts))
        write_text(folder / f"{plot.name}.svg", scatter.svg(plot))
        write_bytes(folder / f"{plot.name}.png", scatter.png(plot))
        write_text(folder / f"{plot.name}.csv", scatter.data(plot))
