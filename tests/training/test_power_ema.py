from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from diffstudio.errors import RunProblem
from diffstudio.training.power_ema import (
    LENGTHS,
    PowerAverages,
    Profile,
    decay,
    gamma_of,
    length_of,
    mixing,
    rebuilt_weights,
    save_snapshot,
)

STEPS = 2000


class Wanderer(nn.Module):
    """One parameter of four numbers that moves at random, but the same way each time."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4))
        generator = torch.Generator().manual_seed(0)
        self.path = (
            torch.randn(STEPS, 4, generator=generator).cumsum(0) * 0.05 + torch.arange(1, STEPS + 1)[:, None] ** 0.5
        )

    def move(self, step: int) -> None:
        with torch.no_grad():
            self.weight.copy_(self.path[step])


def test_exponents_are_those_of_the_paper() -> None:
    """Section 3.1 of arXiv 2312.02696: 0.05 and 0.10 are gamma 16.97 and 6.94."""
    assert gamma_of(0.05) == pytest.approx(16.97, abs=0.005) and gamma_of(0.10) == pytest.approx(6.94, abs=0.005)
    for length in (0.01, 0.05, 0.1, 0.2, 0.28):
        assert length_of(gamma_of(length)) == pytest.approx(length, rel=1e-9)
    for length in (0.0, -0.1, 0.3):
        with pytest.raises(ValueError, match="is not between"):
            gamma_of(length)


def test_the_length_is_the_standard_deviation_of_the_profile() -> None:
    gamma, tau = 6.94, np.linspace(0, 1, 100_001)
    profile = (gamma + 1) * tau**gamma
    mean = np.trapezoid(profile * tau, tau)
    assert np.trapezoid(profile, tau) == pytest.approx(1, rel=1e-4)
    assert np.trapezoid(profile * (tau - mean) ** 2, tau) ** 0.5 == pytest.approx(length_of(gamma), rel=1e-4)


def test_the_first_update_forgets_what_was_before() -> None:
    assert decay(5.0, 1) == 0.0 and decay(5.0, 100) == pytest.approx(0.99**6)


def followed(every: int) -> tuple[list[Profile], list[torch.Tensor]]:
    network = Wanderer()
    averages = PowerAverages(network)
    profiles, stored = [], []
    for step in range(STEPS):
        network.move(step)
        averages.update(network, step + 1)
        if (step + 1) % every == 0:
            for length in LENGTHS:
                profiles.append(Profile(step + 1, gamma_of(length)))
                stored.append(averages.state()[f"{length:g}"]["weight"].clone())
    return profiles, stored


def direct(length: float, steps: int) -> torch.Tensor:
    gamma, path = gamma_of(length), Wanderer().path.double()
    average = path[0]
    for step in range(steps):
        beta = decay(gamma, step + 1)
        average = beta * average + (1 - beta) * path[step]
    return average


@pytest.mark.parametrize("length", [0.02, 0.05, 0.07, 0.1, 0.15, 0.2])
@pytest.mark.parametrize("half", [False, True])
def test_an_average_of_any_length_is_rebuilt(length: float, half: bool) -> None:
    """Against the average that was followed directly, from 16 snapshots; or at half the time, from 8 in half precision."""
    profiles, stored = followed(STEPS // 16)
    at = STEPS // 2 if half else STEPS
    factors = mixing(profiles, Profile(at, gamma_of(length)))
    values = torch.stack(stored).half().double() if half else torch.stack(stored).double()
    rebuilt = (torch.from_numpy(factors)[:, None] * values).sum(0)
    exact = direct(length, at)
    spread = Wanderer().path[:at].double().std(0)
    assert float(((rebuilt - exact) / spread).abs().max()) < (0.06 if half else 0.02)
    assert float(factors.sum()) == pytest.approx(1, abs=1e-9)
    assert not factors[[index for index, one in enumerate(profiles) if one.t > at]].any()


def test_a_stored_average_is_rebuilt_as_itself() -> None:
    profiles, _ = followed(STEPS // 8)
    factors = mixing(profiles, profiles[-1])
    assert factors == pytest.approx(np.eye(len(profiles))[-1], abs=1e-5)


def test_its_state_comes_back() -> None:
    network, other = Wanderer(), Wanderer()
    averages, restored = PowerAverages(network), PowerAverages(other)
    for step in range(5):
        network.move(step)
        averages.update(network, step + 1)
    restored.restore(
        {length: {name: one.clone() for name, one in of.items()} for length, of in averages.state().items()}
    )
    network.move(5)
    for each in (averages, restored):
        each.update(network, 6)
    for length in averages.state():
        assert torch.equal(averages.state()[length]["weight"], restored.state()[length]["weight"])
    restored.restart(network)
    assert all(torch.equal(one["weight"], network.weight) for one in restored.state().values())


@pytest.mark.parametrize(
    ("change", "written", "why"),
    [
        ({"0.05/weight": None}, "1", "not those of the run's network"),
        ({"0.1/weight": torch.zeros(3)}, "1", "not those of the run's network"),
        ({"0.1/weight": torch.full((4,), torch.nan)}, "1", "not finite"),
        ({}, "2", "its format is 2"),
    ],
)
def test_a_snapshot_that_lacks_what_is_averaged_is_refused(
    tmp_path: Path, change: dict[str, torch.Tensor | None], written: str, why: str
) -> None:
    averages = PowerAverages(Wanderer())
    for step in (1, 2):
        save_snapshot(tmp_path, step, averages)
    assert torch.equal(rebuilt_weights(tmp_path, 2, 0.1)["weight"], torch.zeros(4))
    path = tmp_path / "00000002.safetensors"
    tensors = {name: one for name, one in (safetensors.torch.load_file(path) | change).items() if one is not None}
    safetensors.torch.save_file(tensors, path, {"format": written})
    with pytest.raises(RunProblem, match=why):
        rebuilt_weights(tmp_path, 2, 0.1)
