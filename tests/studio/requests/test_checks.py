"""No request holds a value of another type than its field's: every field of every request, with every kind of value."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from diffstudio.errors import BadRequest
from diffstudio.studio.requests.checks import check_numbers, check_types, has_type, named, shown
from diffstudio.studio.requests.choices import SamplerName
from diffstudio.studio.requests.controlnet_use import ControlNetUse
from diffstudio.studio.requests.generate_request import GenerateRequest
from diffstudio.studio.requests.train_request import TrainRequest
from diffstudio.studio.requests.upscale_request import UpscaleRequest

REQUIRED: dict[type, dict[str, Any]] = {
    GenerateRequest: {},
    UpscaleRequest: {"source": Path("a.png")},
    ControlNetUse: {"network": "canny", "image": Path("a.png")},
    TrainRequest: {"folder": Path("images")},
}
VALUES: tuple[Any, ...] = (
    None,
    True,
    3,
    10**400,
    0.5,
    float("nan"),
    float("inf"),
    "text",
    "",
    [],
    [1],
    {},
    {"a": 1},
    (),
)


@pytest.mark.parametrize("kind", REQUIRED)
def test_a_request_has_values_of_its_fields_types_or_does_not_exist(kind: Any) -> None:
    hints = get_type_hints(kind)
    for field in fields(kind):
        for value in VALUES:
            try:
                made = kind(**(REQUIRED[kind] | {field.name: value}))
            except BadRequest as error:
                assert len(str(error)) < 300
                assert value != getattr(kind(**REQUIRED[kind]), field.name) or isinstance(value, bool)
            else:
                assert has_type(getattr(made, field.name), hints[field.name])
                assert value == value  # NaN is never in range


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: GenerateRequest(prompt=[]), r"The setting “prompt” is \[\]: text is needed\."),
        (lambda: GenerateRequest(seed=1.5), r"The setting “seed” is 1\.5: a whole number is needed\."),
        (lambda: GenerateRequest(tiled=None), r"The setting “tiled” is None: true or false is needed\."),
        (lambda: GenerateRequest(init="a.png"), r"The setting “init image” is 'a\.png': a path or nothing is needed\."),
        (lambda: GenerateRequest(enlarge_guidance=""), r"“hires CFG scale” is '': a number or nothing is needed\."),
        (lambda: GenerateRequest(outpaint=(0, 0, 0, 1.5)), r"The outpainting margin at the bottom is 1\.5"),
        (lambda: GenerateRequest(sampler=["heun"]), r"There is no sampler called"),
        (lambda: UpscaleRequest(Path("a.png"), guidance=True), r"The setting “CFG scale” is True: a number is needed\."),
    ],
)  # fmt: skip
def test_the_sentence_names_the_field(make: Any, sentence: str) -> None:
    with pytest.raises(BadRequest, match=sentence):
        make()


def test_types() -> None:
    assert has_type(3, float) and has_type(3, int) and not has_type(3.0, int) and not has_type(True, int)
    assert has_type(None, str | None) and not has_type(3, str | None)
    assert (
        has_type((1, 2), tuple[int, int]) and not has_type((1,), tuple[int, int]) and not has_type([1], tuple[int, ...])
    )
    assert has_type((), tuple[int, ...]) and not has_type(("a",), tuple[int, ...])
    check_types(GenerateRequest())


def test_values_in_messages() -> None:
    assert shown("a" * 100) == "'" + "a" * 78 + "…" and shown(3) == "3"
    assert shown(10**5000) == "a value of type int"


def test_names() -> None:
    assert named(SamplerName, "sampler", "heun") is SamplerName.HEUN
    with pytest.raises(BadRequest, match="There is no sampler called 'hein'"):
        named(SamplerName, "sampler", "hein")


def test_the_first_number_out_of_range_is_named() -> None:
    check_numbers(("seed", 0, 0, 5), ("width", 8.0, 8, 16))
    with pytest.raises(BadRequest, match="The width is 17"):
        check_numbers(("seed", 5, 0, 5), ("width", 17, 8, 16), ("height", 99, 8, 16))
