"""K-fold cross-validation for folders too small to hold out enough images: pure functions of losses.

Each of K networks is trained without one fold of the images, so that every image is held out by one of them. The mean
loss over all images says after how many steps training should end (Stone 1974, "Cross-validatory choice").
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from diffstudio.evaluation.interval import Interval, mean_interval
from diffstudio.training.objectives.objective import FixedLosses

MIN_STEPS_BETWEEN = 5  # measurements; later, a sixth of the steps done so far
_SHARE_BETWEEN = 6


@dataclass(frozen=True, slots=True)
class CrossValidation:
    """What a cross-validation measured."""

    splits: int  # its folds
    images: int  # held out by one of its networks
    losses: tuple[tuple[int, float], ...]  # step and mean loss over these images, of all measurements
    low: float  # the 95% interval of the lowest of them
    high: float
    baseline: float | None = None  # the loss of Gaussian models of the folds

    @property
    def best(self) -> tuple[int, float]:
        """Step and loss of the lowest measurement."""
        return min(self.losses, key=lambda measured: measured[1] if math.isfinite(measured[1]) else math.inf)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> CrossValidation:
        losses = tuple((int(step), float(loss)) for step, loss in values["losses"])
        return cls(**{**values, "losses": losses})


@dataclass(frozen=True, slots=True)
class PooledLosses:
    """One measurement of all networks, on the images that each of them holds out."""

    loss: Interval  # over all images
    levels: tuple[float, ...]  # noise levels t
    held_out: tuple[float, ...]  # mean over all images at each level
    training: tuple[float, ...]  # of the networks on as many images that they were trained on
    images: int


def pooled(measured: Sequence[FixedLosses]) -> PooledLosses:
    """The losses of the networks of all folds, each image with the same weight.

    The interval takes the images as independent; that all networks share most of their training images makes it a little
    too narrow, and there is no unbiased estimate of by how much (Bengio and Grandvalet 2004).
    """
    of_images = [loss for losses in measured for loss in losses.of_images]
    weights = [len(losses.of_images) / len(of_images) for losses in measured]
    interval = mean_interval(of_images) if all(map(math.isfinite, of_images)) else Interval(*[math.nan] * 3)
    return PooledLosses(
        interval,
        measured[0].levels,
        _mean([losses.held_out for losses in measured], weights),
        _mean([losses.training for losses in measured], weights),
        len(of_images),
    )


def _mean(rows: Sequence[Sequence[float]], weights: Sequence[float]) -> tuple[float, ...]:
    """The weighted mean [L] of rows [K][L]."""
    return tuple(sum(w * value for w, value in zip(weights, column, strict=True)) for column in zip(*rows, strict=True))


def next_measurement(step: int, steps: int) -> int:
    """The step of the measurement that follows one at `step` (0 before the first), in a run of so many; 0: not known.

    A small folder may be learned in a few dozen steps of thousands: measurements are close at first.
    """
    between = max(1, min(MIN_STEPS_BETWEEN, steps // 8)) if steps else MIN_STEPS_BETWEEN
    return step + max(between, step // _SHARE_BETWEEN)


def has_passed_minimum(losses: Sequence[tuple[int, float]], patience: int) -> bool:
    """Whether at least `patience` measurements came after the lowest one; never for a patience of 0."""
    if not patience or not losses:
        return False
    lowest = min(
        range(len(losses)), key=lambda index: losses[index][1] if math.isfinite(losses[index][1]) else math.inf
    )
    return len(losses) - 1 - lowest >= patience
