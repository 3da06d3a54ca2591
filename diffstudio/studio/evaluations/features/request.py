"""FeaturesRequest: the images whose features are computed, at which noise levels. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from diffstudio.errors import BadRequest
from diffstudio.studio.requests.checks import check_each_once, check_numbers

AUTO = "auto"
LEVELS = (0.02, 0.05, 0.1, 0.2, 0.4)
MOST_IMAGES, MOST_LEVELS, MOST_PARTS = 100_000, 20, 8
LOWEST_LEVEL, HIGHEST_LEVEL = 0.001, 1.0


@dataclass(frozen=True, slots=True)
class FeaturesRequest:
    """Compute the features of images of `folder` in `checkpoint`, and probe them where the folder has classes."""

    checkpoint: str  # a name or a path
    folder: Path
    levels: tuple[float, ...] = LEVELS  # times, as shares of the schedule's largest
    layer: str = AUTO  # whose features are exported; by default the best
    level: float | None = None  # likewise
    count: int = 2_000  # images, at most
    seed: int = 0
    pool: int = 1  # parts of a side whose means are features: 1 is the mean of the whole image
    device: str = AUTO
    out: Path | None = None  # a folder for the result, in which a control file can stop the work

    def __post_init__(self) -> None:
        check_numbers(
            ("number of images", self.count, 1, MOST_IMAGES),
            ("count of noise levels", len(self.levels), 1, MOST_LEVELS),
            ("pooling", self.pool, 1, MOST_PARTS),
            ("seed", self.seed, 0, 2**62),
            *(("noise level", level, LOWEST_LEVEL, HIGHEST_LEVEL) for level in self.levels),
        )
        check_each_once("noise level", self.levels)
        if self.level is not None and self.level not in self.levels:
            raise BadRequest(
                f"The noise level {self.level:g} is not measured",
                remedy=f"Choose one of {', '.join(f'{level:g}' for level in self.levels)}",
            )
