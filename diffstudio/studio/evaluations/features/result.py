"""The result of computing features: which layer and noise level are best, by validation, and what was written. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from diffstudio.errors import DiffstudioError, UnexpectedValue
from diffstudio.evaluation.interval import Interval
from diffstudio.plurals import count_of
from diffstudio.studio.evaluations.results.stored import typed_result
from diffstudio.studio.evaluations.results.text import aligned, with_interval
from diffstudio.studio.number_text import signed

FORMAT = 1
PROBE, NEIGHBOURS = "linear", "neighbours"
TITLES = {PROBE: "Linear probe", NEIGHBOURS: "Nearest neighbours"}
HOW_TO_READ = (
    "Accuracy is the share of images whose class is predicted correctly from the features, by a linear probe or by the 5 "
    "nearest neighbours. The layer and noise level are chosen on the validation part, and their accuracy is measured once "
    "on the test part, which was not used for the choice: compare it with the accuracy of raw pixels. A model with good "
    "representations has its best features in middle and later layers, at low noise. Features of different layers or noise "
    "levels cannot be compared with each other."
)


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Of one kind of classifier: by layer and noise level on the validation part, and of the best on the test part."""

    validation: Sequence[Sequence[float]]  # [layers][levels]
    layer: str  # the best
    level: float
    test: Interval
    pixels: Interval  # of the raw pixels, on the test part


@dataclass(frozen=True, slots=True)
class FeaturesResult:
    checkpoint: str
    folder: str
    images: int
    layers: Sequence[str]
    levels: Sequence[float]
    dimensions: Sequence[int]  # of the features of each layer
    classes: Sequence[str]  # of the probe; empty without one
    parts: Mapping[str, int]  # images in each part
    accuracy: Mapping[str, Accuracy]  # of each kind of classifier; empty without classes
    exported_layer: str
    exported_level: float
    files: Sequence[str]  # in the folder of the result; empty without one
    notes: Sequence[str] = ()
    format: int = field(default=FORMAT)

    @property
    def problem(self) -> DiffstudioError | None:
        return None

    @property
    def verdict(self) -> str:
        """Whether the features are worth more than the raw pixels, in a sentence."""
        if not self.accuracy:
            return "The folder has no classes to separate, so there is no probe; the features are exported."
        found = self.accuracy[PROBE]
        better = found.test.value - found.pixels.value
        if found.test.low > found.pixels.high:
            said = "separate classes better than raw pixels"
        elif found.test.high < found.pixels.low:
            said = "separate classes worse than raw pixels"
        else:
            said = "separate classes about as well as raw pixels: the intervals overlap"
        return (
            f"The features of {found.layer} at noise level {found.level:g} {said} ({found.test.value:.3f} and "
            f"{found.pixels.value:.3f}, {signed(better)})."
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> FeaturesResult:
        """What `to_json` gave. KeyError, TypeError, ValueError or RunProblem for anything else."""
        found = typed_result(cls, values, FORMAT)
        for name, one in found.accuracy.items():
            if [len(row) for row in one.validation] != [len(found.levels)] * len(found.layers) or not found.levels:
                raise UnexpectedValue(f"the accuracies of {name} do not fit the layers and levels")
        return found

    def text(self) -> str:
        lines = [f"{self.checkpoint} on {self.folder}: {count_of(self.images, 'image')}", ""]
        for name, found in self.accuracy.items():
            rows = [[TITLES[name], *(f"t = {level:g}" for level in self.levels)]]
            rows += [
                [layer, *(f"{value:.3f}" for value in values)]
                for layer, values in zip(self.layers, found.validation, strict=True)
            ]
            lines += [*aligned(rows), f"best on the validation part: {found.layer} at {found.level:g}"]
            lines += [f"test part: {with_interval(found.test)}; raw pixels {with_interval(found.pixels)}", ""]
        lines.append(self.verdict)
        if self.files:
            lines.append(f"Exported: {self.exported_layer} at {self.exported_level:g}, in {', '.join(self.files)}")
        lines += ["", *self.notes] if self.notes else []
        return "\n".join([*lines, "", HOW_TO_READ]) if self.accuracy else "\n".join(lines)
