"""SynthesiseRequest: the synthetic images to generate, and their folder. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from diffstudio.errors import BadRequest, must_be_between
from diffstudio.studio.evaluations.request import AUTO

MOST_IMAGES = 1_000_000
RATIOS = (0.5, 1.0, 2.0, 5.0)  # synthetic images for each real one
MOST_RATIO = 100
LEAST_SEEDS, MOST_SEEDS = 5, 100
CADS_BY_DEFAULT = 0.1  # for models with classes or captions


@dataclass(frozen=True, slots=True)
class SynthesiseRequest:
    """Generate `count` images in all, or `per_class` of each class or caption, without near-copies of `folder`."""

    checkpoint: str
    folder: Path  # the real images that it was trained on
    out: Path
    count: int | None = None
    per_class: int | None = None
    seed: int = 0
    cads: float | None = None  # CADS scale, for more varied images; None: 0.1 if the model is conditional
    autoguidance: str = ""  # an earlier checkpoint of the same run to guide away from; empty for none
    autoguidance_scale: float = 2.0
    features: str = AUTO
    device: str = AUTO
    force: bool = False  # write into a folder that is not empty
    prove: bool = False  # train classifiers with and without the images
    ratios: tuple[float, ...] = RATIOS
    seeds: int = LEAST_SEEDS  # classifiers of each kind

    def __post_init__(self) -> None:
        if (self.count is None) == (self.per_class is None):
            raise BadRequest(
                "The number of images is missing" if self.count is None else "Two numbers of images were given",
                remedy="Give either the number in all, or that of each class",
            )
        number = self.count if self.count is not None else self.per_class
        if number is None or not 1 <= number <= MOST_IMAGES:
            raise BadRequest(f"The number of synthetic images is {number}", must_be_between(1, f"{MOST_IMAGES:,}"))
        if not 0 <= self.seed <= 2**62:
            raise BadRequest(f"The first seed is {self.seed}", must_be_between(0, 2**62))
        if self.cads is not None and not 0 <= self.cads <= 1:
            raise BadRequest(f"The CADS scale is {self.cads:g}", must_be_between(0, 1))
        if not 1 <= self.autoguidance_scale <= 10:
            raise BadRequest(f"The autoguidance scale is {self.autoguidance_scale:g}", must_be_between(1, 10))
        if not LEAST_SEEDS <= self.seeds <= MOST_SEEDS:
            raise BadRequest(
                f"The number of classifiers of each kind is {self.seeds}", must_be_between(LEAST_SEEDS, MOST_SEEDS)
            )
        check_ratios(self.ratios)


def parse_ratios(text: str) -> tuple[float, ...]:
    """Ratios separated by commas. BadRequest for other text."""
    try:
        return tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise BadRequest(
            f"The ratios are {text[:40]!r}", "they must be numbers", "Separate numbers by commas"
        ) from None


def check_ratios(ratios: Sequence[float]) -> None:
    """BadRequest for ratios that cannot be tested."""
    shown = ", ".join(f"{ratio:g}" for ratio in ratios) or "none"
    if not ratios or not all(0 < ratio <= MOST_RATIO for ratio in ratios):
        raise BadRequest(f"The ratios are {shown}", f"each must be above 0 and at most {MOST_RATIO}")
    if len(set(ratios)) < len(ratios):
        raise BadRequest(f"The ratios are {shown}", "one of them is given twice", "Give each ratio once")


def problem_of_ratios(text: str) -> str:
    """Why a text cannot be used as ratios; empty if it can."""
    try:
        check_ratios(parse_ratios(text))
    except BadRequest as error:
        return str(error).rstrip(".")
    return ""
