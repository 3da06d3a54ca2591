"""The result of `diffstudio map`: what each point is, and where it lies in each layout. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffstudio.errors import DiffstudioError, UnexpectedValue
from diffstudio.plurals import count_of
from diffstudio.studio.evaluations.results.stored import known_fields
from diffstudio.studio.evaluations.results.text import aligned

FORMAT = 1
FEWEST_JUDGED = 5  # different images for the trustworthiness of a map
HOW_TO_READ = (
    "Each point is an image; images with similar features are close together. Samples among held-out images look real, "
    "held-out images without nearby samples show what the model does not generate, and samples on single training images "
    "may be copies. Trustworthiness measures whether neighbours on the map are neighbours in the features: 1 is best, a "
    "random map has about 0.5. The axes have no unit; only proximity has a meaning."
)


class PartKind(StrEnum):
    TRAINING = "training"
    HELD_OUT = "held-out"
    IMAGES = "images"  # of a folder of which nothing is known
    FOLDER = "folder"  # of generated images
    SAMPLES = "samples"  # of a checkpoint


@dataclass(frozen=True, slots=True)
class MapPart:
    """Images that belong together, in the order of their points."""

    name: str
    kind: PartKind
    available: int  # of which `names` are some
    folder: str = ""  # in which the images are; empty for samples, which are in that of the job
    checkpoint: str = ""  # the path of that which made them
    names: tuple[str, ...] = ()  # the path of each image; empty texts where samples were not kept
    labels: tuple[str, ...] = ()  # the caption or class of each, or what a sample was asked for; or none
    classes: tuple[str, ...] = ()  # the class of each; or none
    seeds: tuple[int, ...] = ()  # of samples

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True, slots=True)
class MapLayout:
    name: str
    title: str
    about: str  # a sentence
    coordinates: NDArray[np.float64]  # [N,2], of the images of all parts
    trustworthiness: float | None  # None where there are too few images
    neighbours: int
    judged: int  # images whose neighbours were looked at

    def trusted(self) -> str:
        """`Trustworthiness 0.953 (10 neighbours, 2,000 of 12,000 images).`"""
        if self.trustworthiness is None:
            return f"Trustworthiness needs at least {FEWEST_JUDGED} images that differ."
        count = len(self.coordinates)
        of = f"{self.judged:,} of {count:,} images, evenly spaced" if self.judged < count else f"{count:,} images"
        return f"Trustworthiness {self.trustworthiness:.3f} ({self.neighbours} neighbours, {of})."


@dataclass(frozen=True, slots=True)
class MapResult:
    folder: str
    features: str
    parts: Sequence[MapPart]
    layouts: Sequence[MapLayout]
    settings: Mapping[str, object] = field(default_factory=dict)
    notes: Sequence[str] = ()
    problem: DiffstudioError | None = None

    @property
    def count(self) -> int:
        return sum(map(len, self.parts))

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "folder": self.folder,
            "features": self.features,
            "settings": dict(self.settings),
            "parts": [asdict(part) for part in self.parts],
            "layouts": [
                {name: getattr(layout, name) for name in layout.__slots__ if name != "coordinates"}
                | {"x": _rounded(layout.coordinates[:, 0]), "y": _rounded(layout.coordinates[:, 1])}
                for layout in self.layouts
            ],
            "notes": list(self.notes),
            "how_to_read": HOW_TO_READ,
        }

    def text(self) -> str:
        """The parts, what each layout keeps, and how to read it."""
        lines = [f"{count_of(self.count, 'image')} by the features of {self.features}", ""]
        lines += aligned([(part.name, f"{len(part):,} of {part.available:,}") for part in self.parts])
        for layout in self.layouts:
            lines += ["", f"{layout.title}: {layout.trusted()} {layout.about}"]
        lines += ["", *self.notes] if self.notes else []
        return "\n".join([*lines, "", HOW_TO_READ])

    @classmethod
    def from_json(cls, values: Mapping[str, Any], what: str) -> MapResult:
        """What `to_json` gave. RunProblem for a newer format; KeyError, TypeError or ValueError for anything else."""
        known = known_fields(cls, values, FORMAT, what)
        parts = [_part(part) for part in known["parts"]]
        count = sum(map(len, parts))
        layouts = [_layout(layout, count) for layout in known["layouts"]]
        if not layouts:
            raise UnexpectedValue("it has no layout")
        return cls(
            str(known["folder"]),
            str(known["features"]),
            parts,
            layouts,
            dict(known["settings"]),
            tuple(map(str, known["notes"])),
        )


def _part(values: Mapping[str, Any]) -> MapPart:
    names = tuple(map(str, values["names"]))
    each: dict[str, tuple[Any, ...]] = {
        "labels": tuple(map(str, values["labels"])),
        "classes": tuple(map(str, values["classes"])),
        "seeds": tuple(map(int, values["seeds"])),
    }
    for name, found in each.items():
        if found and len(found) != len(names):
            raise UnexpectedValue(f"{len(found)} {name} for {len(names)} images")
    return MapPart(
        str(values["name"]),
        PartKind(values["kind"]),
        int(values["available"]),
        str(values["folder"]),
        str(values["checkpoint"]),
        names,
        **each,
    )


def _layout(values: Mapping[str, Any], count: int) -> MapLayout:
    coordinates = np.array([values["x"], values["y"]], np.float64).T
    if coordinates.shape != (count, 2) or not np.isfinite(coordinates).all():
        raise UnexpectedValue(f"the layout {values['name']} has not a point for each of {count} images")
    trusted = values["trustworthiness"]
    return MapLayout(
        str(values["name"]),
        str(values["title"]),
        str(values["about"]),
        coordinates,
        float(trusted) if trusted is not None else None,
        int(values["neighbours"]),
        int(values["judged"]),
    )


def _rounded(values: NDArray[np.float64]) -> list[float]:
    return [float(f"{value:.6g}") for value in values]
