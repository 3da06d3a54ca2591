"""Find NaN and Inf values in a model's weights when it is loaded, or at the latest in the first step.

The minimum and maximum of a tensor take one pass over memory, and are NaN or infinite if any of its values is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from diffstudio.errors import CheckpointDamaged, CheckpointUnknown
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.files.file_access import EARLIER_OR_DOWNLOAD, nonfinite


def check_finite(
    checkpoint: Checkpoint, modules: Mapping[str, nn.Module], before_tensor: Callable[[], None] = lambda: None
) -> None:
    """Raise for the first tensor with a NaN or Inf value.

    `before_tensor` is called before each tensor and may raise too.

    CheckpointDamaged if the value is in the file; CheckpointUnknown if it overflowed when the weights were cast to
    float16.
    """
    for component, module in modules.items():
        names: list[str] = []
        finite: list[Tensor] = []
        for name, weight in module.named_parameters():
            if weight.is_floating_point() and weight.element_size() > 1 and weight.numel() and not weight.is_meta:
                before_tensor()
                names.append(name)
                finite.append(_is_finite(weight))
        # Stacked, so that a GPU is synchronised once.
        if finite and not bool(torch.stack([one.to(finite[0].device) for one in finite]).all()):
            name = names[[bool(one) for one in finite].index(False)]
            raise _not_finite(checkpoint, component, name, module.get_parameter(name))


@torch.no_grad()
def _is_finite(weight: Tensor) -> Tensor:
    least, greatest = torch.aminmax(weight)
    return torch.isfinite(least) & torch.isfinite(greatest)


def _not_finite(
    checkpoint: Checkpoint, component: str, name: str, weight: Tensor
) -> CheckpointDamaged | CheckpointUnknown:
    tensor = f"{name} in its {component.replace('_', ' ')}"
    if weight.dtype is torch.float16 and checkpoint.dtype != "F16" and not bool(torch.isnan(weight).any()):
        return CheckpointUnknown(
            f"{checkpoint.name} cannot be used in float16",
            f"{tensor} has values beyond 65,504",
            "Use bfloat16 or float32",
        )
    return CheckpointDamaged(nonfinite(checkpoint.name), tensor, EARLIER_OR_DOWNLOAD)
