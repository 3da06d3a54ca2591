"""Denoising errors: squared differences between an image and the denoiser's estimate from its noisy versions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffstudio.diffusion.denoiser import Denoiser, alpha_sigma
from diffstudio.diffusion.schedule import Schedule

LEVELS = (0.3, 0.4, 0.5)  # sigma / (alpha + sigma), which is the time of a rectified flow
DRAWS = 8
_PARTS = 4
_LEAST_SPREAD = 0.25  # floor of a pixel's deviation, as a share of the mean: background pixels hardly vary


@torch.no_grad()
def denoising_errors(
    denoiser: Denoiser,
    schedule: Schedule,
    images: Tensor,
    levels: Sequence[float] = LEVELS,
    draws: int = DRAWS,
    seed: int = 0,
) -> NDArray[np.float32]:
    """Squared errors [B,L,H,W] of the estimates of images [B,C,H,W], averaged over channels and noise samples.

    One network call for each level and sample. All images share the noise of sample k, so it cancels out when they are
    compared.
    """
    found = []
    for level in levels:
        log_snr = torch.tensor([-2 * np.log(level / (1 - level))], dtype=torch.float64)
        t = schedule.t_from_log_snr(log_snr).to(images.device).expand(len(images))
        alpha, sigma = alpha_sigma(schedule, t, images)
        total = images.new_zeros(len(images), *images.shape[2:])
        for draw in range(draws):
            generator = torch.Generator().manual_seed(seed + draw)
            noise = torch.randn(images.shape[1:], generator=generator).to(images)
            total += (denoiser(alpha * images + sigma * noise, t) - images).square().mean(1)
        found.append(total / draws)
    return torch.stack(found, dim=1).float().cpu().numpy()


@dataclass(frozen=True, eq=False)
class NormalErrors:
    """Mean and standard deviation of the errors of normal images, by which errors are standardised."""

    mean: NDArray[np.float32]  # [L,H,W]
    deviation: NDArray[np.float32]  # [L,H,W]
    by_level: NDArray[np.float32]  # [L]

    @classmethod
    def of(cls, errors: NDArray[np.float32]) -> NormalErrors:
        """Statistics of the errors [N,L,H,W] of held-out normal images."""
        deviation = errors.std(axis=0)
        least = _LEAST_SPREAD * deviation.mean(axis=(1, 2), keepdims=True) + 1e-12
        return cls(errors.mean(axis=0), np.maximum(deviation, least), errors.mean(axis=(0, 2, 3)) + 1e-12)

    @classmethod
    def cross_fitted(
        cls, errors: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float64]]:
        """`maps` and `root_maps` [N,H,W] and `scores` [N] of the held-out images themselves, by fourfold cross-fitting.

        Standardised by their own errors they would look more normal than new images do, especially if there are few.
        """
        maps, roots = np.zeros((2, len(errors), *errors.shape[2:]), np.float32)
        scores = np.zeros(len(errors))
        for part in range(min(_PARTS, len(errors))):
            inside = np.arange(len(errors)) % _PARTS == part
            others = cls.of(errors[~inside])
            maps[inside], roots[inside] = others.maps(errors[inside]), others.root_maps(errors[inside])
            scores[inside] = others.scores(errors[inside])
        return maps, roots, scores

    def maps(self, errors: NDArray[np.float32]) -> NDArray[np.float32]:
        """z-scores of the errors, averaged over the levels: [N,L,H,W] -> [N,H,W]."""
        return np.asarray(((errors - self.mean) / self.deviation).mean(axis=1), np.float32)

    def root_maps(self, errors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Roots of the errors in units of the mean error of normal images, averaged over the levels: [N,H,W].

        Unlike `maps` they do not depend on where a pixel is: few normal images, or images that are not registered, tell
        little about the errors of a single pixel. Roots, because a few edges have most of the squared error.
        """
        relative = errors / self.by_level[:, None, None]
        return np.asarray(np.sqrt(relative).mean(axis=1), np.float32)

    def scores(self, errors: NDArray[np.float32]) -> NDArray[np.float64]:
        """The mean error of each image divided by that of normal images, averaged over the levels: [N]."""
        return np.asarray((errors.mean(axis=(2, 3), dtype=np.float64) / self.by_level).mean(axis=1))
