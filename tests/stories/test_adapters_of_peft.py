"""Folders that PEFT saved, from the model folder to the image and into a fused checkpoint."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from PIL import Image

from diffstudio import paths
from diffstudio.cli import main
from diffstudio.models.adapters.adapters import AdapterUse
from diffstudio.models.components.open_components import open_components
from diffstudio.models.detection.types import Role
from diffstudio.models.families import stable_diffusion
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.tools.fuse_lora import fuse_lora
from tests.models import small
from tests.models.adapters.test_settings import saved_by_peft
from tests.models.families.beside import CPU, difference, ours
from tests.models.small_files import made, record, small_world

World = Callable[[str], Path]
__all__ = ["small_world"]
pytestmark = pytest.mark.filterwarnings(
    "ignore::UserWarning", "ignore::FutureWarning", "ignore:__array__ implementation:DeprecationWarning"
)

ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
CONFIGS: dict[str, Callable[[], Any]] = {
    "lora": lambda: peft.LoraConfig(r=4, lora_alpha=32, target_modules=ATTENTION),
    "oft": lambda: peft.OFTConfig(oft_block_size=8, target_modules=ATTENTION),
    "ia3": lambda: peft.IA3Config(target_modules=["to_k", "to_v", "to_out.0"], feedforward_modules=["to_out.0"]),
}


def test_an_image_with_the_tag_is_that_of_the_merged_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, pipe = paths.checkpoints(), small.small_sd1()
    pipe.save_pretrained(folder / "plain")
    config = peft.LoraConfig(r=4, lora_alpha=32, target_modules=ATTENTION)
    merged = saved_by_peft(pipe.unet, config, folder / "loras" / "inkwash")
    pipe.unet.load_state_dict(merged)
    pipe.save_pretrained(folder / "merged")
    files = {str((folder / name).absolute()): {"family": "sd1"} for name in ("plain", "merged")}
    paths.overrides().write_text(json.dumps({"format": 1, "files": files}), encoding="utf-8")
    images = {}
    for name, prompt in (("plain", "a cat <lora:inkwash:1>"), ("merged", "a cat"), ("plain", "a cat")):
        out = tmp_path / f"{len(images)}.png"
        size = ["--width", "64", "--height", "64", "--steps", "2", "--seed", "3", "--sampler", "euler"]
        assert main(["generate", prompt, "--checkpoint", name, *size, "--out", str(out)]) == 0, capsys.readouterr().err
        images[len(images)] = np.asarray(Image.open(out).convert("RGB"), dtype=float)
    assert "inkwash" not in capsys.readouterr().err
    with_tag, of_merged, plain = images.values()
    assert np.abs(with_tag - of_merged).max() <= 1 < np.abs(with_tag - plain).max()


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_a_fused_checkpoint_is_the_attached_adapter(
    config: Callable[[], Any], small_world: World, tmp_path: Path
) -> None:
    source = record(small_world("sd1"), "sd1")
    model = stable_diffusion.load(source, open_components(source), CPU, torch.float32)
    saved_by_peft(copy.deepcopy(model.network), config(), tmp_path / "inkwash")
    lora = read_checkpoint(tmp_path / "inkwash")
    assert (lora.name, lora.role) == ("inkwash", Role.LORA)
    fused = made(fuse_lora(source, [(replace(lora, family="sd1"), 0.7)], tmp_path / "fused.safetensors"))
    plain = ours(model, steps=2, sampler="euler")
    model.adapters.use([AdapterUse(lora.path, "inkwash", 0.7, 0.7)])
    attached = ours(model, steps=2, sampler="euler")
    checkpoint = record(fused.path, "sd1")
    found = ours(
        stable_diffusion.load(checkpoint, open_components(checkpoint), CPU, torch.float32), steps=2, sampler="euler"
    )
    assert difference(found, attached) < 1e-5 < difference(plain, attached)
    assert fused.notes == ()
