"""Seeded noise: one random generator for each image, so that an image is the same on every device and in any batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Noise = Callable[[Tensor], Tensor]  # standard-normal noise shaped like its argument; row i from generator i


class SeededNoise:
    """A Noise that draws row i from `torch.Generator().manual_seed(seeds[i])`, in float32 on the CPU.

    The generators keep their state between draws: the initial noise comes first, then that of the steps. The noise
    equals that of diffusers for a list of CPU generators. Seeds are 0 .. 2**64 - 1.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self._generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]

    def start(self, shape: Sequence[int]) -> Tensor:
        """The next noise for images of `shape` (C, H, W): [B,C,H,W], float32 on the CPU."""
        return torch.stack([torch.randn(*shape, generator=generator) for generator in self._generators])

    def __call__(self, like: Tensor) -> Tensor:
        """The next noise, with the shape, dtype and device of `like` [B,...]. ValueError unless there are B seeds."""
        if len(like) != len(self._generators):
            raise ValueError(f"{len(self._generators)} seeds for {len(like)} images")
        return self.start(like.shape[1:]).to(like)
