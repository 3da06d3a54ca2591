"""Seeded noise: one random generator for each image, so that an image is the same on every device and in any batch; and
the noise between that of two seeds.
"""

from __future__ import annotations

import math
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


class InterpolatedNoise(SeededNoise):
    """A Noise between that of two seeds: row i lies `shares[i]` of the way along the great circle from one to the other.

    Share 0 draws exactly what SeededNoise draws from the first seed, share 1 what it draws from the second, at every step.
    """

    def __init__(self, first: int, last: int, shares: Sequence[float]) -> None:
        super().__init__([first, last])
        self._shares = torch.tensor(list(shares), dtype=torch.float64)

    def start(self, shape: Sequence[int]) -> Tensor:
        first, last = super().start(shape)
        return spherical_interpolation(first, last, self._shares)

    def __call__(self, like: Tensor) -> Tensor:
        """The next noise, with the shape, dtype and device of `like` [B,...]. ValueError unless there are B shares."""
        if len(like) != len(self._shares):
            raise ValueError(f"{len(self._shares)} shares for {len(like)} images")
        return self.start(like.shape[1:]).to(like)


_PARALLEL = 1e-6  # radians


def spherical_interpolation(first: Tensor, last: Tensor, shares: Tensor) -> Tensor:
    """Points [K,...] on the great circle from `first` to `last`, [...] each, at `shares` [K] of the angle between them.

    Directions follow the shorter arc at constant speed and lengths change linearly, so that noise stays as long as noise
    is; a straight line would pass through shorter vectors, which no model was trained on. Shares 0 and 1 give the ends
    exactly. For opposite vectors no arc is the shortest: the one through a fixed perpendicular direction is taken. A zero
    vector has no direction: then the line is straight. Shoemake 1985, "Animating rotation with quaternion curves"; of
    latents: White 2016 (arXiv 1609.04468), section 2.1.
    """
    start, end = first.double().flatten(), last.double().flatten()
    shares = shares.to(start)[:, None]
    lengths = torch.linalg.vector_norm(torch.stack([start, end]), dim=1)
    straight = torch.lerp(start[None], end[None], shares)
    if float(lengths.min()) > 0:
        u, v = start / lengths[0], end / lengths[1]
        # Accurate for small angles too, unlike the arc cosine (Kahan)
        angle = 2 * torch.atan2(torch.linalg.vector_norm(u - v), torch.linalg.vector_norm(u + v))
        across = v - u * (u @ v)
        if float(angle) > math.pi - _PARALLEL:
            across = _perpendicular(u)
        if float(angle) > _PARALLEL:
            across = across / torch.linalg.vector_norm(across)
            directions = torch.cos(shares * angle) * u + torch.sin(shares * angle) * across
            straight = torch.lerp(lengths[0], lengths[1], shares) * directions
    between = torch.where(shares == 0, start, torch.where(shares == 1, end, straight))
    return between.to(first.dtype).reshape(-1, *first.shape)


def _perpendicular(u: Tensor) -> Tensor:
    """A direction perpendicular to the unit vector u [Z]; u itself if Z is 1."""
    axis = torch.zeros_like(u)
    axis[u.abs().argmin()] = 1
    across = axis - u * (u @ axis)
    return across if float(torch.linalg.vector_norm(across)) > _PARALLEL else u
