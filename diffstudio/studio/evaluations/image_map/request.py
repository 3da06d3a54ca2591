"""MapRequest: which images are laid out, and how. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from diffstudio.errors import BadRequest, unknown_name
from diffstudio.evaluation.maps.layouts import LayoutName
from diffstudio.studio.evaluations.request import AUTO
from diffstudio.studio.requests.checks import check_numbers

ALL = "all"
LAYOUTS = (*map(str, LayoutName), ALL)
MOST_IMAGES = 20_000  # of a part, and on a map


@dataclass(frozen=True, slots=True)
class MapRequest:
    """Lay out the images of `folder`, and those of `subjects`: checkpoints and folders of images, by name or path."""

    subjects: tuple[str, ...]  # may be empty
    folder: Path
    count: int = 500  # samples of each checkpoint
    most: int = 5000  # images of each other part, evenly chosen
    layout: str = str(LayoutName.PCA)  # the PCA is made in any case
    seed: int = 0  # of the first sample, and of the layouts
    features: str = AUTO  # as in EvaluateRequest
    device: str = AUTO
    out: Path | None = None  # a folder for the result, in which a control file can stop the work

    def __post_init__(self) -> None:
        check_numbers(
            ("number of samples", self.count, 1, MOST_IMAGES),
            ("number of images of a part", self.most, 1, MOST_IMAGES),
            ("seed", self.seed, 0, 2**62),
        )
        if self.layout not in LAYOUTS:
            raise BadRequest(unknown_name("layout", self.layout), remedy=f"Choose one of {', '.join(LAYOUTS)}")

    @property
    def others(self) -> tuple[LayoutName, ...]:
        """The layouts beside the PCA."""
        others = (LayoutName.UMAP, LayoutName.PACMAP)
        return others if self.layout == ALL else tuple(name for name in others if name == self.layout)
