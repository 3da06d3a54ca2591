"""Requests follow a model that is renamed, in every field that can name one."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from diffstudio.errors import BadRequest
from diffstudio.models.detection.types import Role
from diffstudio.studio.library.references import (
    ModelRenamed,
    RenamedModels,
    followed,
    prompt_after,
    request_after,
    state_after,
    uses_model,
)
from diffstudio.studio.panel_state import PanelState
from diffstudio.studio.requests import ControlNetUse, GenerateRequest, PictureRequest, UpscaleRequest
from diffstudio.studio.requests.limits import LONGEST_PROMPT
from tests.ui.samples import checkpoint

OLD, NEW = Path("/models/ink.safetensors"), Path("/models/brush.safetensors")
RENAMED = ModelRenamed(Role.CHECKPOINT, "ink", OLD, "brush", NEW)
IMAGE = Path("/a.png")
CONTROL = ControlNetUse("ink", IMAGE)


@pytest.mark.parametrize(
    ("role", "before", "after"),
    [
        (Role.CHECKPOINT, GenerateRequest(checkpoint="ink"), GenerateRequest(checkpoint="brush")),
        (Role.NETWORK, GenerateRequest(checkpoint="INK"), GenerateRequest(checkpoint="brush")),
        (Role.CHECKPOINT, GenerateRequest(checkpoint=str(OLD)), GenerateRequest(checkpoint=str(NEW))),
        (Role.CHECKPOINT, GenerateRequest(autoguidance="ink"), GenerateRequest(autoguidance="brush")),
        (Role.VAE, GenerateRequest(vae="ink"), GenerateRequest(vae="brush")),
        (Role.CHECKPOINT, GenerateRequest(vae="ink"), GenerateRequest(vae="brush")),
        (Role.UPSCALER, GenerateRequest(upscaler="ink"), GenerateRequest(upscaler="brush")),
        (
            Role.CONTROLNET,
            GenerateRequest(controls=(CONTROL,)),
            GenerateRequest(controls=(replace(CONTROL, network="brush"),)),
        ),
        (Role.UPSCALER, UpscaleRequest(IMAGE, upscaler="ink"), UpscaleRequest(IMAGE, upscaler="brush")),
        (Role.CHECKPOINT, UpscaleRequest(IMAGE, checkpoint="ink"), UpscaleRequest(IMAGE, checkpoint="brush")),
    ],
)
def test_a_field_that_names_the_model_gets_the_new_name(
    role: Role, before: PictureRequest, after: PictureRequest
) -> None:
    assert request_after(before, replace(RENAMED, role=role)) == after
    assert uses_model(before, checkpoint("ink", path=OLD, role=role))


@pytest.mark.parametrize("role", list(Role))
def test_a_model_of_another_kind_with_that_name_is_not_touched(role: Role) -> None:
    """Models of different kinds can have one name: the file of a VAE is often called like its checkpoint."""
    request = GenerateRequest("<lora:ink:1>", checkpoint="ink", vae="ink", upscaler="ink", controls=(CONTROL,))
    after = request_after(request, replace(RENAMED, role=role))
    changed = {name for name, value in asdict(after).items() if value != asdict(request)[name]}
    assert changed == {
        Role.CHECKPOINT: {"checkpoint", "vae"},
        Role.NETWORK: {"checkpoint"},
        Role.VAE: {"vae"},
        Role.UPSCALER: {"upscaler"},
        Role.CONTROLNET: {"controls"},
        Role.LORA: {"prompt"},
    }.get(role, set())
    assert uses_model(request, checkpoint("ink", path=OLD, role=role)) is bool(changed)


def test_a_prompt_that_would_become_too_long_is_refused_but_found() -> None:
    lora = replace(RENAMED, role=Role.LORA)
    request = GenerateRequest("<lora:ink:1>".ljust(10_000, "x"))
    assert uses_model(request, checkpoint("ink", path=OLD, role=Role.LORA))
    with pytest.raises(BadRequest, match="10,002 characters"):
        request_after(request, lora)


@pytest.mark.parametrize(("name", "new"), [("a", "zebra"), ("lora", "brush"), ("l", "x"), ("0", "1")])
def test_only_the_name_in_a_tag_is_replaced(name: str, new: str) -> None:
    renamed = replace(RENAMED, role=Role.LORA, name=name, new_name=new)
    assert prompt_after(f"a <lora:{name}:0.8> <lyco: {name} :te=0>", renamed) == f"a <lora:{new}:0.8> <lyco:{new}:te=0>"


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


def test_a_request_from_a_file_gets_the_names_of_now_unless_another_model_has_the_old_one() -> None:
    renamed, request = RenamedModels(), GenerateRequest("a", checkpoint="ink")
    renamed.add(RENAMED)
    renamed.add(replace(RENAMED, name="brush", path=NEW, new_name="pen", new_path=NEW.with_stem("pen")))
    assert renamed.current(request).checkpoint == "pen"
    renamed.set_models([checkpoint("Ink")])
    assert renamed.current(request) is request
    again = RenamedModels()
    for name, new in (("ink", "brush"), ("brush", "pen"), ("chalk", "brush")):
        path = OLD.with_stem(name)
        again.add(replace(RENAMED, name=name, path=path, new_name=new, new_path=path.with_stem(new)))
    again.set_models([checkpoint("brush"), checkpoint("pen")])
    names = [again.current(GenerateRequest("a", checkpoint=name)).checkpoint for name in ("ink", "brush", "chalk")]
    assert names == ["pen", "brush", "brush"]
    long = GenerateRequest("<lora:ink:1>".ljust(LONGEST_PROMPT, "x"))
    assert followed(long, replace(RENAMED, role=Role.LORA)) is long


def test_a_renamed_model_is_followed_in_all_that_is_kept() -> None:
    """Also in ControlNets that are hidden now, and in a prompt that is too long for a request."""
    state = PanelState(GenerateRequest(controls=(CONTROL,)), hidden_controls=(CONTROL,))
    after = state_after(state, replace(RENAMED, role=Role.CONTROLNET))
    assert [use.network for use in (*after.request.controls, *after.hidden_controls)] == ["brush", "brush"]
    typed = PanelState(GenerateRequest(), typed={"prompt": "<lora:ink:1>" + "x" * 10_001, "seed": "ink"})
    after = state_after(typed, replace(RENAMED, role=Role.LORA))
    assert after.typed == {"prompt": "<lora:brush:1>" + "x" * 10_001, "seed": "ink"}
