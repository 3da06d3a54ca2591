"""Text in the lowest bits of the pixels, and pixels that hold none or lie about its length."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffstudio.studio.metadata import image_text, stealth_text
from diffstudio.studio.metadata.image_text import read_text

TEXT = "a lighthouse\nSteps: 9, Sampler: Heun, Seed: 77"


def hiding(signature: bytes, text: bytes, mode: str = "RGBA", bits: int | None = None) -> Image.Image:
    """An image of this mode with a text in its lowest bits."""
    data = signature + (8 * len(text) if bits is None else bits).to_bytes(4, "big") + text
    pixels = np.full((64, 64, len(mode)), 200, np.uint8)
    channels = pixels[..., 3:] if b"png" in signature else pixels[..., :3]
    columns = channels.transpose(1, 0, 2).reshape(-1).copy()
    unpacked = np.unpackbits(np.frombuffer(data, np.uint8))
    columns[: len(unpacked)] |= unpacked
    channels[...] = columns.reshape(64, 64, -1).transpose(1, 0, 2)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("mode", ["RGBA", "RGB"])
@pytest.mark.parametrize("kind", ["png", "rgb"])
@pytest.mark.parametrize("form", ["info", "comp"])
def test_a_hidden_text(kind: str, form: str, mode: str) -> None:
    data = gzip.compress(TEXT.encode()) if form == "comp" else TEXT.encode()
    image = hiding(f"stealth_{kind}{form}".encode(), data, "RGBA" if kind == "png" else mode)
    assert stealth_text.stealth_text(image) == TEXT


@pytest.mark.parametrize(
    "image",
    [
        Image.new("RGBA", (8, 8)),
        Image.new("L", (8, 8)),
        Image.new("RGB", (1, 1)),
        hiding(b"stealth_pngcomp", b"not gzipped"),
        hiding(b"stealth_pnginfo", b"x", bits=0),
        hiding(b"stealth_pnginfo", b"x", bits=2**32 - 1),
    ],
)
def test_pixels_without_a_text(image: Image.Image) -> None:
    assert stealth_text.stealth_text(image) == ""


def test_a_text_that_grows_without_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stealth_text, "LARGEST_TEXT_BYTES", 100)
    assert len(stealth_text.stealth_text(hiding(b"stealth_pngcomp", gzip.compress(b"x" * 10_000)))) <= 100


def test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def texts_of(image: Image.Image) -> dict[str, str]:
        image.save(tmp_path / "a.png")
        return read_text(tmp_path / "a.png").texts

    assert texts_of(hiding(b"stealth_pnginfo", TEXT.encode())) == {"parameters": TEXT}
    chunks = {"Comment": "{}", "Software": "NovelAI", "number": 3}
    assert texts_of(hiding(b"stealth_rgbinfo", json.dumps(chunks).encode(), "RGB")) == {
        "Comment": "{}",
        "Software": "NovelAI",
    }
    for image in (Image.new("RGB", (8, 8)), Image.new("P", (8, 8))):
        assert texts_of(image) == {}
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(data[: data.index(b"IDAT") + 4])
    assert read_text(tmp_path / "cut.png").texts == {}
    hiding(b"stealth_pnginfo", TEXT.encode()).save(tmp_path / "a.png")
    monkeypatch.setattr(image_text, "LARGEST_PIXELS", 100)
    assert read_text(tmp_path / "a.png").texts == {}
