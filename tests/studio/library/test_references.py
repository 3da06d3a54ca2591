"""Requests follow a model that is renamed, in every field that can name one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from diffstudio.models.detection.types import Role
from diffstudio.studio.library.references import ModelRenamed, prompt_after, request_after, uses_model
from diffstudio.studio.requests import ControlNetUse, GenerateRequest, PictureRequest, UpscaleRequest
from tests.ui.samples import checkpoint

OLD, NEW = Path("/models/ink.safetensors"), Path("/models/brush.safetensors")
RENAMED = ModelRenamed(Role.CHECKPOINT, "ink", OLD, "brush", NEW)
CONTROL = ControlNetUse("ink", Path("/a.png"))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (GenerateRequest(checkpoint="ink"), GenerateRequest(checkpoint="brush")),
        (GenerateRequest(checkpoint="INK"), GenerateRequest(checkpoint="brush")),
        (GenerateRequest(checkpoint=str(OLD)), GenerateRequest(checkpoint=str(NEW))),
        (GenerateRequest(vae="ink"), GenerateRequest(vae="brush")),
        (GenerateRequest(upscaler="ink"), GenerateRequest(upscaler="brush")),
        (GenerateRequest(controls=(CONTROL,)), GenerateRequest(controls=(replace(CONTROL, network="brush"),))),
        (UpscaleRequest(Path("/a.png"), upscaler="ink"), UpscaleRequest(Path("/a.png"), upscaler="brush")),
        (UpscaleRequest(Path("/a.png"), checkpoint="ink"), UpscaleRequest(Path("/a.png"), checkpoint="brush")),
    ],
)
def test_a_field_that_names_the_model_gets_the_new_name(before: PictureRequest, after: PictureRequest) -> None:
    assert request_after(before, RENAMED) == after
    assert uses_model(before, checkpoint("ink", path=OLD))


def test_other_names_and_words_stay() -> None:
    request = GenerateRequest("ink and <lora:ink:1>", "ink", checkpoint="ink-2", vae="inkwell")
    assert request_after(request, RENAMED) is request
    assert not uses_model(request, checkpoint("ink", path=OLD))


def test_a_lora_gets_the_new_name_in_its_tags_with_its_weights() -> None:
    lora = replace(RENAMED, role=Role.LORA)
    prompt = "ink, <lora:ink:0.8> <lora:Ink:te=1:unet=0.5> <lyco:ink> <lora:inkwell:1>"
    assert (
        prompt_after(prompt, lora) == "ink, <lora:brush:0.8> <lora:brush:te=1:unet=0.5> <lyco:brush> <lora:inkwell:1>"
    )
    assert uses_model(GenerateRequest(prompt), checkpoint("ink", path=OLD, role=Role.LORA))


def test_an_embedding_gets_the_new_name_where_it_is_a_word_of_its_own() -> None:
    embedding = replace(RENAMED, role=Role.EMBEDDING)
    prompt = "a cat, ink, (Ink:1.2), embedding:ink, inkwell, ink-2"
    assert prompt_after(prompt, embedding) == "a cat, brush, (brush:1.2), embedding:brush, inkwell, ink-2"
