"""The noise estimate and the score for an estimate of the clean image."""

from __future__ import annotations

from torch import Tensor


def noise_estimate(x_t: Tensor, denoised: Tensor, alpha: float, sigma: float) -> Tensor:
    """eps = (x_t - alpha x_0) / sigma, the noise that x_t has if its clean image is the estimate `denoised`.

    Ho et al. 2020 (arXiv 2006.11239), eq. 9 solved for eps. Of the shape of x_t; sigma is above 0.
    """
    return (x_t - alpha * denoised) / sigma


def score(x_t: Tensor, denoised: Tensor, alpha: float, sigma: float) -> Tensor:
    """d log p(x_t) / d x_t = (alpha E[x_0 | x_t] - x_t) / sigma^2, the direction in which images become more likely.

    Tweedie's formula; Song et al. 2020 (arXiv 2011.13456). It is -eps / sigma.
    """
    return (alpha * denoised - x_t) / sigma**2
