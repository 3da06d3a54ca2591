"""Settings of the hires fix, upscalers, and values that are odd, from other programs' text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from diffstudio.errors import ImageProblem
from diffstudio.studio.metadata import import_settings
from diffstudio.studio.metadata.import_settings import check_types, read_parameters, read_texts, upscaler_label
from diffstudio.studio.requests import LANCZOS, LATENT, LONGEST_PROMPT, GenerateRequest, UpscaleRequest


def read(fields: str, prompt: str = "a cat") -> import_settings.ImportedSettings:
    found = read_parameters(f"{prompt}\nSteps: 20, Sampler: Euler, Seed: 1, Size: 64x48, {fields}")
    assert found is not None
    return found


def test_the_hires_fix() -> None:
    found = read(
        "Denoising strength: 0.4, Hires upscale: 2, Hires steps: 9, Hires upscaler: Latent (nearest), Hires CFG Scale: 5"
    )
    request = found.request
    assert (request.enlarge, request.enlarge_steps, request.enlarge_strength) == (2.0, 9, 0.4)
    assert (request.upscaler, request.enlarge_guidance, found.not_imported) == (LATENT, 5.0, ())
    assert read("Hires resize: 128x96").request.enlarge == 2.0
    assert read("Hires upscale: 1").request.enlarge == 1.0


def test_a_hires_fix_of_img2img_has_two_strengths() -> None:
    found = read("Denoising strength: 0.6, Hires upscale: 2, Hires denoising strength: 0.3")
    assert found.request.enlarge_strength == 0.3
    assert found.not_imported == ("the init image, at denoising strength 0.6",)


@pytest.mark.parametrize(
    ("name", "expected", "skipped"),
    [("Lanczos", LANCZOS, ()), ("Nearest", LANCZOS, ("the upscaler Nearest",)), ("4x-UltraSharp", "4x-UltraSharp", ())],
)
def test_upscalers(name: str, expected: str, skipped: tuple[str, ...]) -> None:
    found = read(f"Hires upscale: 2, Hires upscaler: {name}")
    assert found.request.upscaler == expected and found.not_imported == skipped


def test_upscalers_have_the_names_of_automatic1111() -> None:
    assert [upscaler_label(name) for name in (LANCZOS, LATENT, "x4")] == ["Lanczos", "Latent", "x4"]


def test_fields_that_are_odd() -> None:
    found = read('Broken: "no end, : no name, ' + "x" * 100 + ": a long name, Denoising strength: high")
    assert found.request.seed == 1 and any("Broken" in phrase for phrase in found.not_imported)
    assert not any("long name" in phrase for phrase in found.not_imported)


def test_a_prompt_that_is_too_long() -> None:
    found = read("CFG scale: 7", "word " * LONGEST_PROMPT)
    assert len(found.request.prompt) == LONGEST_PROMPT and "the end of a prompt of" in found.not_imported[0]


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [("7", int, 7), ("7.0", int, 7), ("seven", int, None), ("inf", int, None), (True, int, None), (None, float, None)],
)
def test_numbers(value: Any, kind: type[int], expected: int | None) -> None:
    assert import_settings._number(value, kind) == expected


def test_comfyui_with_two_samplers_and_a_size_elsewhere() -> None:
    def sampler(number: int) -> dict[str, Any]:
        inputs = {
            "seed": number,
            "steps": 4,
            "cfg": 2.0,
            "sampler_name": "euler",
            "scheduler": "normal",
            "denoise": 1.0,
        }
        links = {"model": ["1", 0], "positive": ["2", 0], "negative": ["3", 0], "latent_image": ["5", 0]}
        return {"class_type": "KSampler", "inputs": inputs | links}

    prompt = {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "a.safetensors"}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "cat", "clip": ["1", 1]}},
        "3": {"class_type": "CLIPTextEncode", "inputs": {"text": "dog", "clip": ["1", 1]}},
        "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 96, "height": 80, "batch_size": 1}},
        "6": sampler(1),
        "7": sampler(2),
        "8": {"class_type": "VAEDecode", "inputs": {"samples": ["6", 0], "vae": ["1", 2]}},
        "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0], "filename_prefix": "x"}},
        "10": {"class_type": "VAEDecode", "inputs": {"samples": ["7", 0], "vae": ["1", 2]}},
        "11": {"class_type": "SaveImage", "inputs": {"images": ["10", 0], "filename_prefix": "y"}},
    }
    found = read_texts({"prompt": json.dumps(prompt)}, 32, 32)
    assert found is not None and (found.request.width, found.request.height) == (96, 80)
    assert "further samplers: 1" in found.not_imported


def test_types_are_checked() -> None:
    check_types(UpscaleRequest(Path("a.png"), 2.0))
    check_types(GenerateRequest())
    with pytest.raises(ImageProblem, match="refer to another computer"):
        check_types(UpscaleRequest(Path("//other/share/a.png"), 2.0))


def test_only_so_many_other_settings_are_shown() -> None:
    shown = read(", ".join(f"Option {number}: on" for number in range(30))).not_imported
    assert shown[:2] == ("Option 0: on", "Option 1: on") and shown[-1].endswith("more settings") and len(shown) == 13
