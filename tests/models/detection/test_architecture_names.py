"""The models that texts of metadata name."""

from __future__ import annotations

import pytest

from diffstudio.models.detection.architecture_names import architecture, architecture_from_text, family_from_text


@pytest.mark.parametrize(
    ("text", "family", "title"),
    [
        ("sdxl_base_v1-0", "sdxl", "Stable Diffusion XL"),
        ("stable-diffusion-v1/lora", "sd1", "Stable Diffusion 1"),
        ("sd_v2_v", "sd2", "Stable Diffusion 2"),
        ("stable-diffusion-3-medium", "sd3", "Stable Diffusion 3"),
        ("stabilityai/stable-diffusion-xl-refiner-1.0", "sdxl_refiner", "Stable Diffusion XL refiner"),
        ("flux-1-dev/lora", "flux", "FLUX.1"),
        ("Flux.2-dev", "unknown", "FLUX.2"),
        ("Z-Image-Turbo", "z_image", "Z-Image"),
        ("Qwen-Image-Edit-2511", "qwen_image", "Qwen-Image"),
        ("qwen_image_2", "unknown", "Qwen-Image 2"),
        ("Qwen/Qwen-Image-2512", "qwen_image", "Qwen-Image"),
        ("hunyuan-video", "unknown", "HunyuanVideo"),
        ("networks.lora_wan", "unknown", "Wan"),
        ("Wan-AI/Wan2.2-T2V-A14B", "unknown", "Wan"),
        ("networks.lora_lumina", "unknown", "Lumina 2"),
        ("anima-preview/lora", "unknown", "Anima"),
        ("cagliostrolab/animagine-xl-3.1", "sdxl", "Stable Diffusion XL"),
        ("OnomaAIResearch/Illustrious-v1", "sdxl", "Stable Diffusion XL"),
        ("Kwai-Kolors/Kolors", "unknown", "Kolors"),
    ],
)
def test_architectures_by_the_texts_of_trainers(text: str, family: str, title: str) -> None:
    found = architecture_from_text(text)
    assert found is not None and (found.family, found.title) == (family, title)
    assert family_from_text(text) == family


def test_texts_that_name_nothing() -> None:
    assert architecture_from_text("networks.lora") is None and family_from_text("") == "unknown"
    assert architecture("", "Kolors").u_net and not architecture("flux").u_net
