"""Weights that are no numbers, found while a checkpoint is loaded, or in the first step at the latest, and said by name.

Least and greatest of a tensor are one pass over memory, at the speed of reading it, and carry along NaN and infinity.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from diffstudio.errors import CheckpointDamaged, CheckpointUnknown
from diffstudio.models.checkpoint import Checkpoint


def named_modules(model: Any) -> dict[str, nn.Module]:
    """What a model computes with, by the names that diffusers uses; its network is called that."""
    parts: dict[str, Any] = {
        "network": model.network,
        **getattr(model, "text_encoders", {}),
        "vae": getattr(model, "vae", None),
    }
    return {name: part for name, part in parts.items() if isinstance(part, nn.Module)}


def check_finite(
    checkpoint: Checkpoint, parts: Mapping[str, nn.Module], look: Callable[[], None] = lambda: None
) -> None:
    """`look` is called before each tensor, and may raise.

    CheckpointDamaged names the first tensor that holds a NaN or an infinity; CheckpointUnknown one that overflowed here, in halves.
    """
    for part, module in parts.items():
        names: list[str] = []
        sound: list[Tensor] = []
        for name, weight in module.named_parameters():
            if weight.is_floating_point() and weight.element_size() > 1 and weight.numel() and not weight.is_meta:
                look()
                names.append(name)
                sound.append(_is_finite(weight))
        if sound and not bool(
            torch.stack([one.to(sound[0].device) for one in sound]).all()
        ):  # asks an accelerator once
            name = names[[bool(one) for one in sound].index(False)]
            raise _unsound(checkpoint, part, name, module.get_parameter(name))


@torch.no_grad()
def _is_finite(weight: Tensor) -> Tensor:
    least, greatest = torch.aminmax(weight)
    return torch.isfinite(least) & torch.isfinite(greatest)


def _unsound(checkpoint: Checkpoint, part: str, name: str, weight: Tensor) -> CheckpointDamaged | CheckpointUnknown:
    where = f"{name} of its {part.replace('_', ' ')}"
    if weight.dtype is torch.float16 and checkpoint.dtype != "F16" and not bool(torch.isnan(weight).any()):
        return CheckpointUnknown(
            f"{checkpoint.name} cannot be used in half precision",
            f"{where} holds numbers beyond 65,504",
            "Use bfloat16 or float32",
        )
    return CheckpointDamaged(
        f"{checkpoint.name} holds values that are no numbers",
        where,
        "Choose an earlier one of the same training, or get it again",
    )
