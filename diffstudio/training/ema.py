"""The exponential moving average (EMA) of a network's weights, which generates better images than the raw weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def ema_model(network: nn.Module, decay: float) -> AveragedModel:
    """A copy of the network whose weights follow it: average <- d * average + (1 - d) * weights at each update.

    d is min(decay, (1 + n) / (10 + n)) at update n, so that the average forgets the initial weights quickly.
    """

    @torch.no_grad()
    def update(average: Sequence[Tensor], current: Sequence[Tensor], updates: Tensor | int) -> None:
        d = min(decay, (1 + float(updates)) / (10 + float(updates)))
        torch._foreach_lerp_(list(average), list(current), 1 - d)

    return AveragedModel(network, multi_avg_fn=update)
