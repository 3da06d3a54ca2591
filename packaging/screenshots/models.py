"""The models of the screenshots: safetensors headers without weights."""

from __future__ import annotations

import json
from pathlib import Path

from screenshots.drawings import landscape


def write_models(folder: Path) -> None:
    """Model files with the headers of real ones and no weights: on the disk they are holes."""
    from tests.models import headers

    landscape(folder / "checkpoints" / "photographs-15.preview.png", ("#8fc1e8", "#3f6f73", "#12281f"))
    headers.write_header(folder / "checkpoints" / "photographs-15.safetensors", headers.whole("sd1"))
    headers.write_header(folder / "checkpoints" / "watercolour-15.safetensors", headers.whole("sd1"))
    landscape(folder / "checkpoints" / "landscapes-xl.preview.png", ("#f7c59f", "#a26769", "#2e294e"))
    headers.write_header(folder / "checkpoints" / "landscapes-xl.safetensors", headers.whole("sdxl"))
    headers.write_header(folder / "diffusion_models" / "flux1-dev-fp8.safetensors", headers.bfl_flux(), "F8_E4M3")
    headers.write_header(folder / "vae" / "mse-840000.safetensors", headers.ldm_vae(), "F32")
    headers.write_header(folder / "embeddings" / "calm-light.safetensors", {"emb_params": (4, 768)}, "F32")
    headers.write_header(folder / "controlnet" / "scribble-15.safetensors", headers.controlnet("sd1"))
    tags = {"monochrome": 40, "no humans": 38, "mountain": 31, "mist": 24, "bamboo": 17, "river": 15, "crane": 9}
    metadata = {
        "ss_tag_frequency": json.dumps({"10_inkwash": tags}),
        "ss_output_name": "inkwash",
        "ss_num_train_images": "46",
        "ss_epoch": "10",
    }
    lora = folder / "loras" / "inkwash.safetensors"
    headers.write_header(lora, headers.lora(headers.unet("sd1"), headers.kohya("lora_unet_")), metadata=metadata)
    sidecar = {
        "description": "Brush and ink on rice paper. Weights from 0.6 to 0.9 work best.",
        "activation text": "ink wash painting, sumi-e, inkwash",
        "preferred weight": 0.8,
        "sd version": "SD1",
    }
    lora.with_suffix(".json").write_text(json.dumps(sidecar), encoding="utf-8")
    landscape(folder / "loras" / "inkwash.preview.png", ("#f2efe6", "#8d8d86", "#22231f"))
    grain = headers.lora(headers.unet("sdxl"), headers.kohya("lora_unet_"))
    headers.write_header(folder / "loras" / "film-grain-xl.safetensors", grain)
    (folder / "checkpoints" / "half-downloaded.safetensors").write_bytes(bytes(4096))
