"""A drawn noise schedule from a request to the image and back: an image keeps its points, whatever becomes of the file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffstudio import paths
from diffstudio.diffusion.curve_points import NoiseCurve
from diffstudio.diffusion.noise_curve import CurveSpacing, curve_fractions
from diffstudio.diffusion.schedule import RectifiedFlow
from diffstudio.diffusion.spacing import carried_times, sampling_times
from diffstudio.studio.curves.saved import NamedCurve, delete_curve, save_curve
from diffstudio.studio.events import Finished, ImageSaved
from diffstudio.studio.metadata import metadata
from diffstudio.studio.requests import GenerateRequest, PictureRequest, SamplerName, SpacingName
from tests.models.tiny import write_tiny_checkpoint
from tests.studio.a_studio import Studio

STEEP = NamedCurve("steep", NoiseCurve(((0.0, 9.0), (0.3, 2.0), (1.0, -9.0))))
REQUEST = GenerateRequest(
    prompt="red apple", checkpoint="tiny", steps=4, sampler=SamplerName.DPMPP_2M, spacing=SpacingName.CUSTOM,
    curve=STEEP, seed=5,
)  # fmt: skip


@pytest.fixture
def studio() -> Iterator[Studio]:
    write_tiny_checkpoint(paths.checkpoints() / "tiny.safetensors")
    studio = Studio()
    studio.worker.start()
    yield studio
    studio.close()


def made(studio: Studio, request: PictureRequest) -> Path:
    job = studio.done(request)
    (saved,) = [event for event in studio.of(job) if isinstance(event, ImageSaved)]
    return saved.path


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


def test_an_image_is_made_again_to_the_bit_without_the_file(studio: Studio) -> None:
    save_curve(STEEP)
    path = made(studio, REQUEST)
    delete_curve("steep")
    again = metadata.read(path).request
    assert isinstance(again, GenerateRequest) and again.curve == STEEP
    assert np.array_equal(pixels(path), pixels(made(studio, again)))
    for other in (
        replace(REQUEST, spacing=SpacingName.KARRAS),
        replace(REQUEST, curve=NamedCurve("steep", NoiseCurve(((0.0, 4.0), (1.0, -4.0))))),
    ):
        assert not np.array_equal(pixels(path), pixels(made(studio, other)))


def test_the_curve_of_the_spacing_log_snr_makes_its_image(studio: Studio) -> None:
    """A line from -log_snr(t_min) to log_snr(t_min): that spacing's steps are even in log-SNR after the first one."""
    flow = RectifiedFlow()
    end = float(flow.log_snr(torch.tensor(flow.t_min, dtype=torch.float64)))
    second = float(flow.log_snr(torch.tensor(0.95, dtype=torch.float64)))  # where guidance begins
    first = second - (end - second) / 2  # so that even steps reach it second
    line = NamedCurve("line", NoiseCurve(((0.0, end), (1.0, first))))
    made_with = made(studio, replace(REQUEST, curve=line))
    usual = made(studio, replace(REQUEST, spacing=SpacingName.LOG_SNR))
    assert np.abs(pixels(made_with).astype(int) - pixels(usual).astype(int)).max() <= 1


def test_the_second_pass_and_img2img_have_steps_of_the_curve(studio: Studio, tmp_path: Path) -> None:
    init = tmp_path / "init.png"
    Image.new("RGB", (16, 16), (200, 30, 30)).save(init)
    assert metadata.read(made(studio, replace(REQUEST, init=init, strength=0.5))).request.curve == STEEP
    assert pixels(made(studio, replace(REQUEST, enlarge=2.0, enlarge_steps=6))).shape == (32, 32, 3)


def test_a_restart_from_a_step_keeps_the_schedule(studio: Studio) -> None:
    job = studio.done(REQUEST)
    again = studio.worker.restart(job, 2)
    assert isinstance(studio.ending(again), Finished)
    assert np.array_equal(studio.pixels(job), studio.pixels(again))


def test_fractions_are_the_times_of_the_spacing() -> None:
    flow = RectifiedFlow()
    carried = carried_times(flow, curve_fractions(STEEP.curve, flow, 7), 7)
    assert torch.equal(carried, sampling_times(flow, 7, CurveSpacing(STEEP.curve)))
