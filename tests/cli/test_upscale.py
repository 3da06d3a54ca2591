"""`diffstudio upscale` and `generate --enlarge`: what they write, what they say, what they refuse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffstudio import cli, paths
from diffstudio.studio.metadata import metadata
from diffstudio.studio.requests import GenerateRequest, UpscaleRequest
from tests.models.test_upscalers import dense
from tests.models.tiny import write_tiny_checkpoint

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def small(capsys: pytest.CaptureFixture[str]) -> Path:
    """A picture made here, 16 px."""
    write_tiny_checkpoint(paths.checkpoints() / "tiny.safetensors")
    out = paths.data() / "small.png"
    assert (
        cli.main(["generate", "red apple", "--checkpoint", "tiny", "--steps", "4", "--seed", "3", "--out", str(out)])
        == 0
    )
    capsys.readouterr()
    return out


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def test_generated_and_enlarged_in_one_go_or_in_two(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = paths.data() / "one.png", paths.data() / "two.png"
    assert (
        cli.main(
            [
                "generate",
                "red apple",
                "--checkpoint",
                "tiny",
                "--steps",
                "4",
                "--seed",
                "3",
                "--enlarge",
                "4",
                "--enlarge-strength",
                "0.5",
                "--out",
                str(one),
            ]
        )
        == 0
    )
    message = capsys.readouterr()
    assert message.out.strip() == str(one) and "step 6 of 6" in message.err
    assert cli.main(["upscale", str(small), "--scale", "4", "--strength", "0.5", "--out", str(two)]) == 0
    assert size(one) == (64, 64) and np.array_equal(np.array(Image.open(one)), np.array(Image.open(two)))
    request = metadata.read(one).request
    assert isinstance(request, GenerateRequest) and (request.enlarge, request.enlarge_strength) == (4, 0.5)
    assert metadata.read(two).request == UpscaleRequest(
        small, 4, checkpoint="tiny", prompt="red apple", strength=0.5, steps=4, seed=3
    )


def test_by_an_upscaler_from_the_folders_of_models_into_a_folder(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = paths.checkpoints() / "ESRGAN"
    folder.mkdir()
    torch.save({"params_ema": dense().state_dict()}, folder / "4x-sharp.pth")
    assert cli.main(["models", "list", "--role", "upscaler"]) == 0
    assert "4x-sharp" in capsys.readouterr().out
    out = paths.data() / "large"
    assert cli.main(["upscale", str(small), "--scale", "3", "--upscaler", "4x-sharp", "--out", f"{out}/"]) == 0
    assert size(out / "small-3x.png") == (48, 48)
    assert "Enlarging, 100%" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--scale", "0"], "The scale is 0.0: it must be between 1 and 8"),
        (["--upscaler", "4x-none"], "There is no upscaler called '4x-none'. Choose one of: four-styles, lanczos"),
        (["--upscaler", "tiny"], "tiny is not an upscaler"),
        (["--upscaler", "latent"], "Latent upscaling needs a checkpoint"),
        (["--steps", "9"], "--steps was given, but nothing is sampled"),
        (["--guidance", "9"], "--guidance was given, but nothing is sampled"),
        (["--strength", "2"], "The denoising strength is 2.0"),
        (["--checkpoint", "none"], "There is no checkpoint called 'none'"),
        (["--scale", "many"], "'many' is not a number"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(
    small: Path, arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = paths.data() / "large.png"
    assert cli.main(["upscale", str(small), *arguments, "--out", str(out)]) == 2 or "not an upscaler" in expected
    assert expected in capsys.readouterr().err and not out.exists()


def test_what_is_no_picture_or_too_large_a_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.png").write_text("nothing")
    Image.new("L", (4000, 20)).save(tmp_path / "wide.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.png")
    for name, options, expected in (
        ("gone.png", [], "There is no image at"),
        ("text.png", [], "not an image in a supported format"),
        ("wide.png", ["--scale", "8"], "32,000 × 160 px"),
        ("photo.png", ["--strength", "0.3"], "The checkpoint to sample photo.png with is unknown"),
        (".", [], "There is no image at"),
    ):
        assert cli.main(["upscale", str(tmp_path / name), *options, "--out", str(tmp_path / "large.png")]) != 0
        assert expected in capsys.readouterr().err
    assert cli.main(["upscale", str(tmp_path / "photo.png"), "--out", str(tmp_path / "large.png")]) == 0
    assert size(tmp_path / "large.png") == (16, 16)


def test_enlarging_is_asked_for_by_its_size(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for option in (["--tiled"], ["--enlarge-strength", "0.3"], ["--upscaler", "latent"]):
        assert cli.main(["generate", "x", *option, "--out", str(tmp_path / "x.png")]) == 2
        assert "was given without a hires fix" in capsys.readouterr().err
    assert cli.main(["generate", "x", "--enlarge", "9", "--out", str(tmp_path / "x.png")]) == 2
    assert "it must be between 1 and 8" in capsys.readouterr().err
