"""Log-likelihoods of images under a diffusion model: exact by the probability flow ODE, and as a variational bound.

With states scaled to z = x_t / (alpha^2 + sigma^2)^(1/2) and the time u = log(sigma / alpha), every schedule has the
same ODE, without singularities:

    z = cos x_0 + sin eps,  tan = e^u,      dz / du = cos (cos z - D),      d log p(z) / du = -cos (n cos - tr dD/dz)

for images with n values, where D is the estimate of x_0. It ends in a standard normal distribution.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from diffstudio.diffusion.denoiser import Denoiser
from diffstudio.diffusion.ode import State, dormand_prince
from diffstudio.diffusion.schedule import Schedule

LARGEST_NOISE = 400.0  # sigma / alpha where the flow ends: the image contributes 4e-6 nats per value there
LARGEST_EXACT = 64  # values of an image up to which the divergence is computed exactly


def spacing(bits: int) -> float:
    """The distance between neighbouring values of 8-bit or 16-bit images in [-1,1]."""
    return 2 / float(2**bits - 1)


def bits_per_dimension(log_likelihood: Tensor, dimensions: int, bits: int | None = None) -> Tensor:
    """Bits per dimension from the log-likelihood [B] of whole images in nats.

    With `bits`, the log-likelihood is a density at dequantised values. The probability is the density times `spacing` for
    each value, so the result is -log2 p / n - log2(spacing), which adds 6.994 for 8 bits and 15.000 for 16.
    """
    offset = -math.log2(spacing(bits)) if bits is not None else 0.0
    return -log_likelihood / (dimensions * math.log(2)) + offset


def dequantised(images: Tensor, bits: int, generator: torch.Generator) -> Tensor:
    """Uniform dequantisation of images [B,C,H,W] in [-1,1]: noise as wide as their spacing (Theis et al. 2016, 1511.01844).

    The mean log-density of dequantised images is a lower bound of the log-probability of the discrete values.
    """
    noise = torch.rand(images.shape, generator=generator, dtype=torch.float64) - 0.5
    return images + (spacing(bits) * noise).to(images)


def rademacher(like: Tensor, probes: int, generator: torch.Generator) -> Tensor:
    """Random signs [P,B,...] for images [B,...]: the minimum-variance probes of Hutchinson 1990."""
    signs = torch.randint(0, 2, (probes, *like.shape), generator=generator)
    return (2 * signs - 1).to(like)


def smallest_noise_of(schedule: Schedule, bits: int | None = None) -> float:
    """The sigma / alpha where a likelihood starts: that of t_min, or the spacing of discrete values if that is larger.

    The reconstruction term of the bound distinguishes discrete values. With noise below their spacing, the diffusion
    term of an estimate of x_0 that is not a discrete value grows by more than the reconstruction term falls: by 0.2 bits
    per dimension at a quarter of the spacing.
    """
    least = math.exp(_half_log_snr(schedule, schedule.t_min))
    return max(least, spacing(bits)) if bits is not None else least


def _noise_range(schedule: Schedule, smallest: float) -> tuple[float, float]:
    """The first and the last u = log(sigma / alpha)."""
    return math.log(smallest), min(_half_log_snr(schedule, schedule.t_max), math.log(LARGEST_NOISE))


def _half_log_snr(schedule: Schedule, t: float) -> float:
    """log(sigma / alpha) at t, infinite where alpha = 0."""
    return float(-schedule.log_snr(torch.tensor(t, dtype=torch.float64)) / 2)


# ---- the probability flow --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FlowLikelihood:
    """The log-density of images under the probability flow ODE, in nats."""

    by_probe: Tensor  # [B,P]: the estimate of each divergence probe; one column if the divergence is exact
    noise: Tensor  # [B,...], the end of the flow, standard normal under the model
    calls: int  # network calls

    @property
    def nats(self) -> Tensor:
        """log p [B]."""
        return self.by_probe.mean(1)


def log_likelihood(
    denoiser: Denoiser,
    schedule: Schedule,
    images: Tensor,
    probes: Tensor | None = None,
    *,
    smallest_noise: float | None = None,
    tolerance: float = 1e-5,
) -> FlowLikelihood:
    """The log-density [B] of images [B,...] in nats: Song et al. 2021 (arXiv 2011.13456), eq. 39.

    The flow starts with the images at `smallest_noise` (sigma / alpha; by default that of the schedule's t_min) and ends
    in noise. Its divergence is estimated with `probes` [P,B,...] (Hutchinson; eq. 40), the same along the whole path;
    without probes it is computed exactly, with one derivative per value. The denoiser must be differentiable in x_t.

    ValueError for images of more than 64 values without probes, ArithmeticError if the flow is not finite.
    """
    dimensions, exact = images[0].numel(), probes is None
    if probes is None:
        if dimensions > LARGEST_EXACT:
            raise ValueError(f"an exact divergence of {dimensions} values needs {dimensions} derivatives: use probes")
        directions = torch.eye(dimensions).to(images).view(dimensions, 1, *images.shape[1:])
        probes = directions.expand(-1, *images.shape)
    first, last = _noise_range(schedule, smallest_noise or smallest_noise_of(schedule))
    flow = _Flow(denoiser, schedule, probes, exact)
    z = images * _cos(first)
    growth = images.new_zeros(len(images), 1 if exact else len(probes))  # the integral of the divergence / n
    *_, end = dormand_prince(flow.derivative, (z, growth), first, last, tolerance, tolerance)
    z, growth = end.state
    prior = -0.5 * (z.double().square() + math.log(2 * math.pi)).flatten(1).sum(1)  # [B]
    log_p = prior.unsqueeze(1) + dimensions * (growth.double() + math.log(_cos(first)))
    return FlowLikelihood(log_p, z, end.calls)


@dataclass(frozen=True, slots=True)
class _Flow:
    """The probability flow ODE in u, with the divergence of its velocity."""

    denoiser: Denoiser
    schedule: Schedule
    probes: Tensor  # [P,B,...]
    exact: bool  # whether the probes are all unit vectors rather than random

    @torch.enable_grad()
    def derivative(self, u: float, state: State) -> State:
        """dz / du [B,...], and its divergence / n: [B,P], or [B,1] if it is exact."""
        z = state[0].detach().requires_grad_()
        cos, x_t, t = _cos(u), *_state_and_time(self.schedule, z, u)
        estimate = self.denoiser(x_t, t).to(z)
        traces = []  # of dD/dz, by each probe
        for probe in self.probes:
            (pulled,) = torch.autograd.grad((estimate * probe).sum(), z, retain_graph=True)
            traces.append((pulled * probe).flatten(1).sum(1))
        trace = torch.stack(traces, dim=1) / z[0].numel()  # [B,P]
        if self.exact:
            trace = trace.sum(1, keepdim=True)
        return cos * (cos * z - estimate).detach(), cos * (cos - trace)


# ---- the variational bound -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class VariationalBound:
    """An upper bound of -log p of images in nats [B], the sum of three terms: Kingma et al. 2021 (arXiv 2107.00630)."""

    prior: Tensor  # KL divergence of the noisiest state from the standard normal distribution
    diffusion: Tensor  # the diffusion loss, estimated as a mean over noise levels
    reconstruction: Tensor  # of the image from its least noisy state
    by_level: Tensor  # [B,L], the contribution of each noise level to `diffusion`

    @property
    def nats(self) -> Tensor:
        return self.prior + self.diffusion + self.reconstruction


@torch.no_grad()
def variational_bound(
    denoiser: Denoiser,
    schedule: Schedule,
    images: Tensor,
    generator: torch.Generator,
    *,
    levels: int = 128,
    bits: int | None = None,
    smallest_noise: float | None = None,
) -> VariationalBound:
    """The variational bound of -log p of images [B,...] in nats: arXiv 2107.00630, eq. 11 to 15, in continuous time.

    With `bits` the images hold the discrete values that are stored, and p is their probability; without, p is a density.
    The `levels` noise levels are evenly spaced in log-SNR, with a random offset for each image (stratified sampling).
    """
    first, last = _noise_range(schedule, smallest_noise or smallest_noise_of(schedule, bits))
    start = torch.rand(len(images), generator=generator, dtype=torch.float64)
    losses = []
    for level in range(levels):
        u = first + (level + start) / levels * (last - first)  # [B]
        noise = torch.randn(images.shape, generator=generator).to(images)
        sigma = u.exp().to(images)  # sigma / alpha
        z = _scaled(images + _wide(sigma, images) * noise, u)
        estimate = denoiser(*_state_and_time(schedule, z, u)).to(images)
        error = (images - estimate).double().square().flatten(1).sum(1)
        losses.append(error * (-2 * u).exp().to(error) * (last - first))  # SNR |x - D|^2 d log-SNR / 2
    by_level = torch.stack(losses, dim=1) / levels
    least = math.exp(first)
    noise = torch.randn(images.shape, generator=generator).to(images)
    return VariationalBound(
        _prior_loss(images, last), by_level.sum(1), reconstruction_loss(noise, images, least, bits), by_level
    )


def reconstruction_loss(noise: Tensor, images: Tensor, least: float, bits: int | None) -> Tensor:
    """-log p(images | images + least * noise) in nats [B], for a normal distribution around the noisy values.

    With `bits`, each discrete value has the probability of the bin around it: Ho et al. 2020 (arXiv 2006.11239), eq. 13.
    """
    noise = noise.double()
    if bits is None:
        density = 0.5 * noise.square() + math.log(least) + 0.5 * math.log(2 * math.pi)
        return density.flatten(1).sum(1)
    half = spacing(bits) / (2 * least)
    low, high = -noise - half, -noise + half
    lowest, highest = images <= -1 + spacing(bits) / 2, images >= 1 - spacing(bits) / 2
    low, high = low.masked_fill(lowest, -math.inf), high.masked_fill(highest, math.inf)
    above = low > 0  # there the differences are more accurate on the other side
    low, high = torch.where(above, -high, low), torch.where(above, -low, high)
    probability: Tensor = torch.special.ndtr(high) - torch.special.ndtr(low)
    return -probability.clamp(min=1e-300).log().flatten(1).sum(1)


def noise_log_density(noise: Tensor, smallest_noise: float) -> Tensor:
    """log q(images + smallest_noise * noise | images) in nats [B], for standard normal noise [B,...].

    Variational dequantisation (Ho et al. 2019, arXiv 1902.00275): with Gaussian instead of uniform noise, log P of the
    discrete values is on average at least log p - reconstruction_loss - this.
    """
    density = -0.5 * noise.double().square() - math.log(smallest_noise) - 0.5 * math.log(2 * math.pi)
    return density.flatten(1).sum(1)


def _prior_loss(images: Tensor, last: float) -> Tensor:
    """The KL divergence of the noisiest state z from a standard normal distribution, in nats [B]."""
    cos_squared = _cos(last) ** 2
    spread = -cos_squared - math.log1p(-cos_squared)
    return 0.5 * (cos_squared * images.double().square() + spread).flatten(1).sum(1)


def _cos(u: float) -> float:
    """alpha / (alpha^2 + sigma^2)^(1/2)."""
    return 1 / math.sqrt(1 + math.exp(2 * u))


def _wide(values: Tensor, like: Tensor) -> Tensor:
    """Values [B] as [B,1,...], to broadcast over images."""
    return values.view(-1, *(1,) * (like.ndim - 1))


def _scaled(y: Tensor, u: Tensor) -> Tensor:
    """z [B,...] of noisy images y = x_0 + sigma / alpha * eps [B,...] at u [B]."""
    return y * _wide((1 + (2 * u).exp()).rsqrt(), y).to(y)


def _state_and_time(schedule: Schedule, z: Tensor, u: float | Tensor) -> tuple[Tensor, Tensor]:
    """The schedule's x_t [B,...] and t [B] for z and u; u is [B] or one value for all images."""
    u = torch.as_tensor(u, dtype=torch.float64).expand(len(z))
    t = schedule.t_from_log_snr(-2 * u)
    length = (schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2).sqrt()
    return z * _wide(length, z).to(z), t.to(z.device)
