"""The forward process on one image in NumPy: x_t = alpha x_0 + sigma eps, fast enough to follow a slider. No torch.

Source: Ho et al. 2020 (arXiv 2006.11239), eq. 4. Images are [H,W,3] float32 in [-1,1].
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffstudio.studio.curves.schedules import (
    RECTIFIED_FLOW,
    STABLE_DIFFUSION,
    ScheduleArrays,
    VarianceExploding,
    schedule_arrays,
)
from diffstudio.studio.number_text import formatted

Values = NDArray[np.float32]
SCHEDULES = (  # of the families: key, title, and what `schedule_arrays` takes
    ("flow", "Rectified flow (FLUX.1, Stable Diffusion 3, models trained here)", RECTIFIED_FLOW),
    ("sd", "Stable Diffusion 1, 2, XL (scaled linear betas)", STABLE_DIFFUSION),
    ("linear", "DDPM (linear betas)", {**STABLE_DIFFUSION, "curve": "linear", "beta_first": 1e-4, "beta_last": 0.02}),
    ("cosine", "Improved DDPM (cosine)", {**STABLE_DIFFUSION, "curve": "cosine", "beta_first": 0.0, "beta_last": 0.0}),
    ("edm", "EDM (variance exploding)", {"kind": "variance_exploding", "sigma_min": 0.002, "sigma_max": 80.0}),
)
_RHO = 7  # of EDM's spacing: without it nearly all of its times would be noise


@dataclass(frozen=True, slots=True)
class NoiseLevel:
    """What a schedule says at one time."""

    t: float
    alpha: float
    sigma: float

    @property
    def snr(self) -> float:
        """alpha^2 / sigma^2; infinite where sigma is 0."""
        return (self.alpha / self.sigma) ** 2 if self.sigma > 0 else math.inf

    @property
    def log_snr(self) -> float:
        return math.log(self.snr) if 0 < self.snr < math.inf else math.copysign(math.inf, self.snr - 1)

    def text(self) -> str:
        shown = [formatted(value, ".4g") for value in (self.t, self.alpha, self.sigma, self.snr, self.log_snr)]
        return "t {}, alpha {}, sigma {}, SNR {}, log-SNR {}".format(*shown)


def family_schedule(key: str) -> ScheduleArrays:
    """The schedule of a key of SCHEDULES. KeyError."""
    return schedule_arrays({name: values for name, _, values in SCHEDULES}[key])


def time_at(schedule: ScheduleArrays, share: float) -> float:
    """The time at this share of the slider, 0 the clean image and 1 t_max: even in t, or in t^(1/7) where sigma is t."""
    return schedule.t_max * (share**_RHO if isinstance(schedule, VarianceExploding) else share)


def level_at(schedule: ScheduleArrays, t: float) -> NoiseLevel:
    at = np.array([t])
    return NoiseLevel(t, float(schedule.alpha(at)[0]), float(schedule.sigma(at)[0]))


def noisy(image: Values, noise: Values, level: NoiseLevel) -> Values:
    """x_t [H,W,3], not cut off."""
    found: Values = np.float32(level.alpha) * image
    found += np.float32(level.sigma) * noise
    return found


def shown(x_t: Values, level: NoiseLevel) -> NDArray[np.uint8]:
    """x_t divided by (alpha^2 + sigma^2)^(1/2), so that it is neither pale nor cut off as a whole, as 8 bits [H,W,3]."""
    levels = x_t * np.float32(127.5 / math.hypot(level.alpha, level.sigma))
    levels += np.float32(128)
    return np.clip(levels, 0, 255, out=levels).astype(np.uint8)


def noise_like(image: Values, seed: int) -> Values:
    """Standard-normal noise of the shape of an image."""
    return np.random.default_rng(seed).standard_normal(image.shape, dtype=np.float32)
