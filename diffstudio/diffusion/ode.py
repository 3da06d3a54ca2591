"""An adaptive solver of ordinary differential equations: the Runge-Kutta pair of Dormand & Prince, of orders 5 and 4."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

State = tuple[Tensor, ...]  # each [B,...], floating point; all images of a batch take the same steps
Derivative = Callable[[float, State], State]  # time, state -> its derivative

# Dormand & Prince 1980, table 2. Row i has the weights of the earlier derivatives in the state at the fraction _C[i].
_C = (1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
_A = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (
        35 / 384,
        0.0,
        500 / 1113,
        125 / 192,
        -2187 / 6784,
        11 / 84,
    ),  # the solution of order 5, and first stage of the next step
)
_FOURTH_ORDER = (5179 / 57600, 0.0, 7571 / 16695, 393 / 640, -92097 / 339200, 187 / 2100, 1 / 40)
_ERROR = tuple(fifth - fourth for fifth, fourth in zip((*_A[-1], 0.0), _FOURTH_ORDER, strict=True))

_SAFETY, _SMALLEST_FACTOR, _LARGEST_FACTOR = 0.9, 0.2, 5.0  # step size control: Hairer, Norsett & Wanner, eq. II.4.13
_FIRST_STEP = 1 / 50  # as a share of the whole time
_SMALLEST_STEP = 1e-6


class OdeStep(NamedTuple):
    """The solution after a step. `calls` counts all evaluations of the derivative so far, including rejected steps."""

    time: float
    state: State
    calls: int


def dormand_prince(
    derivative: Derivative,
    state: State,
    start: float,
    end: float,
    relative_tolerance: float = 1e-5,
    absolute_tolerance: float = 1e-5,
) -> Iterator[OdeStep]:
    """Solve d state / d time = derivative from `start` to `end`, in either direction; the last step ends exactly at `end`.

    The tolerances bound the error of each part of the state: the root mean square over its values, for the worst image of
    the batch. ArithmeticError if no step is short enough, for example because of values that are not finite.
    """
    time, calls = start, 1
    step = (end - start) * _FIRST_STEP
    slopes = [derivative(time, state)]
    while time != end:
        if abs(step) >= abs(end - time):
            step = end - time
        for row, fraction in zip(_A, _C, strict=True):
            reached = _moved(state, slopes, row, step)
            slopes.append(derivative(time + fraction * step, reached))
        calls += len(_A)
        zero = tuple(torch.zeros_like(part) for part in state)
        error = _moved(zero, slopes, _ERROR, step)
        ratio = _largest_ratio(error, state, reached, relative_tolerance, absolute_tolerance)
        if ratio <= 1:
            time = end if step == end - time else time + step
            state, slopes = reached, slopes[-1:]
            yield OdeStep(time, state, calls)
        else:
            slopes = slopes[:1]
        step *= _factor(ratio)
        if time != end and not abs(step) > _SMALLEST_STEP * abs(end - start):
            raise ArithmeticError(f"no step from {time:g} is short enough")


def _moved(state: State, slopes: Sequence[State], weights: Sequence[float], step: float) -> State:
    """state + step * sum of weights * slopes."""
    used = [(step * weight, slope) for weight, slope in zip(weights, slopes, strict=True) if weight]
    return tuple(part + sum(weight * slope[index] for weight, slope in used) for index, part in enumerate(state))


def _largest_ratio(error: State, before: State, after: State, relative: float, absolute: float) -> float:
    """The largest error divided by its tolerance; infinite if it is NaN."""
    ratios = []
    for wrong, one, other in zip(error, before, after, strict=True):
        allowed = absolute + relative * torch.maximum(one.abs(), other.abs())
        ratios.append((wrong / allowed).square().flatten(1).mean(1).sqrt().max())
    ratio = float(torch.stack(ratios).max())
    return ratio if ratio == ratio else float("inf")  # noqa: PLR0124 (NaN)


def _factor(ratio: float) -> float:
    """The factor for the next step size: the error is proportional to the fifth power of the step size."""
    if ratio == 0:
        return _LARGEST_FACTOR
    return min(_LARGEST_FACTOR, max(_SMALLEST_FACTOR, _SAFETY * float(ratio ** (-1 / 5))))
