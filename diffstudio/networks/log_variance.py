"""LogVariance: learns how large the loss is at each noise level, as a function of time."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_FEATURES = 128
_SMALLEST = 1e-3  # of t and 1 - t


class LogVariance(nn.Module):
    """t [B] of a rectified flow -> u(t) [B], 0 at initialisation.

    A linear layer on Fourier features of log(sigma / alpha) / 4, as in EDM2: Karras et al. 2023 (arXiv 2312.02696), section
    2.2 and appendix B.3. The uncertainty of Kendall et al. 2018 (arXiv 1705.07115): training minimises loss / e^u + u,
    whose minimum over u is the logarithm of the mean loss at t.
    """

    frequencies: Tensor
    phases: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("frequencies", 2 * math.pi * torch.randn(_FEATURES))
        self.register_buffer("phases", 2 * math.pi * torch.rand(_FEATURES))
        self.linear = nn.Linear(_FEATURES, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, t: Tensor) -> Tensor:
        c_noise = t.float().clamp(_SMALLEST, 1 - _SMALLEST).logit() / 4  # sigma / alpha = t / (1 - t)
        features = math.sqrt(2) * (c_noise[:, None] * self.frequencies + self.phases).cos()
        u: Tensor = self.linear(features)[:, 0]
        return u
