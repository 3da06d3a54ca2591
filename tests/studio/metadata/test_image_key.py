"""What identifies an image made here, and that no other file passes for one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from diffstudio.studio.metadata import metadata
from diffstudio.studio.metadata.image_key import ImageKey, image_key
from diffstudio.studio.requests import GenerateRequest

TOKEN = "0123456789abcdef" * 2


def test_the_key_is_the_jobs_token_and_the_index(tmp_path: Path) -> None:
    image, request = Image.new("RGB", (8, 8)), GenerateRequest("a", count=4, seed=5)
    image.save(tmp_path / "a.png", pnginfo=metadata.write(image, request, {"job": TOKEN, "index": 3}))
    assert image_key(tmp_path / "a.png") == ImageKey(TOKEN, 3)
    (tmp_path / "a.png").rename(tmp_path / "renamed.png")
    assert str(image_key(tmp_path / "renamed.png")) == f"{TOKEN}-3"


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"environment": {"job": TOKEN}},
        {"environment": {"job": "../../" + TOKEN[:26]}, "image": {"index": 0}},
        {"environment": {"job": TOKEN.upper()}, "image": {"index": 0}},
        {"environment": {"job": 5}, "image": {"index": 0}},
        {"environment": [TOKEN], "image": {"index": 0}},
        {"environment": {"job": TOKEN}, "image": {"index": -1}},
        {"environment": {"job": TOKEN}, "image": {"index": True}},
        {"environment": {"job": TOKEN}, "image": {"index": 1 << 40}},
        {"environment": {"job": TOKEN}, "image": {"index": "0"}},
        {"environment": {"job": TOKEN}, "image": {"index": 0}, "padding": "x" * metadata.LARGEST_JSON_CHARACTERS},
    ],
)
def test_a_key_of_the_wrong_form_is_none(tmp_path: Path, values: object) -> None:
    texts = PngInfo()
    texts.add_text("diffstudio", json.dumps(values))
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=texts)
    assert image_key(tmp_path / "a.png") is None


def test_other_files_have_none(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no image")
    Image.new("RGB", (8, 8)).save(tmp_path / "bare.png")
    assert [image_key(tmp_path / name) for name in ("gone.png", "text.png", "bare.png")] == [None] * 3
