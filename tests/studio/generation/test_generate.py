"""A request on its whole way to files: the same pixels again, batches, given pictures, and everything that can go
wrong.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from diffstudio.diffusion.samplers import SAMPLERS
from diffstudio.errors import (
    BadRequest,
    CheckpointProblem,
    DiffstudioError,
    ImageProblem,
    Interrupted,
    OutOfMemory,
    StorageProblem,
)
from diffstudio.models import loading
from diffstudio.models.families.pixel import PixelModel
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.memory import devices, limits
from diffstudio.studio.events import Event, Finished, ImageSaved, Noted, Picture, Stepped
from diffstudio.studio.gallery.gallery import Gallery
from diffstudio.studio.generation.generate import generate
from diffstudio.studio.generation.preview import APPROXIMATE, preview_images, shrunk, to_images
from diffstudio.studio.generation.resolve import resolve_for
from diffstudio.studio.jobs.job_context import JobContext
from diffstudio.studio.jobs.job_control import JobControl
from diffstudio.studio.jobs.preview_history import PreviewHistory
from diffstudio.studio.jobs.recording import Recording, Replay
from diffstudio.studio.metadata import metadata
from diffstudio.studio.requests import GenerateRequest, SamplerName, SpacingName
from tests.models.tiny import write_tiny_checkpoint
from tests.studio.run_request import run_request

EVEN = {"sampler": SamplerName.HEUN, "spacing": SpacingName.UNIFORM}
REQUEST = GenerateRequest(prompt="red apple", checkpoint="tiny", steps=4, **EVEN)  # type: ignore[arg-type]
CPU = torch.device("cpu")


@pytest.fixture
def model(tmp_path: Path) -> PixelModel:
    model = loading.load(read_checkpoint(write_tiny_checkpoint(tmp_path / "tiny.safetensors")), CPU)
    assert isinstance(model, PixelModel)
    return model


class InMemory:
    """Keeps what it is given, in place of the gallery."""

    @dataclasses.dataclass
    class Kept:
        path: Path
        pixels: Picture
        extra: Mapping[str, Any]

    def __init__(self) -> None:
        self.kept: list[InMemory.Kept] = []

    def add(self, image: Image.Image, request: GenerateRequest, *, extra: Mapping[str, Any]) -> Kept:
        self.kept.append(self.Kept(Path(f"{request.seed + extra['index']}.png"), np.array(image), extra))
        return self.kept[-1]

    @property
    def pixels(self) -> list[Picture]:
        return [kept.pixels for kept in self.kept]


def run(model: PixelModel, request: GenerateRequest, **options: Any) -> tuple[list[Picture], list[Event]]:
    kept = InMemory()
    events = list(run_request(request, model, kept, **options))
    return kept.pixels, events


def same(one: list[Picture], other: list[Picture]) -> bool:
    return len(one) == len(other) and all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def calls_of(
    model: PixelModel,
    monkeypatch: pytest.MonkeyPatch,
    then: Callable[[int, Tensor], Tensor | None] = lambda number, answer: None,
) -> list[int]:
    """The batch size of each network call; `then(number, answer)` may change the answer or raise."""
    calls: list[int] = []
    real = PixelModel._call

    def call(self: PixelModel, x_t: Tensor, t: Tensor, condition: Any) -> Tensor:
        calls.append(len(x_t))
        answer = real(self, x_t, t, condition)
        changed = then(len(calls), answer)
        return answer if changed is None else changed

    monkeypatch.setattr(PixelModel, "_call", call)
    return calls


# The way up: what is said


def test_steps_images_and_the_end(model: PixelModel) -> None:
    pixels, events = run(model, dataclasses.replace(REQUEST, count=2))
    steps = [event for event in events if isinstance(event, Stepped)]
    assert [type(event) for event in events] == [Stepped] * 4 + [ImageSaved] * 2 + [Finished]
    assert [(step.index, step.steps, step.first, step.count) for step in steps] == [(i, 4, 0, 2) for i in (1, 2, 3, 4)]
    assert [round(step.noise_level, 6) for step in steps] == [3, 1, round(1 / 3, 6), 0]
    assert all(len(step.previews) == 2 and step.previews[0].shape == (16, 16, 3) for step in steps)
    assert steps[-1].seconds_left == 0 < steps[0].seconds_per_step < steps[0].seconds_left
    saved = [event for event in events if isinstance(event, ImageSaved)]
    assert [event.index for event in saved] == [0, 1]
    assert same([event.image for event in saved], pixels)


def test_without_previews_the_pictures_are_the_same(model: PixelModel) -> None:
    with_previews, _ = run(model, REQUEST)
    without, events = run(model, REQUEST, previews=False)
    assert same(with_previews, without)
    assert all(event.previews == () for event in events if isinstance(event, Stepped))


def test_previews_that_become_approximate_are_noted_once(model: PixelModel) -> None:
    class Decoder(torch.nn.Conv2d):
        def forward(self, latents: Tensor) -> Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory")

    pictures, _ = run(model, REQUEST)
    model.preview_decoder = Decoder(3, 3, 1)
    approximate, events = run(model, REQUEST)
    assert [event.text for event in events if isinstance(event, Noted)].count(APPROXIMATE) == 1
    assert same(pictures, approximate)


def test_time_left_counts_the_batches_to_come(model: PixelModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "images_at_once", lambda *_: 2)
    _, events = run(model, dataclasses.replace(REQUEST, count=5))
    steps = [event for event in events if isinstance(event, Stepped)]
    assert [(step.first, step.index) for step in steps] == [
        (first, index) for first in (0, 2, 4) for index in (1, 2, 3, 4)
    ]
    for step in steps:
        images_to_come = 5 - step.first - min(2, 5 - step.first)
        expected = step.seconds_per_step * (4 - step.index + 4 * images_to_come / min(2, 5 - step.first))
        assert step.seconds_left == pytest.approx(expected)


# The same request, the same pixels


def test_the_same_request_gives_the_same_pixels_to_the_bit(model: PixelModel, tmp_path: Path) -> None:
    request = dataclasses.replace(REQUEST, count=3, seed=2**63 - 3)
    assert same(run(model, request)[0], run(model, request)[0])
    again = loading.load(read_checkpoint(tmp_path / "tiny.safetensors"), CPU)
    assert same(run(model, request)[0], run(again, request)[0])  # type: ignore[arg-type]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_in_another_batch_within_one_level(model: PixelModel, sampler: str) -> None:
    together, _ = run(model, dataclasses.replace(REQUEST, count=4, sampler=sampler, seed=5))
    for index in range(4):
        (alone,), _ = run(model, dataclasses.replace(REQUEST, sampler=sampler, seed=5 + index))
        assert np.abs(alone.astype(int) - together[index]).max() <= 1


def test_what_the_file_says_reproduces_it_to_the_bit(
    model: PixelModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "images_at_once", lambda *_: 2)
    gallery = Gallery(tmp_path / "images", tmp_path / "gallery.sqlite")
    request = dataclasses.replace(REQUEST, count=5, sampler="euler_ancestral", seed=40)
    saved = [event for event in run_request(request, model, gallery) if isinstance(event, ImageSaved)]
    gallery.close()
    read = metadata.read(saved[3].path)
    assert read.asked == request and read.request == dataclasses.replace(request, seed=43, count=1)
    batch = read.environment["batch"]
    assert (
        batch == [42, 43] and read.environment["model_hash"] == model.sha256[:10] and read.environment["threads"] >= 1
    )
    again, _ = run(model, dataclasses.replace(read.request, seed=batch[0], count=len(batch)))
    assert np.array_equal(again[batch.index(43)], np.array(Image.open(saved[3].path)))


def test_going_on_after_images_that_are_there_already(model: PixelModel) -> None:
    request = dataclasses.replace(REQUEST, count=4)
    rest, events = run(model, request, done=3)
    assert [event.index for event in events if isinstance(event, ImageSaved)] == [3]
    assert np.abs(rest[0].astype(int) - run(model, request)[0][3]).max() <= 1


# Stop and pause


@pytest.mark.parametrize("sampler", ["heun", "euler", "dpmpp_2m_sde"])
def test_stop_acts_after_the_network_call_in_flight(
    model: PixelModel, monkeypatch: pytest.MonkeyPatch, sampler: str
) -> None:
    control = JobControl()
    calls = calls_of(model, monkeypatch, lambda number, _: control.stop() if number == 3 else None)
    kept = InMemory()
    with pytest.raises(Interrupted):
        list(run_request(dataclasses.replace(REQUEST, sampler=sampler, steps=10), model, kept, control))
    assert len(calls) == 3 and kept.kept == []


def test_stop_in_the_very_last_call_saves_nothing(model: PixelModel, monkeypatch: pytest.MonkeyPatch) -> None:
    control = JobControl()
    calls_of(model, monkeypatch, lambda number, _: control.stop() if number == 4 else None)
    kept = InMemory()
    with pytest.raises(Interrupted):
        list(run_request(dataclasses.replace(REQUEST, sampler="euler"), model, kept, control))
    assert kept.kept == []


def test_pauses_are_not_counted_as_time_of_steps(model: PixelModel, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    timers: list[threading.Timer] = []

    def resume_soon() -> None:
        timers.append(threading.Timer(0.3, control.resume))
        timers[-1].start()

    control = JobControl(on_pause=resume_soon)
    calls_of(model, monkeypatch, lambda number, _: control.pause() if number == 1 else None)
    paused_pixels, events = run(model, REQUEST, job_control=control)
    timers[0].join()
    assert control.paused_seconds >= 0.3
    assert all(event.seconds_per_step < 0.2 for event in events if isinstance(event, Stepped))
    assert same(paused_pixels, run(model, REQUEST)[0])


# Starting again from a step


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_restarting_tells_again_and_calls_the_network_only_from_there(
    model: PixelModel, monkeypatch: pytest.MonkeyPatch, sampler: str
) -> None:
    request = dataclasses.replace(REQUEST, sampler=sampler, steps=6, count=2)
    recording = Recording()
    pixels, events = run(model, request, recording=recording)
    calls = calls_of(model, monkeypatch)
    again, again_events = run(model, request, replay=Replay(recording, 4), recording=(second := Recording()))
    assert same(pixels, again)
    assert len(calls) == (5 if sampler == "heun" else 3)
    assert [event.index for event in again_events if isinstance(event, Stepped)] == [1, 2, 3, 4, 5, 6]
    assert len(second.preview_history) == len(recording.preview_history) == 6
    assert all(
        same(list(a), list(b))
        for a, b in zip(second.preview_history.steps(), recording.preview_history.steps(), strict=True)
    )
    calls.clear()
    run(model, request, replay=Replay(recording, 1))
    assert len(calls) == (11 if sampler == "heun" else 6)


def test_restarting_with_another_prompt_keeps_the_beginning(model: PixelModel) -> None:
    recording, other = Recording(), Recording()
    request = dataclasses.replace(REQUEST, steps=8)
    pixels, _ = run(model, request, recording=recording)
    changed, _ = run(
        model, dataclasses.replace(request, prompt="purple heart"), replay=Replay(recording, 6), recording=other
    )
    assert not same(pixels, changed)
    for step in range(1, 9):
        assert np.array_equal(recording.preview_history.at(step)[0], other.preview_history.at(step)[0]) == (step < 6)


def test_a_stopped_job_is_taken_up_where_it_was_stopped(model: PixelModel, monkeypatch: pytest.MonkeyPatch) -> None:
    request = dataclasses.replace(REQUEST, steps=6, sampler="dpmpp_2m", count=3)
    whole, _ = run(model, request)
    monkeypatch.setattr(limits, "images_at_once", lambda *_: 2)
    control, recording = JobControl(), Recording()
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        calls_of(model, patch, lambda number, _: control.stop() if number == 9 else None)  # in the second batch
        run(model, request, job_control=control, recording=recording)
    assert [len(record.calls_after) for record in recording.batches] == [6, 3]
    calls = calls_of(model, monkeypatch)
    again, _ = run(model, request, replay=Replay(recording, 7))
    assert calls == [
        2,
        2,
        1,
    ]  # of the one image of the second batch, guided but for the last: 6 steps less the 3 recorded
    assert all(np.abs(a.astype(int) - b).max() <= 1 for a, b in zip(whole, again, strict=True))


def test_recordings_are_bounded(model: PixelModel, monkeypatch: pytest.MonkeyPatch) -> None:
    from diffstudio.studio.jobs import recording as recording_module

    monkeypatch.setattr(recording_module, "LARGEST_RECORDING_BYTES", 3 * 16 * 16 * 4 * 2)
    recording = Recording(preview_history=PreviewHistory(3 * 16 * 16 * 3))
    run(model, REQUEST, recording=recording)
    assert not recording.complete and recording.batches[0].estimates == []  # a part of them is of no use to anybody
    assert [len(images) for images in recording.preview_history.steps()] == [1, 0, 1, 1]  # three fit


# Given pictures


def noisy_picture(path: Path, size: tuple[int, int] = (16, 16)) -> Path:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(path)
    return path


def test_unmasked_pixels_are_untouched_to_the_bit(model: PixelModel, tmp_path: Path) -> None:
    init, mask = noisy_picture(tmp_path / "init.png"), np.zeros((16, 16), dtype=np.uint8)
    mask[4:12, 4:12] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    for sampler in SAMPLERS:
        request = dataclasses.replace(
            REQUEST, init=init, mask=tmp_path / "mask.png", strength=0.9, sampler=sampler, count=2
        )
        pixels, _ = run(model, request)
        given = np.array(Image.open(init))
        for made in pixels:
            assert np.array_equal(made[mask == 0], given[mask == 0])
            assert not np.array_equal(made[mask == 255], given[mask == 255])


def test_a_given_picture_is_scaled_and_a_weak_change_stays_near_it(model: PixelModel, tmp_path: Path) -> None:
    Image.new("RGBA", (64, 64), (0, 0, 0, 0)).save(tmp_path / "clear.png")  # transparent: white
    pixels, events = run(model, dataclasses.replace(REQUEST, init=tmp_path / "clear.png", strength=0.01, steps=20))
    assert [event.steps for event in events if isinstance(event, Stepped)] == [1]
    assert pixels[0].shape == (16, 16, 3)


def test_what_of_a_given_image_cannot_be_followed_is_noted_beside_the_result(model: PixelModel, tmp_path: Path) -> None:
    init, mask = tmp_path / "init.png", tmp_path / "mask.gif"
    Image.new("RGB", (16, 16)).save(init, icc_profile=b"broken")
    Image.new("L", (16, 16), 255).save(mask, save_all=True, append_images=[Image.new("L", (16, 16), 9)])
    _, events = run(model, dataclasses.replace(REQUEST, init=init, mask=mask, strength=0.5, steps=2))
    assert [event.text for event in events if isinstance(event, Noted)] == [
        "init.png: its colour profile is damaged and was not used.",
        "mask.gif: only its first frame is used.",
    ]


def test_images_much_larger_than_those_of_training_are_noted(model: PixelModel, tmp_path: Path) -> None:
    def notes(width: int, height: int, init: Path | None = None) -> list[str]:
        _, events = run(model, dataclasses.replace(REQUEST, width=width, height=height, init=init, steps=1))
        return [event.text for event in events if isinstance(event, Noted)]

    assert notes(16, 16) == notes(16, 32) == []
    (note,) = notes(24, 32)
    assert "trained at 16 × 16 px" in note and "24 × 32 px" in note
    assert notes(24, 32, noisy_picture(tmp_path / "init.png", (24, 32))) == []  # it gives the composition


def test_given_files_that_are_no_pictures(model: PixelModel, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("hello")
    whole = noisy_picture(tmp_path / "whole.png", (200, 200)).read_bytes()
    (tmp_path / "short.png").write_bytes(whole[: len(whole) // 2])
    Image.new("1", (30_000, 30_000)).save(tmp_path / "huge.png")
    for name in ("text.png", "short.png", "huge.png", "missing.png"):
        with pytest.raises(ImageProblem, match=name):
            run(model, dataclasses.replace(REQUEST, init=tmp_path / name))
    Image.new("L", (16, 16)).save(tmp_path / "black.png")
    with pytest.raises(BadRequest, match="The mask is black everywhere"):
        run(model, dataclasses.replace(REQUEST, init=tmp_path / "whole.png", mask=tmp_path / "black.png"))


# What goes wrong


def test_sizes_it_cannot_do_are_refused_before_any_work(model: PixelModel, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = calls_of(model, monkeypatch)
    with pytest.raises(BadRequest, match="multiples of 8"):
        run(model, dataclasses.replace(REQUEST, width=20))
    assert calls == []


def test_what_is_no_number_ends_in_a_sentence_at_once(model: PixelModel, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = calls_of(model, monkeypatch, lambda number, answer: answer * float("nan") if number == 3 else None)
    kept = InMemory()
    with pytest.raises(CheckpointProblem, match="NaN or Inf values in step 3"):
        list(run_request(dataclasses.replace(REQUEST, steps=9, sampler="euler"), model, kept))
    assert len(calls) == 3 and kept.kept == []


def test_a_network_that_overflows(tmp_path: Path) -> None:
    model = loading.load(read_checkpoint(write_tiny_checkpoint(tmp_path / "wild.safetensors", spoil=True)), CPU)
    with pytest.raises(CheckpointProblem, match="output was not finite"):
        run(model, REQUEST)  # type: ignore[arg-type]


def test_out_of_memory_is_retried_in_smaller_batches(model: PixelModel, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, _ = run(model, dataclasses.replace(REQUEST, count=7))

    def fits_two(number: int, answer: Tensor) -> None:
        if len(answer) > 4:  # guided: twice the batch
            raise torch.OutOfMemoryError("no room")

    freed: list[bool] = []
    monkeypatch.setattr(devices, "free_unused", lambda: freed.append(True))
    calls_of(model, monkeypatch, fits_two)
    recording = Recording()
    pixels, events = run(model, dataclasses.replace(REQUEST, count=7, sampler="heun"), recording=recording)
    assert [event.index for event in events if isinstance(event, ImageSaved)] == list(range(7))
    assert all(np.abs(a.astype(int) - b).max() <= 1 for a, b in zip(expected, pixels, strict=True))
    assert len(freed) == 2  # 7, then 3, then 1 at a time
    assert [(record.first, record.count) for record in recording.batches] == [(index, 1) for index in range(7)]
    assert [len(images) for images in recording.preview_history.steps()] == [7] * 4


def test_one_image_that_does_not_fit_is_explained(model: PixelModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def never_fits(number: int, answer: Tensor) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory")

    calls_of(model, monkeypatch, never_fits)
    with pytest.raises(OutOfMemory, match="16 × 16 does not fit into memory"):
        run(model, dataclasses.replace(REQUEST, count=2))


def test_other_errors_are_not_mistaken_for_want_of_memory(model: PixelModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(number: int, answer: Tensor) -> None:
        raise RuntimeError("shapes do not match")

    calls_of(model, monkeypatch, breaks)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        run(model, REQUEST)


def test_a_full_disk(model: PixelModel) -> None:
    class Full:
        def add(self, image: Image.Image, request: GenerateRequest, *, extra: Mapping[str, Any]) -> InMemory.Kept:
            raise StorageProblem("The picture could not be saved", "the disk is full", "Free some space and try again")

    with pytest.raises(DiffstudioError, match="the disk is full"):
        list(run_request(REQUEST, model, Full()))


# Previews


def test_pictures_are_rounded_clipped_and_share_no_memory(model: PixelModel) -> None:
    state = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0, float("nan")])[None, None, None].expand(2, 3, 1, 6).contiguous()
    one, two = preview_images(state, model)
    assert one[0, :, 0].tolist() == [0, 0, 128, 255, 255, 0] and one.dtype == np.uint8 and one.shape == (1, 6, 3)
    one[:] = 7
    assert two[0, 3, 0] == 255 and float(state[0, 0, 0, 3]) == 1.0


@pytest.mark.parametrize(("height", "width"), [(512, 512), (513, 64), (64, 2000)])
def test_previews_are_at_most_512_px(model: PixelModel, height: int, width: int) -> None:
    (small,) = preview_images(torch.zeros(1, 3, height, width), model)
    assert max(small.shape) <= 512
    (whole,) = to_images(torch.zeros(1, 3, height, width))
    assert whole.shape == (height, width, 3) and max(shrunk(whole).shape) <= 512


def test_autoguidance_has_no_place_in_a_second_pass_without_guidance(model: PixelModel, tmp_path: Path) -> None:
    weak = loading.load(read_checkpoint(write_tiny_checkpoint(tmp_path / "weak.safetensors", seed=1)), CPU)
    calls: list[int] = []
    weak.network.register_forward_pre_hook(lambda module, given: calls.append(given[0].shape[-1]))
    request = dataclasses.replace(REQUEST, autoguidance="weak", enlarge=2.0, sampler=SamplerName.EULER)

    def pixels(request: GenerateRequest) -> Picture:
        kept = InMemory()
        resolved = resolve_for(request, model.checkpoint, None)
        list(generate(request, model, resolved, JobContext(1, kept, JobControl()), weak))
        assert kept.kept[0].extra["autoguidance_model"]["name"] == "weak"
        return kept.pixels[0]

    found = pixels(request)
    assert calls == [16] * 3  # all but the last call of the first pass
    assert not np.array_equal(found, run(model, dataclasses.replace(request, autoguidance=""))[0][0])
    calls.clear()
    pixels(dataclasses.replace(request, enlarge_guidance=2.0))
    assert 32 in calls or calls.count(16) > 3
