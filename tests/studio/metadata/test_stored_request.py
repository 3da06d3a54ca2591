"""Our own JSON with values of wrong types: they are left out and named, and the rest is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from diffstudio.errors import BadRequest
from diffstudio.studio.metadata.stored_request import stored_request
from diffstudio.studio.requests import ControlNetUse, GenerateRequest, TrainRequest, UpscaleRequest

REQUEST = GenerateRequest("a cat", seed=7, init=Path("a.png"), mask=Path("b.png"), masked_only=True)


@pytest.mark.parametrize("request_", [REQUEST, UpscaleRequest(Path("a.png"), 3.0)])
def test_what_is_right_is_read_exactly(request_: Any) -> None:
    assert stored_request(request_.to_json()) == (request_, [])


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"prompt": None}, "the prompt None"),
        ({"checkpoint": ["a"]}, "the checkpoint ['a']"),
        ({"enlarge_guidance": []}, "the hires CFG scale []"),
        ({"tiled": 10**300}, "the tiled 1" + "0" * 78 + "…"),
        ({"seed": 1.5}, "the seed 1.5"),
        ({"steps": 5000}, "the steps 5000"),
        ({"enlarge_guidance": ""}, "the hires CFG scale ''"),
        ({"sampler": "hein"}, "the sampler hein"),
        ({"guide_last_call": "no"}, "the guidance of the last step no"),
    ],
)
def test_what_is_wrong_is_left_out_and_named(wrong: dict[str, Any], named: str) -> None:
    name = next(iter(wrong))
    expected = {field: value for field, value in REQUEST.to_json().items() if field != name}
    request, dropped = stored_request(REQUEST.to_json() | wrong)
    assert dropped == [named]
    assert request == GenerateRequest.from_json(expected | ({name: None} if name == "guide_last_call" else {}))


def test_values_that_need_one_another() -> None:
    request, dropped = stored_request(REQUEST.to_json() | {"init": 5})
    assert request == GenerateRequest("a cat", seed=7) and dropped == [
        "the init image 5",
        "the mask b.png",
        "the only masked True",
    ]
    values = GenerateRequest("a cat", init=Path("a.png"), outpaint=(8, 0, 0, 0), masked_only=True).to_json()
    request, dropped = stored_request(values | {"prompt": 3})
    assert isinstance(request, GenerateRequest) and request.masked_only and dropped == ["the prompt 3"]


def test_controlnets_one_by_one() -> None:
    use = ControlNetUse("canny", Path("a.png"))
    values = GenerateRequest(controls=(use,)).to_json()
    request, dropped = stored_request(values | {"controls": [*values["controls"], 7]})
    assert request == GenerateRequest(controls=(use,)) and dropped == ["the ControlNets 7"]
    assert stored_request(values | {"controls": 7}) == (GenerateRequest(), ["the ControlNets 7"])


def test_before_there_was_a_choice_every_call_was_guided() -> None:
    values = {"kind": "upscale", "source": 4, "prompt": "a cat"}
    assert stored_request(values) == (
        UpscaleRequest(Path(), prompt="a cat", guide_last_call=True),
        ["the source image 4"],
    )


@pytest.mark.parametrize(
    "values", [{"kind": "bake"}, {"kind": "generate", "format": 99}, TrainRequest(Path("a")).to_json()]
)
def test_what_is_no_request_for_an_image(values: Any) -> None:
    with pytest.raises(BadRequest):
        stored_request(values)
