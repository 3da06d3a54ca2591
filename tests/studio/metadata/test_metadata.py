"""What a picture says about itself: ours to the letter, others' as far as it carries, hostile files without harm."""

from __future__ import annotations

import io
import json
import random
import struct
import tracemalloc
import zlib
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo
from sd_parsers.parsers import AUTOMATIC1111Parser

from diffstudio import __version__
from diffstudio.diffusion.curve_points import NoiseCurve
from diffstudio.errors import DiffstudioError, ImageProblem, StorageProblem
from diffstudio.studio.curves.saved import NamedCurve
from diffstudio.studio.metadata import import_settings, metadata
from diffstudio.studio.metadata.image_text import LARGEST_TEXT_BYTES, ImageText, read_text
from diffstudio.studio.metadata.sampler_names import A1111_SPACINGS, SPACING_LABELS
from diffstudio.studio.requests import GenerateRequest, SamplerName, SpacingName, UpscaleRequest
from diffstudio.studio.requests.limits import LARGEST_SEED

DRAWN = NamedCurve("steep", NoiseCurve(((0.0, 9.0 + 1 / 3), (0.1 + 0.2, 2.0), (1.0, -9.0))))
REQUEST = GenerateRequest(
    prompt="a red apple,\non a table",
    negative="blur, noise",
    checkpoint="starter",
    seed=7,
    steps=24,
    sampler=SamplerName.DPMPP_2M,
    spacing=SpacingName.KARRAS,
    guidance=3.5,
    width=64,
    height=48,
    count=4,
)
ABOUT = {
    "index": 2,
    "torch": "2.13",
    "device": "cpu",
    "dtype": "float32",
    "batch": [7, 8, 9, 10],
    "model": "starter",
    "model_hash": "abc123def0",
}


def saved(path: Path, request: GenerateRequest = REQUEST, about: dict[str, Any] = ABOUT) -> Path:
    image = Image.new("RGB", (64, 48), "red")
    image.save(path, pnginfo=metadata.write(image, request, about))
    return path


def with_texts(path: Path, size: tuple[int, int] = (32, 32), **texts: str) -> Path:
    info = PngInfo()
    for name, text in texts.items():
        info.add_text(name, text)
    Image.new("RGB", size).save(path, pnginfo=info)
    return path


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(*chunks: bytes, size: tuple[int, int] = (32, 32)) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IEND", b"")


# Ours


def test_the_text_is_in_the_grammar_people_know() -> None:
    assert metadata.parameters_text(
        GenerateRequest(prompt="red apple", negative="blur", seed=7, spacing=SpacingName.KARRAS),
        {"width": 64, "height": 64, "model": "starter", "model_hash": "abc123def0"},
    ) == (
        "red apple\nNegative prompt: blur\nSteps: 10, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 3, Seed: 7, "
        f"Size: 64x64, Model hash: abc123def0, Model: starter, Version: diffstudio {__version__}"
    )


def test_a_folder_has_no_hash_and_says_none() -> None:
    text = metadata.parameters_text(GenerateRequest(prompt="red apple"), {"model": "tiny", "model_hash": ""})
    assert "hash" not in text and "Seed: 0, Model: tiny, Version" in text


def test_another_reader_of_that_grammar_understands_it(tmp_path: Path) -> None:
    with Image.open(saved(tmp_path / "a.png")) as image:
        info = AUTOMATIC1111Parser().parse(dict(image.info))
    sampler = info.samplers[0]
    assert (sampler.name, sampler.parameters["scheduler"], sampler.parameters["seed"]) == ("DPM++ 2M", "Karras", "9")
    assert (info.full_prompt, info.full_negative_prompt) == (REQUEST.prompt, REQUEST.negative)
    assert str(sampler.model) == "starter"


def test_a_picture_made_here_gives_back_its_request_exactly(tmp_path: Path) -> None:
    restored = metadata.read(saved(tmp_path / "a.png"))
    assert restored.asked == REQUEST
    assert restored.request == GenerateRequest.from_json(REQUEST.to_json() | {"seed": 9, "count": 1})
    assert (restored.source, restored.not_imported, restored.width, restored.height) == ("diffstudio", (), 64, 48)
    assert restored.environment["batch"] == [7, 8, 9, 10]
    assert restored.environment["version"] == __version__


@settings(max_examples=60, deadline=None)
@given(
    prompt=st.text(max_size=300),
    negative=st.text(st.characters(), max_size=60),
    seed=st.integers(0, LARGEST_SEED),
    steps=st.integers(1, 1000),
    sampler=st.sampled_from(SamplerName),
    spacing=st.sampled_from([name for name in SpacingName if name is not SpacingName.CUSTOM]),
    guidance=st.floats(0, 100),
    strength=st.floats(0.001, 1),
)
def test_any_request_survives_the_file(tmp_path_factory: pytest.TempPathFactory, **values: Any) -> None:
    request = GenerateRequest(**values, init=Path("a picture.png"))
    restored = metadata.read(saved(tmp_path_factory.getbasetemp() / "any.png", request, {}))
    assert restored.request == request


def test_half_a_surrogate_pair_in_a_prompt_is_kept(tmp_path: Path) -> None:
    request = GenerateRequest(prompt="from a terminal \udcff")
    assert metadata.read(saved(tmp_path / "a.png", request, {})).request == request


@pytest.mark.parametrize("sampler", SamplerName)
@pytest.mark.parametrize("spacing", SpacingName)
def test_every_sampler_and_spacing_survives_the_text_alone(sampler: SamplerName, spacing: SpacingName) -> None:
    request = GenerateRequest(
        prompt="a: b, c", sampler=sampler, spacing=spacing, curve=DRAWN, guidance=7.25, width=64, height=64
    )
    assert metadata.request_from_parameters(metadata.parameters_text(request, {})) == request


def test_a_drawn_noise_schedule_survives_the_text_and_the_file_to_the_bit(tmp_path: Path) -> None:
    request = GenerateRequest("a", spacing=SpacingName.CUSTOM, curve=DRAWN, width=64, height=64)
    text = metadata.parameters_text(request, {})
    assert "Schedule type: Custom, Noise schedule: " in text and "0.30000000000000004" in text
    assert metadata.request_from_parameters(text) == request
    assert metadata.read(saved(tmp_path / "a.png", request, {})).request == request
    bad = metadata.settings_from_parameters(text.replace("[0.0,", "[0.5,"))
    assert isinstance(bad.request, GenerateRequest) and bad.request.curve is None
    assert any("noise schedule" in phrase for phrase in bad.not_imported)
    without = metadata.settings_from_parameters(text.replace("Noise schedule", "Something else"))
    assert any("the scheduler Custom" in phrase for phrase in without.not_imported)
    upscaled = UpscaleRequest(Path("a.png"), checkpoint="tiny", spacing=SpacingName.CUSTOM, curve=DRAWN)
    assert "Noise schedule: " in metadata.parameters_text(upscaled, {})


def test_the_times_of_fitted_steps_survive_the_text_alone_to_the_bit() -> None:
    times = (1.0, 0.1 + 0.2, 1 / 7, 1e-4)
    request = GenerateRequest("a", steps=4, spacing=SpacingName.FITTED, times=times, width=64, height=64)
    text = metadata.parameters_text(request, {})
    assert "Schedule type: Fitted, Step times: 1.0 0.30000000000000004 " in text
    assert metadata.request_from_parameters(text) == request
    bad = metadata.settings_from_parameters(text.replace("0.0001", "x"))
    assert isinstance(bad.request, GenerateRequest) and bad.request.times == ()
    assert any("times of the steps" in phrase for phrase in bad.not_imported)
    upscaled = UpscaleRequest(Path("a.png"), checkpoint="tiny", steps=4, spacing=SpacingName.FITTED, times=times)
    assert "Step times: 1.0 " in metadata.parameters_text(upscaled, {})


def test_the_truncation_of_a_gan_or_vae_survives_the_text_alone() -> None:
    request = GenerateRequest("a", steps=1, truncation=0.7, width=64, height=64)
    text = metadata.parameters_text(request, {})
    assert metadata.request_from_parameters(text) == request
    bad = metadata.settings_from_parameters(text.replace("0.7", "much"))
    assert isinstance(bad.request, GenerateRequest) and bad.request.truncation == 1
    assert any("much" in phrase for phrase in bad.not_imported)


def test_a_path_in_place_of_a_name_is_shortened(tmp_path: Path) -> None:
    request = GenerateRequest(checkpoint="/models/one, two: three.safetensors")
    text = metadata.parameters_text(request, {"width": 8, "height": 8})
    assert 'Model: "one, two: three"' in text
    assert metadata.request_from_parameters(text).checkpoint == "one, two: three"
    assert metadata.read(saved(tmp_path / "a.png", request, {})).request.checkpoint == "one, two: three"


def test_settings_after_the_pixels_and_in_a_file_cut_short_are_found(tmp_path: Path) -> None:
    data = saved(tmp_path / "a.png").read_bytes()
    (tmp_path / "short.png").write_bytes(data[: data.index(b"IDAT") + 20])
    assert metadata.read(tmp_path / "short.png").asked == REQUEST
    text = metadata.request_json(REQUEST, {}).encode()
    (tmp_path / "late.png").write_bytes(png(chunk(b"IDAT", b""), chunk(b"tEXt", b"diffstudio\0" + text)))
    assert metadata.read(tmp_path / "late.png").asked == REQUEST


# Others


def test_a1111(tmp_path: Path) -> None:
    text = (
        "a castle, <lora:towers:0.8>\nby the sea\nNegative prompt: people\nSteps: 30, Sampler: DPM++ 2M Karras, "
        "CFG scale: 6.5, Seed: 965400086, Size: 512x768, Model hash: 45dee52b, Model: dreamy_v5, Clip skip: 2, "
        'Lora hashes: "towers: 1a2b", Denoising strength: 0.55, Version: v1.6.0'
    )
    restored = metadata.read(with_texts(tmp_path / "a.png", parameters=text))
    assert restored.request == GenerateRequest(
        prompt="a castle, <lora:towers:0.8>\nby the sea",
        negative="people",
        steps=30,
        sampler=SamplerName.DPMPP_2M,
        spacing=SpacingName.KARRAS,
        guidance=6.5,
        seed=965400086,
        width=512,
        height=768,
        checkpoint="dreamy_v5",
        clip_skip=2,
    )
    assert restored.source == "AUTOMATIC1111"
    assert restored.not_imported == ("the init image, at denoising strength 0.55",)


@pytest.mark.parametrize(
    ("sampler", "schedule", "expected"),
    [
        ("Euler a", None, (SamplerName.EULER_ANCESTRAL, SpacingName.UNIFORM)),
        ("DPM++ 2M SDE", "Automatic", (SamplerName.DPMPP_2M_SDE, SpacingName.EXPONENTIAL)),
        ("DPM++ 2M", "Automatic", (SamplerName.DPMPP_2M, SpacingName.KARRAS)),
        ("UniPC", "SGM Uniform", (SamplerName.UNIPC, SpacingName.TRAILING)),
        ("DDIM", "DDIM", (SamplerName.DDIM, SpacingName.LEADING)),
    ],
)
def test_names_of_samplers_and_schedules(sampler: str, schedule: str | None, expected: tuple[str, str]) -> None:
    middle = f", Schedule type: {schedule}" if schedule else ""
    request = metadata.request_from_parameters(f"x\nSteps: 9, Sampler: {sampler}{middle}, CFG scale: 2, Seed: 1")
    assert (request.sampler, request.spacing) == expected


@pytest.mark.parametrize("spacing", [name for name in SpacingName if name is not SpacingName.CUSTOM])
def test_schedules_are_written_as_automatic1111_names_them(spacing: SpacingName) -> None:
    written = metadata.parameters_text(GenerateRequest("x", spacing=spacing), {})
    assert f"Schedule type: {A1111_SPACINGS[spacing]}" in written
    assert metadata.request_from_parameters(written).spacing is spacing
    assert metadata.request_from_parameters(written.replace(A1111_SPACINGS[spacing], SPACING_LABELS[spacing])) == (
        metadata.request_from_parameters(written)
    ), "the name in the window means the same"


def test_what_is_not_known_or_out_of_range_is_said(tmp_path: Path) -> None:
    text = f"x\nSteps: 5000, Sampler: DPM adaptive, Schedule type: Beta, CFG scale: 7, Seed: {2**64}, Size: 4x4, Model: starter"
    restored = metadata.read(with_texts(tmp_path / "a.png", parameters=text))
    assert restored.request == GenerateRequest(prompt="x", guidance=7.0)
    assert restored.not_imported == (
        "the sampler DPM adaptive",
        "the scheduler Beta",
        f"the seed {2**64}",
        "the steps 5000",
        "the width 4",
        "the height 4",
    )


COMFY = {
    "3": {
        "class_type": "KSampler",
        "inputs": {
            "seed": 42,
            "steps": 25,
            "cfg": 8.0,
            "sampler_name": "euler_ancestral",
            "scheduler": "karras",
            "denoise": 1.0,
            "model": ["4", 0],
            "positive": ["6", 0],
            "negative": ["7", 0],
            "latent_image": ["5", 0],
        },
    },
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "folder/sd15.safetensors"}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 640, "height": 448, "batch_size": 1}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a fox", "clip": ["4", 1]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "watermark", "clip": ["4", 1]}},
}


@pytest.mark.parametrize("workflow", [True, False, {"nodes": []}])
def test_comfyui_with_and_without_its_workflow(tmp_path: Path, workflow: bool | dict[str, object]) -> None:
    texts = {"prompt": json.dumps(COMFY)}
    if workflow:
        links = [
            [1, 4, 0, 3, 0, "MODEL"],
            [2, 6, 0, 3, 1, "CONDITIONING"],
            [3, 7, 0, 3, 2, "CONDITIONING"],
            [4, 5, 0, 3, 3, "LATENT"],
            [5, 4, 1, 6, 0, "CLIP"],
            [6, 4, 1, 7, 0, "CLIP"],
        ]
        texts["workflow"] = json.dumps(workflow if isinstance(workflow, dict) else {"links": links})
    restored = metadata.read(with_texts(tmp_path / "a.png", **texts))
    assert restored.source == "ComfyUI"
    assert restored.request == GenerateRequest(
        prompt="a fox",
        negative="watermark",
        seed=42,
        steps=25,
        guidance=8.0,
        sampler=SamplerName.EULER_ANCESTRAL,
        spacing=SpacingName.KARRAS,
        width=640,
        height=448,
        checkpoint="sd15",
    )


def test_invokeai(tmp_path: Path) -> None:
    about = {
        "positive_prompt": "a lake",
        "negative_prompt": "fog",
        "width": 512,
        "height": 512,
        "seed": 3,
        "cfg_scale": 7.5,
        "steps": 28,
        "scheduler": "dpmpp_2m_k",
        "model": {"model_name": "deliberate"},
    }
    restored = metadata.read(with_texts(tmp_path / "a.png", invokeai_metadata=json.dumps(about)))
    assert restored.source == "InvokeAI"
    assert restored.request == GenerateRequest(
        prompt="a lake",
        negative="fog",
        seed=3,
        steps=28,
        guidance=7.5,
        sampler=SamplerName.DPMPP_2M,
        spacing=SpacingName.KARRAS,
        width=512,
        height=512,
        checkpoint="deliberate",
    )


def test_fooocus_novelai_and_swarmui(tmp_path: Path) -> None:
    fooocus = {
        "prompt": "a bee",
        "negative_prompt": "",
        "guidance_scale": 4.0,
        "scheduler": "karras",
        "seed": "11",
        "sharpness": 2.0,
        "steps": 30,
        "sampler": "dpmpp_2m_sde_gpu",
        "base_model": "juggernaut",
        "base_model_hash": "aa",
        "resolution": "(1152, 896)",
        "version": "Fooocus v2.3",
    }
    restored = metadata.read(with_texts(tmp_path / "f.png", parameters=json.dumps(fooocus)))
    assert (restored.source, restored.request.sampler, restored.request.seed) == (
        "Fooocus",
        SamplerName.DPMPP_2M_SDE,
        11,
    )
    assert (restored.request.width, restored.request.height, restored.request.checkpoint) == (1152, 896, "juggernaut")
    comment = {"steps": 28, "sampler": "k_euler", "seed": 5, "strength": 0.7, "noise": 0.2, "scale": 11.0, "uc": "bad"}
    restored = metadata.read(
        with_texts(
            tmp_path / "n.png",
            Description="an owl",
            Software="NovelAI",
            Source="Stable Diffusion 81274D13",
            Comment=json.dumps(comment),
        )
    )
    assert (restored.source, restored.request.prompt, restored.request.guidance) == ("NovelAI", "an owl", 11.0)
    assert (restored.request.steps, restored.request.sampler) == (28, SamplerName.EULER)
    swarm = {
        "sui_image_params": {
            "prompt": "a crab",
            "negativeprompt": "x",
            "model": "flux",
            "seed": 8,
            "steps": 12,
            "cfgscale": 1.5,
            "width": 256,
            "height": 128,
            "sampler": "euler",
        }
    }
    restored = metadata.read(with_texts(tmp_path / "s.png", parameters=json.dumps(swarm)))
    assert (restored.source, restored.request.prompt, restored.request.width, restored.request.seed) == (
        "SwarmUI",
        "a crab",
        256,
        8,
    )


@pytest.mark.parametrize("order", ["utf-16-be", "utf-16-le"])
@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_settings_in_the_exif_of_a_jpeg_or_webp(tmp_path: Path, kind: str, order: str) -> None:
    exif = Image.Exif()
    text = "ein Käfer\nSteps: 9, Sampler: Heun, CFG scale: 2, Seed: 77"
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + text.encode(order)
    Image.new("RGB", (40, 24)).save(tmp_path / "a", kind, exif=exif)
    restored = metadata.read(tmp_path / "a")
    request = restored.request
    assert (request.prompt, request.seed, request.width, request.height) == ("ein Käfer", 77, 40, 24)


# Copies


@pytest.mark.parametrize("ending", [".png", ".jpg", ".webp"])
def test_a_saved_copy_keeps_its_settings(tmp_path: Path, ending: str) -> None:
    source = saved(tmp_path / "a.png")
    metadata.save_copy(source, tmp_path / f"copy{ending}")
    restored = metadata.read(tmp_path / f"copy{ending}")
    assert (restored.request.seed, restored.request.negative, restored.width) == (9, REQUEST.negative, 64)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["a.png", f"copy{ending}"]


def test_images_and_their_copies_declare_srgb(tmp_path: Path) -> None:
    with Image.open(saved(tmp_path / "a.png")) as image:
        assert image.info["srgb"] == 0
    for ending in (".jpg", ".webp"):
        metadata.save_copy(tmp_path / "a.png", tmp_path / f"copy{ending}")
        with Image.open(tmp_path / f"copy{ending}") as image:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
            assert "sRGB" in ImageCms.getProfileDescription(profile)


def test_a_copy_has_every_pixel_and_a_webp_that_cannot_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (16_384, 8)).save(tmp_path / "wide.png")
    metadata.save_copy(tmp_path / "wide.png", tmp_path / "wide.jpg")
    with Image.open(tmp_path / "wide.jpg") as image:
        assert image.size == (16_384, 8)
    with pytest.raises(ImageProblem, match="WebP holds at most 16,383 px a side and the image has 16,384 × 8"):
        metadata.save_copy(tmp_path / "wide.png", tmp_path / "wide.webp")
    assert not (tmp_path / "wide.webp").exists()


def test_a_copy_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    source = saved(tmp_path / "a.png")
    with pytest.raises(StorageProblem):
        metadata.save_copy(source, tmp_path / "no such folder" / "b.png")
    with pytest.raises(ImageProblem, match="Name it .png"):
        metadata.save_copy(source, tmp_path / "b.docx")
    (tmp_path / "broken.png").write_bytes(source.read_bytes()[:200])
    with pytest.raises(ImageProblem):
        metadata.save_copy(tmp_path / "broken.png", tmp_path / "b.jpg")
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["a.png", "broken.png"]


# Hostile


@cache
def hostile() -> dict[str, bytes]:
    squeezed = zlib.compressobj(1)
    bomb = b"".join(squeezed.compress(bytes(1 << 20)) for _ in range(128)) + squeezed.flush()
    deep = b"[" * 1_000_000
    ours = GenerateRequest().to_json()
    return {
        "nothing": b"",
        "text": b"hello",
        "signature alone": b"\x89PNG\r\n\x1a\n",
        "no header": b"\x89PNG\r\n\x1a\n" + chunk(b"IEND", b""),
        "no size": png(size=(0, 0)),
        "bomb in zTXt": png(chunk(b"zTXt", b"parameters\0\0" + bomb)),
        "bomb in iTXt": png(chunk(b"iTXt", b"diffstudio\0\1\0\0\0" + bomb)),
        "huge text": png(chunk(b"tEXt", b"parameters\0" + b"y" * (LARGEST_TEXT_BYTES + 1))),
        "length beyond the file": png()[:-12] + struct.pack(">I", 0x7FFFFFFF) + b"tEXt" + b"parameters\0x",
        "wrong checksum": png(chunk(b"tEXt", b"parameters\0Steps: 2, Sampler: Heun, Seed: 1")[:-4] + b"0000"),
        "broken JSON": png(chunk(b"tEXt", b'diffstudio\0{"prompt": ')),
        "deep JSON": png(chunk(b"tEXt", b"diffstudio\0" + deep), chunk(b"tEXt", b"prompt\0" + deep)),
        "a list": png(chunk(b"tEXt", b"diffstudio\0[1, 2]")),
        "an infinite format": png(chunk(b"tEXt", b'diffstudio\0{"kind": "generate", "format": 1e999}')),
        "a newer program's": png(chunk(b"tEXt", b"diffstudio\0" + json.dumps(ours | {"format": 99}).encode())),
        "another machine's file": png(
            chunk(b"tEXt", b"diffstudio\0" + json.dumps(ours | {"init": "\\\\evil\\share\\x.png"}).encode())
        ),
        "Comfy nonsense": png(chunk(b"tEXt", b'prompt\0{"1": {"inputs": {"a": [[], {}]}}, "2": 3}')),
        "Invoke nonsense": png(chunk(b"tEXt", b'invokeai_metadata\0{"scheduler": 3, "model": 4}')),
        "a jpeg cut short": b"\xff\xd8\xff\xe1\xff\xff",
        "a gif": b"GIF89a\x01\x00\x01\x00\x00\x00\x00;",
    }


@pytest.mark.parametrize("name", sorted(hostile()))
def test_a_hostile_file_is_one_sentence_and_little_memory(tmp_path: Path, name: str) -> None:
    path = tmp_path / "hostile.png"
    path.write_bytes(hostile()[name])
    tracemalloc.start()
    try:
        with pytest.raises(DiffstudioError) as caught:
            metadata.read(path)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.png", tmp_path):
        with pytest.raises(ImageProblem):
            metadata.read(path)


def test_bytes_turned_over_never_end_in_a_traceback(tmp_path: Path) -> None:
    random.seed(5)
    original = saved(tmp_path / "a.png").read_bytes()
    path = tmp_path / "b.png"
    for _ in range(150):
        data = bytearray(original)
        for _ in range(random.randint(1, 12)):
            data[random.randrange(8, len(data))] = random.randrange(256)
        path.write_bytes(bytes(data[: random.randrange(1, len(data) + 1)]))
        try:
            metadata.read(path)
        except DiffstudioError:
            continue


@settings(max_examples=80, deadline=None)
@given(
    st.text(max_size=200)
    | st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=10),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "prompt",
                        "inputs",
                        "class_type",
                        "seed",
                        "steps",
                        "cfg",
                        "sampler_name",
                        "scheduler",
                        "model",
                        "sui_image_params",
                        "sampler",
                        "base_model",
                        "base_model_hash",
                        "image",
                        "1",
                        "2",
                    ]
                ),
                inner,
                max_size=6,
            )
        ),
        max_leaves=20,
    ).map(json.dumps)
)
def test_whatever_the_texts_hold_nothing_is_raised(text: str) -> None:
    for key in ("parameters", "prompt", "invokeai_metadata", "sd-metadata", "Dream"):
        import_settings.read_texts({key: text, "workflow": text}, 64, 64)


def test_thousands_of_texts_are_not_all_kept(tmp_path: Path) -> None:
    chunks = [chunk(b"tEXt", f"k{number}\0v".encode()) for number in range(5000)]
    (tmp_path / "a.png").write_bytes(png(*chunks))
    assert len(read_text(tmp_path / "a.png").texts) < 1000


# Upscaled, hires fix, inpainting


def test_an_upscaled_image_keeps_the_text_of_its_source(tmp_path: Path) -> None:
    request = UpscaleRequest(Path("a.png"), 2.0)
    text = metadata.parameters_text(request, {"source_text": "a cat\nSteps: 4"})
    assert text == "a cat\nSteps: 4, Postprocess upscale by: 2, Postprocess upscaler: Lanczos"
    bare = metadata.parameters_text(request, {"width": 64, "height": 48})
    assert bare.endswith(
        f"Size: 64x48, Postprocess upscale by: 2, Postprocess upscaler: Lanczos, Version: diffstudio {__version__}"
    )
    sampled = UpscaleRequest(Path("a.png"), 2.0, checkpoint="folder/tiny.safetensors", prompt="cat", strength=0.4)
    assert "cat\nSteps: " in metadata.parameters_text(sampled, {}) and "Denoising strength: 0.4" in (
        metadata.parameters_text(sampled, {"model_hash": "abc"})
    )
    read = metadata.read(saved(tmp_path / "a.png", sampled, {"model": "tiny"}))
    assert read.request == sampled and read.checkpoint == "tiny"


def test_hires_fix_and_inpainting_are_in_the_text() -> None:
    hires = replace(REQUEST, enlarge=2.0, enlarge_strength=0.4, enlarge_steps=9, enlarge_guidance=5.0)
    text = metadata.parameters_text(hires, {})
    assert "Denoising strength: 0.4, Hires upscale: 2, Hires steps: 9, Hires upscaler: " in text
    assert "Hires CFG Scale: 5" in text and request_of(text).enlarge == 2.0
    again = replace(REQUEST, init=Path("a.png"), strength=0.5, enlarge=2.0)
    assert "Denoising strength: 0.5, Hires denoising strength: " in metadata.parameters_text(again, {})
    painted = replace(REQUEST, init=Path("a.png"), mask=Path("b.png"), masked_only=True, padding=16)
    text = metadata.parameters_text(painted, {})
    assert "Inpaint area: Only masked, Masked area padding: 16" in text
    outpainted = replace(REQUEST, init=Path("a.png"), outpaint=(8, 0, 0, 8))
    assert 'Outpaint: "8,0,0,8"' in metadata.parameters_text(outpainted, {})


def request_of(text: str) -> GenerateRequest:
    request = metadata.request_from_parameters(text)
    assert isinstance(request, GenerateRequest)
    return request


def test_text_without_settings_is_refused() -> None:
    with pytest.raises(ImageProblem, match="The text holds no generation settings"):
        metadata.settings_from_parameters("just a sentence")


def test_where_the_json_is_damaged_the_text_is_read(tmp_path: Path) -> None:
    path = with_texts(tmp_path / "a.png", diffstudio="{", parameters="a cat\nSteps: 4, Sampler: Euler, Seed: 9")
    found = metadata.read(path)
    assert found.request.seed == 9
    assert "the exact settings: The image's settings are damaged. Choose another image" in found.not_imported
    with pytest.raises(ImageProblem, match="settings are damaged"):
        metadata.read(with_texts(tmp_path / "b.png", diffstudio="{"))
    newer = json.dumps(REQUEST.to_json() | {"format": 99})
    path = with_texts(tmp_path / "c.png", diffstudio=newer, parameters="a cat\nSteps: 4, Sampler: Euler, Seed: 9")
    assert any("are of format 99" in phrase for phrase in metadata.read(path).not_imported)


def test_settings_in_a_text_that_cannot_be_read_are_not_called_absent() -> None:
    with pytest.raises(
        ImageProblem, match=r"The settings in a\.png cannot be read: the text parameters, which is damaged"
    ):
        metadata.settings_of(ImageText(8, 8, {}, ("parameters", "XML:com.adobe.xmp")), "a.png")
    with pytest.raises(ImageProblem, match=r"a\.png holds no settings"):
        metadata.settings_of(ImageText(8, 8, {}, ("XML:com.adobe.xmp",)), "a.png")
    texts = {"parameters": "a cat\nSteps: 4, Sampler: Euler, Seed: 9"}
    found = metadata.settings_of(ImageText(8, 8, texts, ("prompt",)), "a.png")
    assert found.not_imported[0] == "the text prompt, which is damaged or too large"


@pytest.mark.parametrize("keyword", ["prompt", "workflow"])
def test_a_workflow_without_a_sampler_is_not_called_absent(tmp_path: Path, keyword: str) -> None:
    path = with_texts(tmp_path / "a.png", **{keyword: '{"nodes": [], "1": {"class_type": "LoadImage", "inputs": {}}}'})
    with pytest.raises(ImageProblem, match=r"No settings were found in a\.png: its ComfyUI workflow has no sampler"):
        metadata.read(path)


def test_an_index_out_of_range_counts_as_the_first(tmp_path: Path) -> None:
    for index in (-1, 99, "two"):
        values = REQUEST.to_json() | {"image": {"index": index}, "environment": 7}
        found = metadata.read(with_texts(tmp_path / "a.png", diffstudio=json.dumps(values)))
        assert found.request.seed == REQUEST.seed and found.environment == {} and found.checkpoint == "starter"
        assert any(phrase.startswith("which of the ") for phrase in found.not_imported)


def test_copies_of_images_without_settings_or_files(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    metadata.save_copy(tmp_path / "clear.png", tmp_path / "b.jpg")
    with Image.open(tmp_path / "b.jpg") as image:
        assert image.getpixel((4, 4)) == (255, 255, 255)
    with pytest.raises(ImageProblem, match="There is no image at"):
        metadata.save_copy(tmp_path / "gone.png", tmp_path / "c.png")
    with pytest.raises(ImageProblem, match="a name without an ending"):
        metadata.save_copy(tmp_path / "clear.png", tmp_path / "c")


@pytest.mark.parametrize("guided", [None, True, False])
def test_whether_the_last_call_is_guided_comes_back_from_the_text_alone(guided: bool | None) -> None:
    request = GenerateRequest("red apple", guide_last_call=guided)
    found = import_settings.read_parameters(metadata.parameters_text(request, {}))
    assert found is not None and found.request.guide_last_call is guided
    text_of_version_0_1 = metadata.parameters_text(GenerateRequest("red apple"), {"version": "0.1.0"})
    found = import_settings.read_parameters(text_of_version_0_1)
    assert found is not None and found.request.guide_last_call is True


GUIDED = GenerateRequest(
    "red apple",
    guidance_interval=(0.1, 0.85),
    autoguidance="/runs/a/checkpoints/00000100.safetensors",
    autoguidance_scale=1.5,
    cads=0.25,
    cads_tau1=0.5,
    cads_tau2=0.8,
    cads_mixing=0.5,
)


def test_guidance_comes_back_from_the_text_alone() -> None:
    text = metadata.parameters_text(GUIDED, {})
    assert "Guidance interval: 0.1 to 0.85, Autoguidance: 00000100, Autoguidance scale: 1.5" in text
    assert "CADS Active: True, CADS Tau 1: 0.5, CADS Tau 2: 0.8, CADS Noise Scale: 0.25" in text
    found = metadata.settings_from_parameters(text)
    assert found.request == replace(GUIDED, autoguidance="00000100") and found.not_imported == ()
    plain = metadata.parameters_text(GenerateRequest("red apple"), {})
    assert not any(word in plain for word in ("interval", "utoguidance", "CADS"))


def test_cads_of_the_extension_for_a1111_is_read() -> None:
    """The fields of sd-webui-cads, and a value of each that a request cannot hold."""
    line = (
        "Steps: 20, Sampler: Euler, CFG scale: 7, Seed: 1, CADS Active: True, CADS Tau 1: 0.55, CADS Tau 2: 0.9, "
        "CADS Noise Scale: 0.15, CADS Mixing Factor: 0.8, CADS Rescale: False"
    )
    request = metadata.settings_from_parameters(f"a cat\n{line}").request
    assert isinstance(request, GenerateRequest)
    assert (request.cads, request.cads_tau1, request.cads_tau2, request.cads_mixing) == (0.15, 0.55, 0.9, 0)
    off = metadata.settings_from_parameters(f"a cat\n{line.replace('True', 'False')}").request
    assert isinstance(off, GenerateRequest) and off.cads == 0
    wrong = metadata.settings_from_parameters(f"a cat\n{line.replace('0.15', '7').replace('0.55', 'half')}")
    assert "the CADS noise 7.0" in wrong.not_imported and "the CADS tau 1 half" in wrong.not_imported
    interval = metadata.settings_from_parameters(
        "a cat\nSteps: 20, Sampler: Euler, Guidance interval: low to 0.5, Version: diffstudio 0.2"
    )
    assert "the guidance interval low to 0.5" in interval.not_imported


def test_clip_skip_is_written_as_a1111_writes_it() -> None:
    request = GenerateRequest("red apple", clip_skip=2, steps=5)
    text = metadata.parameters_text(request, {})
    assert ", Clip skip: 2, " in text and metadata.request_from_parameters(text).clip_skip == 2
    assert "Clip skip" not in metadata.parameters_text(GenerateRequest("red apple"), {})
    sampled = UpscaleRequest(Path("a.png"), checkpoint="sd", clip_skip=3)
    assert ", Clip skip: 3, " in metadata.parameters_text(sampled, {})
    assert GenerateRequest.from_json(request.to_json()) == request


def test_settings_that_are_too_long_for_a_jpeg_are_not_cut(tmp_path: Path) -> None:
    """The line of settings comes last: cut, the text would hold no settings."""
    text = "x" * 40_000 + "\nSteps: 4, Sampler: Euler, CFG scale: 2, Seed: 9"
    source = with_texts(tmp_path / "a.png", parameters=text)
    with pytest.raises(ImageProblem, match=r"too long for a JPEG: 40,0\d\d characters\. Save it as PNG or WebP"):
        metadata.save_copy(source, tmp_path / "b.jpg")
    assert not (tmp_path / "b.jpg").exists()
    metadata.save_copy(source, tmp_path / "b.webp")
    assert metadata.read(tmp_path / "b.webp").request.seed == 9
