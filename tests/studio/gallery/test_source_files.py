"""What an image was made from is found in the gallery by its SHA-256, under any name."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from PIL import Image

from diffstudio.studio.gallery.gallery import Gallery
from diffstudio.studio.gallery.source_files import find_sources
from diffstudio.studio.metadata.named_files import NamedFile, needed_files
from diffstudio.studio.requests import GenerateRequest, UpscaleRequest

pytestmark = pytest.mark.usefixtures("home")


def test_the_source_of_an_image_is_found_in_the_gallery(tmp_path: Path) -> None:
    gallery = Gallery(tmp_path / "images", tmp_path / "gallery.sqlite")
    try:
        for colour in ("red", "blue"):
            added = gallery.add(Image.new("RGB", (16, 16), colour), GenerateRequest("a cat"))
        data = added.path.read_bytes()
        named = NamedFile("another name.png", hashlib.sha256(data).hexdigest(), len(data))
        request = UpscaleRequest(named.as_path())
        found = find_sources(request, gallery)
        assert isinstance(found, UpscaleRequest) and found.source == added.path
        assert find_sources(request) == found, "its hash is known by now"
        changed = UpscaleRequest(NamedFile("a.png", "0" * 64, len(data)).as_path())
        assert find_sources(changed, gallery) == changed and needed_files(changed) == ("source image a.png",)
        unknown = UpscaleRequest(NamedFile("a.png").as_path())
        assert find_sources(unknown, gallery) == unknown
    finally:
        gallery.close()
    added.path.unlink()
    assert find_sources(request, gallery) == request, "a gallery that cannot be read finds nothing"
