"""Whom a LoRA was made for, among models that share their names: published layouts of each."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from diffstudio.models.detection.adapter_families import adapter_family, input_width
from diffstudio.models.detection.detect import detect
from diffstudio.models.detection.types import Role, TensorNames
from tests.models.headers import Shapes


def _kohya(*layers: tuple[str, int, int]) -> Shapes:
    """A LoRA of rank 4 in sd-scripts' naming; a layer is its path, inputs and outputs."""
    made: Shapes = {}
    for path, inwards, outwards in layers:
        module = f"lora_unet_{path.replace('.', '_')}"
        made |= {f"{module}.lora_down.weight": (4, inwards), f"{module}.lora_up.weight": (outwards, 4)}
    return made


def _peft(prefix: str, *layers: tuple[str, int, int]) -> Shapes:
    made: Shapes = {}
    for path, inwards, outwards in layers:
        made |= {f"{prefix}{path}.lora_A.weight": (4, inwards), f"{prefix}{path}.lora_B.weight": (outwards, 4)}
    return made


_COMFY, _DIFFUSERS = "diffusion_model.", "transformer."
_FLUX_ATTENTION = _peft(
    _COMFY, *((f"double_blocks.{index}.img_attn.qkv", 3072, 9216) for index in range(19))
)  # that Chroma has too

# name -> (tensors, what it is for)
OTHERS: Mapping[str, tuple[Shapes, str]] = {
    "FLUX.2 dev, attention": (_peft(_COMFY, ("double_blocks.0.img_attn.qkv", 6144, 18432)), "FLUX.2"),
    "FLUX.2 klein 9B": (_peft(_COMFY, ("single_blocks.0.linear1", 4096, 36864)), "FLUX.2"),
    "FLUX.2 klein 4B": (_peft(_COMFY, ("single_blocks.0.linear1", 3072, 27648)), "FLUX.2"),
    "FLUX.2 klein 4B, feed-forward": (_kohya(("double_blocks.0.img_mlp.0", 3072, 18432)), "FLUX.2"),
    "FLUX.2 klein 4B, attention": (
        _kohya(
            *((f"double_blocks.{index}.img_attn.qkv", 3072, 9216) for index in range(5)),
            *((f"single_blocks.{index}.linear2", 12288, 3072) for index in range(20)),
        ),
        "FLUX.2",
    ),
    "FLUX.2 klein 4B, text": (
        _peft(_COMFY, ("txt_in", 7680, 3072), ("double_blocks.0.img_attn.qkv", 3072, 9216)),
        "FLUX.2",
    ),
    "FLUX.2, diffusers": (
        _peft(_DIFFUSERS, ("single_transformer_blocks.0.attn.to_qkv_mlp_proj", 6144, 55296)),
        "FLUX.2",
    ),
    "FLUX.2, diffusers, feed-forward": (
        _peft(_DIFFUSERS, ("transformer_blocks.0.ff.linear_in", 6144, 36864)),
        "FLUX.2",
    ),
    "FLUX.2, modulation": (_peft(_COMFY, ("double_stream_modulation_img.lin", 6144, 36864)), "FLUX.2"),
    "HunyuanVideo, musubi": (
        _kohya(*((f"double_blocks.{index}.img_attn_qkv", 3072, 9216) for index in range(20))),
        "HunyuanVideo",
    ),
    "HunyuanVideo, ComfyUI's attention": (
        _peft(_COMFY, ("double_blocks.0.img_attn_qkv", 3072, 9216), ("double_blocks.3.txt_attn_proj", 3072, 3072)),
        "HunyuanVideo",
    ),
    "HunyuanVideo, modulation": (_kohya(("single_blocks.3.modulation.linear", 3072, 9216)), "HunyuanVideo"),
    "HunyuanVideo, feed-forward": (_kohya(("double_blocks.3.img_mlp.fc1", 3072, 12288)), "HunyuanVideo"),
    "HunyuanVideo, diffusers": (
        _peft(_DIFFUSERS, *((f"single_transformer_blocks.{index}.attn.to_q", 3072, 3072) for index in range(40))),
        "HunyuanVideo",
    ),
    "HunyuanVideo, double blocks in diffusers": (
        _peft(_DIFFUSERS, *((f"transformer_blocks.{index}.attn.to_q", 3072, 3072) for index in range(20))),
        "HunyuanVideo",
    ),
    "HunyuanVideo, refiner": (
        _kohya(("txt_in.individual_token_refiner.blocks.0.self_attn_qkv", 3072, 9216)),
        "HunyuanVideo",
    ),
    "HunyuanVideo 1.5": (_peft(_COMFY, ("double_blocks.0.img_attn.qkv", 2048, 6144)), "HunyuanVideo"),
    "HunyuanImage 2.1": (_kohya(("double_blocks.0.img_attn_qkv", 3584, 10752)), "HunyuanImage"),
    "Chroma, its approximator": (
        _FLUX_ATTENTION | _peft(_COMFY, ("distilled_guidance_layer.in_proj", 64, 5120)),
        "Chroma",
    ),
    "Lumina 2, kohya": (_kohya(("layers.0.attention.qkv", 2304, 3840), ("layers.0.feed_forward.w1", 2304, 9216)),)
    + ("Lumina 2",),
    "Lumina 2, diffusers": (_peft(_DIFFUSERS, ("layers.0.attn.to_q", 2304, 2304)), "Lumina 2"),
    "Lumina 2, modulation": (_kohya(("layers.0.adaLN_modulation.1", 1024, 9216)), "Lumina 2"),
    "LTX-Video": (_peft(_COMFY, ("transformer_blocks.0.attn2.to_k", 2048, 2048)), "LTX-Video"),
    "LTX-Video, kohya": (_kohya(("transformer_blocks.0.attn2.to_k", 2048, 2048)), "LTX-Video"),
    "LTX-2": (_peft(_COMFY, ("transformer_blocks.0.attn2.to_k", 4096, 4096)), "LTX-2"),
    "PixArt": (_peft(_DIFFUSERS, ("transformer_blocks.0.attn2.to_k", 1152, 1152)), "PixArt"),
    "Sana": (_peft(_DIFFUSERS, ("transformer_blocks.0.attn2.to_k", 2240, 2240)), "Sana"),
    "Anima": (_kohya(("blocks.0.cross_attn.k_proj", 1024, 2048), ("blocks.0.self_attn.q_proj", 2048, 2048)), "Anima"),
    "Anima, its adapter": (_kohya(("llm_adapter.blocks.0.self_attn.q_proj", 1024, 1024)), "Anima"),
    "Anima, ComfyUI": (_peft(_COMFY, ("blocks.0.self_attn.q_proj", 2048, 2048)), "Anima"),
    "Wan 2.1": (_peft(_COMFY, ("blocks.0.self_attn.q", 1536, 1536)), "Wan"),
    "Wan, diffusers": (_peft(_DIFFUSERS, ("blocks.0.attn2.to_k", 5120, 5120)), "Wan"),
    "AuraFlow": (
        _peft(_DIFFUSERS, ("joint_transformer_blocks.0.attn.to_q", 3072, 3072))
        | _peft(_DIFFUSERS, ("single_transformer_blocks.0.attn.to_q", 3072, 3072)),
        "AuraFlow",
    ),
    "HiDream": (_peft(_COMFY, ("double_stream_blocks.0.block.attn1.to_q", 2560, 2560)), "HiDream"),
    "AnimateDiff": (
        _peft("", ("down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0.attn1.to_q", 320, 320)),
        "AnimateDiff",
    ),
    "a narrower Z-Image": (_kohya(("layers.0.attention.qkv", 1024, 3072)), "another"),
}


@pytest.mark.parametrize("which", OTHERS)
def test_loras_of_models_that_are_not_supported(which: str) -> None:
    shapes, title = OTHERS[which]
    found = detect(shapes, {})
    assert (found.role, found.family) == (Role.LORA, "unknown"), found.reason
    assert (title in found.reason or title == "another") and "not supported" in found.reason


SUPPORTED: Mapping[str, tuple[Shapes, str]] = {
    "FLUX.1 attention": (_FLUX_ATTENTION, "flux"),
    "FLUX.1 single blocks": (_peft(_COMFY, ("single_blocks.37.linear1", 3072, 21504)), "flux"),
    "FLUX.1 text": (_peft(_COMFY, ("txt_in", 4096, 3072), ("double_blocks.0.img_mlp.0", 3072, 12288)), "flux"),
    "Qwen-Image": (
        _peft(_DIFFUSERS, *((f"transformer_blocks.{index}.attn.to_q", 3072, 3072) for index in range(60))),
        "qwen_image",
    ),
    "Z-Image": (_kohya(("layers.0.attention.qkv", 3840, 11520)), "z_image"),
    "Z-Image, feed-forward": (_kohya(("layers.0.feed_forward.w2", 10240, 3840)), "z_image"),
    "SDXL": (_kohya(("input_blocks.4.1.transformer_blocks.0.attn2.to_k", 2048, 640)), "sdxl"),
    "SDXL, one text encoder": (
        {
            "lora_te2_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight": (4, 1280),
            "lora_te2_text_model_encoder_layers_0_self_attn_q_proj.lora_up.weight": (1280, 4),
        },
        "sdxl",
    ),
    "SD 3.5 medium, dual attention": (
        _peft(
            _DIFFUSERS, ("transformer_blocks.0.attn2.to_k", 1536, 1536), ("transformer_blocks.0.attn.to_q", 1536, 1536)
        ),
        "sd3",
    ),
    "SD 2": (_kohya(("down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k", 1024, 320)), "sd2"),
}


@pytest.mark.parametrize("which", SUPPORTED)
def test_loras_of_supported_models(which: str) -> None:
    shapes, family = SUPPORTED[which]
    found = detect(shapes, {})
    assert (found.role, found.family) == (Role.LORA, family), found.reason


_SDXL = SUPPORTED["SDXL"][0]
BY_METADATA: tuple[tuple[Shapes, Mapping[str, str], str], ...] = (
    (_FLUX_ATTENTION, {"modelspec.architecture": "Flux.2-klein-4b/lora"}, "unknown"),
    (_FLUX_ATTENTION, {"ss_base_model_version": "chroma"}, "unknown"),
    (_FLUX_ATTENTION, {"base_model": "lodestones/Chroma1-HD"}, "unknown"),
    (_FLUX_ATTENTION, {"ss_base_model_version": "flux1"}, "flux"),
    (_FLUX_ATTENTION, {"ss_network_module": "networks.lora_hunyuan"}, "flux"),
    (_FLUX_ATTENTION, {"ss_network_module": "networks.lora_flux"}, "flux"),
    (SUPPORTED["Qwen-Image"][0], {"modelspec.architecture": "Qwen-Image-Layered"}, "unknown"),
    (SUPPORTED["Qwen-Image"][0], {"modelspec.architecture": "Qwen-Image-Edit-2511"}, "qwen_image"),
    (SUPPORTED["Qwen-Image"][0], {"base_model": "Qwen/Qwen-Image-2512"}, "qwen_image"),
    # attention alone, of few blocks: the same tensors in FLUX.1 and Qwen-Image
    (
        _peft(_DIFFUSERS, ("transformer_blocks.3.attn.to_q", 3072, 3072)),
        {"ss_base_model_version": "qwen_image"},
        "qwen_image",
    ),
    (SUPPORTED["Z-Image"][0], {"modelspec.architecture": "Z-Image-Turbo/lora"}, "z_image"),
    (_SDXL, {"base_model": "Kwai-Kolors/Kolors-diffusers"}, "unknown"),
    (_SDXL, {"modelspec.architecture": "stable-diffusion-xl-v1-base/lora"}, "sdxl"),
    (_SDXL, {"ss_base_model_version": "sd_v1"}, "sdxl"),  # which has no width of 2,048
    (_SDXL, {"ss_base_model_version": "flux1"}, "sdxl"),
    (
        _FLUX_ATTENTION,
        {"ss_base_model_version": "sd_1.5", "modelspec.architecture": "stable-diffusion-v1/lora"},
        "flux",
    ),
    (OTHERS["FLUX.2, modulation"][0], {"ss_base_model_version": "flux1"}, "unknown"),
    (_kohya(("odd", 320, 320)), {"ss_v2": "True"}, "sd2"),
    (_kohya(("odd", 320, 320)), {"ss_base_model_version": "anima"}, "unknown"),
    (_kohya(("odd", 320, 320)), {"base_model": "cagliostrolab/animagine-xl-3.1"}, "sdxl"),
)


@pytest.mark.parametrize(("shapes", "metadata", "family"), BY_METADATA)
def test_metadata_comes_first_where_the_tensors_allow_it(
    shapes: Shapes, metadata: Mapping[str, str], family: str
) -> None:
    assert detect(shapes, metadata).family == family


def test_the_reason_says_what_a_lora_is_for() -> None:
    said = detect(_kohya(("odd", 320, 320)), {"ss_base_model_version": "anima"})
    assert said.reason.endswith("a LoRA for Anima, which is not supported, by its metadata.")
    assert detect(_kohya(("odd", 320, 320)), {}).reason.endswith("for an unknown model.")
    assert adapter_family(TensorNames({}), {}) is None


def test_widths_of_lokr_are_products() -> None:
    names = TensorNames({"lora_unet_a.lokr_w1": (8, 16), "lora_unet_a.lokr_w2_b": (4, 20)})
    assert input_width(names, "_a$|_a_") == 16 * 20
    assert input_width(TensorNames({"lora_unet_a.lokr_w1": (8, 16)}), "_a") == 0
