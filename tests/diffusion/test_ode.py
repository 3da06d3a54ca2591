"""The solver of differential equations, against equations whose solution is known."""

from __future__ import annotations

import math

import pytest
import torch

from diffstudio.diffusion.ode import OdeStep, State, dormand_prince
from tests.diffusion.exact import float64


def oscillator(time: float, state: State) -> State:
    """x'' = -x as two tensors: x and x'."""
    return state[1], -state[0]


def solved(tolerance: float, start: float, end: float) -> list[OdeStep]:
    state = float64(math.sin(start)).unsqueeze(0), float64(math.cos(start)).unsqueeze(0)
    return list(dormand_prince(oscillator, state, start, end, tolerance, tolerance))


@pytest.mark.parametrize(("start", "end"), [(0.0, 10.0), (10.0, 0.0)])
def test_it_follows_an_oscillation_in_either_direction(start: float, end: float) -> None:
    steps = solved(1e-8, start, end)
    assert steps[-1].time == end
    for step in steps:
        assert float(step.state[0]) == pytest.approx(math.sin(step.time), abs=2e-7)
    assert all((after.time - before.time) * (end - start) > 0 for before, after in zip(steps, steps[1:], strict=False))


def test_the_error_falls_with_the_tolerance_and_calls_grow_as_of_order_five() -> None:
    loose, tight = solved(1e-4, 0.0, 10.0), solved(1e-9, 0.0, 10.0)
    errors = [abs(float(steps[-1].state[0]) - math.sin(10)) for steps in (loose, tight)]
    assert errors[1] < 1e-4 * errors[0]
    assert tight[-1].calls / loose[-1].calls < 1.3 * (1e5) ** (1 / 5)


def test_a_sudden_change_is_passed_in_short_steps_that_are_tried_again() -> None:
    """y' = a bump, whose integral is nearly 1."""

    def bump(time: float, state: State) -> State:
        return (torch.full_like(state[0], math.exp(-(((time - 0.5) / 0.1) ** 2) / 2) / (0.1 * math.sqrt(2 * math.pi))),)

    steps = list(dormand_prince(bump, (torch.zeros(2, 3, dtype=torch.float64),), 0.0, 1.0, 1e-7, 1e-7))
    torch.testing.assert_close(steps[-1].state[0], torch.ones(2, 3, dtype=torch.float64), atol=1e-5, rtol=0)
    assert steps[-1].calls > 6 * len(steps) + 1  # some were tried again


def test_nothing_that_changes_takes_the_longest_steps() -> None:
    steps = list(dormand_prince(lambda _, state: (torch.zeros_like(state[0]),), (torch.ones(1, 1),), 0.0, 1.0))
    assert len(steps) <= 4 and steps[-1].time == 1.0


def test_the_worst_image_of_a_batch_decides() -> None:
    """Of y' = -k y, the image with the larger k needs more steps, also next to many with the smaller one."""

    def decay(time: float, state: State) -> State:
        return (-state[0] * rates,)

    rates = torch.ones(50, 1, dtype=torch.float64)
    slow = list(dormand_prince(decay, (torch.ones(50, 1, dtype=torch.float64),), 0.0, 1.0, 1e-8, 1e-8))
    rates[7] = 30.0
    fast = list(dormand_prince(decay, (torch.ones(50, 1, dtype=torch.float64),), 0.0, 1.0, 1e-8, 1e-8))
    assert fast[-1].calls > 2 * slow[-1].calls
    torch.testing.assert_close(fast[-1].state[0], (-rates).exp(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_end_it(value: float) -> None:
    with pytest.raises(ArithmeticError, match="no step from 0 is short enough"):
        list(dormand_prince(lambda _, state: (torch.full_like(state[0], value),), (torch.ones(1, 1),), 0.0, 1.0))
