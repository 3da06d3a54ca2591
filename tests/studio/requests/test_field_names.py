"""What sentences call the fields of requests."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from diffstudio.errors import BadRequest
from diffstudio.studio.requests import ControlNetUse, GenerateRequest, TrainRequest, UpscaleRequest
from diffstudio.studio.requests.field_names import FIELD_NAMES, names_of, value_phrase


@pytest.mark.parametrize("kind", [GenerateRequest, UpscaleRequest, ControlNetUse, TrainRequest])
def test_every_field_has_a_name_that_people_know(kind: Any) -> None:
    names = {field.name for field in fields(kind)}
    assert names <= FIELD_NAMES.keys() and not any("_" in name for name in FIELD_NAMES.values())


def test_phrases_have_the_names() -> None:
    assert names_of("spacing", "guidance") == {"spacing": "scheduler", "guidance": "CFG scale"}
    assert value_phrase("clip_skip", "99") == "the clip skip 99"
    with pytest.raises(BadRequest, match="The setting “hires steps” is 1.5: a whole number is needed"):
        GenerateRequest(enlarge_steps=1.5)  # type: ignore[arg-type]
    with pytest.raises(BadRequest, match="The setting “checkpoint to start from” is 3"):
        TrainRequest(Path(), start_from=3)  # type: ignore[arg-type]
