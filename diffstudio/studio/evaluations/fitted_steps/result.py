"""What fitting found for each sampler and number of steps, as JSON and as a table. No torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from diffstudio.errors import DiffstudioError
from diffstudio.studio.evaluations.results.text import aligned

FORMAT = 1


@dataclass(frozen=True, slots=True)
class FittedLadder:
    """One ladder, and how close it and the best other spacing come to converged images that it was not fitted with."""

    sampler: str
    steps: int
    calls: int
    times: tuple[float, ...]
    difference: float  # mean squared, on a scale of 0 to 1
    usual: str
    usual_difference: float
    kept: bool  # whether it is closer, and so stored

    @property
    def less(self) -> float:
        """How much less its difference is, as a share: 0.3 is 30% less."""
        return 1 - self.difference / self.usual_difference if self.usual_difference > 0 else 0.0


@dataclass(frozen=True, slots=True)
class FitStepsResult:
    checkpoint: str
    guidance: float
    images: int  # fitted with
    judged: int  # judged by
    ladders: tuple[FittedLadder, ...]
    file: str  # where those that are kept are; empty where none is
    notes: tuple[str, ...] = ()
    problem: DiffstudioError | None = None
    judged_by_others: bool = True  # whether the prompts to judge by are not those to fit with

    def to_json(self) -> dict[str, Any]:
        values = {"format": FORMAT, "checkpoint": self.checkpoint, "guidance": self.guidance, "images": self.images}
        ladders = [asdict(one) | {"less": one.less} for one in self.ladders]
        values |= {"judged": self.judged, "judged_by_others": self.judged_by_others, "ladders": ladders}
        return values | {"file": self.file, "notes": list(self.notes)}

    def text(self) -> str:
        """The table, and below it where the steps are and what is to be known of them."""
        rows = [("sampler", "steps", "calls", "fitted", "best other", "", "less", "kept")]
        rows += [
            (
                one.sampler,
                str(one.steps),
                str(one.calls),
                f"{one.difference:.1e}",
                f"{one.usual_difference:.1e}",
                one.usual,
                f"{one.less:.0%}",
                "yes" if one.kept else "no",
            )
            for one in self.ladders
        ]
        others = "prompts and seeds" if self.judged_by_others else "seeds"
        about = (
            f"Mean squared difference to converged images, on a scale of 0 to 1, of {_images(self.judged)} with {others} "
            f"that the steps were not fitted with ({_images(self.images)}, CFG scale {self.guidance:g})."
        )
        where = f"Kept in {self.file}." if self.file else "None is kept: none is closer than the schedulers there are."
        return "\n".join([*aligned(rows), "", about, where, *self.notes])


def _images(count: int) -> str:
    return f"{count} image{'' if count == 1 else 's'}"
