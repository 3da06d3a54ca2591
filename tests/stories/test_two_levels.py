"""A checkpoint with an upper level in use: generated, restarted, enlarged, merged, and offered as an upscaler."""

from __future__ import annotations

import dataclasses
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffstudio.errors import BadRequest, CheckpointMissing, CheckpointUnknown
from diffstudio.models import loading
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.families import pixel_file
from diffstudio.models.families.pixel import PixelModel
from diffstudio.models.library.library import Library
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.output_format import OutputFormat
from diffstudio.models.tools.convert import convert
from diffstudio.models.tools.merge import merge
from diffstudio.models.tools.spec import Precision
from diffstudio.models.upscalers import UpperUpscaler, load_upscaler
from diffstudio.networks.cascade import CascadedTransformer
from diffstudio.studio.events import Stepped
from diffstudio.studio.gallery.gallery import Gallery
from diffstudio.studio.generation.upscaler_lookup import find_upscaler
from diffstudio.studio.jobs.memory_forecast import DeviceMemory, MemoryQuery, forecast
from diffstudio.studio.jobs.recording import Recording, Replay
from diffstudio.studio.metadata import metadata
from diffstudio.studio.requests import GenerateRequest, UpscaleRequest
from diffstudio.ui.generate.labels import upscalers_of
from diffstudio.ui.generate.sections.size import limits_of
from diffstudio.ui.models.model_info import model_rows
from tests.models.small_files import made
from tests.models.tiny import write_tiny_checkpoint
from tests.studio.generation.test_generate import InMemory, calls_of, run, same
from tests.studio.run_request import run_request

CPU = torch.device("cpu")
REQUEST = GenerateRequest(prompt="red apple", checkpoint="two", steps=4, sampler="dpmpp_2m", spacing="uniform")  # type: ignore[arg-type]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_tiny_checkpoint(tmp_path / "models" / "two.safetensors", upper=True)


@pytest.fixture
def model(path: Path) -> PixelModel:
    model = loading.load(read_checkpoint(path), CPU)
    assert isinstance(model, PixelModel)
    return model


def steps_in(events: list[object]) -> list[Stepped]:
    return [event for event in events if isinstance(event, Stepped)]


def test_an_image_is_drawn_in_two_levels_and_each_step_is_counted_and_shown(model: PixelModel) -> None:
    pixels, events = run(model, REQUEST)
    assert pixels[0].shape == (32, 32, 3)
    stepped = steps_in(events)
    assert [event.index for event in stepped] == list(range(1, 8)) and {event.steps for event in stepped} == {7}
    assert [event.previews[0].shape[0] for event in stepped] == [16] * 4 + [32] * 3
    base, _ = run(model, dataclasses.replace(REQUEST, width=16, height=16))
    assert base[0].shape == (16, 16, 3)


def test_restarting_calls_the_network_only_from_that_step_in_either_level(
    model: PixelModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording, request = Recording(), dataclasses.replace(REQUEST, count=2, sampler="euler_ancestral")
    pixels, _ = run(model, request, recording=recording)
    calls = calls_of(model, monkeypatch)
    for step, expected in ((6, 2), (3, 5)):
        calls.clear()
        again, _ = run(model, request, replay=Replay(recording, step))
        assert same(pixels, again) and len(calls) == expected


def test_from_a_given_image_and_with_a_hires_fix(model: PixelModel, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "init.png")
    mask = np.zeros((32, 32), dtype=np.uint8)
    mask[:, 16:] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    painted, _ = run(model, dataclasses.replace(REQUEST, init=tmp_path / "init.png", mask=tmp_path / "mask.png"))
    assert np.array_equal(painted[0][:, :8], noise[:, :8]) and not np.array_equal(painted[0][:, 20:], noise[:, 20:])
    larger, events = run(model, dataclasses.replace(REQUEST, enlarge=2, enlarge_strength=0.5))
    assert larger[0].shape == (64, 64, 3)
    first, second = steps_in(events)[:7], steps_in(events)[7:]
    assert [event.previews[0].shape[0] for event in first] == [16] * 4 + [32] * 3
    assert {event.previews[0].shape[0] for event in second} == {32, 64}
    with pytest.raises(BadRequest, match="cannot sample in tiles"):
        run(model, dataclasses.replace(REQUEST, enlarge=2, tiled=True))


def test_it_enlarges_any_image_into_one_that_is_the_same_when_it_is_reduced(path: Path, tmp_path: Path) -> None:
    """Of any size, larger than a tile, with black and white in it, and however badly it draws."""
    pixels = np.random.default_rng(1).integers(0, 256, (23, 41, 3), dtype=np.uint8)
    pixels[:5], pixels[5:9] = 0, 255
    Image.fromarray(pixels).save(tmp_path / "small.png")
    kept, library = InMemory(), Library([path.parent])
    list(run_request(UpscaleRequest(tmp_path / "small.png", upscaler="two", scale=2), None, kept, library=library))
    larger = kept.pixels[0].astype(np.float64)
    assert larger.shape == (46, 82, 3)
    again = larger.reshape(23, 2, 41, 2, 3).mean(axis=(1, 3))
    assert np.abs(again - pixels).max() <= 2
    assert kept.kept[0].extra["upscaler_hash"]
    other = InMemory()
    list(run_request(UpscaleRequest(tmp_path / "small.png", upscaler="two", scale=2), None, other, library=library))
    assert same(kept.pixels, other.pixels)
    list(run_request(UpscaleRequest(tmp_path / "small.png", upscaler="two", scale=1.5), None, other, library=library))
    assert other.pixels[-1].shape[:2] == (34, 62) or other.pixels[-1].shape[:2] == (35, 62)


def test_only_checkpoints_with_an_upper_level_are_upscalers(path: Path) -> None:
    write_tiny_checkpoint(path.with_name("one.safetensors"))
    library = Library([path.parent])
    assert [name for name, _ in upscalers_of(library.scan(), latent=False)] == ["lanczos", "four-styles", "two"]
    found = find_upscaler("Two", library)
    assert found is not None and found.path == path
    assert isinstance(load_upscaler(found, CPU), UpperUpscaler)
    with pytest.raises(CheckpointMissing, match=r"one is not an upscaler.*Choose one of: four-styles, two, lanczos"):
        find_upscaler("one", library)


def test_a_network_of_other_images_cannot_enlarge(model: PixelModel) -> None:
    model.output = OutputFormat(3, False, "uint16")  # type: ignore[arg-type]
    with pytest.raises(CheckpointUnknown, match="two cannot enlarge images"):
        UpperUpscaler(model)


def test_the_sizes_on_offer_are_those_that_it_can_draw(path: Path, model: PixelModel) -> None:
    limits = limits_of(read_checkpoint(path))
    assert (limits.width, limits.height, limits.step, limits.largest) == (32, 32, 16, 64)
    for side in range(limits.smallest, limits.largest + 1, limits.step):
        model.check_size(side, side)


def test_the_memory_of_a_hires_fix_is_that_of_the_whole_image(path: Path) -> None:
    """Which is not sampled in tiles."""
    two, memory = read_checkpoint(path), DeviceMemory("cpu", 2**34, 2**34)
    one = read_checkpoint(write_tiny_checkpoint(path.with_name("one.safetensors"), size=32))

    def grows(checkpoint: Checkpoint) -> float:
        large, small = (forecast(MemoryQuery(GenerateRequest(enlarge=by), checkpoint), memory) for by in (4.0, 1.0))
        return (large.needed - 4 * checkpoint.parameters) / (small.needed - 4 * checkpoint.parameters)

    assert grows(two) == 16 and grows(one) == 1
    assert dict(model_rows(two))["Image size"] == "32 × 32 px, in two levels; it can also upscale images"
    assert dict(model_rows(one))["Image size"] == "32 × 32 px"


def test_the_weight_tools_keep_both_levels(path: Path, tmp_path: Path) -> None:
    two = read_checkpoint(path)
    half = read_checkpoint(made(convert(two, tmp_path / "half.safetensors", Precision.FP16)).path)
    assert half.upper_factor == 2 and isinstance(pixel_file.load(half).network, CascadedTransformer)
    other = read_checkpoint(write_tiny_checkpoint(tmp_path / "other.safetensors", upper=True, seed=1))
    merged = read_checkpoint(made(merge([two, other], tmp_path / "merged.safetensors", 0.5)).path)
    loaded = pixel_file.load(merged).network.state_dict()
    first, second = (pixel_file.load(each).network.state_dict() for each in (two, other))
    for name in ("pos_embed", "upper.pos_embed"):
        torch.testing.assert_close(loaded[name], (first[name] + second[name]) / 2)
    assert merged.json("format") == 3


def test_an_image_says_what_made_it_and_is_drawn_again_to_the_bit(model: PixelModel, tmp_path: Path) -> None:
    with closing(Gallery(tmp_path / "gallery", tmp_path / "gallery.db")) as gallery:
        list(run_request(REQUEST, model, gallery))
    (image,) = tmp_path.glob("gallery/**/*.png")
    request = metadata.read(image).request
    assert isinstance(request, GenerateRequest)
    again, _ = run(model, request)
    with Image.open(image) as opened:
        assert np.array_equal(np.array(opened.convert("RGB")), again[0])
