"""Images that leave the machine hold no path of it; what they were made from is found again, or asked for by name."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from pytestqt.qtbot import QtBot

from diffstudio import paths
from diffstudio.errors import ImageProblem
from diffstudio.models.library.library import Library
from diffstudio.studio.events import Failed, Finished, ImageSaved
from diffstudio.studio.gallery.source_files import find_sources, request_to_reuse
from diffstudio.studio.generation.resolve import resolve
from diffstudio.studio.generation.upscaler_lookup import default_upscale_request
from diffstudio.studio.metadata import metadata
from diffstudio.studio.metadata.named_files import NamedFile, needed_files
from diffstudio.studio.requests import ControlNetUse, GenerateRequest, PictureRequest, UpscaleRequest
from diffstudio.ui.generate.room import GenerateRoom
from tests.studio.a_studio import REQUEST, Studio

MISSING = NamedFile("photo.png", "0" * 64, 123).as_path()


def made(studio: Studio, request: PictureRequest) -> Path:
    job = studio.worker.submit(request)
    ending = studio.ending(job)
    assert isinstance(ending, Finished), ending
    saved = next(event for event in studio.events if isinstance(event, ImageSaved) and event.job == job)
    return saved.path


def test_images_hold_no_path_and_what_they_were_made_from_is_found(studio: Studio, tiny: Path, tmp_path: Path) -> None:
    photo, mask = tmp_path / "photo.png", tmp_path / "mask.png"
    Image.new("RGB", (16, 16), "red").save(photo)
    Image.new("RGB", (16, 16), "white").save(mask)
    elsewhere = str(shutil.copy(tiny, tmp_path / "other.safetensors"))
    first = made(studio, replace(REQUEST, init=photo, mask=mask, strength=0.5, checkpoint=elsewhere))
    second = made(studio, replace(REQUEST, init=first, strength=0.5))
    third = made(studio, UpscaleRequest(second))
    fourth = made(studio, UpscaleRequest(second, checkpoint="tiny", prompt="red apple", steps=4))
    home = str(tmp_path).encode()
    assert not [path for path in (first, second, third, fourth) if home in path.read_bytes()]
    assert default_upscale_request(third).prompt == "red apple", "its source is followed"

    moved = first.rename(first.with_name("renamed.png"))
    studio.gallery.record_file(moved)
    (paths.cache() / "hashes.json").unlink()
    copied = Path(shutil.copy(second, tmp_path / "from elsewhere.png"))
    request = metadata.read(copied).request
    assert needed_files(request) == (f"init image {first.name}",)
    found = find_sources(request, studio.gallery)
    assert isinstance(found, GenerateRequest) and found.init == moved
    recorded = studio.gallery.find(second)
    assert recorded is not None and isinstance(recorded.request, GenerateRequest) and recorded.request.init == first
    reused = request_to_reuse(recorded)
    assert isinstance(reused, GenerateRequest) and reused.init == moved, "the recorded path is gone, its hash is known"
    second.unlink()
    assert request_to_reuse(recorded) == recorded.request
    moved.rename(first)
    assert request_to_reuse(recorded) == recorded.request


@pytest.mark.parametrize(
    ("request_", "needed"),
    [
        (GenerateRequest(init=MISSING), "The init image photo.png is needed"),
        (GenerateRequest(init=MISSING, mask=MISSING), "The init image photo.png and the mask photo.png are needed"),
        (GenerateRequest(controls=(ControlNetUse("canny", MISSING),)), "The control image photo.png is needed"),
        (UpscaleRequest(MISSING), "The source image photo.png is needed"),
    ],
)
def test_what_is_not_found_is_asked_for_by_name(
    qtbot: QtBot, home: Path, request_: PictureRequest, needed: str
) -> None:
    room = GenerateRoom()
    qtbot.addWidget(room)
    room.set_checkpoints([])  # the scan has ended
    opened: list[object] = []
    room.upscale_requested.connect(lambda path, request: opened.append(path))
    room.use_settings(request_)
    assert f"{needed}: no file with that content was found" in room.banner.text()
    assert "sha256" not in room.banner.text() and opened == []
    with pytest.raises(ImageProblem, match=needed):
        resolve(request_, Library())


def test_a_job_that_needs_a_missing_file_says_which(studio: Studio) -> None:
    ending = studio.ending(studio.worker.submit(replace(REQUEST, init=MISSING)))
    assert isinstance(ending, Failed) and str(ending.error).startswith("The init image photo.png is needed")
