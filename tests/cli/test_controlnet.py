"""Pictures that steer, as they are asked for on the command line."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffstudio.cli import _parser, main
from diffstudio.cli.controlnet import controls_of
from diffstudio.errors import BadRequest
from diffstudio.studio.requests import ControlNetUse
from diffstudio.studio.requests.choices import PreprocessorName
from diffstudio.studio.requests.control_types import ControlTypeName
from tests.studio.generation.test_controlnets import drawing, made, shelf  # noqa: F401 - fixtures

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # diffusers, with NumPy 2
    pytest.mark.filterwarnings("ignore:`Transformer2DModelOutput` is deprecated:FutureWarning"),
]


def parsed(*arguments: str) -> argparse.Namespace:
    return _parser().parse_args(["generate", "a cat", "--out", "x.png", *arguments])


def test_one_and_several() -> None:
    assert controls_of(parsed()) == ()
    assert controls_of(parsed("--control", "a.png", "--controlnet", "n")) == (ControlNetUse("n", Path("a.png")),)
    several = parsed(
        "--control",
        "a.png",
        "--controlnet",
        "n",
        "--control",
        "b.png",
        "--controlnet",
        "m",
        "--control-as",
        "canny",
        "--control-as",
        "invert",
        "--control-scale",
        "0.5",
        "--control-range",
        "0.1,0.9",
        "--control-range",
        "0,0.5",
        "--control-thresholds",
        "60,120",
        "--control-type",
        "auto",
        "--control-type",
        "Depth",
    )
    assert controls_of(several) == (
        ControlNetUse("n", Path("a.png"), PreprocessorName.CANNY, 0.5, 0.1, 0.9, 60, 120),
        ControlNetUse("m", Path("b.png"), PreprocessorName.INVERT, 0.5, 0.0, 0.5, 60, 120, ControlTypeName.DEPTH),
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--control", "a.png"], "--control was given once and --controlnet not at all"),
        (
            ["--controlnet", "a", "--controlnet", "b", "--control", "a.png"],
            "--controlnet was given 2 times and --control once",
        ),
        (["--control-scale", "1"], "--control-scale was given without a control image"),
        (
            ["--control", "a.png", "--controlnet", "n", "--control-as", "canny", "--control-as", "invert"],
            "given 2 times for 1 control image",
        ),
        (["--control", "a.png", "--controlnet", "n", "--control-as", "magic"], "no preprocessor called 'magic'"),
        (["--control-type", "depth"], "--control-type was given without a control image"),
        (["--control", "a.png", "--controlnet", "n", "--control-type", "magic"], "no control type called 'magic'"),
        (["--control", "a.png", "--controlnet", "n", "--control-range", "1,0"], "It must end after it starts"),
    ],
)
def test_what_makes_no_sense_is_said(arguments: list[str], message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        controls_of(parsed(*arguments))
    with pytest.raises(BadRequest, match="not two numbers"):
        parsed("--control-range", "1")
    for text in ("nan,nan", "inf,1", "100.5,200"):
        with pytest.raises(BadRequest, match="not two whole numbers"):
            parsed("--control-thresholds", text)


def test_it_is_made(shelf: Path, drawing: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    out = tmp_path / "out.png"
    plain = ["generate", "a red apple", "--checkpoint", "small", "--steps", "2", "--sampler", "euler", "--out"]
    steered = [
        "--control",
        str(drawing),
        "--controlnet",
        "control_edges",
        "--control-as",
        "canny",
        "--control-thresholds",
        "50,150",
    ]
    assert main([*plain, str(out), *steered]) == 0
    assert "Loading control_edges" in capsys.readouterr().err
    assert main([*plain, str(tmp_path / "plain.png")]) == 0
    with Image.open(out) as made_here, Image.open(tmp_path / "plain.png") as other:
        assert not np.array_equal(np.array(made_here), np.array(other))
        assert json.loads(made_here.text["diffstudio"])["controls"][0]["prepare"] == "canny"  # type: ignore[attr-defined]
    capsys.readouterr()
    assert main([*plain, str(out), "--force", "--control", str(drawing), "--controlnet", "control_edge"]) == 2
    assert "Choose one of: control_edges" in capsys.readouterr().err


def test_a_union_is_given_its_control_type(
    shelf: Path,  # noqa: F811
    drawing: Path,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    verb = ["generate", "a red apple", "--checkpoint", "small-xl", "--steps", "1", "--sampler", "euler", "--out"]
    union = ["--control", str(drawing), "--controlnet", "control_union"]
    assert main([*verb, str(tmp_path / "asked.png"), *union]) == 2
    error = capsys.readouterr().err
    assert (
        "control_union needs to know what drawing.png shows" in error and "Choose the control type: openpose" in error
    )
    pixels = []
    for name in ("canny", "depth"):
        assert main([*verb, str(out := tmp_path / f"{name}.png"), *union, "--control-type", name]) == 0
        with Image.open(out) as made_here:
            pixels.append(np.array(made_here))
            stored = json.loads(made_here.text["diffstudio"])["controls"][0]  # type: ignore[attr-defined]
            assert stored["control_type"] == {"canny": "lines"}.get(name, name)
    assert not np.array_equal(*pixels)
