"""Every optimiser goes downhill on a bowl; the learning rate's shape; the average in closed form."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from diffstudio.training import optimisers
from diffstudio.training.recipe import DecayName, OptimiserName, OptimiserRecipe


class Bowl(nn.Module):
    """A matrix that Muon takes and a vector that it does not."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(4, 4)])

    def loss(self) -> torch.Tensor:
        return sum((parameter - 1).square().sum() for parameter in self.parameters())  # type: ignore[return-value]


@pytest.mark.parametrize("name", list(OptimiserName))
def test_goes_downhill(name: OptimiserName) -> None:
    torch.manual_seed(0)
    bowl = Bowl()
    built = optimisers.build(OptimiserRecipe(name=name, learning_rate=0.02, muon_learning_rate=0.1, momentum=0.5), bowl)
    before = bowl.loss().item()
    for _ in range(100):
        bowl.loss().backward()
        for optimiser in built:
            optimiser.step()
            optimiser.zero_grad()
    assert bowl.loss().item() < 0.1 * before


@pytest.mark.parametrize("name", list(OptimiserName))
def test_every_parameter_is_in_exactly_one_group(name: OptimiserName) -> None:
    bowl = Bowl()
    held = [
        id(parameter)
        for optimiser in optimisers.build(OptimiserRecipe(name=name), bowl)
        for group in optimiser.param_groups
        for parameter in group["params"]
    ]
    assert sorted(held) == sorted(id(parameter) for parameter in bowl.parameters())


def test_the_rate_rises_stays_and_falls() -> None:
    recipe = OptimiserRecipe(warm_up_steps=10, decay=DecayName.LINEAR, decay_share=0.5)
    heights = [optimisers.learning_rate_multiplier(recipe, step, 100) for step in range(100)]
    assert heights[0] == 0.1 and heights[9] == heights[50] == 1.0
    assert heights[75] == pytest.approx(0.5) and heights[99] == pytest.approx(0.02)
    assert min(heights) > 0


def test_cosine_and_constant() -> None:
    recipe = OptimiserRecipe(warm_up_steps=0, decay=DecayName.COSINE, decay_share=1.0)
    assert optimisers.learning_rate_multiplier(recipe, 50, 100) == pytest.approx(0.5)
    constant = OptimiserRecipe(warm_up_steps=0, decay=DecayName.CONSTANT)
    assert optimisers.learning_rate_multiplier(constant, 99, 100) == 1.0


def test_a_short_run_still_has_most_of_its_rate() -> None:
    assert optimisers.learning_rate_multiplier(OptimiserRecipe(warm_up_steps=200, decay_share=0.3), 10, 20) == 1.0


def test_the_average_is_the_exponential_one_with_a_short_beginning() -> None:
    line = nn.Linear(1, 1, bias=False)
    average = optimisers.averaged(line, decay=0.5)
    expected = None
    for update, value in enumerate([1.0, 5.0, -3.0, 2.0, 8.0]):
        with torch.no_grad():
            line.weight.fill_(value)
        average.update_parameters(line)
        kept = min(0.5, (1 + update) / (10 + update))
        expected = value if expected is None else kept * expected + (1 - kept) * value
    assert average.module.weight.item() == pytest.approx(expected)  # type: ignore[union-attr, operator]
