"""How much a denoised image gains from the noisy one, by Stein's unbiased risk estimate: without the clean image.

For y = x + n, n ~ N(0, noise^2 I), and any estimate D(y), the risk of y + k (D - y) is in expectation

    k^2 |D - y|^2 - 2 k noise^2 (N - div D) + noise^2 N        (Stein 1981; SURE: Donoho & Johnstone 1995)

which is smallest at k = noise^2 (N - div D) / |D - y|^2. That is 1 for the posterior mean, and less for a network that
cannot draw all details: there the noisy image has some of its own. The same holds in every band of frequencies.
"""

from __future__ import annotations

import torch
from torch import Tensor

_BANDS = (0.0, 0.06, 0.12, 0.2, 0.3, 0.5, 1.0)  # cycles per px, limits of the bands
_SIGNIFICANT = 3.0  # standard deviations that a share has to be below 1
PROBE_STEP = 0.05  # of the noise, at which the divergence is measured


def corrected_estimate(y: Tensor, estimate: Tensor, moved: Tensor, probe: Tensor, noise: float) -> Tensor:
    """The estimate D of y [B,C,H,W] with the share of y that lowers its risk, in each image and band of frequencies.

    `moved` is D(y + PROBE_STEP * noise * probe), for random signs `probe` [B,C,H,W] (Ramani et al. 2008): the divergence
    by one probe. Shares that one image does not tell from 1 are left at 1.
    """
    slope = (moved - estimate) / (PROBE_STEP * noise)
    whole, difference = _spectrum(y), _spectrum(estimate - y)
    responses = (_spectrum(slope) * _spectrum(probe).conj()).real
    share = torch.ones_like(whole.real[:, :1])
    radius = _radius(y)
    for low, high in zip(_BANDS[:-1], _BANDS[1:], strict=True):
        inside = ((radius >= low) & (radius < high)).to(y)
        values = float(inside.sum()) * y.shape[1]
        if values == 0:
            continue
        change = (difference.abs().square() * inside).flatten(1).sum(1)
        divergence = (responses * inside).flatten(1).sum(1)
        best = (noise**2 * (values - divergence) / change.clamp(min=torch.finfo(y.dtype).tiny)).clamp(0, 1)
        best = torch.where(best > 1 - _SIGNIFICANT * (2 / values) ** 0.5, 1.0, best)
        share = share + (best.view(-1, 1, 1, 1) - 1) * inside
    corrected: Tensor = torch.fft.ifft2(whole + share * difference, norm="ortho").real
    return corrected


def _spectrum(x: Tensor) -> Tensor:
    spectrum: Tensor = torch.fft.fft2(x, norm="ortho")
    return spectrum


def _radius(like: Tensor) -> Tensor:
    """The frequency of each Fourier coefficient [H,W] in cycles per px, 0 to 0.71."""
    down = torch.fft.fftfreq(like.shape[-2], device=like.device)
    across = torch.fft.fftfreq(like.shape[-1], device=like.device)
    return torch.hypot(down[:, None], across)
