"""AdaptiveLevels: draws training noise levels where a noisy image is most informative about the clean one.

InfoNoise: Raya et al. 2026 (arXiv 2602.18647). By the I-MMSE identity (Guo, Shamai & Verdú 2005) the entropy of the clean
image given the noisy one changes with log sigma at the rate mmse / sigma^2 for each value, where sigma is sigma / alpha
of the schedule and mmse the mean squared error of the best estimate. The error of the network in training stands for it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from diffstudio.diffusion.schedule import Schedule

BINS = 64  # of log(sigma / alpha)
BASE_SHARE = 0.15  # of the noise levels are always drawn from the base distribution
_OUTSIDE = 0.001  # share of the base distribution below the first bin, and above the last
_DECAY = 0.99  # of the sums of errors, at each update
_REFRESH = 100  # updates between two profiles
_LARGEST = 16.0  # largest log(sigma / alpha) of the bins
_SAMPLES = 1 << 16  # of the base distribution, to place the bins

Sample = Callable[[int, Schedule, torch.Generator], Tensor]  # how many, schedule, generator -> times [count]


class AdaptiveLevels(nn.Module):
    """A distribution of noise levels that adapts to the errors in training. A module, so that it is stored and resumed.

    `base(count, schedule, generator)` draws times t [count] of a fixed distribution. Levels are those of the base until
    `begin` is true in `update`; then they are drawn from the profile, and BASE_SHARE of them from the base. The profile
    has the range of the base: at less noise the rate of continuous data stays near 1, for details that are not visible.
    """

    totals: Tensor
    counts: Tensor
    profile: Tensor
    updates: Tensor

    def __init__(self, base: Sample, schedule: Schedule) -> None:
        super().__init__()
        self._base, self._schedule = base, schedule
        drawn = self._log_sigma(base(_SAMPLES, schedule, torch.Generator().manual_seed(0)).double())
        ends = drawn.quantile(torch.tensor([_OUTSIDE, 1 - _OUTSIDE], dtype=torch.float64))
        self._first, self._width = float(ends[0]), float(ends[1] - ends[0]) / BINS
        self.register_buffer("totals", torch.zeros(BINS, dtype=torch.float64))  # sums of squared errors, decaying
        self.register_buffer("counts", torch.zeros(BINS, dtype=torch.float64))  # of images, decaying alike
        self.register_buffer("profile", torch.zeros(BINS, dtype=torch.float64))  # probabilities; 0 before it began
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    @property
    def begun(self) -> bool:
        return bool(self.profile.any())

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """t [count], float32 on the generator's device, from t_min to t_max of the schedule."""
        t = self._base(count, self._schedule, generator)
        if not self.begun:
            return t
        chosen, place = torch.rand(2, count, generator=generator, device=generator.device).double()
        cumulative = self.profile.cumsum(0).to(place)
        index = torch.searchsorted(cumulative, place * cumulative[-1]).clamp(max=BINS - 1)
        share = self.profile.to(place)[index]
        within = ((place * cumulative[-1] - (cumulative[index] - share)) / share).clamp(0, 1)
        log_sigma = self._first + self._width * (index + within)
        of_profile = self._schedule.t_from_log_snr(-2 * log_sigma).to(t)
        adapted = of_profile.clamp(self._schedule.t_min, self._schedule.t_max)
        return torch.where(chosen < BASE_SHARE, t, adapted)

    def sums(self, t: Tensor, errors: Tensor) -> Tensor:
        """[2,BINS] float64 on the CPU: the sum of the squared errors [B] of x_0 at t [B] in each bin, and their number."""
        log_sigma = self._log_sigma(t.detach().cpu().double())
        index = ((log_sigma - self._first) / self._width).floor().long()
        inside = (index >= 0) & (index < BINS) & errors.detach().cpu().isfinite()
        index, values = index[inside], errors.detach().cpu().double()[inside]
        sums = torch.zeros(2, BINS, dtype=torch.float64)
        sums[0].index_add_(0, index, values)
        sums[1].index_add_(0, index, torch.ones_like(values))
        return sums

    def update(self, sums: Tensor, begin: bool) -> None:
        """Add the `sums` of a batch; from when `begin` is true on, the profile is renewed every _REFRESH updates."""
        self.totals.mul_(_DECAY).add_(sums[0].to(self.totals))
        self.counts.mul_(_DECAY).add_(sums[1].to(self.counts))
        self.updates += 1
        if begin and (not self.begun or int(self.updates) % _REFRESH == 0):
            self._renew()

    def errors_at(self, t: Tensor) -> Tensor:
        """The mean squared error of x_0 at times t [N], from the bins around; NaN where there are no data."""
        error = (self.totals / self.counts).cpu()
        index = ((self._log_sigma(t.cpu().double()) - self._first) / self._width).floor().long()
        outside = (index < 0) | (index >= BINS)
        return torch.where(outside, torch.nan, error[index.clamp(0, BINS - 1)])

    def density(self, t: Tensor) -> Tensor:
        """The density over t at times t [N] of a rectified flow, without that of the base distribution; 0 outside."""
        log_sigma = self._log_sigma(t.cpu().double())
        index = ((log_sigma - self._first) / self._width).floor().long()
        inside = (index >= 0) & (index < BINS)
        per_log_sigma = self.profile.cpu()[index.clamp(0, BINS - 1)] / self._width
        return torch.where(inside, per_log_sigma / (t.cpu().double() * (1 - t.cpu().double())), 0.0)

    def _renew(self) -> None:
        """The profile: the rate of each bin, smoothed over its neighbours."""
        seen = self.counts > 0
        if not bool(seen.any()):
            return
        centres = self._first + self._width * (torch.arange(BINS, dtype=torch.float64) + 0.5)
        error = torch.where(seen, self.totals / self.counts.clamp(min=1e-30), 0.0).cpu()
        # The best estimate is no worse than x_t / alpha, whose error is sigma^2; larger errors are those of an untrained network.
        rate = (error * (-2 * centres).exp()).clamp(max=1.0)
        padded = torch.cat([rate[:1], rate, rate[-1:]])
        smooth = padded[:-2] / 4 + padded[1:-1] / 2 + padded[2:] / 4
        if bool(smooth.any()):
            self.profile.copy_(smooth / smooth.sum())

    def _log_sigma(self, t: Tensor) -> Tensor:
        log_sigma: Tensor = -self._schedule.log_snr(t) / 2
        return log_sigma.clamp(-_LARGEST, _LARGEST)  # infinite at pure noise, which would make the bins infinitely wide
