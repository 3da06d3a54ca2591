"""Fitted steps from the checkpoint to the image and back: an image keeps its times, whatever becomes of the ladder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffstudio import paths
from diffstudio.errors import BadRequest
from diffstudio.models.fitted_steps.stored import store
from diffstudio.models.library.records import read_checkpoint
from diffstudio.studio.events import Finished, ImageSaved, JobId, Noted
from diffstudio.studio.metadata import metadata
from diffstudio.studio.metadata.image_key import image_key
from diffstudio.studio.requests import GenerateRequest, PictureRequest, SamplerName, SpacingName
from tests.models.fitted_steps.some_ladders import ladder
from tests.models.tiny import write_tiny_checkpoint
from tests.studio.a_studio import Studio

REQUEST = GenerateRequest(
    prompt="red apple", checkpoint="tiny", steps=4, sampler=SamplerName.DPMPP_2M, spacing=SpacingName.FITTED, seed=5
)


@pytest.fixture
def tiny() -> Path:
    return write_tiny_checkpoint(paths.checkpoints() / "tiny.safetensors")


@pytest.fixture
def studio(tiny: Path) -> Iterator[Studio]:
    store(read_checkpoint(tiny), [ladder("dpmpp_2m", 4)])
    studio = Studio()
    studio.worker.start()
    yield studio
    studio.close()


def made(studio: Studio, request: PictureRequest) -> tuple[Path, JobId]:
    assert isinstance(request, GenerateRequest)
    job = studio.done(request)
    (saved,) = [event for event in studio.of(job) if isinstance(event, ImageSaved)]
    return saved.path, job


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


def test_an_image_is_made_again_to_the_bit_without_the_ladder(studio: Studio, tiny: Path) -> None:
    path, _ = made(studio, REQUEST)
    settings = metadata.read(path)
    assert settings.request.times == ladder("dpmpp_2m", 4).times and settings.request.spacing is SpacingName.FITTED
    store(read_checkpoint(tiny), [ladder("dpmpp_2m", 4, times=(1.0, 0.9, 0.8, 0.7))])  # fitted again
    again, _ = made(studio, settings.request)
    assert np.array_equal(pixels(path), pixels(again))
    another, _ = made(studio, REQUEST)
    assert not np.array_equal(pixels(path), pixels(another))
    karras, _ = made(studio, replace(REQUEST, spacing=SpacingName.KARRAS))
    assert not np.array_equal(pixels(path), pixels(karras))


def test_where_none_are_fitted_it_is_said_and_recorded_what_was_used(studio: Studio) -> None:
    path, job = made(studio, replace(REQUEST, steps=3))
    notes = [event.text for event in studio.events if isinstance(event, Noted) and event.job == job]
    assert any("No 3 steps are fitted to tiny with DPM++ 2M, only 4" in note for note in notes)
    request = metadata.read(path).request
    assert (request.spacing, request.times) == (SpacingName.LOG_SNR, ())


def test_img2img_and_hires_fix_use_the_times_below_their_noise_level(studio: Studio, tmp_path: Path) -> None:
    init = tmp_path / "init.png"
    Image.new("RGB", (16, 16), (200, 30, 30)).save(init)
    path, _ = made(studio, replace(REQUEST, init=init, strength=0.5))
    assert metadata.read(path).request.times == ladder("dpmpp_2m", 4).times
    hires, _ = made(studio, replace(REQUEST, enlarge=2.0, enlarge_steps=6))
    assert pixels(hires).shape == (32, 32, 3)


def test_a_restart_from_a_step_keeps_the_times(studio: Studio) -> None:
    path, job = made(studio, REQUEST)
    again = studio.worker.restart(job, 2)
    assert isinstance(studio.ending(again), Finished)
    assert np.array_equal(studio.pixels(job), studio.pixels(again))
    kept = metadata.read(path).request
    other = studio.worker.restart(again, 2, replace(kept, prompt="rocket"))  # as the window asks, from the image
    assert isinstance(studio.ending(other), Finished)


@pytest.mark.parametrize("steps", [4, 3])
def test_a_job_restarts_with_the_request_that_was_submitted(studio: Studio, steps: int) -> None:
    """It names no times; those that were fitted, or the spacing that replaced them, are known only once the job runs."""
    submitted = replace(REQUEST, steps=steps)
    path, job = made(studio, submitted)
    again = studio.worker.restart(job, 2, submitted)
    assert isinstance(studio.ending(again), Finished)
    assert np.array_equal(studio.pixels(job), studio.pixels(again))
    key = image_key(path)
    assert key is not None
    alone = studio.worker.restart_image(key, 2, submitted)
    assert isinstance(studio.ending(alone), Finished)
    with pytest.raises(BadRequest, match="other settings"):
        studio.worker.restart(alone, 2, replace(submitted, spacing=SpacingName.KARRAS))
