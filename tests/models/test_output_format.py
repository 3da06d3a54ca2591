"""What images are made of: shown as RGB, made from RGB, and kept in headers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from PIL import Image

from diffstudio.errors import BadRequest
from diffstudio.models.output_format import PLAIN, OutputFormat, ValueType

GREY, RGBA, FIVE = OutputFormat(1), OutputFormat(4, True), OutputFormat(5, False, ValueType.FLOAT32, ((0.0, 1.0),) * 5)


def test_shown_as_rgb() -> None:
    five = torch.linspace(-1, 1, 5)[None, :, None, None].expand(2, 5, 4, 4)
    assert FIVE.to_rgb(five)[0, :, 0, 0].tolist() == [-1.0, -0.5, 0.0]
    assert FIVE.to_rgb(five, [4, 0, 2])[0, :, 0, 0].tolist() == [1.0, -1.0, 0.0]
    assert FIVE.to_rgb(five, [3])[0, :, 0, 0].tolist() == [0.5] * 3
    assert FIVE.to_rgb(five, [9])[0, :, 0, 0].tolist() == [-1.0, -0.5, 0.0]
    assert OutputFormat(2).to_rgb(five[:, :2])[0, :, 0, 0].tolist() == [-1.0] * 3
    assert GREY.to_rgb(five[:, 3:4]).shape == (2, 3, 4, 4)
    assert PLAIN.to_rgb(five[:, :3]).shape == (2, 3, 4, 4)


def test_transparency_is_shown_on_white() -> None:
    pixel = torch.tensor([-1.0, -1.0, -1.0, 0.0])[None, :, None, None]
    assert RGBA.to_rgb(pixel).flatten().tolist() == [0.0, 0.0, 0.0]  # black at half opacity is mid-grey
    assert OutputFormat(2, True).to_rgb(torch.tensor([0.5, -1.0])[None, :, None, None]).flatten().tolist() == [1.0] * 3


def test_made_from_image() -> None:
    rgb = torch.rand(1, 3, 8, 8) * 2 - 1
    levels = ((rgb[0] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    grey = torch.tensor(list(Image.fromarray(levels).convert("L").tobytes())).view(8, 8)
    torch.testing.assert_close((GREY.from_image(rgb)[0, 0] + 1) * 127.5, grey.float(), rtol=0, atol=1.6)
    assert torch.equal(PLAIN.from_image(rgb), rgb)
    opaque = RGBA.from_image(rgb)
    assert torch.equal(opaque[:, :3], rgb)
    assert (opaque[:, 3] == 1).all()
    assert OutputFormat(2, True).from_image(rgb).shape == (1, 2, 8, 8)
    for output in (GREY, RGBA, FIVE):
        already = torch.rand(1, output.channels, 8, 8)
        assert output.from_image(already) is already
    with pytest.raises(BadRequest, match="arrays of 5 channels"):
        FIVE.from_image(rgb)


def test_what_a_png_holds() -> None:
    assert PLAIN.is_plain
    assert not GREY.is_plain
    assert GREY.fits_png and RGBA.fits_png and OutputFormat(1, values=ValueType.UINT16).fits_png
    assert not FIVE.fits_png and not OutputFormat(1, values=ValueType.FLOAT32).fits_png and not OutputFormat(4).fits_png


@pytest.mark.parametrize("output", [PLAIN, GREY, RGBA, FIVE])
def test_headers(output: OutputFormat) -> None:
    assert OutputFormat.from_json(output.to_json()) == output


@pytest.mark.parametrize(
    "changes",
    [
        {"channels": 0},
        {"channels": 1000},
        {"channels": True},
        {"channels": "3"},
        {"alpha": 1},
        {"alpha": True},
        {"values": "float64"},
        {"limits": [[0, 1]]},
        {"limits": [[1, 0]] * 3},
        {"limits": [[0, float("inf")]] * 3},
        {"limits": 5},
        {"limits": [["a", "b"]] * 3},
    ],
)
def test_damaged_headers(changes: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        OutputFormat.from_json(PLAIN.to_json() | changes)
    with pytest.raises(KeyError):
        OutputFormat.from_json({})
