"""Log-likelihoods of images under a diffusion model: exactly for its probability flow, and as a variational bound.

Once states are scaled to z = x_t / (alpha^2 + sigma^2)^(1/2), every schedule is the same curve, and with the time
u = log(sigma / alpha) nothing in it is singular:

    z = cos x_0 + sin eps,  tan = e^u,      dz / du = cos (cos z - D),      d log p(z) / du = -cos (n cos - tr dD/dz)

for images of n values and the estimate D of x_0. It ends in a standard normal distribution.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from diffstudio.diffusion.denoiser import Denoiser
from diffstudio.diffusion.ode import State, dormand_prince
from diffstudio.diffusion.schedule import Schedule

LARGEST_NOISE = 400.0  # sigma / alpha at which an image is noise: what is left of it is 4e-6 nats for each value
LARGEST_EXACT = 64  # values of an image whose divergence is computed exactly unless probes are given


def spacing(bits: int) -> float:
    """The distance of neighbouring values in images of 8 or 16 bits in [-1,1]."""
    return 2 / float(2**bits - 1)


def bits_per_dimension(log_likelihood: Tensor, dimensions: int, bits: int | None = None) -> Tensor:
    """Bits for each value of an image from nats [B] of a whole image.

    With `bits`, the nats are those of a density at dequantised values, whose probability is the density times the
    `spacing` for each value: -log2 p / n - log2(spacing), which adds 6.994 for 8 bits and 15.000 for 16.
    """
    offset = -math.log2(spacing(bits)) if bits is not None else 0.0
    return -log_likelihood / (dimensions * math.log(2)) + offset


def dequantised(images: Tensor, bits: int, generator: torch.Generator) -> Tensor:
    """Images [B,C,H,W] of whole values in [-1,1] with uniform noise as wide as their spacing: Theis et al. 2016, 1511.01844.

    The mean log density of such images is a lower bound of the log probability of the whole values.
    """
    noise = torch.rand(images.shape, generator=generator, dtype=torch.float64) - 0.5
    return images + (spacing(bits) * noise).to(images)


def rademacher(like: Tensor, probes: int, generator: torch.Generator) -> Tensor:
    """Random signs [P,B,...] for images [B,...]: the probes of least variance (Hutchinson 1990)."""
    signs = torch.randint(0, 2, (probes, *like.shape), generator=generator)
    return (2 * signs - 1).to(like)


def smallest_noise_of(schedule: Schedule, bits: int | None = None) -> float:
    """The sigma / alpha where a likelihood starts: that of t_min, or the spacing of whole values where it is larger.

    Whole values are told apart by the last term of the bound. Where the noise is smaller than their spacing, that costs
    an estimate of x_0 which is not a whole value more than the term saves: 0.2 bits at a quarter of the spacing.
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
    """Log density of images under the probability flow, in nats."""

    by_probe: Tensor  # [B,P]: by each probe of the divergence alone; one column where it is exact
    noise: Tensor  # [B,...], the standard normal noise that the images become
    calls: int  # of the network

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
    """The log density [B] of images [B,...] in nats: Song et al. 2021 (arXiv 2011.13456), eq. 39.

    The flow starts with the images at `smallest_noise` (sigma / alpha; by default that of the schedule's t_min) and ends
    in noise. Its divergence is estimated with `probes` [P,B,...] (Hutchinson; eq. 40), the same along the whole path, or
    computed exactly with a derivative for each value without them. The denoiser must be differentiable in x_t.

    ValueError for images of more than 64 values without probes, ArithmeticError where the flow is not finite.
    """
    dimensions, exact = images[0].numel(), probes is None
    if probes is None:
        if dimensions > LARGEST_EXACT:
            raise ValueError(f"an exact divergence of {dimensions} values takes as many derivatives: use probes")
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
    """The probability flow in u, and its divergence along it."""

    denoiser: Denoiser
    schedule: Schedule
    probes: Tensor  # [P,B,...]
    exact: bool  # whether the probes are all directions, rather than random ones

    @torch.enable_grad()
    def derivative(self, u: float, state: State) -> State:
        """dz / du [B,...], and its divergence / n [B,P], or [B,1] where it is exact."""
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
    """An upper bound of -log p of images, in nats [B], as the sum of its parts: Kingma et al. 2021 (arXiv 2107.00630)."""

    prior: Tensor  # what is left of the image in the noisiest state
    diffusion: Tensor  # an estimate: mean over noise levels
    reconstruction: Tensor  # of the image from its least noisy state
    by_level: Tensor  # [B,L], what each noise level contributes to `diffusion`

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
    """Bound -log p of images [B,...] in nats: eq. 11 to 15 of arXiv 2107.00630, in continuous time.

    With `bits` the images are whole values, as they are stored, and p is their probability; without, it is a density.
    `levels` noise levels are spread evenly over log SNR from a random start for each image (stratified sampling).
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
        losses.append(error * (-2 * u).exp().to(error) * (last - first))  # SNR |x - D|^2 d log SNR / 2
    by_level = torch.stack(losses, dim=1) / levels
    least = math.exp(first)
    noise = torch.randn(images.shape, generator=generator).to(images)
    return VariationalBound(
        _prior_loss(images, last), by_level.sum(1), reconstruction_loss(noise, images, least, bits), by_level
    )


def reconstruction_loss(noise: Tensor, images: Tensor, least: float, bits: int | None) -> Tensor:
    """-log p(images | images + least * noise), [B] nats: of a normal distribution around the noisy values.

    Of whole values each has the probability of the range around it: Ho et al. 2020 (arXiv 2006.11239), eq. 13.
    """
    noise = noise.double()
    if bits is None:
        density = 0.5 * noise.square() + math.log(least) + 0.5 * math.log(2 * math.pi)
        return density.flatten(1).sum(1)
    half = spacing(bits) / (2 * least)
    low, high = -noise - half, -noise + half
    lowest, highest = images <= -1 + spacing(bits) / 2, images >= 1 - spacing(bits) / 2
    low, high = low.masked_fill(lowest, -math.inf), high.masked_fill(highest, math.inf)
    above = low > 0  # there the differences keep their digits on the other side
    low, high = torch.where(above, -high, low), torch.where(above, -low, high)
    probability: Tensor = torch.special.ndtr(high) - torch.special.ndtr(low)
    return -probability.clamp(min=1e-300).log().flatten(1).sum(1)


def noise_log_density(noise: Tensor, smallest_noise: float) -> Tensor:
    """log q(images + smallest_noise * noise | images), [B] nats, of standard normal noise [B,...].

    With images + smallest_noise * noise in place of images with uniform noise, log P of whole values is at least
    log p - reconstruction_loss - this, on average: variational dequantisation (Ho et al. 2019, arXiv 1902.00275).
    """
    density = -0.5 * noise.double().square() - math.log(smallest_noise) - 0.5 * math.log(2 * math.pi)
    return density.flatten(1).sum(1)


def _prior_loss(images: Tensor, last: float) -> Tensor:
    """The divergence of the noisiest state z from a standard normal distribution, [B] nats."""
    cos_squared = _cos(last) ** 2
    spread = -cos_squared - math.log1p(-cos_squared)
    return 0.5 * (cos_squared * images.double().square() + spread).flatten(1).sum(1)


def _cos(u: float) -> float:
    """alpha / (alpha^2 + sigma^2)^(1/2)."""
    return 1 / math.sqrt(1 + math.exp(2 * u))


def _wide(values: Tensor, like: Tensor) -> Tensor:
    """[B] as [B,1,...], to multiply with images."""
    return values.view(-1, *(1,) * (like.ndim - 1))


def _scaled(y: Tensor, u: Tensor) -> Tensor:
    """z of images with noise y = x_0 + sigma / alpha * eps [B,...] at u [B]."""
    return y * _wide((1 + (2 * u).exp()).rsqrt(), y).to(y)


def _state_and_time(schedule: Schedule, z: Tensor, u: float | Tensor) -> tuple[Tensor, Tensor]:
    """x_t [B,...] and t [B] of the schedule at z and u, [B] or the same for all images."""
    u = torch.as_tensor(u, dtype=torch.float64).expand(len(z))
    t = schedule.t_from_log_snr(-2 * u)
    length = (schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2).sqrt()
    return z * _wide(length, z).to(z), t.to(z.device)
