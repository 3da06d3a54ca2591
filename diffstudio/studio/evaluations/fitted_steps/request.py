"""FitStepsRequest: to which checkpoint steps are fitted, for which samplers and how many network calls. No torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from diffstudio.errors import BadRequest, must_be_between
from diffstudio.studio.requests.checks import check_each_once, check_numbers

AUTO = "auto"
FITTABLE = ("dpmpp_2m", "unipc", "euler", "heun")  # without noise of their own; ddim is the algorithm of euler
CALLS = (4, 6, 8, 10)
FEWEST_CALLS, MOST_CALLS, MOST_IMAGES, MOST_EFFORT = 2, 50, 1000, 10_000


@dataclass(frozen=True, slots=True)
class FitStepsRequest:
    """Fit the steps of some samplers to `checkpoint`."""

    checkpoint: str  # a name or a path
    samplers: tuple[str, ...] = ()  # (): the one that the checkpoint recommends, or DPM++ 2M
    calls: tuple[int, ...] = CALLS  # network calls; Heun takes half as many steps
    prompts: tuple[str, ...] = ()  # (): captions or classes of the checkpoint, or some of this program
    images: int = 24  # that the steps are fitted with
    judged: int = 16  # others, that they are judged by
    guidance: float | None = None  # CFG scale; None: as the checkpoint recommends
    effort: int = 200  # network calls of the whole batch for refining one ladder
    recommend: int | None = None  # with as many calls, the first sampler's become the checkpoint's recommended settings
    device: str = AUTO
    out: Path | None = None  # a folder for the result, in which a control file can stop the work

    def __post_init__(self) -> None:
        for sampler in self.samplers:
            if sampler not in FITTABLE:
                raise BadRequest(
                    f"Steps cannot be fitted to the sampler {sampler[:40]!r}",
                    "it adds noise of its own" if sampler in _STOCHASTIC else "",
                    f"Choose some of {', '.join(FITTABLE)}",
                )
        if not self.calls:
            raise BadRequest("No number of calls was given", remedy="Give one, such as 10")
        check_numbers(
            *(("number of calls", value, FEWEST_CALLS, MOST_CALLS) for value in self.calls),
            ("number of images to fit with", self.images, 1, MOST_IMAGES),
            ("number of images to judge by", self.judged, 1, MOST_IMAGES),
            ("effort", self.effort, 0, MOST_EFFORT),
        )
        check_each_once("sampler", self.samplers)
        check_each_once("number of calls", self.calls)
        if self.guidance is not None and not 0 <= self.guidance <= 100:
            raise BadRequest(f"The CFG scale is {self.guidance}", must_be_between(0, 100))
        if self.recommend is not None and self.recommend not in self.calls:
            raise BadRequest(
                f"{self.recommend} calls cannot be recommended",
                "no steps are fitted for them",
                "Choose one of the numbers that are fitted",
            )


_STOCHASTIC = ("ddpm", "euler_ancestral", "dpmpp_2m_sde", "lcm")


def steps_for(sampler: str, calls: int) -> int:
    """The steps that a sampler can take with at most as many network calls, those of a last step without a second one."""
    return max(1, math.floor((calls + 1) / 2)) if sampler == "heun" else calls
