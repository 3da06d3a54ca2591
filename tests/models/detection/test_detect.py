"""What files are taken for, by the headers of published models; and what is said of the rest."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch

from diffstudio.models.detection.detect import detect
from diffstudio.models.detection.types import Layout, Role
from diffstudio.models.library.records import read_checkpoint
from diffstudio.networks.conditioning import Conditioning
from tests.models import headers
from tests.models.headers import below, dotted, kohya, lora, write_header

Shapes = headers.Shapes
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)  # diffusers', with NumPy 2

NETWORKS: dict[str, tuple[Callable[[], Shapes], tuple[Any, ...]]] = {
    "sd1": (lambda: headers.ldm_unet("sd1"), ("sd1", "eps", "", Layout.ORIGINAL)),
    "sd1, diffusers": (lambda: headers.unet("sd1"), ("sd1", "eps", "", Layout.DIFFUSERS)),
    "sd2": (lambda: headers.ldm_unet("sd2"), ("sd2", "", "", Layout.ORIGINAL)),
    "sd2, diffusers": (lambda: headers.unet("sd2"), ("sd2", "", "", Layout.DIFFUSERS)),
    "sdxl": (lambda: headers.ldm_unet("sdxl"), ("sdxl", "eps", "", Layout.ORIGINAL)),
    "sdxl, diffusers": (lambda: headers.unet("sdxl"), ("sdxl", "eps", "", Layout.DIFFUSERS)),
    "refiner": (lambda: headers.ldm_unet("sdxl_refiner"), ("sdxl_refiner", "eps", "", Layout.ORIGINAL)),
    "refiner, diffusers": (lambda: headers.unet("sdxl_refiner"), ("sdxl_refiner", "eps", "", Layout.DIFFUSERS)),
    **{
        f"sd {edition}": (lambda edition=edition: headers.mmdit_sd3(edition), ("sd3", "flow", edition, Layout.ORIGINAL))
        for edition in ("3 medium", "3.5 medium", "3.5 large")
    },
    **{
        f"sd {edition}, diffusers": (
            lambda edition=edition: headers.sd3(edition),
            ("sd3", "flow", edition, Layout.DIFFUSERS),
        )
        for edition in ("3 medium", "3.5 medium", "3.5 large")
    },
    "flux dev": (lambda: headers.bfl_flux(), ("flux", "flow", "dev", Layout.ORIGINAL)),
    "flux schnell": (lambda: headers.bfl_flux(guidance=False), ("flux", "flow", "schnell", Layout.ORIGINAL)),
    "flux dev, diffusers": (lambda: headers.flux(), ("flux", "flow", "dev", Layout.DIFFUSERS)),
    "flux schnell, diffusers": (lambda: headers.flux(guidance=False), ("flux", "flow", "schnell", Layout.DIFFUSERS)),
    "z-image": (headers.comfy_z_image, ("z_image", "flow", "", Layout.ORIGINAL)),
    "z-image, diffusers": (headers.z_image, ("z_image", "flow", "", Layout.DIFFUSERS)),
    "qwen-image": (headers.qwen_image, ("qwen_image", "flow", "", Layout.DIFFUSERS)),
}


@pytest.mark.parametrize("which", NETWORKS)
def test_networks_alone_and_within_a_checkpoint(which: str) -> None:
    shapes, (family, prediction, edition, layout) = NETWORKS[which][0](), NETWORKS[which][1]
    found = detect(shapes, {})
    assert (found.role, found.family, found.prediction, found.edition, found.layout, found.inpainting) == (
        Role.NETWORK,
        family,
        prediction,
        edition,
        layout,
        False,
    )
    assert "the network alone" in found.reason and found.reason.endswith(".")
    assert detect(below("model.diffusion_model.", shapes), {}).family == family
    encoders = below("text_encoders.t5xxl.transformer.", {"shared.weight": (32128, 4096)})
    whole = detect(below("model.diffusion_model.", shapes) | encoders | below("vae.", headers.ldm_vae(16)), {})
    assert (whole.role, whole.family, whole.edition, whole.layout) == (
        Role.CHECKPOINT,
        family,
        edition,
        Layout.ORIGINAL,
    )


@pytest.mark.parametrize("family", headers.UNETS)
def test_published_checkpoints_of_stable_diffusion(family: str) -> None:
    found = detect(headers.whole(family), {})
    assert (found.role, found.family, found.layout, found.inpainting) == (
        Role.CHECKPOINT,
        family,
        Layout.ORIGINAL,
        False,
    )
    painting = detect(headers.whole(family, channels=9), {})
    assert (painting.family, painting.inpainting) == (family, True) and "mask" in painting.reason


def test_original_names_convert_back_to_diffusers() -> None:
    from diffusers.loaders import single_file_utils as theirs

    def empty(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
        return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}

    def as_shapes(state: Mapping[str, torch.Tensor]) -> Shapes:
        return {name: tuple(value.shape) for name, value in state.items()}

    for family in headers.UNETS:
        original = empty(below("model.diffusion_model.", headers.ldm_unet(family)))
        config = (
            {"layers_per_block": 2, "class_embed_type": None, "addition_embed_type": None}
            | {
                "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
                "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
            }
            | headers.UNETS[family]
        )
        assert as_shapes(theirs.convert_ldm_unet_checkpoint(original, config)) == headers.unet(family), family
    levels = {"down_block_types": "1234", "up_block_types": "1234"}
    vae = as_shapes(theirs.convert_ldm_vae_checkpoint(empty(headers.ldm_vae()), levels))
    attention = re.compile(r"attentions\.0\.to_\w+(\.0)?\.weight")
    assert {name: shape[:2] if attention.search(name) else shape for name, shape in vae.items()} == headers.vae()
    for guidance in (True, False):
        flux = theirs.convert_flux_transformer_checkpoint_to_diffusers(empty(headers.bfl_flux(guidance)))
        assert as_shapes(flux) == headers.flux(guidance)
    for edition in ("3 medium", "3.5 medium", "3.5 large"):
        sd3 = as_shapes(theirs.convert_sd3_transformer_checkpoint_to_diffusers(empty(headers.mmdit_sd3(edition))))
        assert sd3 == headers.sd3(edition), edition
    z_image = theirs.convert_z_image_transformer_checkpoint_to_diffusers(empty(headers.comfy_z_image()))
    assert as_shapes(z_image) == headers.z_image()


def test_what_it_predicts_is_taken_from_whatever_says_so(tmp_path: Path) -> None:
    sd1, sd2, sdxl = (headers.whole(family) for family in ("sd1", "sd2", "sdxl"))
    assert detect(sdxl | {"v_pred": (), "ztsnr": ()}, {}).prediction == "v"
    assert detect(sd2, {"modelspec.prediction_type": "v"}).prediction == "v"
    assert detect(sd2, {"modelspec.prediction_type": "epsilon"}).prediction == "eps"
    assert detect(sd2, {"modelspec.architecture": "stable-diffusion-v2-768-v"}).prediction == "v"
    assert detect(sd2, {"modelspec.architecture": "stable-diffusion-v2-512"}).prediction == "eps"
    assert detect(headers.whole("sd2", 9), {}).prediction == "eps"
    edm = detect(sdxl | {"edm_mean": (1, 4, 1, 1), "edm_std": (1, 4, 1, 1)}, {})
    assert edm.family == "unknown" and "EDM" in edm.reason
    path = write_header(tmp_path / "easy.safetensors", sd1)
    assert (read_checkpoint(path).prediction, read_checkpoint(path).width) == ("eps", 512)
    path.with_suffix(".yaml").write_text('model:\n  params:\n    parameterization: "v"\n    unet_config: {}\n')
    read = read_checkpoint(path)
    assert read.prediction == "v" and "easy.yaml" in read.reason


@pytest.mark.parametrize(("dtype", "number"), [("F32", b"\0\0\x80\x3f"), ("F16", b"\0\x3c"), ("BF16", b"\x80\x3f")])
def test_stable_diffusion_2_is_told_by_one_of_its_biases(tmp_path: Path, dtype: str, number: bytes) -> None:
    name = "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias"
    shapes = headers.whole("sd2")
    still = write_header(tmp_path / "base.safetensors", shapes, dtype)
    lively = write_header(tmp_path / "v.safetensors", shapes, dtype, values={name: 100 * number})  # 100 ones among 320
    assert (read_checkpoint(still).prediction, read_checkpoint(still).width) == ("eps", 512)
    assert (read_checkpoint(lively).prediction, read_checkpoint(lively).width) == ("v", 768)
    assert "biases" in read_checkpoint(lively).reason


LORAS: dict[str, tuple[Callable[[], Shapes], str]] = {
    "sd1 kohya": (
        lambda: lora(headers.unet("sd1"), kohya("lora_unet_")) | lora(headers.clip(), kohya("lora_te_")),
        "sd1",
    ),
    "sd1 kohya, original names": (lambda: lora(headers.ldm_unet("sd1"), kohya("lora_unet_")), "sd1"),
    "sd1 words alone": (lambda: lora(headers.clip(), kohya("lora_te_")), "sd1"),
    "sd1 peft": (lambda: lora(headers.unet("sd1"), dotted("unet."), "peft"), "sd1"),
    "sd1 old diffusers": (
        lambda: lora(headers.unet("sd1"), lambda module: module.replace("to_", "processor.to_"), "old"),
        "sd1",
    ),
    "sd1 LoHa": (lambda: lora(headers.unet("sd1"), kohya("lora_unet_"), "loha"), "sd1"),
    "sd1 LoKr": (lambda: lora(headers.unet("sd1"), kohya("lora_unet_"), "lokr"), "sd1"),
    "sd2 kohya": (lambda: lora(headers.unet("sd2"), kohya("lora_unet_")), "sd2"),
    "sdxl kohya": (
        lambda: lora(headers.ldm_unet("sdxl"), kohya("lora_unet_")) | lora(headers.clip(), kohya("lora_te1_")),
        "sdxl",
    ),
    "sdxl peft": (lambda: lora(headers.unet("sdxl"), dotted("unet."), "peft"), "sdxl"),
    "sdxl OneTrainer": (lambda: lora(headers.unet("sdxl"), kohya("lora_unet_")), "sdxl"),
    "sd3 peft": (lambda: lora(headers.sd3(), dotted("transformer."), "peft"), "sd3"),
    "sd3 kohya": (lambda: lora(headers.mmdit_sd3(), kohya("lora_unet_")), "sd3"),
    "flux kohya": (lambda: lora(headers.bfl_flux(), kohya("lora_unet_")), "flux"),
    "flux peft": (lambda: lora(headers.flux(), dotted("transformer."), "peft"), "flux"),
    "flux ComfyUI": (lambda: lora(headers.bfl_flux(), dotted("diffusion_model."), "peft"), "flux"),
    "flux OneTrainer": (lambda: lora(headers.flux(), kohya("lora_transformer_")), "flux"),
    "flux, double blocks alone": (
        lambda: lora(
            {name: shape for name, shape in headers.flux().items() if "single" not in name and ".attn." in name},
            dotted("transformer."),
            "peft",
        ),
        "flux",
    ),
    "z-image": (lambda: lora(headers.z_image(), dotted("diffusion_model."), "peft"), "z_image"),
    "z-image kohya": (lambda: lora(headers.comfy_z_image(), kohya("lora_unet_")), "z_image"),
    "qwen-image": (lambda: lora(headers.qwen_image(), dotted("transformer."), "peft"), "qwen_image"),
    "qwen-image, attention alone": (
        lambda: lora(
            {name: shape for name, shape in headers.qwen_image().items() if ".attn." in name},
            dotted("diffusion_model."),
            "peft",
        ),
        "qwen_image",
    ),
}


@pytest.mark.parametrize("which", LORAS)
def test_loras_and_whose_they_are(which: str) -> None:
    found = detect(LORAS[which][0](), {})
    assert (found.role, found.family) == (Role.LORA, LORAS[which][1]), found.reason
    assert {"sd1 LoHa": "LoHa", "sd1 LoKr": "LoKr"}.get(which, "LoRA") in found.reason


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (("oft_blocks", "alpha"), "an OFT"),
        (("oft_diag",), "an OFT"),
        (("oft_R.weight",), "an OFT"),
        (("boft_R", "boft_s"), "a BOFT"),
        (("ia3_l",), "an IA3"),
        (("weight", "on_input"), "an IA3"),
        (("a1.weight", "a2.weight", "b1.weight", "b2.weight"), "a GLoRA"),
        (("w_norm", "b_norm"), "changes to a checkpoint"),
        (("diff", "diff_b"), "weight differences"),
    ],
)
def test_other_kinds_of_adapters_are_recognised(names: tuple[str, ...], kind: str) -> None:
    for prefix in ("lora_unet_", "base_model.model.", "lycoris_", "transformer."):
        found = detect({f"{prefix}layer_{index}.{name}": (4, 4) for index in range(60) for name in names}, {})
        assert found.role is Role.LORA and (kind in found.reason or prefix == "lora_unet_")


def test_loras_of_the_first_format_are_recognised() -> None:
    """cloneofsimo's: by position in a safetensors file, a list of up and down in a pickle."""
    for context, family in ((768, "sd1"), (1024, "sd2"), (640, "unknown")):
        pairs = [((320, 4), (4, 320)), ((320, 4), (4, context)), ((2560, 4), (4, 320)), ((1280, 4), (4, 1280))]
        named = {
            f"unet:{index}:{side}": shape
            for index, pair in enumerate(pairs)
            for side, shape in zip(("up", "down"), pair, strict=True)
        }
        found = detect(named, {})
        assert (found.role, found.family) == (Role.LORA, family) and "first format" in found.reason
        listed = {str(index): shape for index, shape in enumerate(shape for pair in pairs for shape in pair)}
        assert detect(listed, {}).role is Role.LORA
        assert detect(listed | {"8": (3, 3), "9": (4, 4)}, {}).role is not Role.LORA


def test_a_lora_that_says_no_more_is_believed() -> None:
    shapes = {"lora_unet_odd.lora_down.weight": (4, 320), "lora_unet_odd.lora_up.weight": (320, 4)}
    assert detect(shapes, {}).family == "unknown"
    for message, family in (
        ("sdxl_base_v1-0", "sdxl"),
        ("sd_v1", "sd1"),
        ("flux1", "flux"),
        ("sd3-m", "sd3"),
        ("sd_v2", "sd2"),
    ):
        assert detect(shapes, {"ss_base_model_version": message}).family == family
    assert detect(shapes, {"modelspec.architecture": "stable-diffusion-xl-v1-base/lora"}).family == "sdxl"


ESRGAN = {
    "conv_first.weight": (64, 3, 3, 3),
    "body.0.rdb1.conv1.weight": (32, 64, 3, 3),
    "conv_last.weight": (3, 64, 3, 3),
}
OTHERS: dict[str, tuple[Callable[[], Shapes], Role, str]] = {
    "vae": (headers.ldm_vae, Role.VAE, "unknown"),
    "vae, diffusers": (headers.vae, Role.VAE, "unknown"),
    "vae of flux": (lambda: headers.ldm_vae(16), Role.VAE, "unknown"),
    "vae of Qwen-Image": (headers.qwen_vae, Role.VAE, "qwen_image"),
    "controlnet": (lambda: headers.controlnet("sd1"), Role.CONTROLNET, "sd1"),
    "controlnet of sdxl": (lambda: headers.controlnet("sdxl"), Role.CONTROLNET, "sdxl"),
    "controlnet, original names": (
        lambda: below(
            "control_model.",
            headers.ldm_unet("sd1")
            | {"input_hint_block.0.weight": (16, 3, 3, 3), "zero_convs.0.0.weight": (320, 320, 1, 1)},
        ),
        Role.CONTROLNET,
        "sd1",
    ),
    "difference ControlNet": (
        lambda: (
            below(
                "control_model.",
                headers.ldm_unet("sd1")
                | {"input_hint_block.0.weight": (16, 3, 3, 3), "zero_convs.0.0.weight": (320, 320, 1, 1)},
            )
            | {"difference": (0,)}
        ),
        Role.CONTROLNET,
        "sd1",
    ),
    "union ControlNet": (lambda: headers.union_controlnet(6), Role.CONTROLNET, "sdxl"),
    "union ControlNet in other names": (
        lambda: {"task_embedding": (6, 320), "input_hint_block.0.weight": (16, 3, 3, 3)},
        Role.UNKNOWN,
        "unknown",
    ),
    "CLIP": (headers.clip, Role.TEXT_ENCODER, "unknown"),
    "T5": (headers.t5, Role.TEXT_ENCODER, "unknown"),
    "CLIP of transformers 5": (
        lambda: {name.removeprefix("text_model."): shape for name, shape in headers.clip().items()},
        Role.TEXT_ENCODER,
        "unknown",
    ),
    "OpenCLIP": (headers.openclip, Role.TEXT_ENCODER, "unknown"),
    "Qwen2.5-VL": (
        lambda: {"model.embed_tokens.weight": (152064, 3584), "visual.patch_embed.proj.weight": (1280, 3, 2, 14, 14)},
        Role.TEXT_ENCODER,
        "qwen_image",
    ),
    "Qwen3": (lambda: {"model.embed_tokens.weight": (151936, 2560)}, Role.TEXT_ENCODER, "z_image"),
    "embedding": (lambda: {"emb_params": (4, 768)}, Role.EMBEDDING, "sd1"),
    "embedding of sd2": (lambda: {"<cat>": (1024,)}, Role.EMBEDDING, "sd2"),
    "embedding of sdxl": (lambda: {"clip_l": (8, 768), "clip_g": (8, 1280)}, Role.EMBEDDING, "sdxl"),
    "ESRGAN": (lambda: ESRGAN, Role.UPSCALER, "unknown"),
    "old ESRGAN": (
        lambda: {"model.0.weight": (64, 3, 3, 3), "model.1.sub.0.RDB1.conv1.0.weight": (32, 64, 3, 3)},
        Role.UPSCALER,
        "unknown",
    ),
    "Real-ESRGAN, small": (
        lambda: {"body.0.weight": (64, 3, 3, 3), "body.1.weight": (64,), "body.2.weight": (48, 64, 3, 3)},
        Role.UPSCALER,
        "unknown",
    ),
    "depth": (lambda: headers.whole("sd2", 5), Role.CHECKPOINT, "unknown"),
    "FLUX.1 Fill": (lambda: headers.bfl_flux(channels=384), Role.NETWORK, "unknown"),
    "Chroma": (lambda: {"distilled_guidance_layer.in_proj.weight": (5120, 64)}, Role.UNKNOWN, "unknown"),
    "nothing known": (lambda: {"weight": (3,)}, Role.UNKNOWN, "unknown"),
    "nothing at all": (lambda: {}, Role.UNKNOWN, "unknown"),
}


@pytest.mark.parametrize("which", OTHERS)
def test_what_goes_with_a_checkpoint_and_what_is_none(which: str) -> None:
    shapes, role, family = OTHERS[which][0](), *OTHERS[which][1:]
    found = detect(shapes, {})
    assert (found.role, found.family, found.supported) == (role, family, True), found.reason
    assert found.reason and found.reason.endswith(".")


def test_a_union_controlnet_has_a_control_type_for_each_row(tmp_path: Path) -> None:
    for count, words in ((6, "a union ControlNet for Stable Diffusion XL"), (8, "a union ControlNet (ProMax) for")):
        read = read_checkpoint(write_header(tmp_path / f"{count}.safetensors", headers.union_controlnet(count)))
        assert (read.role, read.family, read.control_types) == (Role.CONTROLNET, "sdxl", count)
        assert words in read.reason and f"{count} types of control image" in read.reason
    assert detect(headers.controlnet("sdxl"), {}).control_types == 0
    assert detect(headers.controlnet("sdxl") | {"task_embedding": ()}, {}).control_types == 0


def test_weights_of_eight_bits_are_known_and_counted(tmp_path: Path) -> None:
    shapes = headers.bfl_flux()
    read = read_checkpoint(write_header(tmp_path / "flux1-dev-fp8.safetensors", shapes, "F8_E4M3"))
    assert (read.family, read.edition, read.dtype, read.can_generate) == ("flux", "dev", "F8_E4M3", True)
    assert (read.conditioning, read.width, read.height) == (Conditioning.TEXT, 1024, 1024)
    assert read.parameters == sum(prod(shape) for shape in shapes.values()) == 11_901_408_320


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("context_embedder.token_refiner.refiner_blocks.0.attn.to_q.weight", "HunyuanVideo"),
        ("time_caption_embed.caption_embedder.1.weight", "Lumina 2"),
        ("caption_projection.linear_1.weight", "LTX-Video"),
        ("joint_transformer_blocks.0.attn.to_q.weight", "AuraFlow"),
        ("double_stream_modulation_img.linear.weight", "FLUX.2"),
        ("distilled_guidance_layer.layers.0.linear_1.weight", "Chroma"),
    ],
)
def test_networks_in_the_naming_of_diffusers_are_refused_by_name(name: str, title: str) -> None:
    found = detect({name: (8, 8)}, {})
    assert found.role is Role.UNKNOWN and title in found.reason and "not supported" in found.reason
