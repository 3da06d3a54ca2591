"""ImageMapView: the result of `diffstudio map` as the Lab shows it: what each point is and where its image lies. No torch."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffstudio.plurals import count_of
from diffstudio.studio.evaluations.image_map.plots import by_class, by_part, plot_of, point_names
from diffstudio.studio.evaluations.image_map.result import HOW_TO_READ, MapLayout, MapPart, MapResult, PartKind
from diffstudio.studio.evaluations.job_folder import JobFolder
from diffstudio.studio.evaluations.latents.tasks import InterpolateSeeds
from diffstudio.studio.evaluations.plots.scatter import Group, Scatter
from diffstudio.studio.evaluations.results.stored import damage_named

PARTS, CLASSES = "parts", "classes"  # what the colours mean
TWO_SAMPLES = "Choose two samples of one checkpoint to see the images between them"

Colours = tuple[list[Group], NDArray[np.int64]]


@dataclass(frozen=True)
class ImageMapView:
    """Points are numbered through all parts, in their order."""

    job: Path
    result: MapResult
    colours: Mapping[str, Colours]  # by what they mean: PARTS, and CLASSES where there are any

    @property
    def summary(self) -> str:
        parts = ", ".join(
            f"{part.name}: {len(part):,}" + (f" of {part.available:,}" if len(part) < part.available else "")
            for part in self.result.parts
        )
        return f"{count_of(self.result.count, 'image')} by the features of {self.result.features}. {parts}."

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(self.result.notes)

    @property
    def how_to_read(self) -> str:
        return HOW_TO_READ

    @property
    def layouts(self) -> Sequence[MapLayout]:
        return self.result.layouts

    def scatter(self, layout: MapLayout, colours: str) -> Scatter:
        """What is saved."""
        return plot_of(self.result, layout, self.colours[colours])

    # One point

    def part(self, point: int) -> MapPart:
        return self._place(point)[0]

    def file(self, point: int) -> Path | None:
        """The file of an image; None where a sample was not kept."""
        part, place = self._place(point)
        name = part.names[place]
        return (Path(part.folder) if part.folder else self.job) / name if name else None

    def name(self, point: int) -> str:
        """Its path in its folder, or its seed."""
        part, place = self._place(point)
        return point_names(part)[place]

    def label(self, point: int) -> str:
        """Its caption or class, or what a sample was asked for."""
        part, place = self._place(point)
        return part.labels[place] if part.labels else ""

    def in_words(self, point: int) -> str:
        return " · ".join(filter(None, (self.part(point).name, self.name(point), self.label(point))))

    def between(self, first: int, last: int) -> InterpolateSeeds | str:
        """The task that generates the images between two samples, or a sentence that says why this is impossible."""
        (one, place), (other, other_place) = self._place(first), self._place(last)
        if not (one.kind is other.kind is PartKind.SAMPLES) or one.checkpoint != other.checkpoint:
            return f"{TWO_SAMPLES}."
        if not Path(one.checkpoint).is_file():
            return f"The checkpoint {one.checkpoint} no longer exists."
        return InterpolateSeeds(
            one.checkpoint, (one.seeds[place], other.seeds[other_place]), (self.label(first), self.label(last))
        )

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate(len(part) for part in self.result.parts))

    def _place(self, point: int) -> tuple[MapPart, int]:
        number = bisect_right(self._ends, point)
        return self.result.parts[number], point - (self._ends[number - 1] if number else 0)


def read_image_map(job: JobFolder, values: Mapping[str, Any]) -> ImageMapView:
    """The result in a job's folder. RunProblem when it is damaged, or a newer version of the program wrote it."""
    what = f"The result of {job.path.name}"
    with damage_named(what):
        result = MapResult.from_json(values, what)
    colours = {PARTS: by_part(result.parts)}
    if (classes := by_class(result.parts)) is not None:
        colours[CLASSES] = classes
    return ImageMapView(job.path, result, colours)
