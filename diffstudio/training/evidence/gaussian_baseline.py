"""Baseline for the held-out loss: the loss of a Gaussian model of the training images (mean and covariance only).

The optimal denoiser of Gaussian data is linear. Early in training a network is close to it and its samples are blurs
(Li, Dai and Qu 2024, arXiv 2410.24060); only a lower loss on held-out images says that more was learned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from diffstudio.diffusion.schedule import NoiseSchedule
from diffstudio.training.data.batches import Batches
from diffstudio.training.trainer import Trainer

MOST_IMAGES = 512
_MOST_VALUES = 2**25  # of all images together, for memory and time
_COMPONENTS = (0, 2, 8, 32, 128)  # of the principal component analysis, the best of which counts

_Denoise = Callable[[Tensor, Tensor, Tensor], Tensor]  # x_t - alpha mean [B,C,S,S], alpha [B], sigma [B] -> the same


def gaussian_loss(trainer: Trainer, batches: Batches) -> float | None:
    """The lowest loss of a Gaussian model of the training images on the held-out ones; None without any."""
    held_out = batches.held_out()
    if not len(held_out.images):
        return None
    values = held_out.images[0].numel()
    images = batches.training_images(max(2, min(MOST_IMAGES, _MOST_VALUES // values))).to(trainer.device)
    mean = images.mean(dim=0)
    centred = images - mean

    def predict(denoise: _Denoise) -> Callable[[Tensor, Tensor], Tensor]:
        def clean_image(x_t: Tensor, t: Tensor) -> Tensor:
            alpha, sigma = _coefficients(trainer.schedule, t)
            return mean + denoise(x_t - alpha[:, None, None, None] * mean, alpha, sigma)

        return clean_image

    models: list[_Denoise] = [_Stationary.of(centred), *_principal(centred)]
    return min(trainer.loss_without_network(predict(denoise), batches.held_out()) for denoise in models)


def _coefficients(schedule: NoiseSchedule, t: Tensor) -> tuple[Tensor, Tensor]:
    return schedule.alpha(t).float(), schedule.sigma(t).float()


def _gain(variance: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """The factor of the best linear estimate of x_0 from alpha x_0 + sigma eps: Wiener."""
    return alpha * variance / (alpha**2 * variance + sigma**2)


@dataclass(frozen=True)
class _Stationary:
    """Pixels that vary in the same way everywhere: independent frequencies of independent mixtures of the channels."""

    channels: Tensor  # [C,C], orthogonal
    power: Tensor  # [C,S,S/2+1]

    @classmethod
    def of(cls, centred: Tensor) -> _Stationary:
        rows = centred.transpose(0, 1).flatten(1)
        _, channels = torch.linalg.eigh((rows @ rows.T / rows.shape[1]).cpu())
        channels = channels.to(centred)
        mixed = torch.einsum("nchw,cd->ndhw", centred, channels)
        return cls(channels, torch.fft.rfft2(mixed, norm="ortho").abs().square().mean(dim=0))

    def __call__(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        mixed = torch.einsum("nchw,cd->ndhw", x, self.channels)
        gain = _gain(self.power, alpha[:, None, None, None], sigma[:, None, None, None])
        clean = torch.fft.irfft2(gain * torch.fft.rfft2(mixed, norm="ortho"), s=x.shape[-2:], norm="ortho")
        return torch.einsum("ndhw,cd->nchw", clean, self.channels)


@dataclass(frozen=True)
class _Principal:
    """Probabilistic principal components: Tipping and Bishop 1999."""

    components: Tensor  # [K,D], orthonormal
    variances: Tensor  # [K]
    rest: Tensor  # the variance in every other direction

    def __call__(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        rows = x.flatten(1)
        rest = _gain(self.rest, alpha, sigma)[:, None]
        gains = _gain(self.variances, alpha[:, None], sigma[:, None]) - rest  # [B,K]
        return (rest * rows + (rows @ self.components.T * gains) @ self.components).reshape(x.shape)


def _principal(centred: Tensor) -> Iterator[_Principal]:
    rows = centred.flatten(1)
    count, values = rows.shape
    products = (rows @ rows.T).cpu().double()
    eigenvalues, vectors = torch.linalg.eigh(products)
    variances = (eigenvalues.flip(0) / count).clamp(min=0)  # falling
    vectors = vectors.flip(1)
    for kept in _COMPONENTS:
        if kept and kept >= min(count, values) - 1:
            return
        lengths = (variances[:kept] * count).sqrt().clamp(min=1e-6)
        components = (vectors[:, :kept] / lengths).T.to(rows) @ rows
        rest = variances[kept:].sum() / (values - kept)
        yield _Principal(components, variances[:kept].to(rows), rest.clamp(min=1e-12).to(rows))
