"""Networks with the names of a supported one and more: which are used, and as what the others are refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from diffstudio.models.detection.detect import detect
from diffstudio.models.detection.known_tensors import known_from, template, unknown_in_network, unused_beside_network
from diffstudio.models.detection.types import Role
from tests.models import headers
from tests.models.headers import Shapes, below

_ROOT = "model.diffusion_model."


def _nucleus() -> Shapes:
    import torch
    from diffusers import NucleusMoEImageTransformer2DModel

    with torch.device("meta"):
        network = NucleusMoEImageTransformer2DModel(num_layers=4)
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def _kolors() -> Shapes:
    """Kolors' U-Net in diffusers' naming: ChatGLM's 4,096 numbers a token are projected to 2,048."""
    return headers.unet("sdxl") | {"encoder_hid_proj.weight": (2048, 4096), "encoder_hid_proj.bias": (2048,)}


REFUSED: dict[str, tuple[Callable[[], Shapes], str]] = {
    "Kolors": (_kolors, "Kolors"),
    "Kolors in a checkpoint": (lambda: below(_ROOT, _kolors()) | below("vae.", headers.ldm_vae()), "Kolors"),
    "Nucleus-Image": (_nucleus, "Nucleus-Image"),
    "Qwen-Image-Layered": (
        lambda: headers.qwen_image() | {"time_text_embed.addition_t_embedding.weight": (2, 3072)},
        "Qwen-Image-Layered",
    ),
    "AnimateDiff in Stable Diffusion 1": (
        lambda: headers.unet("sd1") | {"down_blocks.0.motion_modules.0.proj_in.weight": (320, 320)},
        "a video model",
    ),
    "Stable Diffusion 1 with GLIGEN": (
        lambda: (
            headers.ldm_unet("sd1")
            | {"input_blocks.1.1.transformer_blocks.0.fuser.linear.weight": (320, 768), "position_net.null": (768,)}
        ),
        "GLIGEN",
    ),
    "an IP-Adapter in Stable Diffusion XL": (
        lambda: (
            headers.unet("sdxl")
            | {"down_blocks.1.attentions.0.transformer_blocks.0.attn2.processor.to_k_ip.0.weight": (640, 2048)}
        ),
        "a network with an IP-Adapter",
    ),
    "FLUX.1 with PuLID": (lambda: headers.bfl_flux() | {"pulid_ca.0.to_q.weight": (2048, 3072)}, "PuLID"),
    "NewBie, on Z-Image's names": (
        lambda: headers.comfy_z_image() | {"clip_text_pooled_proj.1.weight": (1024, 1024)},
        "NewBie",
    ),
    "Z-Image without a VAE": (lambda: headers.comfy_z_image() | {"__x0__": (0,)}, "without a VAE"),
    "something new": (
        lambda: headers.sd3("3.5 large") | {"transformer_blocks.7.novel.weight": (4, 4)},
        "transformer_blocks.#.novel.weight",
    ),
    "two things new": (
        lambda: headers.qwen_image() | {"a_mark": (0,), "transformer_blocks.0.novel.bias": (4,)},
        "a_mark and 1 more",
    ),
}


@pytest.mark.parametrize("which", REFUSED)
def test_a_network_with_more_tensors_than_its_family_is_not_claimed(which: str) -> None:
    found = detect(REFUSED[which][0](), {})
    assert found.family == "unknown" and found.role in (Role.NETWORK, Role.CHECKPOINT)
    assert found.reason.startswith("Named like ") and REFUSED[which][1] in found.reason
    assert found.unused and not found.prediction and not found.edition


NETWORKS: Mapping[str, tuple[Callable[[], Shapes], str]] = {
    "sd1": (lambda: headers.ldm_unet("sd1"), "sd1"),
    "sd2, diffusers": (lambda: headers.unet("sd2"), "sd2"),
    "sdxl": (lambda: headers.ldm_unet("sdxl"), "sdxl"),
    "sdxl, diffusers": (lambda: headers.unet("sdxl"), "sdxl"),
    "refiner": (lambda: headers.ldm_unet("sdxl_refiner"), "sdxl_refiner"),
    "sd3.5": (lambda: headers.mmdit_sd3("3.5 medium"), "sd3"),
    "sd3.5, diffusers": (lambda: headers.sd3("3.5 medium"), "sd3"),
    "flux": (headers.bfl_flux, "flux"),
    "flux, diffusers": (headers.flux, "flux"),
    "z-image": (headers.comfy_z_image, "z_image"),
    "z-image, diffusers": (headers.z_image, "z_image"),
    "qwen-image": (headers.qwen_image, "qwen_image"),
}


@pytest.mark.parametrize("which", NETWORKS)
def test_every_tensor_of_a_supported_network_is_known_in_every_naming(which: str) -> None:
    shapes, family = NETWORKS[which][0](), NETWORKS[which][1]
    for prefix in ("", _ROOT, "transformer.", "net."):
        assert unknown_in_network(family, below(prefix, shapes), prefix) == ()
    assert unknown_in_network(family, {**shapes, "more": ()}, "") == ("more",)


def test_scales_buffers_and_training_state_do_not_make_another_network() -> None:
    shapes = below(_ROOT, headers.ldm_unet("sd1")) | {
        "alphas_cumprod": (1000,),
        "model_ema.decay": (),
        "model_ema.diffusion_modelinput_blocks00weight": (320, 4, 3, 3),
        "posterior_mean_coef1": (1000,),
        "cond_stage_model.logit_scale": (),
        "v_pred": (),
        "optimizer_states.0.exp_avg": (4,),
        f"{_ROOT}time_embed.0.scale_weight": (),
        f"{_ROOT}time_embed.0.comfy_quant": (27,),
        f"{_ROOT}time_embed.cond_proj.weight": (320, 256),
        "scaled_fp8": (0,),
    }
    found = detect(shapes, {})
    assert (found.family, found.unused) == ("sd1", ())


def test_tensors_beside_the_network_are_named() -> None:
    found = detect(headers.whole("sdxl") | {"watermark.0.weight": (4, 4), "watermark.1.weight": (4, 4)}, {})
    assert found.family == "sdxl" and found.unused == ("watermark.#.weight",)
    assert found.reason.endswith("tensors that are not used: watermark.#.weight.")
    assert unused_beside_network({"anything": ()}, "") == ()


def test_qwen_image_edit_generates_from_text_alone() -> None:
    for prefix in ("", _ROOT):
        found = detect(below(prefix, headers.qwen_image() | {"__index_timestep_zero__": (0,)}), {})
        assert (found.family, found.edition, found.prediction) == ("qwen_image", "Edit", "flow")
        assert "without reference images" in found.reason


def test_templates_and_models_by_their_tensors() -> None:
    assert template("blocks.12.attn.0.weight") == "blocks.#.attn.#.weight"
    assert template("blocks.2-1.weight") == "blocks.2-1.weight"
    assert known_from(["encoder_hid_proj.weight"]) == "Kolors" and known_from(["new"]) == ""
    assert unknown_in_network("pixel", ["anything"], "") == ()
