"""ComfyUI's graphs: every value from the node that supplies it, everything else named."""

from __future__ import annotations

import json
from typing import Any

import pytest

from diffstudio.studio.metadata.readers.comfyui import read_comfyui
from diffstudio.studio.metadata.readers.found_settings import FoundSettings

Nodes = dict[str, tuple[str, dict[str, Any]]]

BASE: Nodes = {
    "model": ("CheckpointLoaderSimple", {"ckpt_name": "folder/sd15.safetensors"}),
    "size": ("EmptyLatentImage", {"width": 640, "height": 448, "batch_size": 1}),
    "plus": ("CLIPTextEncode", {"text": "a fox", "clip": ["model", 1]}),
    "minus": ("CLIPTextEncode", {"text": "watermark", "clip": ["model", 1]}),
    "sampler": (
        "KSampler",
        {
            "seed": 42,
            "steps": 25,
            "cfg": 8.0,
            "sampler_name": "euler",
            "scheduler": "karras",
            "denoise": 1.0,
            "model": ["model", 0],
            "positive": ["plus", 0],
            "negative": ["minus", 0],
            "latent_image": ["size", 0],
        },
    ),
    "decode": ("VAEDecode", {"samples": ["sampler", 0], "vae": ["model", 2]}),
    "save": ("SaveImage", {"images": ["decode", 0], "filename_prefix": "x"}),
}


def graph(changed: Nodes | None = None, **inputs: Any) -> FoundSettings:
    """What is read from BASE with some nodes changed, and some inputs of its sampler."""
    nodes = BASE | {"sampler": ("KSampler", BASE["sampler"][1] | inputs)} | (changed or {})
    found = read({name: {"class_type": kind, "inputs": values} for name, (kind, values) in nodes.items()})
    assert found is not None
    return found


def read(nodes: Any, width: int = 640, height: int = 448) -> FoundSettings | None:
    return read_comfyui({"prompt": json.dumps(nodes)}, width, height)


def test_the_graph_that_everyone_starts_from() -> None:
    found = graph()
    assert found.values == {
        "prompt": "a fox",
        "negative": "watermark",
        "steps": 25,
        "sampler": "euler",
        "spacing": "karras",
        "denoise": 1.0,
        "guidance": 8.0,
        "seed": 42,
        "model": "folder/sd15.safetensors",
        "size": "640x448",
    }
    assert (found.source, found.loras, found.others, found.not_imported) == ("ComfyUI", [], {}, [])


@pytest.mark.parametrize("nodes", [{}, {"1": {"class_type": "SaveImage", "inputs": {}}}, {"1": 3}, [1]])
def test_a_graph_without_a_sampler(nodes: Any) -> None:
    assert read(nodes) is None


# Prompts

CONTROLNET: Nodes = {
    "loader": ("ControlNetLoader", {"control_net_name": "folder/depth.safetensors"}),
    "apply": (
        "ControlNetApplyAdvanced",
        {
            "positive": ["plus", 0],
            "negative": ["minus", 0],
            "control_net": ["loader", 0],
            "image": ["picture", 0],
            "strength": 0.8,
            "start_percent": 0.0,
        },
    ),
    "picture": ("LoadImage", {"image": "depth.png"}),
}


def test_a_controlnet_keeps_prompt_and_negative_prompt_apart() -> None:
    found = graph(CONTROLNET, positive=["apply", 0], negative=["apply", 1])
    assert (found.values["prompt"], found.values["negative"]) == ("a fox", "watermark")
    assert found.not_imported == ["the ControlNet depth at 0.8"]


@pytest.mark.parametrize(
    ("loader", "inputs", "expected"),
    [
        (("DiffControlNetLoader", {"control_net_name": "a.pth"}), {"strength": ["gone", 0]}, "the ControlNet a"),
        (("Other", {}), {"strength": 0.5}, "a ControlNet at 0.5"),
        (("Other", {}), {}, "a ControlNet"),
        (("SetUnionControlNetType", {"control_net": ["inner", 0], "type": "auto"}), {}, "the ControlNet union"),
    ],
)
def test_the_older_controlnet_node(loader: Any, inputs: dict[str, Any], expected: str) -> None:
    nodes: Nodes = {
        "loader": loader,
        "inner": ("ControlNetLoader", {"control_net_name": "union.safetensors"}),
        "apply": ("ControlNetApply", {"conditioning": ["plus", 0], "control_net": ["loader", 0]} | inputs),
    }
    found = graph(nodes, positive=["apply", 0])
    assert found.values["prompt"] == "a fox" and found.not_imported == [expected]


@pytest.mark.parametrize(
    ("node", "prompt", "named"),
    [
        (("ConditioningCombine", {"conditioning_1": ["plus", 0], "conditioning_2": ["other", 0]}), "a fox, rain", None),
        (
            ("ConditioningConcat", {"conditioning_to": ["plus", 0], "conditioning_from": ["other", 0]}),
            "a fox BREAK rain",
            None,
        ),
        (
            (
                "ConditioningAverage",
                {"conditioning_to": ["plus", 0], "conditioning_from": ["other", 0], "conditioning_to_strength": 0.7},
            ),
            "a fox",
            "ConditioningAverage: conditioning_to_strength 0.7 with rain",
        ),
        (
            ("ConditioningSetTimestepRange", {"conditioning": ["plus", 0], "start": 0.0, "end": 0.5}),
            "a fox",
            "ConditioningSetTimestepRange: start 0, end 0.5",
        ),
        (("SomeNode", {"anything": ["plus", 0], "vae": ["model", 2]}), "a fox", None),
        (("ConditioningZeroOut", {"conditioning": ["plus", 0]}), "", "NOTHING"),
        (("Reroute", {"": ["plus", 0]}), "a fox", "NOTHING"),
    ],
)
def test_nodes_between_text_encoder_and_sampler(node: Any, prompt: str, named: str | None) -> None:
    other = ("CLIPTextEncode", {"text": "rain", "clip": ["model", 1]})
    found = graph({"between": node, "other": other}, positive=["between", 0])
    assert found.values["prompt"] == prompt
    assert found.not_imported == ([] if named == "NOTHING" else [named or node[0]])


def test_a_part_of_a_prompt_that_is_not_found_is_named() -> None:
    combine = ("ConditioningCombine", {"conditioning_1": ["plus", 0], "conditioning_2": ["gone", 0]})
    assert "a part of the prompt" in graph({"between": combine}, positive=["between", 0]).not_imported
    found = graph({"between": combine}, negative=["between", 0])
    assert "a part of the negative prompt" in found.not_imported and found.values["negative"] == "a fox"


def test_prompts_that_lead_nowhere_are_not_made_up() -> None:
    found = graph(positive=["gone", 0], negative=["size", 0])
    assert "prompt" not in found.values and "negative" not in found.values
    assert "the negative prompt, which the file does not hold" in found.not_imported


def test_encoders_of_several_texts() -> None:
    sdxl = ("CLIPTextEncodeSDXL", {"text_g": "a fox", "text_l": "a fox", "clip": ["model", 1], "width": 1024})
    assert graph({"plus": sdxl}).not_imported == []
    other = ("CLIPTextEncodeSDXL", {"text_g": "a fox", "text_l": "oil", "clip": ["model", 1]})
    found = graph({"plus": other})
    assert found.values["prompt"] == "a fox" and found.not_imported == ["text_l: oil"]
    empty = ("CLIPTextEncode", {"text": "", "clip": ["model", 1]})
    assert graph({"minus": empty}).values["negative"] == ""


def test_flux() -> None:
    flux = ("CLIPTextEncodeFlux", {"clip_l": "fox", "t5xxl": "a fox", "guidance": 3.5, "clip": ["model", 1]})
    found = graph({"plus": flux}, cfg=1.0)
    assert (found.values["prompt"], found.values["guidance"]) == ("a fox", 3.5)
    assert found.not_imported == ["clip_l: fox"]
    node = ("FluxGuidance", {"guidance": 3.5, "conditioning": ["plus", 0]})
    assert graph({"g": node}, positive=["g", 0], cfg=1.0).values["guidance"] == 3.5
    found = graph({"g": node}, positive=["g", 0], cfg=2.0)
    assert found.values["guidance"] == 2.0 and found.not_imported == ["FluxGuidance: guidance 3.5"]
    assert graph({"g": node}, negative=["g", 0], cfg=1.0).values["guidance"] == 1.0


def test_the_prompt_of_a_loader_with_everything() -> None:
    loader = (
        "Efficient Loader",
        {"ckpt_name": "a.ckpt", "vae_name": "Baked VAE", "lora_name": "b.safetensors", "lora_model_strength": 0.5}
        | {"positive": "an owl", "negative": "fog"},
    )
    found = graph({"all": loader}, model=["all", 0], positive=["all", 1], negative=["all", 2])
    assert (found.values["prompt"], found.values["negative"], found.values["model"]) == ("an owl", "fog", "a.ckpt")
    assert found.loras == ["<lora:b:0.5>"]


def test_clip_skip() -> None:
    def skipping(layer: Any) -> FoundSettings:
        nodes: Nodes = {
            "skip": ("CLIPSetLastLayer", {"stop_at_clip_layer": layer, "clip": ["lora", 1]}),
            "lora": (
                "LoraLoader",
                {"lora_name": "b", "strength_model": 1, "model": ["model", 0], "clip": ["model", 1]},
            ),
            "plus": ("CLIPTextEncode", {"text": "a fox", "clip": ["skip", 0]}),
        }
        return graph(nodes)

    assert skipping(-2).values["clip_skip"] == 2
    assert "clip_skip" not in skipping(-1).values and "clip_skip" not in skipping("two").values


def test_square_brackets_and_capitals_are_text() -> None:
    """ComfyUI knows round brackets only; concatenated conditionings are A1111's BREAK."""
    encoders: Nodes = {
        "plus": ("ConditioningConcat", {"conditioning_to": ["one", 0], "conditioning_from": ["two", 0]}),
        "one": ("CLIPTextEncode", {"text": "a [fox|owl] (red:1.2)", "clip": ["model", 1]}),
        "two": ("CLIPTextEncode", {"text": "TOM AND JERRY BREAK", "clip": ["model", 1]}),
    }
    assert graph(encoders).values["prompt"] == r"a \[fox|owl\] (red:1.2) BREAK TOM A\ND JERRY B\REAK"


# Models


def test_loras_in_the_order_in_which_they_are_applied() -> None:
    nodes: Nodes = {
        "first": (
            "LoraLoader",
            {"lora_name": "x/one.safetensors", "strength_model": 0.5, "strength_clip": 0.5, "model": ["model", 0]},
        ),
        "second": (
            "LoRAStack",
            {"lora_01": "two.safetensors", "strength_01": 0.25, "lora_02": "None", "model": ["first", 0]},
        ),
        "third": (
            "Power Lora Loader (rgthree)",
            {
                "lora_1": {"on": True, "lora": "three.safetensors", "strength": 1.5},
                "lora_2": {"on": False, "lora": "off.safetensors", "strength": 1},
                "model": ["second", 0],
            },
        ),
        "shift": ("ModelSamplingAuraFlow", {"shift": 3.0, "model": ["third", 0]}),
        "patch": ("FreeU", {"model": ["shift", 0], "on": "yes"}),
    }
    found = graph(nodes, model=["patch", 0])
    assert found.loras == ["<lora:one:0.5>", "<lora:two:0.25>", "<lora:three:1.5>"]
    assert found.not_imported == ["ModelSamplingAuraFlow: shift 3", "FreeU"]


def test_another_weight_in_the_text_encoder_is_named() -> None:
    loader = {"lora_name": "one.safetensors", "strength_model": 0.5, "strength_clip": 1.0, "model": ["model", 0]}
    found = graph({"a": ("LoraLoader", loader)}, model=["a", 0])
    assert found.loras == ["<lora:one:0.5>"]
    assert found.not_imported == ["the weight 1 of the LoRA one in the text encoder"]


def test_a_lora_without_name_or_weight_is_named() -> None:
    nodes: Nodes = {
        "a": ("LoraLoader", {"lora_name": "one", "strength_model": ["gone", 0], "model": ["model", 0]}),
        "b": ("LoraLoader", {"lora_name": ["gone", 0], "strength_model": 1.0, "model": ["a", 0]}),
    }
    found = graph(nodes, model=["b", 0])
    assert found.loras == ["<lora:one:1>"]
    assert found.not_imported == ["the weight of the LoRA one", "a LoRA, whose name the file does not hold"]


@pytest.mark.parametrize(
    ("loader", "model"),
    [
        (("UNETLoader", {"unet_name": "flux1-dev.safetensors", "weight_dtype": "default"}), "flux1-dev.safetensors"),
        (("UnetLoaderGGUF", {"unet_name": "flux1-dev-Q4.gguf"}), "flux1-dev-Q4.gguf"),
        (("NunchakuFluxDiTLoader", {"model_path": "svdq-flux"}), "svdq-flux"),
        (("SomeLoader", {"vae": "v.safetensors", "file": "a.safetensors"}), "a.safetensors"),
        (("CheckpointLoader|pysssss", {"ckpt_name": {"content": "a.ckpt", "image": None}}), "a.ckpt"),
        (("CheckpointLoaderSimple", {"ckpt_name": ["name", 0]}), "linked.safetensors"),
        (("ModelMergeSimple", {"model1": ["model", 0], "model2": ["model", 0], "ratio": 0.5}), None),
    ],
)
def test_loaders(loader: Any, model: str | None) -> None:
    found = graph({"loader": loader, "name": ("PrimitiveString", {"value": "linked.safetensors"})}, model=["loader", 0])
    assert found.values.get("model") == model
    assert found.not_imported == ([] if model else ["ModelMergeSimple: ratio 0.5"])


def test_a_vae_of_its_own_is_named() -> None:
    assert graph({"vae": ("VAELoader", {"vae_name": "x/ae.safetensors"})}).others == {"VAE": "ae"}


# Samplers

CUSTOM: Nodes = {
    "sampler": (
        "SamplerCustomAdvanced",
        {name: [name, 0] for name in ("noise", "guider", "sigmas")}
        | {"sampler": ["solver", 0], "latent_image": ["size", 0]},
    ),
    "noise": ("RandomNoise", {"noise_seed": ["seed", 0]}),
    "seed": ("Seed (rgthree)", {"seed": 7}),
    "guider": ("CFGGuider", {"model": ["model", 0], "positive": ["plus", 0], "negative": ["minus", 0], "cfg": 4.0}),
    "solver": ("KSamplerSelect", {"sampler_name": "dpmpp_2m"}),
    "sigmas": ("BasicScheduler", {"scheduler": "simple", "steps": 8, "denoise": 0.6, "model": ["model", 0]}),
}


def test_a_sampler_made_of_nodes() -> None:
    found = graph(CUSTOM)
    values = found.values
    assert (values["seed"], values["guidance"], values["sampler"], values["spacing"]) == (7, 4.0, "dpmpp_2m", "simple")
    assert (values["steps"], values["denoise"], values["model"]) == (8, 0.6, "folder/sd15.safetensors")
    assert (values["prompt"], values["negative"], found.not_imported) == ("a fox", "watermark", [])


def test_a_guider_with_one_prompt_and_sigmas_that_are_split() -> None:
    nodes: Nodes = CUSTOM | {
        "guider": ("BasicGuider", {"model": ["model", 0], "conditioning": ["plus", 0]}),
        "sigmas": ("SplitSigmas", {"sigmas": ["made", 0], "step": 4}),
        "made": ("KarrasScheduler", {"steps": 9, "sigma_max": 14.6}),
        "solver": ("SamplerEulerAncestral", {"eta": 1.0}),
    }
    found = graph(nodes)
    assert (found.values["steps"], found.values["spacing"], found.values["sampler"]) == (9, "Karras", "EulerAncestral")
    assert found.values["prompt"] == "a fox" and found.values["negative"] == ""
    assert found.not_imported == ["SplitSigmas: step 4"] and "guidance" not in found.values


def test_the_simpler_custom_sampler() -> None:
    inputs = {name: value for name, value in BASE["sampler"][1].items() if name not in ("steps", "scheduler", "seed")}
    custom = ("SamplerCustom", inputs | {"noise_seed": 3, "sampler": ["solver", 0], "sigmas": ["sigmas", 0]})
    found = graph(CUSTOM | {"sampler": custom})
    assert (found.values["seed"], found.values["steps"], found.values["sampler"]) == (3, 8, "dpmpp_2m")


def test_values_that_lead_nowhere_are_named() -> None:
    found = graph(steps=["gone", 0], seed=["size", 0], scheduler=["gone", 0], denoise=["gone", 0], sampler_name=3)
    assert not {"steps", "seed", "spacing", "denoise", "sampler"} & set(found.values)
    assert found.not_imported == [
        "the scheduler, which the file does not hold",
        "the denoising strength, which the file does not hold",
    ]


def test_base_and_refiner() -> None:
    nodes: Nodes = {
        "refiner": ("CheckpointLoaderSimple", {"ckpt_name": "refiner.safetensors"}),
        "second": (
            "KSamplerAdvanced",
            BASE["sampler"][1] | {"latent_image": ["sampler", 0], "model": ["refiner", 0], "steps": 30},
        ),
        "decode": ("VAEDecode", {"samples": ["second", 0]}),
    }
    found = graph(nodes)
    assert found.values["steps"] == 25 and found.values["model"] == "folder/sd15.safetensors"
    assert found.not_imported == ["a further sampling pass (steps 30, denoise 1, checkpoint refiner)"]


def test_a_second_pass_with_the_same_model() -> None:
    nodes: Nodes = {
        "larger": ("LatentUpscaleBy", {"samples": ["sampler", 0], "scale_by": 2}),
        "patch": ("FreeU", {"model": ["model", 0]}),
        "second": (
            "KSampler",
            BASE["sampler"][1] | {"latent_image": ["larger", 0], "model": ["patch", 0], "denoise": 0.4},
        ),
        "decode": ("VAEDecode", {"samples": ["second", 0]}),
    }
    assert graph(nodes).not_imported == ["a further sampling pass (steps 25, denoise 0.4)"]


def test_a_second_pass_after_upscaling() -> None:
    nodes: Nodes = {
        "larger": ("LatentUpscaleBy", {"samples": ["sampler", 0], "scale_by": 2}),
        "second": (
            "UltimateSDUpscale",
            {name: ["gone", 0] for name in ("positive", "negative", "image", "model")}
            | {"steps": ["gone", 0]}
            | {"image": ["larger", 0]},
        ),
        "save": ("SaveImage", {"images": ["second", 0]}),
        "size": ("Unknown", {"samples": ["gone", 0]}),
    }
    found = graph(nodes)
    assert found.not_imported == ["a further sampling pass", "the size of the first pass"]


def test_img2img_and_inpainting() -> None:
    nodes: Nodes = {
        "file": ("LoadImage", {"image": "cat.png"}),
        "scaled": ("ImageScale", {"image": ["file", 0], "width": 768, "height": 512}),
        "size": ("VAEEncodeForInpaint", {"pixels": ["scaled", 0], "mask": ["file", 1], "vae": ["model", 2]}),
    }
    found = graph(nodes, denoise=0.5)
    assert found.values["denoise"] == 0.5 and found.values["size"] == "768x512"
    assert found.not_imported == ["the mask", "the init image cat.png"]


def test_reroutes_and_primitives() -> None:
    nodes: Nodes = {
        "way": ("Reroute", {"": ["way 2", 0]}),
        "way 2": ("Reroute", {"": ["sampler", 0]}),
        "decode": ("VAEDecode", {"samples": ["way", 0]}),
        "number": ("PrimitiveInt", {"value": 30}),
        "words": ("PrimitiveStringMultiline", {"value": "an owl"}),
        "plus": ("CLIPTextEncode", {"text": ["words", 0], "clip": ["model", 1]}),
    }
    found = graph(nodes, steps=["number", 0])
    assert (found.values["steps"], found.values["prompt"], found.not_imported) == (30, "an owl", [])


# Several images


def test_the_image_of_the_right_size_is_chosen() -> None:
    nodes: Nodes = {
        "size 2": ("EmptyLatentImage", {"width": 320, "height": 320}),
        "sampler 2": ("KSampler", BASE["sampler"][1] | {"seed": 9, "latent_image": ["size 2", 0]}),
        "decode 2": ("VAEDecode", {"samples": ["sampler 2", 0]}),
        "save 0": ("SaveImage", {"images": ["decode 2", 0]}),
    }
    found = graph(nodes)
    assert (found.values["seed"], found.not_imported) == (42, [])
    all_nodes = {name: {"class_type": kind, "inputs": values} for name, (kind, values) in (BASE | nodes).items()}
    elsewhere = read(all_nodes, 100, 100)
    assert elsewhere is not None and "these settings may be those of another" in elsewhere.not_imported[0]


@pytest.mark.parametrize("kind", ["SaveImage", "Image Save", "SaveAnimatedWEBP", "PreviewImage", "VAEDecode"])
def test_whatever_ends_the_graph(kind: str) -> None:
    assert graph({"save": (kind, {"images": ["decode", 0]})}).values["seed"] == 42


def test_a_node_that_saves_comes_before_one_that_shows() -> None:
    other = ("KSampler", BASE["sampler"][1] | {"seed": 9})
    nodes: Nodes = {"sampler 2": other, "show": ("PreviewImage", {"images": ["sampler 2", 0]})}
    found = graph(nodes)
    assert (found.values["seed"], found.not_imported) == (42, [])


def test_images_are_followed_through_inputs_of_any_name() -> None:
    nodes: Nodes = {"save": ("SaveImage", {"first": ["gone", 0], "anything": ["decode", 0]})}
    assert graph(nodes).values["seed"] == 42


# Hostile


def test_circles_and_depths_end() -> None:
    nodes: Nodes = {
        "a": ("ConditioningCombine", {"conditioning_1": ["b", 0], "conditioning_2": ["b", 0]}),
        "b": ("ConditioningCombine", {"conditioning_1": ["a", 0], "conditioning_2": ["a", 0]}),
        "m": ("ModelSampling", {"model": ["n", 0]}),
        "n": ("ModelSampling", {"model": ["m", 0]}),
        "i": ("ImageScale", {"image": ["j", 0]}),
        "j": ("ImageScale", {"image": ["i", 0]}),
        "r": ("Reroute", {"": ["r", 0]}),
    }
    found = graph(nodes, positive=["a", 0], model=["m", 0], latent_image=["i", 0], negative=["r", 0], steps=["r", 0])
    assert "prompt" not in found.values and "a part of the prompt" in found.not_imported


def test_a_circle_of_samplers_is_not_an_image() -> None:
    circle = {"class_type": "KSampler", "inputs": BASE["sampler"][1] | {"latent_image": ["1", 0]}}
    assert read({"1": circle}) is None


def _lora(**inputs: Any) -> tuple[str, dict[str, Any]]:
    return "LoraLoader", {"lora_name": "one.safetensors", "strength_model": 0.5, "strength_clip": 0.5} | inputs


def test_a_lora_that_only_one_of_network_and_text_encoder_goes_through_is_named() -> None:
    both = {"model": ["model", 0], "clip": ["model", 1]}
    encoded: Nodes = {"a": _lora(**both), "plus": ("CLIPTextEncode", {"text": "a fox", "clip": ["a", 1]})}
    found = graph(encoded)
    assert found.loras == [] and found.not_imported == ["the LoRA one at 0.5, which changes the text encoder only"]
    assert graph(encoded, model=["a", 0]).not_imported == []
    without_weight = graph(encoded | {"a": _lora(**both, strength_model=None)}).not_imported
    assert "the LoRA one, which changes the text encoder only" in without_weight
    found = graph({"a": _lora(**both)}, model=["a", 0])
    assert found.loras == ["<lora:one:0.5>"]
    assert found.not_imported == ["that the LoRA one leaves the text encoder as it is"]


def test_steps_that_are_left_out_are_named() -> None:
    assert graph(start_at_step=0, end_at_step=10000).not_imported == []
    assert graph(start_at_step=10, end_at_step=20).not_imported == ["start_at_step: 10", "end_at_step: 20"]


def test_the_second_prompt_of_a_guider_of_two_is_named() -> None:
    nodes: Nodes = {
        "other": ("CLIPTextEncode", {"text": "a crow", "clip": ["model", 1]}),
        "guider": ("DualCFGGuider", {"cond1": ["plus", 0], "cond2": ["other", 0], "negative": ["minus", 0]}),
    }
    found = graph(nodes, guider=["guider", 0])
    assert (found.values["prompt"], found.values["negative"]) == ("a fox", "watermark")
    assert "cond2: a crow" in found.not_imported


@pytest.mark.parametrize(
    ("switch", "prompt"),
    [
        ({"select": 2, "input1": ["plus", 0], "input2": ["other", 0]}, "a crow"),
        ({"select": 1, "input1": ["plus", 0], "input2": ["other", 0]}, "a fox"),
        ({"index": 1, "value0": ["plus", 0], "value1": ["other", 0]}, "a crow"),
        ({"switch": True, "on_true": ["other", 0], "on_false": ["plus", 0]}, "a crow"),
        ({"cond": False, "tt_value": ["other", 0], "ff_value": ["plus", 0]}, "a fox"),
    ],
)
def test_a_switch_passes_on_the_input_that_it_chooses(switch: Any, prompt: str) -> None:
    other: Nodes = {"other": ("CLIPTextEncode", {"text": "a crow", "clip": ["model", 1]}), "s": ("AnySwitch", switch)}
    found = graph(other, positive=["s", 0])
    assert (found.values["prompt"], found.not_imported) == (prompt, [])


def test_a_switch_between_texts() -> None:
    for switch in ({"Input": 2, "text1": "a fox", "text2": "a crow"}, {"boolean": True, "on_true": "a crow"}):
        nodes: Nodes = {"s": ("Switch", switch), "plus": ("CLIPTextEncode", {"text": ["s", 0], "clip": ["model", 1]})}
        assert graph(nodes).values["prompt"] == "a crow"


@pytest.mark.parametrize("switch", [{"select": 3, "a1": ["plus", 0]}, {"switch": True, "first": ["plus", 0]}])
def test_what_a_switch_of_another_kind_chooses_is_named(switch: Any) -> None:
    found = graph({"s": ("Odd", switch | {"other": ["minus", 0]})}, positive=["s", 0])
    assert any(phrase.startswith("Odd") for phrase in found.not_imported)


def test_upscaling_after_the_last_sampler_is_named() -> None:
    loader: Nodes = {"esrgan": ("UpscaleModelLoader", {"model_name": "4x-sharp.pth"})}
    with_model = ("ImageUpscaleWithModel", {"upscale_model": ["esrgan", 0], "image": ["decode", 0]})
    found = graph(loader | {"larger": with_model, "save": ("SaveImage", {"images": ["larger", 0]})})
    assert found.not_imported == ["the upscaler 4x-sharp"]
    by_factor = ("ImageScaleBy", {"scale_by": 2, "image": ["decode", 0]})
    found = graph({"larger": by_factor, "save": ("SaveImage", {"images": ["larger", 0]})})
    assert found.not_imported == ["ImageScaleBy: scale_by 2"]
    tiled = BASE["sampler"][1] | {"image": ["decode", 0], "upscale_model": ["esrgan", 0], "denoise": 0.2}
    del tiled["latent_image"]
    found = graph(loader | {"t": ("UltimateSDUpscale", tiled), "save": ("SaveImage", {"images": ["t", 0]})})
    assert found.not_imported == ["a further sampling pass (steps 25, denoise 0.2, the upscaler 4x-sharp)"]


def test_reference_images_of_a_text_encoder_are_named() -> None:
    encoder = {"prompt": "a red fox", "clip": ["model", 1], "image1": ["photo", 0], "image2": ["made", 0], "image3": 1}
    nodes: Nodes = {
        "photo": ("LoadImage", {"image": "fox.png"}),
        "made": ("EmptyImage", {"color": 0}),
        "plus": ("TextEncodeQwenImageEditPlus", encoder),
    }
    found = graph(nodes)
    assert found.values["prompt"] == "a red fox"
    assert found.not_imported == ["the reference image fox.png", "the reference image"]


def test_a_saved_image_that_no_sampler_made_is_passed_over() -> None:
    photo: Nodes = {
        "photo": ("LoadImage", {"image": "fox.png"}),
        "save": ("SaveImage", {"images": ["photo", 0], "latent_of": ["sampler", 0]}),
    }
    assert graph(photo).values["prompt"] == "a fox"


@pytest.mark.parametrize(
    ("kind", "reads"),
    [
        ("CLIPTextEncode", False),
        ("StableCascade_StageC_VAEEncode", False),
        ("ImpactWildcardEncode", True),
        ("Power Prompt (rgthree)", True),
        ("PCLazyLoraLoader", True),
        ("LoraTagLoader", True),
        ("LoRA Text Loader (LoraManager)", True),
        ("easy fullLoader", True),
    ],
)
def test_lora_tags_are_text_unless_a_node_reads_them(kind: str, reads: bool) -> None:
    assert graph({"x": (kind, {})}).reads_lora_tags == reads
