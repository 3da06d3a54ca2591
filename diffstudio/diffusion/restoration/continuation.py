"""Continues the values of an image into its holes by solving Laplace's equation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_MOST_ITERATIONS = 60
_ACCURACY = 2e-5  # residual, relative to the largest value
_HALF = 0.5
_SIGNIFICANT = 3.0  # standard deviations


def harmonic_fill(values: Tensor, known: Tensor) -> Tensor:
    """Images [B,C,H,W] filled where `known` [1 or B,1,H,W] is False, so that each value is the mean of its neighbours.

    Zero flux at the edges of the image. Solved by conjugate gradients, starting from the solution at half the size. An image
    without a known pixel becomes 0.
    """
    is_known = known.to(values)
    values = values * is_known
    if bool(known.all()) or not bool(known.any()):
        return values
    unknown = 1 - is_known
    neighbours = _around(torch.ones_like(is_known))
    x = _from_half_size(values, is_known) * unknown
    residual = unknown * (_around(values + x) - neighbours * x)
    direction, power = residual, _power(residual)
    enough = values[0].numel() * (_ACCURACY * float(values.abs().max())) ** 2
    for _ in range(_MOST_ITERATIONS):
        if float(power.max()) <= enough:
            break
        turned = unknown * (neighbours * direction - _around(direction))
        step = power / _positive((direction * turned).sum((1, 2, 3), keepdim=True))
        x = x + step * direction
        residual = residual - step * turned
        power, before = _power(residual), power
        direction = residual + power / _positive(before) * direction
    return values + x


def continued(change: Tensor, known: Tensor) -> Tensor:
    """A change [B,C,H,W] that is known where `known` [1 or B,1,H,W], continued into the holes.

    In images where known neighbours are clearly correlated by more than 1/2 the change is filled harmonically, elsewhere
    with 0. A value is nearer to its neighbour than to 0 exactly if their correlation is above 1/2; white changes, such as
    those of exact estimates of white data, say nothing about the holes. Added to an estimate, this is the seamless cloning
    of Pérez et al. 2003, "Poisson image editing", eq. 3.
    """
    change = torch.where(known, change, torch.zeros((), dtype=change.dtype, device=change.device))
    smooth = _neighbour_correlation(change, known)
    if not bool(smooth.any()):
        return change
    return torch.where(smooth.view(-1, 1, 1, 1), harmonic_fill(change, known), change)


def _neighbour_correlation(change: Tensor, known: Tensor) -> Tensor:
    """Whether known neighbours are clearly correlated by more than 1/2: [B] bool."""
    is_known = known.to(change)
    product, squares, pairs = (torch.zeros(len(change), dtype=change.dtype, device=change.device) for _ in range(3))
    for along in (2, 3):
        length = change.shape[along] - 1
        first, second = change.narrow(along, 0, length), change.narrow(along, 1, length)
        both = is_known.narrow(along, 0, length) * is_known.narrow(along, 1, length)
        product = product + (both * first * second).sum((1, 2, 3))
        squares = squares + (both * (first.square() + second.square())).sum((1, 2, 3)) / 2
        pairs = pairs + both.sum((1, 2, 3))
    return product > (_HALF + _SIGNIFICANT * pairs.clamp(min=1).rsqrt()) * squares


def _from_half_size(values: Tensor, is_known: Tensor) -> Tensor:
    """The filled image at half the size, enlarged."""
    share = F.avg_pool2d(is_known, 2, ceil_mode=True)
    means = F.avg_pool2d(values, 2, ceil_mode=True) / torch.where(share > 0, share, 1.0)
    return F.interpolate(harmonic_fill(means, share > 0), size=values.shape[-2:], mode="bilinear")


def _around(x: Tensor) -> Tensor:
    """The sum of the four neighbours of each pixel, 0 outside."""
    wide = F.pad(x, (1, 1, 1, 1))
    return wide[..., :-2, 1:-1] + wide[..., 2:, 1:-1] + wide[..., 1:-1, :-2] + wide[..., 1:-1, 2:]


def _power(x: Tensor) -> Tensor:
    return x.square().sum((1, 2, 3), keepdim=True)


def _positive(x: Tensor) -> Tensor:
    return x.clamp(min=torch.finfo(x.dtype).tiny)
