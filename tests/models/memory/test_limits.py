"""The forecast and the runtime take their limits from one place, so what is forecast is what happens."""

from __future__ import annotations

import ast
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import diffstudio
from diffstudio.models.detection.families_table import FAMILIES
from diffstudio.models.memory import devices, limits, oom_fallback
from diffstudio.models.memory.estimate import loaded_bytes
from diffstudio.models.multidiffusion import tiling_for
from diffstudio.studio.jobs.memory_forecast import DeviceMemory, MemoryQuery, _images_at_once
from diffstudio.studio.requests import GenerateRequest
from tests.ui.samples import checkpoint

GIB = 2**30
USERS = (
    "models/memory/devices.py",
    "models/memory/offload.py",
    "models/memory/oom_fallback.py",
    "models/multidiffusion.py",
    "models/loading.py",
    "models/upscalers.py",
    "studio/generation/enlarge.py",
    "studio/jobs/memory_forecast.py",
)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("family", ["pixel", "sd1", "sdxl", "flux"])
@pytest.mark.parametrize("side", [64, 512, 1024])
@pytest.mark.parametrize("free_gib", [1, 6, 24, 80])
def test_the_batch_that_is_forecast_is_the_one_that_runs(
    monkeypatch: pytest.MonkeyPatch, device: str, family: str, side: int, free_gib: int
) -> None:
    model = checkpoint(family, family=family, parameters=1_000_000_000, metadata={})
    dtype = limits.dtype_name(device, model.parameters)
    weights = loaded_bytes(model, dtype, free_gib * GIB)
    query = MemoryQuery(GenerateRequest(count=64), model)
    forecast = _images_at_once(query, side, side, weights, DeviceMemory(device, 96 * GIB, free_gib * GIB))
    monkeypatch.setattr(devices, "free_bytes", lambda _: max(0, free_gib * GIB - weights))
    loaded: Any = SimpleNamespace(
        device=torch.device(device),
        dtype=getattr(torch, dtype),
        family=FAMILIES[family],
        is_latent=FAMILIES[family].latent,
    )
    assert forecast == min(64, oom_fallback.images_at_once(loaded, side, side))


@pytest.mark.parametrize("side", [512, 1024, 1025, 2048])
def test_what_is_forecast_in_tiles_is_sampled_in_tiles(side: int) -> None:
    model: Any = SimpleNamespace(network_size=(512, 512), multiple=8)
    assert (tiling_for(model, side, 512) is not None) is limits.needs_tiling(side, 512, 512)


@pytest.mark.parametrize("user", USERS)
def test_no_module_has_a_share_of_the_memory_of_its_own(user: str) -> None:
    tree = ast.parse((Path(diffstudio.__file__).parent / user).read_text(encoding="utf-8"))
    shares = [
        ast.unparse(node)
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        and any(word in ast.unparse(node).split("=")[0].upper() for word in ("SHARE", "AT_ONCE", "TILE"))
    ]
    assert [share for share in shares if "0." in share or share[-1].isdigit()] == []
