"""Linear degradations y = A x + n of images, n ~ N(0, noise^2), each with its exact proximal step.

`proximal(y, estimate, ratio)` minimises |y - A x|^2 + ratio |x - estimate|^2 over x. With ratio = noise^2 / r^2 that is the
mean of x given y, where x ~ N(estimate, r^2 I): the data step of DiffPIR, Zhu et al. 2023 (arXiv 2305.08995), eq. 13.
Images are [B,C,H,W] and ratios positive, one for each image: [B,1,1,1].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


class Degradation(Protocol):
    """A linear map A of images, and the exact minimum of a data term and a distance from an estimate."""

    @property
    def gain(self) -> float:
        """trace(A A^T) per observed value of y: the variance in y of white noise with variance 1 in x."""

    @property
    def seen(self) -> float:
        """The observed share of the values of y."""

    def apply(self, x: Tensor) -> Tensor:
        """A x for images x [B,C,H,W]."""

    def proximal(self, y: Tensor, estimate: Tensor, ratio: Tensor) -> Tensor:
        """argmin |y - A x|^2 + ratio |x - estimate|^2, shaped like `estimate` [B,C,H,W]."""


@dataclass(frozen=True)
class Identity:
    """Noise alone: A = I."""

    gain: float = 1.0
    seen: float = 1.0

    def apply(self, x: Tensor) -> Tensor:
        return x

    def proximal(self, y: Tensor, estimate: Tensor, ratio: Tensor) -> Tensor:
        return estimate + (y - estimate) / (1 + ratio)  # finite for an infinite ratio


@dataclass(frozen=True, eq=False)
class Masked:
    """Inpainting: only pixels where `known` [1 or B,1,H,W] is 1 are observed; y is 0 where it is 0."""

    known: Tensor
    gain: float = 1.0

    @property
    def seen(self) -> float:
        return float(self.known.double().mean())

    def apply(self, x: Tensor) -> Tensor:
        return self.known.to(x) * x

    def proximal(self, y: Tensor, estimate: Tensor, ratio: Tensor) -> Tensor:
        known = self.known.to(estimate)
        return torch.where(known > 0, (known * y + ratio * estimate) / (known + ratio), estimate)


@dataclass(frozen=True, eq=False)
class Blurred:
    """Convolution with a kernel [h,w] of odd sides that adds up to 1.

    Images continue periodically, so that the minimum is one division of Fourier coefficients: Zhang et al. 2020 (arXiv
    2008.13751), eq. 8. With a `margin` in px both images are continued by that much of their edge pixels first, since
    photographs do not continue periodically: what is within the kernel's radius of an edge is then approximate.
    ValueError for a kernel with an even side.
    """

    kernel: Tensor
    margin: int = 0
    seen: float = 1.0

    def __post_init__(self) -> None:
        if self.kernel.ndim != 2 or not all(side % 2 for side in self.kernel.shape):
            raise ValueError(f"a kernel has two odd sides, not {tuple(self.kernel.shape)}")

    @property
    def gain(self) -> float:
        return float(self.kernel.square().sum())

    def apply(self, x: Tensor) -> Tensor:
        return self._cropped(self._filtered(self._continued(x)), x)

    def proximal(self, y: Tensor, estimate: Tensor, ratio: Tensor) -> Tensor:
        wide_y, wide = self._continued(y), self._continued(estimate)
        transfer = self._transfer(wide)
        coefficients = torch.conj(transfer) * torch.fft.rfft2(wide_y) + ratio * torch.fft.rfft2(wide)
        solved = torch.fft.irfft2(coefficients / (transfer.abs().square() + ratio), s=wide.shape[-2:])
        return self._cropped(solved, estimate)

    def _filtered(self, x: Tensor) -> Tensor:
        filtered: Tensor = torch.fft.irfft2(self._transfer(x) * torch.fft.rfft2(x), s=x.shape[-2:])
        return filtered

    def _transfer(self, like: Tensor) -> Tensor:
        """The Fourier coefficients of the kernel for images of this size: [H, W // 2 + 1], complex."""
        height, width = like.shape[-2:]
        down, across = self.kernel.shape
        rows = (torch.arange(down) - down // 2) % height
        columns = (torch.arange(across) - across // 2) % width
        whole = torch.zeros(height, width, dtype=like.dtype)
        where = (rows[:, None].expand(down, across), columns.expand(down, across))
        whole.index_put_(where, self.kernel.to(whole), accumulate=True)
        transfer: Tensor = torch.fft.rfft2(whole.to(like.device))
        return transfer

    def _continued(self, x: Tensor) -> Tensor:
        return F.pad(x, (self.margin,) * 4, mode="replicate") if self.margin else x

    def _cropped(self, x: Tensor, like: Tensor) -> Tensor:
        height, width = like.shape[-2:]
        return x[..., self.margin : self.margin + height, self.margin : self.margin + width]


@dataclass(frozen=True)
class Reduced:
    """Downsampling by averaging squares of `factor` px, like Pillow's BOX filter.

    A A^T = I / factor^2, so the minimum has a closed form. `apply` raises ValueError unless both sides are multiples.
    """

    factor: int
    seen: float = 1.0

    @property
    def gain(self) -> float:
        return 1 / self.factor**2

    def apply(self, x: Tensor) -> Tensor:
        if x.shape[-2] % self.factor or x.shape[-1] % self.factor:
            raise ValueError(f"{x.shape[-1]} x {x.shape[-2]} px are no multiples of {self.factor}")
        return F.avg_pool2d(x, self.factor)

    def proximal(self, y: Tensor, estimate: Tensor, ratio: Tensor) -> Tensor:
        missing = F.interpolate(y - self.apply(estimate), scale_factor=self.factor, mode="nearest")
        return estimate + missing / (1 + ratio * self.factor**2)


def gaussian_kernel(deviation: float) -> Tensor:
    """A Gaussian blur of this standard deviation in px as a kernel [n,n], up to three deviations, float64."""
    radius = max(1, round(3 * deviation))
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    row = torch.exp(-0.5 * (offsets / deviation) ** 2)
    kernel = row[:, None] * row
    return kernel / kernel.sum()
