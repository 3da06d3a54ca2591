"""`python -m tests.benchmarks.sd pictures|load|lora FOLDER`: Stable Diffusion 1.5 at its full size, with random
weights.

`pictures`: the time of an image with previews on over that of diffusers' own pipeline, as it comes, without: the same
weights, sampler, steps, size and precision, by turns. `load`: until every weight of a checkpoint was read once, over
the same with nothing but safetensors, from the disk and from the system's cache of it. `lora`: attaching a LoRA of rank
16 for all attention of the U-Net, over loading the checkpoint until every weight was read once, likewise. FOLDER is
made when it is not there: 4.2 GB.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from diffstudio.models import loading
from diffstudio.models.adapters.adapters import AdapterUse
from diffstudio.models.library.folder_records import read_folder
from diffstudio.models.memory import devices
from diffstudio.studio.requests import GenerateRequest
from tests.models import adapter_files, small
from tests.studio.run_request import run_request

SIDE, STEPS, ROUNDS = 256, 3, 3


def full_size(folder: Path) -> Path:
    """The folder of a Stable Diffusion 1.5 whose weights are noise of about the right size; its tokenizer is a small
    one.
    """
    if (folder / "model_index.json").is_file():
        return folder
    from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    tokenizer = small.small_clip_tokenizer()
    with torch.device("meta"):
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768)
        vae = AutoencoderKL(
            sample_size=512,
            layers_per_block=2,
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
        )
        clip = CLIPTextModel(
            CLIPTextConfig(
                hidden_size=768,
                intermediate_size=3072,
                num_hidden_layers=12,
                num_attention_heads=12,
                pad_token_id=1,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
            )
        )
    StableDiffusionPipeline(
        vae=_random(vae),
        text_encoder=_random(clip),
        tokenizer=tokenizer,
        unet=_random(unet),
        scheduler=small.scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return folder


@torch.no_grad()
def _random(module: Any) -> Any:
    """Of a size that neither vanishes nor grows from layer to layer."""
    module = module.to_empty(device="cpu")
    for name, buffer in module.named_buffers():
        if name.endswith("position_ids"):
            buffer.copy_(torch.arange(buffer.shape[-1]))
    for name, parameter in module.named_parameters():
        if parameter.ndim > 1:
            parameter.uniform_(-1, 1).mul_((3 / parameter[0].numel()) ** 0.5)
        else:
            parameter.fill_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
    return module


# ---- pictures --------------------------------------------------------------------------------------------------------


class _Kept:
    """In place of the gallery: both sides end with an image in memory."""

    path = Path()

    def add(self, image: Image.Image, request: GenerateRequest, *, extra: Any) -> Any:
        return self


def pictures(folder: Path) -> dict[str, float]:
    from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline

    model = loading.load(read_folder(folder), devices.choose_device("auto"))
    pipeline = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=model.dtype, safety_checker=None).to(
        model.device
    )
    pipeline.scheduler = EulerDiscreteScheduler(**small.SCHEDULER | {"timestep_spacing": "linspace"})
    pipeline.set_progress_bar_config(disable=True)
    request = GenerateRequest(
        prompt="a red apple",
        negative="ugly",
        checkpoint="full",
        steps=STEPS,
        sampler="euler",
        spacing="uniform",
        guidance=7.0,
        width=SIDE,
        height=SIDE,
    )

    def ours() -> None:
        for _ in run_request(request, model, _Kept()):
            pass

    def theirs() -> None:
        pipeline(
            request.prompt,
            negative_prompt=request.negative,
            num_inference_steps=STEPS,
            guidance_scale=request.guidance,
            width=SIDE,
            height=SIDE,
            generator=[torch.Generator().manual_seed(0)],
        )

    ours(), theirs()  # both know their kernels
    by_turns = [
        (seconds(ours), seconds(theirs)) if turn % 2 else (seconds(theirs), seconds(ours))[::-1]
        for turn in range(ROUNDS)
    ]
    mine, other = (statistics.median(column) for column in zip(*by_turns, strict=True))
    return {"ours": mine, "theirs": other, "ratio": statistics.median(one / another for one, another in by_turns)}


# ---- loading ---------------------------------------------------------------------------------------------------------


def load(folder: Path) -> dict[str, float]:
    files = sorted(folder.glob("*/*.safetensors"))
    loading.load(read_folder(folder), torch.device("cpu"))  # everything is imported

    def ours() -> None:
        model: Any = loading.load(read_folder(folder), torch.device("cpu"))
        for module in (model.network, model.vae, *model.text_encoders.values()):
            read_once(module.parameters())

    def bare() -> None:
        for path in files:
            read_once(load_file(path).values())

    found: dict[str, float] = {}
    for where in ("cache", "disk"):
        by_turns = []
        for _ in range(ROUNDS):
            by_turns.append([])
            for read in (bare, ours):
                if where == "disk":
                    forget(files)
                by_turns[-1].append(seconds(read))
        found |= {
            f"{where}_bare": statistics.median(one for one, _ in by_turns),
            f"{where}_ratio": statistics.median(other / one for one, other in by_turns),
        }
    return found


# ---- LoRAs -----------------------------------------------------------------------------------------------------------


def lora(folder: Path) -> dict[str, float]:
    model: Any = loading.load(read_folder(folder), torch.device("cpu"))
    layers = adapter_files.layers(model.network, "to_q", "to_k", "to_v", "to_out.0")
    path = adapter_files.write(folder.parent / "lora.safetensors", adapter_files.kohya("lora_unet", layers, rank=16))
    uses = [AdapterUse(path, "lora", 0.8)]

    def load() -> None:
        loaded: Any = loading.load(read_folder(folder), torch.device("cpu"))
        for module in (loaded.network, loaded.vae, *loaded.text_encoders.values()):
            read_once(module.parameters())

    files = sorted(folder.glob("*/*.safetensors"))
    by_turns = []
    for _ in range(ROUNDS):
        model.adapters.detach()
        attaching = seconds(lambda: model.adapters.use(uses))
        assert model.adapters.attached[0].matched == len(layers)
        cached = seconds(load)
        forget(files)
        by_turns.append((attaching, cached, seconds(load)))
    return {
        "attach": statistics.median(attach for attach, _, _ in by_turns),
        "cache_ratio": statistics.median(attach / cached for attach, cached, _ in by_turns),
        "disk_ratio": statistics.median(attach / disk for attach, _, disk in by_turns),
    }


def read_once(weights: Iterable[Tensor]) -> None:
    for weight in weights:
        weight.detach().sum()


def forget(files: Iterable[Path]) -> None:
    """Have the system read them from the disk next time; where it cannot be asked to, both sides are as they are."""
    gc.collect()
    for path in files:
        if hasattr(os, "posix_fadvise"):
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def seconds(work: Callable[[], None]) -> float:
    gc.collect()
    begun = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begun


if __name__ == "__main__":
    print(json.dumps({"pictures": pictures, "load": load, "lora": lora}[sys.argv[1]](full_size(Path(sys.argv[2])))))
