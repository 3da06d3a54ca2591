"""Requests as JSON, which may come from anywhere: a picture's text, a queue from another day."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from diffstudio.errors import BadRequest
from diffstudio.studio.requests import FORMAT, GenerateRequest, TrainRequest, UpscaleRequest, request_from_json

REQUESTS = (
    GenerateRequest("red apple", seed=7, init=Path("a.png"), outpaint=(8, 0, 0, 8)),
    UpscaleRequest(Path("a.png"), 2.0),
    TrainRequest(Path("pictures"), minutes=2.0),
)


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: type(request).__name__)
def test_a_request_comes_back_as_it_was(request_: Any) -> None:
    assert request_from_json(request_.to_json()) == request_


@pytest.mark.parametrize("kind", [GenerateRequest, UpscaleRequest, TrainRequest])
@pytest.mark.parametrize("values", [None, [], "generate", 3, {"format": FORMAT + 1}, {"format": "one"}])
def test_what_is_no_request_is_refused_in_a_sentence(kind: Any, values: Any) -> None:
    with pytest.raises(BadRequest):
        kind.from_json(values)
    with pytest.raises(BadRequest):
        request_from_json(values)


@pytest.mark.parametrize(
    "wrong",
    [
        {"prompt": 3},
        {"seed": "seven"},
        {"steps": None},
        {"controls": 7},
        {"controls": [{"image": 3}]},
        {"outpaint": "1,2"},
        {"init": 5},
        {"vae": 4},
        {"sampler": ["heun"]},
        {"guidance": True},
    ],
)
def test_values_of_the_wrong_kind_are_refused_in_a_sentence(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        GenerateRequest.from_json(REQUESTS[0].to_json() | wrong)


@pytest.mark.parametrize("request_", [GenerateRequest(), UpscaleRequest(Path("a.png"))])
def test_what_was_recorded_before_there_was_a_choice_is_drawn_with_every_call_guided(request_: Any) -> None:
    values = request_.to_json()
    assert request_from_json(values).guide_last_call is None
    del values["guide_last_call"]
    assert request_from_json(values) == replace(request_, guide_last_call=True)
    with pytest.raises(BadRequest, match="guide_last_call"):
        request_from_json(values | {"guide_last_call": "no"})
