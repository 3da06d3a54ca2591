"""Requests as JSON, which may come from anywhere: a picture's text, a queue from another day."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from diffstudio.diffusion.curve_points import NoiseCurve
from diffstudio.errors import BadRequest
from diffstudio.studio.curves.saved import NamedCurve
from diffstudio.studio.requests.choices import LATENT, SpacingName
from diffstudio.studio.requests.control_types import CONTROL_TYPES, ControlTypeName
from diffstudio.studio.requests.controlnet_use import ControlNetUse
from diffstudio.studio.requests.generate_request import GenerateRequest
from diffstudio.studio.requests.json_values import FORMAT
from diffstudio.studio.requests.kinds import request_from_json
from diffstudio.studio.requests.limits import enlarged_size
from diffstudio.studio.requests.train_request import TrainRequest
from diffstudio.studio.requests.upscale_request import UpscaleRequest

DRAWN = NamedCurve("steep", NoiseCurve(((0.0, 9.0 + 1 / 3), (0.1 + 0.2, 2.0), (1.0, -9.0))))
GUIDED = GenerateRequest(
    "red apple", guidance_interval=(0.1, 0.8), autoguidance="early", autoguidance_scale=1.5, cads=0.2, cads_mixing=0.5
)
REQUESTS = (
    GUIDED,
    GenerateRequest("red apple", seed=7, init=Path("a.png"), outpaint=(8, 0, 0, 8)),
    GenerateRequest("red apple", steps=3, spacing=SpacingName.FITTED, times=(1.0, 0.1 + 0.2, 1e-3)),
    UpscaleRequest(Path("a.png"), 2.0),
    UpscaleRequest(Path("a.png"), 2.0, steps=2, spacing=SpacingName.FITTED, times=(1.0, 1 / 3)),
    GenerateRequest("red apple", spacing=SpacingName.CUSTOM, curve=DRAWN),
    UpscaleRequest(Path("a.png"), 2.0, spacing=SpacingName.CUSTOM, curve=DRAWN),
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
        {"guidance_interval": 0.5},
        {"guidance_interval": [0.1, "0.8"]},
        {"guidance_interval": [0.1, 0.5, 0.8]},
        {"guidance_interval": [0.8, 0.1]},
        {"guidance_interval": [0.1, 1.5]},
        {"guidance_interval": [float("nan"), 1.0]},
        {"autoguidance": 3},
        {"autoguidance_scale": 0.5},
        {"autoguidance_scale": float("nan")},
        {"cads": -0.1},
        {"cads": 2.0},
        {"cads_tau1": 0.95},
        {"cads_tau2": 1.2},
        {"cads_mixing": "all"},
    ],
)
def test_values_of_the_wrong_kind_are_refused_in_a_sentence(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        GenerateRequest.from_json(REQUESTS[1].to_json() | wrong)


@pytest.mark.parametrize("request_", [GenerateRequest(), UpscaleRequest(Path("a.png"))])
def test_what_was_recorded_before_there_was_a_choice_is_drawn_with_every_call_guided(request_: Any) -> None:
    values = request_.to_json()
    assert request_from_json(values).guide_last_call is None
    del values["guide_last_call"]
    assert request_from_json(values) == replace(request_, guide_last_call=True)
    with pytest.raises(BadRequest, match="guidance of the last step"):
        request_from_json(values | {"guide_last_call": "no"})


def test_guidance_is_off_in_what_was_recorded_before_it_was_a_setting() -> None:
    values = GUIDED.to_json()
    assert values["guidance_interval"] == (0.1, 0.8)
    for name in ("guidance_interval", "autoguidance", "autoguidance_scale", "cads", "cads_tau1", "cads_mixing"):
        del values[name]
    assert request_from_json(values) == GenerateRequest("red apple")
    assert GenerateRequest(guidance_interval=[0, 1]).guidance_interval == (0.0, 1.0)  # type: ignore[arg-type]


# ---- limits ----------------------------------------------------------------------------------------------------------

IMAGE = Path("a.png")


def generate(**values: Any) -> GenerateRequest:
    return GenerateRequest(**values)


def upscale(**values: Any) -> UpscaleRequest:
    return UpscaleRequest(IMAGE, **values)


def control(**values: Any) -> ControlNetUse:
    return ControlNetUse("canny", IMAGE, **values)


def train(**values: Any) -> TrainRequest:
    return TrainRequest(Path("images"), **values)


@pytest.mark.parametrize(
    ("make", "field", "lowest", "highest", "step"),
    [
        (generate, "seed", 0, 2**63 - 1, 1),
        (generate, "steps", 1, 1000, 1),
        (generate, "guidance", 0.0, 100.0, 0.01),
        (generate, "width", 8, 8192, 1),
        (generate, "height", 8, 8192, 1),
        (generate, "count", 1, 1024, 1),
        (generate, "feather", 0, 1024, 1),
        (generate, "padding", 0, 8192, 1),
        (generate, "enlarge", 1, 8, 0.01),
        (generate, "enlarge_steps", 0, 1000, 1),
        (generate, "enlarge_guidance", 0.0, 100.0, 0.01),
        (upscale, "scale", 1, 8, 0.01),
        (upscale, "seed", 0, 2**63 - 1, 1),
        (upscale, "steps", 1, 1000, 1),
        (upscale, "guidance", 0.0, 100.0, 0.01),
        (upscale, "enlarge_guidance", 0.0, 100.0, 0.01),
        (control, "scale", 0.0, 4.0, 0.01),
        (train, "steps", 1, 100_000_000, 1),
    ],
)
def test_numbers_from_the_lowest_to_the_highest(
    make: Any, field: str, lowest: float, highest: float, step: float
) -> None:
    for value in (lowest, highest):
        assert getattr(make(**{field: value}), field) == value
    for value in (lowest - step, highest + step):
        with pytest.raises(BadRequest, match=rf" is {value}: .*{lowest}.*{highest}"):
            make(**{field: value})


@pytest.mark.parametrize(
    ("make", "field"), [(generate, "strength"), (generate, "enlarge_strength"), (upscale, "strength")]
)
def test_a_denoising_strength_is_above_0_and_at_most_1(make: Any, field: str) -> None:
    for value in (1e-9, 1.0):
        assert getattr(make(**{field: value}), field) == value
    for value in (0.0, -0.5, 1.001, float("nan")):
        with pytest.raises(BadRequest, match=f"denoising strength.* is {value}: it must be above 0 and at most 1"):
            make(**{field: value})


def test_the_seeds_of_all_images_are_within_the_limit() -> None:
    assert generate(seed=2**63 - 3, count=3).count == 3
    with pytest.raises(BadRequest, match="The seed is"):
        generate(seed=2**63 - 2, count=3)


def test_the_interval_and_the_thresholds_of_a_controlnet() -> None:
    assert control(begins=0.2, ends=0.3, low=100, high=100).high == 100
    for begins, ends in ((0.3, 0.3), (0.4, 0.3)):
        with pytest.raises(BadRequest, match=f"A ControlNet starts at {begins:g} of the steps and ends at {ends:g}"):
            control(begins=begins, ends=ends)
    with pytest.raises(BadRequest, match="The lower Canny threshold, 101, is above the upper one, 100"):
        control(low=101, high=100)
    assert control(low=0, high=1000).low == 0 and control(begins=0.0, ends=1.0).ends == 1.0
    for wrong in ({"low": -1}, {"high": 1001}, {"begins": -0.1}, {"ends": 1.1}):
        with pytest.raises(BadRequest):
            control(**wrong)
    assert len(generate(controls=(control(),) * 8).controls) == 8
    assert generate(controls=[control()]).controls == (control(),)
    with pytest.raises(BadRequest, match="The settings of the ControlNets cannot be read"):
        generate(controls=(control(), "canny"))
    with pytest.raises(BadRequest, match="9 ControlNets were given"):
        generate(controls=(control(),) * 9)


def test_the_control_types_of_a_union_controlnet() -> None:
    """The rows of task_embedding by xinsir's model card; other names for them are read, and one is written."""
    assert [str(name) for name in CONTROL_TYPES] == [
        "openpose",
        "depth",
        "soft_edge",
        "lines",
        "normal",
        "segment",
        "tile",
        "repaint",
    ]
    for names, expected in (
        (("openpose", "OpenPose", "pose"), ControlTypeName.OPENPOSE),
        (("hed", "pidi", "scribble", "ted", "hed/pidi/scribble/ted", "Soft Edge"), ControlTypeName.SOFT_EDGE),
        (("canny", "lineart", "anime_lineart", "mlsd", "canny/lineart/anime_lineart/mlsd"), ControlTypeName.LINES),
        (("normal", "Normal Map"), ControlTypeName.NORMAL),
        (("segment", "segmentation"), ControlTypeName.SEGMENT),
        (("repaint", "inpaint"), ControlTypeName.REPAINT),
    ):
        for name in names:
            assert control(control_type=name).control_type is expected
    for wrong in ("magic", "", 3, None, ["depth"]):
        with pytest.raises(BadRequest, match="control type"):
            control(control_type=wrong)
    request = GenerateRequest(controls=(control(control_type="canny"),))
    stored = json.loads(json.dumps(request.to_json()))
    assert stored["controls"][0]["control_type"] == "lines" and GenerateRequest.from_json(stored) == request
    del stored["controls"][0]["control_type"]  # as it was written before
    assert GenerateRequest.from_json(stored).controls == (control(),)
    assert control().control_type is ControlTypeName.AUTO


def test_what_goes_together() -> None:
    assert upscale(upscaler=LATENT, checkpoint="starter").upscaler == LATENT and upscale().count == 1
    with pytest.raises(BadRequest, match="Latent upscaling needs a checkpoint"):
        upscale(upscaler=LATENT)
    assert generate(mask=IMAGE, init=IMAGE, masked_only=True).masked_only
    assert generate(outpaint=(0, 0, 1, 0), init=IMAGE, masked_only=True).outpaint == (0, 0, 1, 0)
    assert generate(enlarge=2.0, init=IMAGE).enlarge == 2.0
    for values, message in (
        ({"mask": IMAGE}, "A mask was given without an image"),
        ({"outpaint": (0, 0, 1, 0)}, "There is no image to outpaint"),
        ({"init": IMAGE, "masked_only": True}, "needs a mask"),
        ({"init": IMAGE, "mask": IMAGE, "enlarge": 2.0}, "cannot be combined with the hires fix"),
        ({"init": IMAGE, "outpaint": (1, 0, 0, 0), "enlarge": 2.0}, "cannot be combined with the hires fix"),
        ({"outpaint": (1, 2, 3)}, r"The outpainting margins are \(1, 2, 3\)"),
        ({"init": IMAGE, "outpaint": (0, 0, 0, -1)}, "at the bottom is -1"),
        ({"init": IMAGE, "outpaint": (8193, 0, 0, 0)}, "at the left is 8193"),
        ({"upscaler": ""}, "The upscaler is ''"),
        ({"prompt": "x" * 10_001}, "The prompt has 10,001 characters"),
        ({"negative": "x" * 10_001}, "The negative prompt has 10,001 characters"),
        ({"sampler": "hein"}, "Choose one of euler, heun, "),
    ):
        with pytest.raises(BadRequest, match=message):
            generate(**values)
    assert len(generate(prompt="x" * 10_000, negative="x" * 10_000).prompt) == 10_000


def test_what_a_training_run_needs() -> None:
    assert TrainRequest(None, resume=True).resume and train(minutes=0.5).minutes == 0.5
    for values in ({"steps": 1, "minutes": 1.0}, {"minutes": 0.0}, {"minutes": 1e6}):
        with pytest.raises(BadRequest):
            train(**values)
    with pytest.raises(BadRequest):
        TrainRequest(None)


def test_the_size_of_an_enlarged_image() -> None:
    assert enlarged_size(100, 60, 1.5) == (150, 90)
    assert enlarged_size(100, 60, 1.5, 8) == (152, 88) and enlarged_size(10, 1, 1.0, 8) == (8, 8)
    assert enlarged_size(8192, 100, 2.0) == (16_384, 200)
    for size, scale, most in (((8193, 100), 2.0, "1.9"), ((8000, 8000), 2.0, "1.1")):
        with pytest.raises(BadRequest, match=rf"The image would be .* px: .*\. Use a scale of at most {most}\."):
            enlarged_size(*size, scale)
    with pytest.raises(BadRequest, match="It cannot be enlarged further"):
        enlarged_size(16_000, 5000, 1.5)


def test_the_kind_of_a_request_and_its_format() -> None:
    with pytest.raises(BadRequest, match="unknown kind 'bake'"):
        request_from_json({"kind": "bake"})
    with pytest.raises(BadRequest, match="The settings are of format 2: .*1.* Update diffstudio"):
        request_from_json({"kind": "generate", "format": 2})
    assert request_from_json({"kind": "generate", "format": 1, "unknown": 3}) == GenerateRequest(guide_last_call=True)


def test_a_noise_schedule_belongs_to_the_custom_spacing() -> None:
    drawn = GenerateRequest(spacing=SpacingName.CUSTOM, curve=DRAWN)
    assert replace(drawn, spacing=SpacingName.KARRAS).curve is None
    for make in (GenerateRequest, partial(UpscaleRequest, Path("a.png"))):
        with pytest.raises(BadRequest, match="no noise schedule"):
            make(spacing=SpacingName.CUSTOM)
    for broken in (
        3,
        [],
        {"name": "x"},
        {"name": "", "points": [[0, 1], [1, 0]]},
        {"name": "x", "points": [[0, 1], [1, 2]]},
    ):
        with pytest.raises(BadRequest, match="noise schedule"):
            GenerateRequest.from_json(drawn.to_json() | {"curve": broken})


def test_times_are_those_of_the_steps_of_a_spacing_that_carries_them() -> None:
    fitted = GenerateRequest(steps=2, spacing=SpacingName.FITTED, times=[1, 0.5])  # type: ignore[arg-type]
    assert fitted.times == (1.0, 0.5) and isinstance(fitted.times[0], float)
    assert replace(fitted, steps=3).times == ()  # they are for another number
    assert replace(fitted, spacing=SpacingName.KARRAS).times == ()


@pytest.mark.parametrize(
    "times", [3, "1, 0.5", [1.0, "x"], [True, 0.5], [1.0, 0.0], [1.5, 0.5], [0.5, 0.5], [1.0, float("nan")]]
)
@pytest.mark.parametrize("spacing", [SpacingName.FITTED, SpacingName.KARRAS])
def test_times_that_do_not_fall_from_noise_are_refused(times: Any, spacing: SpacingName) -> None:
    with pytest.raises(BadRequest, match="times of the steps"):
        GenerateRequest(steps=2, spacing=spacing, times=times)
