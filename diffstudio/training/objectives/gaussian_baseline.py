"""Baseline for the held-out loss: the loss of a Gaussian model of the training images (mean and covariance only).

The optimal denoiser of Gaussian data is linear. Early in training a network is close to it and its samples are blurs
(Li, Dai and Qu 2024, arXiv 2410.24060); only a lower loss on held-out images says that more was learned.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from diffstudio.diffusion.denoiser import Network
from diffstudio.diffusion.gaussians import bits_of_density
from diffstudio.diffusion.schedule import NoiseSchedule, Schedule
from diffstudio.training.data.batches import Batch, Batches

MOST_IMAGES = 512
_MOST_VALUES = 2**25  # of all images together, for memory and time
_COMPONENTS = (0, 2, 8, 32, 128)  # of the principal component analysis, the best of which counts

_Denoise = Callable[[Tensor, Tensor, Tensor], Tensor]  # x_t - alpha mean [B,C,S,S], alpha [B], sigma [B] -> the same


class DenoisingLoss(Protocol):
    """An objective that can measure any prediction of the clean image, as the diffusion objective does."""

    device: torch.device

    @property
    def schedule(self) -> Schedule: ...

    def loss_without_network(self, predict: Network, batch: Batch) -> float: ...


def gaussian_loss(objective: DenoisingLoss, batches: Batches) -> float | None:
    """The lowest loss of a Gaussian model of the training images on the held-out ones; None without any."""
    held_out = batches.held_out()
    if not len(held_out.images):
        return None
    images = _training_images(batches, held_out).to(objective.device)
    mean = images.mean(dim=0)
    centred = images - mean

    def predict(denoise: _Denoise) -> Callable[[Tensor, Tensor], Tensor]:
        def clean_image(x_t: Tensor, t: Tensor) -> Tensor:
            alpha, sigma = _coefficients(objective.schedule, t)
            return mean + denoise(x_t - alpha[:, None, None, None] * mean, alpha, sigma)

        return clean_image

    models: list[_Denoise] = [_Stationary.of(centred), *_principal(centred)]
    return min(objective.loss_without_network(predict(denoise), batches.held_out()) for denoise in models)


def gaussian_bits(batches: Batches, levels: int, least_variance: float) -> float | None:
    """The lowest bits per dimension of held-out images under probabilistic PCA; None without held-out images.

    Probabilistic PCA is the linear VAE (Dai et al. 2018, arXiv 1706.05148; Lucas et al. 2019, arXiv 1911.02469).
    `least_variance` is a floor for the variance of every direction.
    """
    held_out = batches.held_out()
    if not len(held_out.images):
        return None
    images = _training_images(batches, held_out)
    mean = images.mean(dim=0)
    centred = (held_out.images - mean).flatten(1).double()
    models = _principal(images - mean)
    return min(
        float(bits_of_density(model.log_density(centred, least_variance).mean(), centred.shape[1], levels))
        for model in models
    )


def gaussian_samples(images: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Samples [count,C,S,S] of the Gaussian with the mean and covariance of images [N,C,S,S]."""
    mean = images.mean(dim=0)
    weights = torch.randn(count, len(images), generator=generator) / len(images) ** 0.5
    return mean + torch.einsum("kn,nchw->kchw", weights.to(images), images - mean)


def _training_images(batches: Batches, held_out: Batch) -> Tensor:
    values = held_out.images[0].numel()
    return batches.training_images(max(2, min(MOST_IMAGES, _MOST_VALUES // values)))


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

    def log_density(self, centred: Tensor, least_variance: float) -> Tensor:
        """The log-density of centred rows [B,D] in nats [B]."""
        variances = self.variances.double().clamp(min=least_variance)
        rest = self.rest.double().clamp(min=least_variance)
        along = centred @ self.components.double().T  # [B,K]
        across = (centred.square().sum(dim=1) - along.square().sum(dim=1)).clamp(min=0)
        others = centred.shape[1] - len(variances)
        logs = variances.log().sum() + others * rest.log() + centred.shape[1] * math.log(2 * math.pi)
        return -0.5 * (logs + (along.square() / variances).sum(dim=1) + across / rest)


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
