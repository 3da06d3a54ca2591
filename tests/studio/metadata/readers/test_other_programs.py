"""InvokeAI, NovelAI, Fooocus, SwarmUI and Draw Things: each version's names, and what a request cannot hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from diffstudio.studio.metadata import metadata
from diffstudio.studio.metadata.readers.found_settings import FoundSettings
from diffstudio.studio.metadata.readers.other_programs import (
    READERS,
    read_draw_things,
    read_fooocus,
    read_invokeai,
    read_novelai,
    read_swarmui,
)

FOREIGN = Path(__file__).resolve().parents[3] / "data" / "foreign"
USUAL: dict[str, Any] = {
    "prompt": "a lighthouse, storm",
    "negative": "blurry, text",
    "steps": 25,
    "sampler": "dpmpp_2m",
    "spacing": "karras",
    "guidance": 6.5,
    "seed": 1234567,
    "checkpoint": "someModel_v1",
}
LARGE = {"width": 832, "height": 1216}


@pytest.mark.parametrize(
    ("name", "source", "differing", "named"),
    [
        ("a1111_cjk_first_le.jpg", "AUTOMATIC1111", {"prompt": "灯台a lighthouse, storm"}, ()),
        (
            "a1111_editing.png",
            "AUTOMATIC1111",
            {
                "prompt": "a [cat:dog:0.5] AND a [red|blue] hat :1.2, \\(art\\)\n<hypernet:foo:0.5> second line",
                "negative": "blurry,\ntext, Steps: 3",
                "sampler": "euler_ancestral",
                "spacing": "uniform",
                "checkpoint": "a",
                "clip_skip": 2,
            },
            ("the hypernetwork <hypernet:foo:0.5>",),
        ),
        (
            "a1111_underscores.png",
            "AUTOMATIC1111",
            {
                "prompt": r"a cat <lora:add\_\_detail\_\_v2:0.7>, \{not a choice|at all\}",
                "negative": "",
                "steps": 20,
                "sampler": "euler_ancestral",
                "spacing": "uniform",
                "guidance": 7.0,
                "seed": 1,
                "checkpoint": "m",
            },
            (),
        ),
        (
            "civitai.jpeg",
            "AUTOMATIC1111",
            {"prompt": 'a lighthouse, "storm"', "checkpoint": "starter", "clip_skip": 2},
            (
                'checkpoint Dream, "X" 8',
                "LoRA Add Detail 0.8",
                "the checkpoint, which the file does not hold",
                "Created Date: 2025-01-02T03:04:05.6Z",
            ),
        ),
        ("comfy_clipskip.png", "ComfyUI", LARGE | {"clip_skip": 2}, ()),
        (
            "comfy_flux.png",
            "ComfyUI",
            LARGE
            | {"prompt": "a lighthouse, storm <lora:style:0.8>", "negative": "", "checkpoint": "flux1-dev"}
            | {"sampler": "euler", "spacing": "trailing", "guidance": 3.5},
            ("VAE: ae",),
        ),
        ("comfy_linked_text_seed.png", "ComfyUI", LARGE, ()),
        ("comfy_sdxl_gl.png", "ComfyUI", LARGE, ()),
        ("drawthings.png", "Draw Things", {"negative": "blurry"}, ()),
        (
            "invoke_lora.png",
            "InvokeAI",
            LARGE | {"prompt": "a lighthouse, storm <lora:style:0.8>"},
            ("positive_style_prompt: oil painting",),
        ),
        ("stealth_a1111.png", "AUTOMATIC1111", {}, ()),
        ("usercomment_in_ifd0.jpg", "AUTOMATIC1111", {}, ()),
    ],
)
def test_the_images_of_other_programs(
    name: str, source: str, differing: dict[str, Any], named: tuple[str, ...]
) -> None:
    settings = metadata.read(FOREIGN / name)
    expected = USUAL | differing
    assert {field: getattr(settings.request, field) for field in expected} == expected
    assert (settings.source, settings.not_imported) == (source, named)


def invokeai(**values: Any) -> FoundSettings:
    found = read_invokeai({"invokeai_metadata": json.dumps(values)})
    assert found is not None
    return found


def test_other_texts_are_left_to_others() -> None:
    for texts in ({}, {"parameters": "a cat"}, {"parameters": "{}"}, {"draw_things": "{}"}, {"Dream": "a cat"}):
        assert [read(texts) for read in READERS] == [None] * 5


@pytest.mark.parametrize(
    "model",
    [
        {"key": "k", "name": "deliberate", "base": "sd-1"},
        {"model_name": "deliberate", "base_model": "sd-1"},
        {"model": {"name": "deliberate"}},
        "folder/deliberate.safetensors",
    ],
)
def test_models_and_loras_of_every_version_of_invokeai(model: Any) -> None:
    found = invokeai(model=model, loras=[{"model": model, "weight": 0.5}, {"lora": model, "weight": 1}, {"weight": 1}])
    assert found.values["model"] == "deliberate"
    assert found.loras == ["<lora:deliberate:0.5>", "<lora:deliberate:1>"]
    assert found.not_imported == ["a LoRA, whose name the file does not hold"]


def test_what_invokeai_adds() -> None:
    found = invokeai(
        positive_prompt=None,
        negative_prompt=None,
        guidance=4,
        width=8,
        height=9,
        strength=0.5,
        vae={"name": "v"},
        init_image="a.png",
        controlnets=[{"control_model": {"name": "canny"}}, {}],
        ipAdapters=[{}],
        app_version="5.0",
        clip_skip=1,
    )
    values = found.values
    assert (values["prompt"], values["negative"], values["guidance"], values["size"]) == (None, "", 4, "8x9")
    assert values["denoise"] == 0.5 and values["model"] is None
    assert found.not_imported == ["the ControlNet canny", "a ControlNet"] and found.others["ipAdapters"] == [{}]
    assert {name: found.others[name] for name in ("VAE", "init image")} == {"VAE": "v", "init image": "a.png"}
    assert found.values["clip_skip"] == 2 and invokeai(clip_skip="x").values["clip_skip"] == "x"


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a fox [fog]", ("a fox", "fog")),
        ([{"prompt": "a fox", "weight": 1}, {"prompt": "snow", "weight": 0.5}, 3], ("a fox, snow,", "")),
        (7, (7, "")),
    ],
)
def test_invokeai_2(prompt: Any, expected: tuple[Any, str]) -> None:
    image = {"prompt": prompt, "steps": 3, "sampler": "k_euler", "cfg_scale": 7, "seed": 1, "width": 8, "height": 8}
    values = {"model_weights": "sd-1.5", "image": image | {"extra": 4, "type": "txt2img"}}
    found = read_invokeai({"sd-metadata": json.dumps(values)})
    assert found is not None and (found.values["prompt"], found.values["negative"]) == expected
    assert found.values["size"] == "8x8" and found.values["model"] == "sd-1.5" and found.others == {"extra": 4}


def test_invokeai_1() -> None:
    found = read_invokeai({"Dream": '"a fox [fog], snow" -s 50 -S 42 -W 512 -H 448 -C 7.5 -A k_lms -U 2'})
    assert found is not None
    assert found.values == {
        "prompt": "a fox, snow",
        "negative": "fog",
        "steps": "50",
        "seed": "42",
        "guidance": "7.5",
        "sampler": "k_lms",
        "denoise": None,
        "size": "512x448",
    }
    assert found.others == {"-U": "2"}
    bare = read_invokeai({"Dream": '"a fox"'})
    assert bare is not None and bare.values["size"] is None


def novelai(software: str = "NovelAI", source: str = "", **values: Any) -> FoundSettings | None:
    texts = {"Software": software, "Comment": json.dumps(values), "Description": "described"}
    return read_novelai(texts | ({"Source": source} if source else {}))


def test_novelai_3() -> None:
    found = novelai(
        prompt="a fox", uc="fog", noise_schedule="karras", scale=5, width=8, height=8, strength=0.7, sm=True
    )
    assert found is not None and found.others == {"sm": True} and found.not_imported == []
    values = found.values
    assert (values["prompt"], values["negative"], values["spacing"], values["size"]) == (
        "a fox",
        "fog",
        "karras",
        "8x8",
    )
    assert values["denoise"] is None
    img2img = novelai(source="NovelAI V3", strength=0.7, image="base64", uc=1.5)
    assert img2img is not None and img2img.values["denoise"] == 0.7 and img2img.values["prompt"] == "described"
    assert img2img.values["negative"] == 1.5
    assert img2img.not_imported == ["the checkpoint NovelAI V3, which cannot be downloaded"]


def test_novelai_4() -> None:
    def captions(base: Any, *characters: Any) -> dict[str, Any]:
        return {"caption": {"base_caption": base, "char_captions": [{"char_caption": one} for one in characters]}}

    found = novelai(v4_prompt=captions("two cats", "black cat", "", 3), v4_negative_prompt=captions("fog", "dog"))
    assert found is not None and (found.values["prompt"], found.values["negative"]) == ("two cats", "fog")
    assert found.not_imported == ["the character prompt black cat", "the negative character prompt dog"]


def test_what_is_not_novelai() -> None:
    assert novelai("GIMP") is None and read_novelai({"Software": "NovelAI", "Comment": "a comment"}) is None


def test_fooocus() -> None:
    values = {
        "full_prompt": ["a fox", "detailed"],
        "full_negative_prompt": ["fog"],
        "base_model": "juggernaut.safetensors",
        "refiner_model": "refiner.safetensors",
        "loras": [["one.safetensors", 0.5], ["None", 1.0], ["two.safetensors", True, 0.25], 3],
        "lora_combined_1": "three.safetensors : 0.75",
        "lora_combined_2": "no weight",
        "styles": ["Fooocus V2"],
        "sharpness": 2.0,
        "version": "Fooocus v2",
    }
    found = read_fooocus({"Comment": json.dumps(values)})
    assert found is not None and (found.values["prompt"], found.values["negative"]) == ("a fox, detailed", "fog")
    assert found.loras == ["<lora:one:0.5>", "<lora:two:0.25>", "<lora:three:0.75>"]
    assert found.not_imported == ["the refiner refiner", "the styles Fooocus V2"] and found.others == {"sharpness": 2.0}
    bare = read_fooocus({"parameters": '{"prompt": "a fox", "refiner_model": "None"}', "fooocus_scheme": "fooocus"})
    assert bare is not None and bare.values["prompt"] == "a fox" and bare.not_imported == []


@pytest.mark.parametrize("lists", [True, False])
def test_swarmui(lists: bool) -> None:
    loras: dict[str, Any] = {"loras": ["a/one", "two"], "loraweights": ["0.5", "1"]}
    values = {"prompt": "a fox", "fluxguidancescale": 3.5, "width": 8, "height": 8, "scheduler": "karras", "other": 1}
    values |= loras if lists else {name: ",".join(value) for name, value in loras.items()}
    found = read_swarmui({"parameters": json.dumps({"sui_image_params": values | {"swarm_version": "0.9"}})})
    assert found is not None and found.loras == ["<lora:one:0.5>", "<lora:two:1>"]
    assert (found.values["guidance"], found.values["negative"], found.others) == (3.5, "", {"other": 1})


def test_loras_of_swarmui_without_weights() -> None:
    values = {"loras": ["one", "", 3, "two"], "loraweights": ["a", "b", "c"]}
    found = read_swarmui({"parameters": json.dumps({"sui_image_params": values})})
    assert found is not None and found.loras == ["<lora:one:1>", "<lora:two:1>"]
    assert found.not_imported == ["the weight of the LoRA one", "the weight of the LoRA two"]


def test_draw_things() -> None:
    values = {
        "c": "a fox",
        "lora": [{"model": "one_lora_f16.ckpt", "weight": 0.5}, {"file": "two.ckpt", "weight": 1}, {}],
        "control": [{"file": "depth.ckpt"}, 3],
        "shift": 3.0,
        "v2": {},
    }
    found = read_draw_things({"draw_things": json.dumps(values)})
    assert found is not None and found.values["prompt"] == "a fox" and found.values["negative"] == ""
    assert found.loras == ["<lora:one_lora_f16:0.5>", "<lora:two:1>"] and found.others == {"shift": 3.0}
    assert found.not_imported == ["a LoRA, whose name the file does not hold", "the ControlNet depth", "a ControlNet"]


@pytest.mark.parametrize(
    ("cfg", "distilled", "expected"), [(1, 3.5, 3.5), (None, 3.5, 3.5), (1, None, 1), (6, 3.5, 6), (None, None, None)]
)
def test_guidance_that_flux_takes_as_an_input(cfg: Any, distilled: Any, expected: Any) -> None:
    def given(**values: Any) -> dict[str, Any]:
        return {name: value for name, value in values.items() if value is not None}

    found = invokeai(**given(cfg_scale=cfg, guidance=distilled))
    assert found.values["guidance"] == expected
    assert ("guidance" in found.others) is (expected == 6)  # named, not lost
    swarm = json.dumps({"sui_image_params": given(prompt="x", cfgscale=cfg, fluxguidancescale=distilled)})
    other = read_swarmui({"parameters": swarm})
    assert other is not None and other.values["guidance"] == expected


def test_nothing_that_changes_the_image_is_hidden() -> None:
    """Each is named by whoever shows what was not imported."""
    assert invokeai(seamless_x=True).others == {"seamless_x": True}
    image = {"prompt": "x", "variations": [[1, 0.5]], "perlin": 0.2, "hires_fix": True, "postprocessing": [{}]}
    found = read_invokeai({"sd-metadata": json.dumps({"image": image})})
    assert found is not None and set(found.others) == {"variations", "perlin", "hires_fix", "postprocessing"}
    for vae, others in (("Default (model)", {}), ("other.safetensors", {"vae": "other.safetensors"})):
        values = {"prompt": "x", "base_model": "m", "vae": vae, "prompt_expansion": "x, detailed"}
        fooocus = read_fooocus({"parameters": json.dumps(values)})
        assert fooocus is not None and fooocus.others == others | {"prompt_expansion": "x, detailed"}


def test_clip_skip_is_counted_as_in_a1111() -> None:
    swarm = {"parameters": json.dumps({"sui_image_params": {"prompt": "a", "clipstopatlayer": -2}})}
    assert found_in(read_swarmui(swarm)).values["clip_skip"] == 2
    fooocus = {"parameters": json.dumps({"base_model": "m", "clip_skip": 2, "prompt": "[a] (b:1.2)"})}
    assert found_in(read_fooocus(fooocus)).values["clip_skip"] == 2
    assert found_in(read_fooocus(fooocus)).values["prompt"] == r"\[a\] (b:1.2)"
    draw_things = {"draw_things": json.dumps({"c": "a", "clip_skip": 2})}
    assert found_in(read_draw_things(draw_things)).values["clip_skip"] == 2


def found_in(found: FoundSettings | None) -> FoundSettings:
    assert found is not None
    return found
