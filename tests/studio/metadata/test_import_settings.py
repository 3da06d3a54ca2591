"""Settings of the hires fix, upscalers, and values that are odd, from other programs' text."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from diffstudio.errors import ImageProblem
from diffstudio.studio.metadata import import_settings
from diffstudio.studio.metadata.import_settings import (
    _imported,
    check_paths,
    read_parameters,
    read_texts,
    upscaler_label,
)
from diffstudio.studio.metadata.readers.found_settings import FoundSettings, as_number
from diffstudio.studio.metadata.sampler_names import named_sampler
from diffstudio.studio.prompts.lora_tags import LoraUse, lora_tags
from diffstudio.studio.requests import ControlNetUse, GenerateRequest, UpscaleRequest
from diffstudio.studio.requests.choices import LANCZOS, LATENT, SamplerName
from diffstudio.studio.requests.limits import LONGEST_PROMPT


def read(fields: str, prompt: str = "a cat") -> import_settings.ImportedSettings:
    found = read_parameters(
        f"{prompt}\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: 1, Size: 64x48, Model: m, {fields}"
    )
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


@pytest.mark.parametrize(
    ("name", "sampler"),
    [
        ("DPM++ 2M", SamplerName.DPMPP_2M),
        ("k_dpmpp_2m", SamplerName.DPMPP_2M),
        ("DPM++ 2M SDE GPU", SamplerName.DPMPP_2M_SDE),  # listed as `dpmpp` alone
        ("restart", None),
        ("", None),
    ],
)
def test_a_sampler_is_found_by_the_names_of_several_programs(name: str, sampler: SamplerName | None) -> None:
    assert named_sampler(name) is sampler


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
    assert as_number(value, kind) == expected


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
    assert any("may be those of another" in phrase for phrase in found.not_imported)


def test_network_paths_are_refused() -> None:
    share = "//other/share/a.png"
    check_paths(UpscaleRequest(Path("a.png"), 2.0))
    check_paths(GenerateRequest())
    for request in (
        UpscaleRequest(Path(share), 2.0),
        GenerateRequest(init=Path(share)),
        GenerateRequest(vae="\\\\other\\share"),
        GenerateRequest(controls=(ControlNetUse("canny", Path(share)),)),
        GenerateRequest(autoguidance=share),
    ):
        with pytest.raises(ImageProblem, match="refer to another computer"):
            check_paths(request)


def test_only_so_many_other_settings_are_shown() -> None:
    shown = read(", ".join(f"Option {number}: on" for number in range(30))).not_imported
    assert shown[:2] == ("Option 0: on", "Option 1: on") and shown[-1].endswith("more settings") and len(shown) == 13


def test_a_prompt_that_grows_when_its_braces_are_escaped_is_cut() -> None:
    found = read("CFG scale: 7", "{" * LONGEST_PROMPT)
    assert found.request.prompt == "\\{" * (LONGEST_PROMPT // 2)
    assert found.not_imported == (f"the end of a prompt of {LONGEST_PROMPT:,} characters",)


def test_phrases_are_short_and_few() -> None:
    loras = [{"model": {"name": f"lora{number}"}} for number in range(60)]
    values = {"positive_prompt": "a\ncat", "seed": 1, "loras": loras, "controlnets": [{"control_model": "x" * 500}]}
    found = read_texts({"invokeai_metadata": json.dumps(values)}, 64, 64)
    assert found is not None and len(found.not_imported) == 41 and found.not_imported[-1].endswith(" other things")
    values["loras"] = []
    found = read_texts({"invokeai_metadata": json.dumps(values)}, 64, 64)
    assert found is not None and len(found.not_imported[0]) == 200


def test_a_prompt_in_the_same_grammar_is_kept() -> None:
    prompt = r"[cat:dog:0.5] [fog::10] [a|b] (red:1.2) [dim] \(x\) BREAK y AND z :1.5"
    found = read("CFG scale: 7, Clip skip: 2, Steps: 20", prompt)
    assert (found.request.prompt, found.request.clip_skip, found.not_imported) == (prompt, 2, found.not_imported)
    assert not any("prompt" in phrase or "lip skip" in phrase for phrase in found.not_imported)


@pytest.mark.parametrize(("written", "clip_skip"), [("1", None), ("2", 2), ("12", 12)])
def test_clip_skip_is_imported(written: str, clip_skip: int | None) -> None:
    assert read(f"Steps: 20, Clip skip: {written}", "a").request.clip_skip == clip_skip


@pytest.mark.parametrize(("written", "named"), [("13", "the clip skip 13"), ("1.5", "the clip skip 1.5")])
def test_a_clip_skip_out_of_range_is_named(written: str, named: str) -> None:
    found = read(f"Steps: 20, Clip skip: {written}", "a")
    assert found.request.clip_skip is None and named in found.not_imported


@pytest.mark.parametrize(
    ("source", "prompt", "expected", "named"),
    [
        ("ComfyUI", "a [b] (c:1.2)", "a [b] (c:1.2)", ()),  # its reader has escaped what is to be escaped
        ("InvokeAI", "[a] (b)1.2 c++, (d)- \\(e\\)", r"\[a\] \(b\)1.2 c++, \(d\)- \(e\)", ("(b)1.2", "c++", "(d)-")),
        ("InvokeAI", "TOM AND JERRY, (a, b)", r"TOM A\ND JERRY, \(a, b\)", ()),
        ("NovelAI", "{a}, [b:c:3], 1.2::d::, (e)", r"\{a\}, \[b:c:3\], 1.2::d::, \(e\)", ("{a}", "[b:c:3]", "1.2::")),
    ],
)
def test_the_weights_of_other_programs_are_text_and_named(
    source: str, prompt: str, expected: str, named: tuple[str, ...]
) -> None:
    found = _imported(FoundSettings(source, {"prompt": prompt}), 64, 64)
    assert found.request.prompt == expected
    assert tuple(phrase for phrase in found.not_imported if phrase.startswith("the prompt's")) == tuple(
        f"the prompt's {weight}" for weight in named
    )


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"scheduler": 3}, "the sampler 3"),
        ({"positive_prompt": 3}, "the prompt, which is not text"),
        ({"negative_prompt": []}, "the negative prompt, which is not text"),
        ({"steps": "many"}, "the steps many"),
        ({"steps": 2.5}, "the steps 2.5"),
        ({"strength": "half"}, "the denoising strength half"),
        ({"model": 3}, "the checkpoint, which the file does not hold"),
    ],
)
def test_values_of_wrong_types_are_named(values: dict[str, Any], named: str) -> None:
    usual = {"positive_prompt": "a", "seed": 1, "steps": 4, "cfg_scale": 2, "scheduler": "euler", "model": "m"}
    found = read_texts({"invokeai_metadata": json.dumps(usual | values)}, 64, 64)
    assert found is not None and named in found.not_imported


def test_a_prompt_without_its_line_of_settings() -> None:
    found = read_texts({"parameters": "a cat\nNegative prompt: fog\nrain"}, 64, 48)
    assert found is not None and (found.request.prompt, found.request.negative) == ("a cat", "fog\nrain")
    assert found.request.width == 64 and "the seed, which the file does not hold" in found.not_imported


def test_resources_of_civitai() -> None:
    assert read(
        'Civitai resources: [{"type": "embed", "modelVersionName": "v1"}], Civitai metadata: {}'
    ).not_imported == ("embedding v1",)
    assert read("Civitai resources: none").not_imported == ("Civitai resources: none",)


def test_a_schedule_without_a_sampler() -> None:
    values = {"prompt": "a", "base_model": "m", "scheduler": "karras", "seed": 1, "steps": 3}
    found = read_texts({"parameters": json.dumps(values)}, 64, 64)
    assert found is not None and found.request.spacing == "karras"
    assert found.not_imported == (
        "the sampler, which the file does not hold",
        "the CFG scale, which the file does not hold",
    )


def test_lists_and_objects_among_the_other_settings_are_named() -> None:
    image = {"prompt": "x", "variations": [[1, 0.5]], "facetool": {}, "perlin": 0.2, "seamless": False}
    found = read_texts({"sd-metadata": json.dumps({"image": image})}, 8, 8)
    assert found is not None and found.not_imported[-2:] == ("variations", "perlin: 0.2")


def test_a_checkpoint_is_named_once() -> None:
    texts = {"Software": "NovelAI", "Source": "NovelAI Diffusion V4", "Comment": '{"prompt": "x"}'}
    found = read_texts(texts, 8, 8)
    assert found is not None
    named = [phrase for phrase in found.not_imported if phrase.startswith("the checkpoint")]
    assert named == ["the checkpoint NovelAI Diffusion V4, which cannot be downloaded"]


def test_everything_that_is_lost_is_counted() -> None:
    """Up to 40 phrases are shown; the last says how many more there are."""
    resources = json.dumps([{"type": "lora", "modelName": f"m{number}", "weight": 1} for number in range(50)])
    found = read(f"Civitai resources: {resources}")
    assert found.not_imported[0] == "LoRA m0 1" and found.not_imported[40] == "10 other things"
    assert read("Clip skip: 2", " ".join(["<hypernet:a:1>"] * 45)).not_imported[40] == "5 other things"


@pytest.mark.parametrize(
    "prompt",
    [
        "masterpiece, Steps: 5",
        "(masterpiece:1.2), (best quality:1.3), (a cat:1.1)",
        "a poster, title: Cats, author: me, year: 1999",
    ],
)
def test_a_prompt_that_looks_like_settings_is_a_prompt(prompt: str) -> None:
    found = import_settings.read_texts({"parameters": prompt}, 64, 64)
    assert found is not None and found.request.prompt == prompt
    assert "the steps, which the file does not hold" in found.not_imported


def test_the_guidance_that_forge_writes_for_flux() -> None:
    def read(fields: str) -> import_settings.ImportedSettings:
        found = read_parameters(f"a cat\nSteps: 20, Sampler: Euler, {fields}Distilled CFG Scale: 3.5, Seed: 1")
        assert found is not None
        return found

    found = read("CFG scale: 1, ")
    assert found.request.guidance == 3.5 and not any("Distilled" in phrase for phrase in found.not_imported)
    found = read("CFG scale: 2, ")
    assert found.request.guidance == 2 and "Distilled CFG Scale: 3.5" in found.not_imported
    assert read("").request.guidance == 3.5


@pytest.mark.parametrize("prompt", ["x" * 200_000, "(" * 200_000, "a+" * 100_000])
def test_long_prompts_of_other_programs_are_read_in_bounded_time(prompt: str) -> None:
    started = time.process_time()
    texts = {"invokeai_metadata": json.dumps({"positive_prompt": prompt, "steps": 20})}
    assert import_settings.read_texts(texts, 64, 64) is not None
    assert time.process_time() - started < 5


@pytest.mark.parametrize("reads", [True, False])
def test_lora_tags_of_programs_that_do_not_read_them_are_text(reads: bool) -> None:
    found = FoundSettings("ComfyUI", {"prompt": "a <lora:ink:1> cat"}, ["<lora:other:0.5>"], reads_lora_tags=reads)
    imported = import_settings._imported(found, 64, 64)
    assert lora_tags(imported.request.prompt)[1] == (*([LoraUse("ink")] if reads else []), LoraUse("other", 0.5, 0.5))
    assert ("the prompt's <lora:ink:1>, which is text in ComfyUI" in imported.not_imported) is not reads
    assert reads or imported.request.prompt == "a < lora:ink:1> cat <lora:other:0.5>"
