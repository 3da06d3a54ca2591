"""The hires fix and upscaling of finished images: the same pixels from every entry point, recorded, stopped,
replayed.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.torch import save_file

from diffstudio import paths
from diffstudio.errors import BadRequest, CheckpointMissing, ImageProblem, Interrupted, OutOfMemory
from diffstudio.models import loading
from diffstudio.models.families.pixel import PixelModel
from diffstudio.models.library.library import Library
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.memory import devices
from diffstudio.studio.events import Event, Failed, Finished, ImageSaved, Loading, Noted, Stepped
from diffstudio.studio.generation.enlarge import Enlarger
from diffstudio.studio.generation.upscale import source_text
from diffstudio.studio.generation.upscaler_lookup import default_upscale_request, find_upscaler, upscale_request
from diffstudio.studio.jobs.job_control import JobControl
from diffstudio.studio.jobs.recording import Recording, Replay
from diffstudio.studio.metadata import metadata
from diffstudio.studio.requests import GenerateRequest, UpscaleRequest, request_from_json
from diffstudio.studio.requests.choices import LANCZOS, LATENT
from diffstudio.studio.requests.limits import enlarged_size
from tests.models.test_upscalers import dense
from tests.models.tiny import write_tiny_checkpoint
from tests.studio.a_studio import Gate, Studio
from tests.studio.generation.test_generate import InMemory, calls_of, run, same
from tests.studio.run_request import run_request

CPU = torch.device("cpu")
EVEN = {"sampler": "heun", "spacing": "uniform"}
REQUEST = GenerateRequest("red apple", checkpoint="tiny", steps=4, enlarge=2, enlarge_strength=0.5, **EVEN)  # type: ignore[arg-type]


@pytest.fixture
def model(tmp_path: Path) -> PixelModel:
    model = loading.load(read_checkpoint(write_tiny_checkpoint(tmp_path / "tiny.safetensors")), CPU)
    assert isinstance(model, PixelModel)
    return model


@pytest.fixture
def studio(home: Path) -> Iterator[Studio]:
    write_tiny_checkpoint(paths.checkpoints() / "tiny.safetensors")
    studio = Studio()
    studio.worker.start()
    yield studio
    studio.close()


def write_upscaler(path: Path, ups: int = 2) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    state = dense(ups).state_dict()
    torch.save({"params_ema": state}, path) if path.suffix == ".pth" else save_file(state, path)
    return path


def picture(path: Path, size: tuple[int, int] = (16, 16), mode: str = "RGB") -> Path:
    channels = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.random.default_rng(3).integers(0, 255, (size[1], size[0], channels), dtype=np.uint8)
    Image.fromarray(pixels if channels > 1 else pixels[..., 0], mode).save(path)
    return path


class Kept(InMemory):
    def add(self, image: Image.Image, request: Any, *, extra: Mapping[str, Any]) -> InMemory.Kept:
        self.kept.append(self.Kept(Path("x.png"), np.array(image), extra))
        return self.kept[-1]


def upscaled(request: UpscaleRequest, model: PixelModel | None = None, **options: Any) -> tuple[Kept, list[Event]]:
    kept = Kept()
    return kept, list(run_request(request, model, kept, **options))


# ---- the second pass -------------------------------------------------------------------------------------------------


def test_both_passes_are_one_row_of_steps(model: PixelModel) -> None:
    pixels, events = run(model, dataclasses.replace(REQUEST, count=2))
    steps = [event for event in events if isinstance(event, Stepped)]
    assert [(step.index, step.steps) for step in steps] == [(index, 6) for index in range(1, 7)]
    assert [step.previews[0].shape[0] for step in steps] == [16] * 4 + [32] * 2
    assert [each.shape for each in pixels] == [(32, 32, 3)] * 2
    assert steps[-1].seconds_left == 0 < steps[0].seconds_left
    assert [round(step.noise_level, 3) for step in steps[4:]] == [0.333, 0]  # half the ladder is walked again


def test_its_steps_may_be_its_own(model: PixelModel) -> None:
    _, events = run(model, dataclasses.replace(REQUEST, enlarge_steps=10))
    assert max(event.steps for event in events if isinstance(event, Stepped)) == 4 + 5


@pytest.mark.parametrize("upscaler", [LANCZOS, LATENT])
def test_the_same_seed_gives_the_same_pixels_to_the_bit(model: PixelModel, upscaler: str) -> None:
    request = dataclasses.replace(REQUEST, upscaler=upscaler, seed=9)
    once, _ = run(model, request)
    assert same(once, run(model, request)[0])
    assert not same(once, run(model, dataclasses.replace(request, seed=10))[0])


def test_enlarging_the_finished_picture_is_the_second_pass_to_the_bit(model: PixelModel, tmp_path: Path) -> None:
    (small,), _ = run(model, dataclasses.replace(REQUEST, enlarge=1, seed=5))
    Image.fromarray(small).save(tmp_path / "small.png")
    (large,), _ = run(model, dataclasses.replace(REQUEST, seed=5))
    again = UpscaleRequest(
        tmp_path / "small.png",
        2,
        checkpoint="tiny",
        prompt="red apple",
        strength=0.5,
        steps=4,
        seed=5,
        **EVEN,  # type: ignore[arg-type]
    )
    kept, events = upscaled(again, model)
    assert np.array_equal(kept.pixels[0], large)
    assert [(event.index, event.steps) for event in events if isinstance(event, Stepped)] == [(1, 2), (2, 2)]


@pytest.mark.parametrize("sampler", ["heun", "euler_ancestral", "unipc"])
@pytest.mark.parametrize("step", [2, 5, 6])
def test_restarting_from_a_step_of_either_pass_repeats_it_to_the_bit(
    model: PixelModel, monkeypatch: pytest.MonkeyPatch, sampler: str, step: int
) -> None:
    request = dataclasses.replace(REQUEST, sampler=sampler, enlarge=3)  # 48 px: in tiles
    pixels, events = run(model, request, recording=(recording := Recording()))
    film = recording.preview_history.steps()
    assert [each[0].shape[0] for each in film] == [16] * 4 + [48] * 2
    whole = calls_of(model, monkeypatch)
    run(model, request)
    calls = calls_of(model, monkeypatch)
    again, _ = run(model, request, replay=Replay(recording, step))
    assert same(pixels, again) and len(calls) < len(whole)
    if step == 6:
        assert len(calls) == 25  # the tiles of the last estimate
    assert len(events) == 6 + 2 + sum(isinstance(event, Loading) for event in events)


def test_an_image_too_large_for_the_model_is_sampled_in_tiles_and_stopped_between_them(
    model: PixelModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = dataclasses.replace(REQUEST, sampler="euler", enlarge=4, guidance=1.0)
    control = JobControl()
    calls = calls_of(model, monkeypatch, lambda number, answer: control.stop() if number == 10 else None)
    with pytest.raises(Interrupted):
        run(model, request, job_control=control)
    assert len(calls) == 10
    (large,), _ = run(model, request)
    assert large.shape == (64, 64, 3)


def test_guidance_of_the_second_pass_is_its_own_and_a_pixel_models_is_none(
    model: PixelModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = dataclasses.replace(REQUEST, sampler="euler")
    batches = calls_of(model, monkeypatch)
    usual, _ = run(model, once)
    assert max(batches[:4]) == 2 and batches[4:] == [1, 1]  # guided, then not
    batches = calls_of(model, monkeypatch)
    guided, _ = run(model, dataclasses.replace(once, enlarge_guidance=3.0))
    assert batches[4:] == [2, 2] and not same(usual, guided)
    assert same(usual, run(model, dataclasses.replace(once, enlarge_guidance=0.0))[0])


def test_tiling_on_request_changes_little(model: PixelModel) -> None:
    (whole,), _ = run(model, REQUEST)
    (parts,), _ = run(model, dataclasses.replace(REQUEST, tiled=True))
    assert parts.shape == whole.shape and not np.array_equal(parts, whole)


def test_out_of_memory_falls_back_to_tiles(model: PixelModel, monkeypatch: pytest.MonkeyPatch) -> None:
    real = PixelModel._call

    def call(self: PixelModel, x_t: Any, t: Any, condition: Any) -> Any:
        if x_t.shape[-1] > 16:
            raise MemoryError
        return real(self, x_t, t, condition)

    monkeypatch.setattr(PixelModel, "_call", call)
    kept: list[GenerateRequest] = []
    monkeypatch.setattr(
        InMemory,
        "add",
        lambda self, image, request, *, extra: (
            kept.append(request) or InMemory.Kept(Path("x.png"), np.array(image), extra)
        ),
    )
    _, events = run(model, REQUEST)
    assert [event.text for event in events if isinstance(event, Noted)] == [
        "Out of memory: the enlarged image is sampled in tiles."
    ]
    assert kept[0].tiled and isinstance(events[-1], Finished)


def test_what_cannot_be_is_said_before_any_work(
    model: PixelModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls = calls_of(model, monkeypatch)
    with pytest.raises(CheckpointMissing, match="no upscaler called 'none'.*lanczos"):
        run(model, dataclasses.replace(REQUEST, upscaler="none"), library=Library([tmp_path / "nothing"]))
    with pytest.raises(CheckpointMissing, match="starter is not an upscaler.*lanczos"):
        find_upscaler("starter", Library([tmp_path]))
    with pytest.raises(BadRequest, match="cannot be combined with the hires fix"):
        dataclasses.replace(REQUEST, init=tmp_path / "a.png", mask=tmp_path / "b.png")
    for wrong in ({"enlarge": 0}, {"enlarge": 9}, {"enlarge_strength": 0.0}, {"enlarge_steps": -1}, {"upscaler": ""}):
        with pytest.raises(BadRequest):
            dataclasses.replace(REQUEST, **wrong)
    assert not calls


def test_sizes_go_to_the_nearest_multiple_and_have_an_end() -> None:
    assert enlarged_size(64, 40, 1.5) == (96, 60) and enlarged_size(64, 40, 1.5, 8) == (96, 64)
    with pytest.raises(BadRequest, match=r"30,000 × 30,000 px.*Use a scale of at most 1\.2"):
        enlarged_size(7500, 7500, 4)


# ---- finished pictures -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "scale", "size"),
    [
        ("4x.safetensors", 4, (40, 28)),
        ("4x.pth", 4, (40, 28)),
        ("4x.safetensors", 2, (20, 14)),
        ("4x.safetensors", 3, (30, 21)),
        ("4x.safetensors", 8, (80, 56)),
        ("4x.safetensors", 1, (10, 7)),
        ("", 3, (30, 21)),
    ],
)
def test_by_an_upscaler_alone_at_any_scale(
    tmp_path: Path, home: Path, name: str, scale: float, size: tuple[int, int]
) -> None:
    image = picture(tmp_path / "image.png", (10, 7))
    if name:
        write_upscaler(paths.checkpoints() / "upscale_models" / name)
    library = Library([paths.checkpoints()])
    kept, events = upscaled(UpscaleRequest(image, scale, "4x" if name else LANCZOS), library=library)
    assert Image.fromarray(kept.pixels[0]).size == size
    assert isinstance(events[-1], Finished) and isinstance(events[-2], ImageSaved)
    assert ("upscaler_hash" in kept.kept[0].extra) == bool(name)
    if name and scale == 4:
        with torch.no_grad():
            expected = dense()(torch.from_numpy(np.array(Image.open(image))).permute(2, 0, 1)[None] / 255).clamp(0, 1)
        assert np.abs(kept.pixels[0] - (255 * expected[0]).round().permute(1, 2, 0).numpy()).max() <= 1
        assert any(isinstance(event, Loading) and event.fraction == 1 for event in events)


def test_lanczos_is_pillows(tmp_path: Path) -> None:
    image = picture(tmp_path / "image.png", (10, 7))
    kept, _ = upscaled(UpscaleRequest(image, 2))
    assert np.array_equal(kept.pixels[0], np.array(Image.open(image).resize((20, 14), Image.Resampling.LANCZOS)))


def test_transparency_is_kept_and_no_hidden_colour_shines_through(tmp_path: Path, home: Path) -> None:
    pixels = np.zeros((20, 20, 4), np.uint8)
    pixels[5:15, 5:15] = (250, 120, 30, 255)  # on transparent black
    Image.fromarray(pixels).save(tmp_path / "image.png")
    write_upscaler(paths.checkpoints() / "4x.safetensors")
    for upscaler in (LANCZOS, "4x"):
        kept, _ = upscaled(UpscaleRequest(tmp_path / "image.png", 2, upscaler), library=Library([paths.checkpoints()]))
        made = kept.pixels[0]
        assert made.shape == (40, 40, 4) and made[0, 0, 3] == 0 and made[20, 20, 3] == 255
        if upscaler == LANCZOS:
            assert np.abs(made[made[..., 3] > 0][:, :3].astype(int) - (250, 120, 30)).max() < 12  # no dark rim


def test_a_profile_that_could_not_be_used_is_noted(tmp_path: Path) -> None:
    Image.new("RGB", (16, 16)).save(tmp_path / "image.png", icc_profile=b"broken")
    _, events = upscaled(UpscaleRequest(tmp_path / "image.png", 2))
    assert "image.png: its colour profile is damaged and was not used." in [
        event.text for event in events if isinstance(event, Noted)
    ]


def test_a_checkpoint_knows_no_transparency_and_that_is_said(tmp_path: Path, model: PixelModel) -> None:
    kept, events = upscaled(
        UpscaleRequest(picture(tmp_path / "image.png", mode="RGBA"), 2, checkpoint="tiny", steps=4), model
    )
    assert kept.pixels[0].shape == (32, 32, 3)
    assert any(
        "areas of the image were filled with white" in event.text for event in events if isinstance(event, Noted)
    )


def test_pictures_of_other_kinds_go_through_the_same_door(tmp_path: Path) -> None:
    deep = np.linspace(0, 65535, 60, dtype=np.uint16).reshape(6, 10)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    palette = Image.open(picture(tmp_path / "rgb.png", (10, 6))).convert("P")
    palette.save(tmp_path / "palette.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.open(tmp_path / "rgb.png").save(tmp_path / "turned.jpg", exif=turned)
    for name, size in (("deep.png", (20, 12)), ("palette.png", (20, 12)), ("turned.jpg", (12, 20))):
        kept, _ = upscaled(UpscaleRequest(tmp_path / name, 2))
        assert Image.fromarray(kept.pixels[0]).size == size
    (tmp_path / "no.png").write_text("nothing")
    for name in ("no.png", "missing.png"):
        with pytest.raises(ImageProblem):
            upscaled(UpscaleRequest(tmp_path / name, 2))


def test_memory_is_asked_about_beforehand(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_upscaler(paths.checkpoints() / "4x.safetensors")
    monkeypatch.setattr(devices, "free_bytes", lambda device: 1000)
    with pytest.raises(OutOfMemory, match="takes about .* GiB"):
        upscaled(UpscaleRequest(picture(tmp_path / "image.png"), 4, "4x"), library=Library([paths.checkpoints()]))


def test_a_network_that_does_not_fit_is_given_smaller_tiles(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_upscaler(paths.checkpoints() / "4x.safetensors")
    enlarging = Enlarger(Library([paths.checkpoints()]).find("4x"), CPU)
    seen: list[int] = []
    upscaler = loading_of(enlarging)
    real = upscaler.network.forward

    def forward(x: Any) -> Any:
        seen.append(x.shape[-1])
        if x.shape[-1] > 64:
            raise MemoryError
        return real(x)

    monkeypatch.setattr(upscaler.network, "forward", forward)
    for _ in enlarging.enlarged(np.zeros((8, 150, 3), np.uint8), 600, 32):
        pass
    assert seen[:2] == [150, 128] and set(seen[2:]) == {64}


def loading_of(enlarging: Enlarger) -> Any:
    for _ in enlarging.enlarged(np.zeros((4, 4, 3), np.uint8), 16, 16):
        pass
    assert enlarging._upscaler is not None
    return enlarging._upscaler


def test_stopped_between_the_tiles_of_an_upscaler(tmp_path: Path, home: Path) -> None:
    write_upscaler(paths.checkpoints() / "4x.safetensors")
    control = JobControl()
    events: list[Event] = []
    with pytest.raises(Interrupted):
        for event in run_request(
            UpscaleRequest(picture(tmp_path / "i.png", (600, 20)), 4, "4x"),
            None,
            Kept(),
            control,
            library=Library([paths.checkpoints()]),
        ):
            events.append(event)
            control.stop()
    assert len(events) == 1 and isinstance(events[0], Loading) and events[0].fraction == pytest.approx(1 / 3)


# ---- what pictures say of it -----------------------------------------------------------------------------------------


def test_a_second_pass_is_written_and_read_back_in_both_languages(tmp_path: Path) -> None:
    request = dataclasses.replace(
        REQUEST,
        upscaler="4x-UltraSharp",
        enlarge=1.5,
        enlarge_steps=12,
        enlarge_strength=0.35,
        tiled=True,
        enlarge_guidance=2.5,
        width=64,
        height=32,
    )
    Image.new("RGB", (96, 48)).save(
        tmp_path / "a.png", pnginfo=metadata.write(Image.new("RGB", (96, 48)), request, {"width": 64, "height": 32})
    )
    assert metadata.read(tmp_path / "a.png").request == request
    text = metadata.parameters_text(request, {"width": 64, "height": 32})
    assert "Denoising strength: 0.35, Hires upscale: 1.5, Hires steps: 12, Hires upscaler: 4x-UltraSharp" in text
    assert "Size: 64x32" in text
    assert metadata.request_from_parameters(text) == request


@pytest.mark.parametrize(
    ("hires", "expected"),
    [
        ("Denoising strength: 0.7, Hires upscale: 2, Hires upscaler: Latent", (2.0, LATENT, 0.7, 0)),
        (
            "Denoising strength: 0.3, Hires upscale: 2, Hires steps: 15, Hires upscaler: R-ESRGAN 4x+",
            (2.0, "R-ESRGAN 4x+", 0.3, 15),
        ),
        ("Denoising strength: 0.5, Hires resize: 1024x1024, Hires upscaler: Lanczos", (2.0, LANCZOS, 0.5, 0)),
        (
            "Denoising strength: 0.5, Hires upscale: 1.5, Hires upscaler: Latent (bicubic antialiased)",
            (1.5, LATENT, 0.5, 0),
        ),
    ],
)
def test_another_programs_second_pass_is_taken_over(hires: str, expected: tuple[float, str, float, int]) -> None:
    read = metadata.settings_from_parameters(
        f"a cat\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512, Model: some, {hires}, Version: v1.9.4"
    )
    request = read.request
    assert isinstance(request, GenerateRequest) and read.not_imported == ()
    assert (request.enlarge, request.upscaler, request.enlarge_strength, request.enlarge_steps) == expected
    assert (request.width, request.height) == (512, 512)


def test_an_enlarged_picture_says_what_it_was_made_from(studio: Studio) -> None:
    job = studio.done(GenerateRequest(prompt="red apple", checkpoint="tiny", steps=4, seed=7))
    (saved,) = [event.path for event in studio.of(job) if isinstance(event, ImageSaved)]
    plain = upscale_request(saved, sampled=False, scale=3)
    assert plain == UpscaleRequest(saved, 3, prompt="red apple")
    sampled = upscale_request(saved, sampled=True, scale=2, strength=0.5)
    assert sampled == UpscaleRequest(saved, 2, checkpoint="tiny", prompt="red apple", strength=0.5, steps=4, seed=7)
    assert default_upscale_request(saved).checkpoint == "tiny"
    for request in (plain, sampled):
        job = studio.done(request)
        (path,) = [event.path for event in studio.of(job) if isinstance(event, ImageSaved)]
        record = studio.gallery.find(path)
        assert record is not None and record.request == request and record.width == 16 * request.scale
        assert metadata.read(path).request == request and path.stem.endswith(f"{request.scale:g}x")
        assert studio.gallery.images(search="apple")[0].path == path
        text = Image.open(path).text["parameters"]  # type: ignore[attr-defined]
        assert f"Postprocess upscale by: {request.scale:g}, Postprocess upscaler: Lanczos" in text and "Seed: 7" in text
        assert metadata.settings_from_parameters(text).request.prompt == "red apple"
    assert "source_text" not in json.dumps(json.loads(Image.open(path).text["diffstudio"]))  # type: ignore[attr-defined]


def test_enlarging_what_was_enlarged_goes_by_what_the_first_said(studio: Studio) -> None:
    job = studio.done(GenerateRequest(prompt="red apple", checkpoint="tiny", steps=4, seed=7))
    for _ in range(2):
        (path,) = [event.path for event in studio.of(job) if isinstance(event, ImageSaved)]
        assert default_upscale_request(path) == UpscaleRequest(
            path, checkpoint="tiny", prompt="red apple", steps=4, seed=7
        )
        job = studio.done(upscale_request(path, sampled=False))
    path.unlink()
    (last,) = [event.path for event in studio.of(job) if isinstance(event, ImageSaved)]
    assert default_upscale_request(last) == UpscaleRequest(last, prompt="red apple")  # the chain has a gap


def test_settings_of_an_image_that_names_no_checkpoint_are_offered(tmp_path: Path) -> None:
    info = metadata.PngInfo()
    info.add_text("parameters", "apple\nSteps: 33, Sampler: Euler a, CFG scale: 6, Seed: 77, Size: 8x8")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=info)
    offered = default_upscale_request(tmp_path / "a.png")
    assert (offered.checkpoint, offered.prompt) == ("", "apple")
    assert (offered.seed, offered.steps, offered.guidance) == (77, 33, 6.0)


def test_fitted_times_are_not_taken_over_for_another_sampler_or_checkpoint(tmp_path: Path) -> None:
    info, times = metadata.PngInfo(), (1.0, 0.6, 0.2)
    fitted = GenerateRequest("apple", checkpoint="tiny", steps=3, sampler="euler", spacing="fitted", times=times)  # type: ignore[arg-type]
    info.add_text("diffstudio", json.dumps(fitted.to_json()))
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=info)
    assert upscale_request(tmp_path / "a.png", sampled=True, sampler="euler", checkpoint="tiny").times == times
    for changes in ({"sampler": "heun"}, {"checkpoint": "other"}):
        changed = upscale_request(tmp_path / "a.png", sampled=True, **changes)
        assert changed.times == () and changed.spacing == "fitted"


def test_a_picture_that_says_nothing(tmp_path: Path) -> None:
    image = picture(tmp_path / "photo.png")
    assert default_upscale_request(image) == UpscaleRequest(image)
    with pytest.raises(BadRequest, match="is unknown"):
        upscale_request(image, sampled=True)


def test_what_an_image_does_not_hold_is_what_is_usual(tmp_path: Path) -> None:
    info, image = metadata.PngInfo(), tmp_path / "a.png"
    info.add_text("parameters", "just a prompt")
    Image.new("RGB", (8, 8)).save(image, pnginfo=info)
    assert default_upscale_request(image) == UpscaleRequest(image, prompt="just a prompt")
    sampled = upscale_request(image, sampled=True, usual={"steps": 7, "guidance": 4.0}, checkpoint="tiny")
    assert (sampled.steps, sampled.guidance, sampled.prompt) == (7, 4.0, "just a prompt")


def test_requests_travel_as_json(tmp_path: Path) -> None:
    for request in (UpscaleRequest(tmp_path / "a.png", 4, "x", checkpoint="c", tiled=True, seed=2**62), REQUEST):
        assert request_from_json(json.loads(json.dumps(request.to_json()))) == request
    for wrong in ({"scale": 0}, {"scale": float("nan")}, {"strength": 0.0}, {"upscaler": LATENT}, {"steps": 0}):
        with pytest.raises(BadRequest):
            UpscaleRequest(tmp_path / "a.png", **wrong)


def test_a_picture_may_not_point_to_another_machine(tmp_path: Path) -> None:
    about = json.dumps(UpscaleRequest(Path("x.png")).to_json() | {"source": "//server/share/x.png"})
    info = metadata.PngInfo()
    info.add_text("diffstudio", about)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=info)
    with pytest.raises(ImageProblem, match="another computer"):
        metadata.read(tmp_path / "a.png")


# ---- the worker ------------------------------------------------------------------------------------------------------


def test_a_plain_enlargement_needs_no_checkpoint_and_waits_in_the_queue_like_all(
    studio: Studio, tmp_path: Path
) -> None:
    job = studio.worker.submit(UpscaleRequest(picture(tmp_path / "image.png"), 2))
    assert isinstance(studio.ending(job), Finished)
    assert studio.kinds(job)[0] == "Started" and "Stepped" not in studio.kinds(job)
    assert studio.worker._loader.cache.newest is None
    failed = studio.ending(studio.worker.submit(UpscaleRequest(tmp_path / "none.png", 2)))
    assert isinstance(failed, Failed) and isinstance(failed.error, ImageProblem)


def test_paused_stopped_and_taken_up_again_in_the_second_pass(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = studio.pixels(studio.done(REQUEST))
    gate = Gate(monkeypatch, open_for=7)  # the calls of the first pass
    job = studio.worker.submit(REQUEST)
    assert gate.waiting.wait(30)
    studio.worker.stop(job)
    gate.open()
    assert type(studio.ending(job)).__name__ == "Cancelled" and len(studio.worker.filmstrip(job)) == 4
    again = studio.worker.restart(job, 5)
    assert isinstance(studio.ending(again), Finished)
    assert same(studio.pixels(again), expected)


def test_a_sampled_enlargement_is_restarted_too(studio: Studio, tmp_path: Path) -> None:
    request = UpscaleRequest(
        picture(tmp_path / "image.png"), 2, checkpoint="tiny", prompt="red apple", strength=1.0, steps=4
    )
    job = studio.done(request)
    expected = studio.pixels(job)
    again = studio.worker.restart(job, 3)
    assert isinstance(studio.ending(again), Finished) and same(studio.pixels(again), expected)


def test_settings_of_the_source_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    info = PngInfo()
    info.add_text("parameters", "a cat")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=info)
    assert source_text(tmp_path / "a.png") == ("a cat", "")
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(data.replace(b"a cat", b"a bat", 1))  # the checksum no longer fits
    expected = ("", "The settings in a.png cannot be read, so the upscaled image does not have them.")
    assert source_text(tmp_path / "a.png") == expected
    (tmp_path / "a.png").unlink()
    assert source_text(tmp_path / "a.png") == expected
