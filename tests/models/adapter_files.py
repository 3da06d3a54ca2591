"""Files of LoRA and its kin, as trainers write them: random, and small."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn


def random(*shape: int, seed: int = 0, scale: float = 0.2) -> Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def layers(root: nn.Module, *endings: str) -> dict[str, Any]:
    """Linear layers and convolutions whose paths end so; all of them without `endings`."""
    return {
        path: module
        for path, module in root.named_modules()
        if isinstance(module, (nn.Linear, nn.Conv2d)) and (not endings or path.endswith(endings))
    }


def lora_for(module: Any, rank: int = 2, seed: int = 0) -> tuple[Tensor, Tensor]:
    """down and up, shaped as for this linear layer or convolution."""
    if isinstance(module, nn.Linear):
        return random(rank, module.in_features, seed=seed), random(module.out_features, rank, seed=seed + 1)
    kernel = module.kernel_size
    return (
        random(rank, module.in_channels // module.groups, *kernel, seed=seed),
        random(module.out_channels, rank, 1, 1, seed=seed + 1),
    )


def kohya(
    prefix: str, modules: Mapping[str, Any], rank: int = 2, alpha: float = 1.0, seed: int = 0
) -> dict[str, Tensor]:
    """`lora_unet_down_blocks_0_….lora_down.weight` and so on, as sd-scripts writes them."""
    tensors: dict[str, Tensor] = {}
    for number, (path, module) in enumerate(modules.items()):
        down, up = lora_for(module, rank, seed + 2 * number)
        name = f"{prefix}_{path.replace('.', '_')}"
        tensors |= {
            f"{name}.lora_down.weight": down,
            f"{name}.lora_up.weight": up,
            f"{name}.alpha": torch.tensor(alpha),
        }
    return tensors


def write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}, path, dict(metadata or {})
    )
    return path


def small_flux(**config: Any) -> Any:
    """A FLUX.1 transformer of one block of each kind, in diffusers' class."""
    from diffusers import FluxTransformer2DModel

    torch.manual_seed(0)
    return FluxTransformer2DModel(
        num_layers=1,
        num_single_layers=1,
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        joint_attention_dim=12,
        pooled_projection_dim=6,
        axes_dims_rope=(2, 2, 4),
        **config,
    ).eval()
