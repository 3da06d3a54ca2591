"""Holes filled by Laplace's equation against its exact solution, and only where known neighbours are alike."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from diffstudio.diffusion.restoration import continuation
from diffstudio.diffusion.restoration.continuation import continued, harmonic_fill


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def solved(values: Tensor, known: Tensor) -> Tensor:
    """The exact solution for one plane [H,W], by its matrix."""
    height, width = values.shape
    flat, is_known = values.flatten().numpy(), known.flatten().numpy()
    matrix = np.eye(height * width)
    for index in np.flatnonzero(~is_known):
        y, x = divmod(int(index), width)
        near = [(y + dy, x + dx) for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0))]
        near = [(down, across) for down, across in near if 0 <= down < height and 0 <= across < width]
        for down, across in near:
            matrix[index, down * width + across] = -1 / len(near)
    return torch.from_numpy(np.linalg.solve(matrix, np.where(is_known, flat, 0))).view(height, width)


@pytest.mark.parametrize("hole", ["inside", "at the edge", "scattered"])
def test_each_value_is_the_mean_of_its_neighbours(hole: str) -> None:
    values, known = drawn(2, 3, 13, 10), torch.ones(1, 1, 13, 10, dtype=torch.bool)
    if hole == "inside":
        known[..., 4:9, 3:8] = False
    elif hole == "at the edge":
        known[..., 6:, :7] = False
    else:
        known = drawn(2, 1, 13, 10) > 0.3  # another one for each image
    filled = harmonic_fill(values, known)
    where = known.expand(2, 3, 13, 10)
    assert torch.equal(filled[where], values[where])
    for plane, (expected, seen) in enumerate(zip(values.flatten(0, 1), where.flatten(0, 1), strict=True)):
        assert torch.allclose(filled.flatten(0, 1)[plane], solved(expected, seen), atol=1e-3)


def test_a_ramp_goes_on_through_a_large_hole() -> None:
    down, across = torch.meshgrid(torch.arange(64.0), torch.arange(80.0), indexing="ij")
    ramp = (0.3 + 0.02 * across - 0.03 * down)[None, None]
    known = torch.ones(1, 1, 64, 80, dtype=torch.bool)
    known[..., 10:50, 10:60] = False
    assert torch.allclose(harmonic_fill(ramp, known), ramp, atol=0.01)
    assert torch.equal(harmonic_fill(ramp, known), continued(ramp, known))


def test_nothing_missing_and_nothing_known() -> None:
    values, every = drawn(1, 3, 6, 6), torch.ones(1, 1, 6, 6, dtype=torch.bool)
    assert torch.equal(harmonic_fill(values, every), values)
    assert torch.equal(harmonic_fill(values, ~every), torch.zeros_like(values))
    assert torch.equal(continued(values, ~every), torch.zeros_like(values))


def test_only_changes_that_are_alike_in_neighbours_are_continued() -> None:
    """The first is white, the second the same everywhere, the third half of both: its correlation is 0.2."""
    white, same = drawn(1, 3, 16, 16), torch.ones(1, 3, 16, 16, dtype=torch.float64)
    changes = torch.cat([white, same, white + 0.5 * same])
    known = torch.ones(1, 1, 16, 16, dtype=torch.bool)
    known[..., 5:11, 5:11] = False
    found = continued(changes, known)
    where = known.expand(3, 3, 16, 16)
    assert torch.equal(found[where], changes[where])
    assert found[0][~where[0]].abs().max() == 0 and found[2][~where[2]].abs().max() == 0
    assert torch.allclose(found[1], same[0], atol=1e-4)


def test_the_iterations_are_bounded_and_start_near_the_solution(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(continuation, "_MOST_ITERATIONS", 1)
    down, across = torch.meshgrid(torch.linspace(-1, 1, 64), torch.linspace(-1, 1, 64), indexing="ij")
    saddle = (across.square() - down.square())[None, None]  # each value is the mean of its neighbours
    known = torch.ones(1, 1, 64, 64, dtype=torch.bool)
    known[..., 8:56, 8:56] = False
    away = (harmonic_fill(saddle, known) - saddle).square().mean().sqrt()
    assert 1e-3 < away < 0.05  # 0.25 with nothing filled in
