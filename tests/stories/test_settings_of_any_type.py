"""Settings in images with values of every type: nothing raises, and no request gets a value of a wrong type."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from diffstudio.errors import BadRequest, ImageProblem
from diffstudio.studio.gallery.gallery import Gallery
from diffstudio.studio.gallery.rescan import rescan
from diffstudio.studio.metadata import metadata
from diffstudio.studio.metadata.image_text import ImageText
from diffstudio.studio.requests import ControlNetUse, GenerateRequest, UpscaleRequest
from diffstudio.studio.requests.checks import has_type

DEEP: Any = []
for _ in range(300):
    DEEP = [DEEP]
VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        -1,
        7,
        10**400,
        0.5,
        float("nan"),
        float("inf"),
        -1e308,
        "",
        "text",
        "\0\ud800",
        "9" * 5000,
    ),
    *([], [1], ["a", 0], [[], {}], {}, {"a": 1}, {"caption": 3}, {"content": ["a", 0]}, DEEP),
)
CONTROL = ControlNetUse("canny", Path("a.png"))
OURS = (
    GenerateRequest("a {b|c}", seed=7, init=Path("a.png"), mask=Path("b.png"), controls=(CONTROL,)).to_json(),
    GenerateRequest("a cat", enlarge=2.0, upscaler="4x", enlarge_steps=4, enlarge_guidance=1.0).to_json(),
    UpscaleRequest(Path("a.png"), checkpoint="starter", prompt="a cat").to_json(),
)
COMFYUI = {
    "1": {"class_type": "UNETLoader", "inputs": {"unet_name": "flux.gguf"}},
    "2": {"class_type": "LoraLoader", "inputs": {"lora_name": "a", "strength_model": 0.5, "model": ["1", 0]}},
    "3": {"class_type": "CLIPTextEncode", "inputs": {"text": ["4", 0], "clip": ["5", 0]}},
    "4": {"class_type": "StringConcatenate", "inputs": {"string_a": "a", "string_b": "b", "delimiter": ","}},
    "5": {"class_type": "CLIPSetLastLayer", "inputs": {"stop_at_clip_layer": -2, "clip": ["2", 1]}},
    "6": {
        "class_type": "ControlNetApplyAdvanced",
        "inputs": {"positive": ["3", 0], "negative": ["3", 0], "control_net": ["7", 0], "strength": 0.5},
    },
    "7": {"class_type": "ControlNetLoader", "inputs": {"control_net_name": "depth"}},
    "8": {"class_type": "FluxGuidance", "inputs": {"guidance": 3.5, "conditioning": ["6", 0]}},
    "9": {"class_type": "EmptyLatentImage", "inputs": {"width": 8, "height": 8}},
    "10": {
        "class_type": "KSampler",
        "inputs": {"seed": 1, "steps": 4, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 0.5}
        | {"model": ["2", 0], "positive": ["8", 0], "negative": ["6", 1], "latent_image": ["9", 0]},
    },
    "11": {"class_type": "SaveImage", "inputs": {"images": ["10", 0], "vae_name": "v"}},
}
OTHERS: dict[str, dict[str, Any]] = {
    "invokeai_metadata": {
        "positive_prompt": "a cat", "negative_prompt": "b", "seed": 1, "steps": 4, "cfg_scale": 2.0, "width": 8, "height": 8,
        "scheduler": "euler", "model": {"name": "m"}, "vae": {"name": "v"}, "strength": 0.5, "clip_skip": 1,
        "loras": [{"model": {"name": "l"}, "weight": 0.5}], "controlnets": [{"control_model": {"name": "c"}}],
    },
    "sd-metadata": {"model_weights": "m", "image": {"prompt": [{"prompt": "a", "weight": 1}], "seed": 1, "steps": 4}},
    "Comment": {
        "prompt": "a cat", "uc": "b", "steps": 4, "seed": 1, "scale": 5.0, "sampler": "k_euler", "noise_schedule": "karras",
        "v4_prompt": {"caption": {"base_caption": "a", "char_captions": [{"char_caption": "b"}]}}, "strength": 0.5,
    },
    "parameters": {
        "prompt": "a cat", "negative_prompt": "b", "base_model": "m", "loras": [["l", 0.5]], "lora_combined_1": "l : 1",
        "seed": "1", "steps": 4, "sampler": "euler", "scheduler": "karras", "resolution": "(8, 8)", "styles": ["s"],
        "sui_image_params": {"prompt": "a", "loras": ["l"], "loraweights": ["1"], "model": "m", "seed": 1, "width": 8},
    },
    "draw_things": {
        "c": "a cat", "uc": "b", "steps": 4, "scale": 5.0, "seed": 1, "sampler": "Euler A", "model": "m", "size": "8x8",
        "lora": [{"model": "l", "weight": 0.5}], "control": [{"file": "c"}], "strength": 0.5,
    },
}  # fmt: skip


def places(values: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where the values of a JSON value are."""
    if isinstance(values, (dict, list)):
        for key in list(values) if isinstance(values, dict) else range(len(values)):
            yield (*above, key)
            yield from places(values[key], (*above, key))


def with_another(values: Any, place: tuple[Any, ...], value: Any) -> Any:
    """A copy with another value in one place."""
    changed = copy.deepcopy(values)
    inner = changed
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return changed


def cases(count: int, seed: int) -> list[dict[str, str]]:
    """The texts of images, one value in each of them of another type; every field of ours with several values."""
    rng = random.Random(seed)
    bases = [("diffstudio", values | {"image": {"index": 0, "prompt": "a"}}) for values in OURS]
    bases += [("prompt", COMFYUI), *OTHERS.items()]
    found = []
    for number in range(count):
        keyword, values = bases[number % len(bases)]
        for _ in range(rng.choice((1, 1, 3))):
            values = with_another(values, rng.choice(list(places(values))), rng.choice(VALUES))
        text = json.dumps(values) if number % 50 else json.dumps(values)[:-9]
        found.append({keyword: text, "Software": "NovelAI"} if keyword == "Comment" else {keyword: text})
    return found


def assert_of_its_types(request: Any) -> None:
    hints = get_type_hints(type(request))
    for field in fields(request):
        assert has_type(getattr(request, field.name), hints[field.name]), field.name
    json.dumps(request.to_json())


def test_nothing_that_an_image_holds_raises_or_has_a_wrong_type() -> None:
    read = 0
    for texts in cases(600, seed=10):
        try:
            settings = metadata.settings_of(ImageText(8, 8, texts), "a.png")
        except (ImageProblem, BadRequest) as error:
            assert len(str(error)) < 400
            continue
        read += 1
        assert_of_its_types(settings.request)
        if settings.asked is not None:
            assert_of_its_types(settings.asked)
        assert all(isinstance(phrase, str) and len(phrase) < 400 for phrase in settings.not_imported)
        assert isinstance(settings.checkpoint, str)
        metadata.parameters_text(settings.request, {})
    assert read > 450


@pytest.mark.parametrize("values", OURS)
def test_each_of_our_fields_with_each_value(values: dict[str, Any]) -> None:
    for name in values:
        for value in VALUES:
            text = json.dumps(values | {name: value})
            try:
                settings = metadata.settings_of(ImageText(8, 8, {"diffstudio": text}), "a.png")
            except (ImageProblem, BadRequest):
                assert name in ("kind", "format", "source") or value is DEEP or value == "9" * 5000
            else:
                assert_of_its_types(settings.request)


def test_the_gallery_records_all_of_them(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    all_texts = cases(60, seed=11)
    for number, texts in enumerate(all_texts):
        info = PngInfo()
        for keyword, text in texts.items():
            info.add_text(keyword, text)
        Image.new("RGB", (8, 8)).save(folder / f"{number}.png", pnginfo=info)
    gallery = Gallery(folder, tmp_path / "gallery.sqlite", tmp_path / "thumbnails")
    rescan(gallery)
    shown = gallery.images()
    assert len(shown) == len(all_texts)
    for image in shown:
        if image.request is not None:
            assert_of_its_types(image.request)
    gallery.close()
