"""Ladders: step times that were fitted to a checkpoint, one ladder for each sampler and number of steps. No torch.

They are stored in the header of a checkpoint trained here, under `diffstudio.fitted_steps`. For other checkpoints they
are in `<name>.steps.json` next to the file, or in `fitted_steps.json` in a diffusers folder; for those that come with the
program, in the user's folder. See `stored`. The JSON is:

    {"format": 1, "ladders": [{"sampler": "euler", "times": [1.0, 0.4, 0.1], "guidance": 3.0, ...}, ...]}
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

from diffstudio.errors import NOT_A_JSON_OBJECT, UnexpectedValue, why_unreadable, wrong_format
from diffstudio.models.detection.families_table import SAMPLER_NAMES

FORMAT = 1
SPACING = "fitted"  # the name of the spacing in requests and headers
MOST_STEPS = 100
_MOST_LADDERS, _LARGEST = 1000, 1_000_000  # the latter of sizes in px and numbers of images
SAME_ALGORITHM = {"ddim": "euler"}  # the same without noise, so they share ladders


@dataclass(frozen=True, slots=True)
class Ladder:
    """The step times of one sampler, and the settings they were fitted with. ValueError for invalid values."""

    sampler: str
    times: tuple[float, ...]  # start times of the steps: decreasing fractions of t_max, without the final 0
    guidance: float  # CFG scale
    width: int  # px
    height: int
    images: int  # number of images used for fitting
    difference: float  # mean squared difference of test images from converged ones, with values from 0 to 1
    usual: str  # the best spacing without fitting
    usual_difference: float  # the same difference with that spacing
    recommended: bool = False  # whether this is the recommended setting of the checkpoint

    def __post_init__(self) -> None:
        numbers = (self.guidance, self.difference, self.usual_difference)
        valid = (
            self.sampler in SAMPLER_NAMES
            and 1 <= len(self.times) <= MOST_STEPS
            and max(self.times) <= 1
            and all(low < high for high, low in pairwise((*self.times, 0.0)))
            and all(0 <= number < math.inf for number in numbers)
            and all(1 <= number <= _LARGEST for number in (self.width, self.height, self.images))
            and self.usual.isidentifier()
        )
        if not valid:
            raise UnexpectedValue("its values are out of range")

    @property
    def steps(self) -> int:
        return len(self.times)

    @classmethod
    def from_json(cls, values: Any) -> Ladder:
        """The inverse of JSON. ValueError for values that are not a ladder."""
        match values:
            case {
                "sampler": str(sampler),
                "times": list(times),
                "guidance": float() | int() as guidance,
                "width": int(width),
                "height": int(height),
                "images": int(images),
                "difference": float() | int() as difference,
                "usual": str(usual),
                "usual_difference": float() | int() as usual_difference,
            } if all(type(time) in (int, float) for time in times):
                return cls(
                    sampler,
                    tuple(map(float, times)),
                    float(guidance),
                    width,
                    height,
                    images,
                    float(difference),
                    usual,
                    float(usual_difference),
                    values.get("recommended") is True,
                )
        raise UnexpectedValue("a value is missing or of a wrong type")


@dataclass(frozen=True, slots=True)
class FittedSteps:
    """The ladders of one checkpoint."""

    ladders: tuple[Ladder, ...] = ()
    problem: str = ""  # a clause that says why stored ladders cannot be read

    def of(self, sampler: str, steps: int) -> Ladder | None:
        """The ladder of a sampler with this number of steps; None if none was fitted."""
        name = SAME_ALGORITHM.get(sampler, sampler)
        return next((one for one in self.ladders if (one.sampler, one.steps) == (name, steps)), None)

    def step_counts(self, sampler: str) -> tuple[int, ...]:
        """The fitted numbers of steps of a sampler, in ascending order."""
        name = SAME_ALGORITHM.get(sampler, sampler)
        return tuple(sorted(one.steps for one in self.ladders if one.sampler == name))

    @property
    def recommended(self) -> Ladder | None:
        return next((one for one in self.ladders if one.recommended), None)

    def with_ladders(self, new: Iterable[Ladder]) -> FittedSteps:
        """With new ladders, which replace those of the same sampler and number of steps; the last recommendation counts.

        A ladder that is replaced stays recommended, unless one of the new ones is.
        """
        added = {(one.sampler, one.steps): one for one in new}
        known = {(one.sampler, one.steps): one for one in self.ladders}
        if any(one.recommended for one in added.values()):
            known = {key: replace(one, recommended=False) for key, one in known.items()}
        elif (usual := next((key for key, one in known.items() if one.recommended), None)) in added:
            added[usual] = replace(added[usual], recommended=True)
        merged = known | added
        return FittedSteps(tuple(merged[key] for key in sorted(merged)))

    def to_json(self) -> str:
        return json.dumps({"format": FORMAT, "ladders": [asdict(one) for one in self.ladders]})


NONE = FittedSteps()


def from_json(text: str) -> FittedSteps:
    """The inverse of `to_json`. Never raises: if the text cannot be read, `problem` says why."""
    try:
        values = json.loads(text)
        if not isinstance(values, dict):
            raise UnexpectedValue(NOT_A_JSON_OBJECT)
        stored, ladders = values.get("format"), values.get("ladders")
        if type(stored) is not int or stored > FORMAT:
            return FittedSteps(problem=wrong_format(stored, FORMAT))
        if not isinstance(ladders, list) or len(ladders) > _MOST_LADDERS:
            raise UnexpectedValue("it holds no list of ladders")
        return FittedSteps(tuple(map(Ladder.from_json, ladders)))
    except (ValueError, OverflowError, RecursionError) as error:  # OverflowError: a number that no float holds
        return FittedSteps(problem=f"they are damaged: {why_unreadable(error)}")
