"""What can be asked for when steps are fitted."""

from __future__ import annotations

from typing import Any

import pytest

from diffstudio.diffusion.samplers import SAMPLERS, network_calls
from diffstudio.diffusion.schedule import RectifiedFlow
from diffstudio.diffusion.spacing import sampling_times
from diffstudio.errors import BadRequest
from diffstudio.studio.evaluations.fitted_steps.request import FITTABLE, FitStepsRequest, steps_for


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"samplers": ("euler_ancestral",)}, "noise of its own"),
        ({"samplers": ("nonsense",)}, "Choose some of dpmpp_2m"),
        ({"calls": ()}, "Give one"),
        ({"calls": (1,)}, "The number of calls is 1"),
        ({"calls": (6, 10, 6)}, "The number of calls 6 was given twice"),
        ({"samplers": ("euler", "euler")}, "The sampler euler was given twice"),
        ({"images": 0}, "images to fit with is 0"),
        ({"judged": 2000}, "images to judge by is 2000"),
        ({"effort": -1}, "effort is -1"),
        ({"guidance": float("nan")}, "CFG scale"),
        ({"recommend": 5}, "5 calls cannot be recommended"),
    ],
)
def test_what_cannot_be_fitted_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        FitStepsRequest("starter", **values)


@pytest.mark.parametrize("sampler", FITTABLE)
@pytest.mark.parametrize("calls", range(2, 12))
def test_the_steps_of_a_sampler_take_at_most_as_many_calls(sampler: str, calls: int) -> None:
    def needed(steps: int) -> int:
        return network_calls(sampler, RectifiedFlow(), sampling_times(RectifiedFlow(), steps, "uniform"))

    steps = steps_for(sampler, calls)
    assert sampler in SAMPLERS and needed(steps) <= calls < needed(steps + 1)
