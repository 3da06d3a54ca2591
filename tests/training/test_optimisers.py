"""Every optimiser goes downhill on a bowl; the learning rate's schedule."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from diffstudio.training import optimisers
from diffstudio.training.recipe import OptimiserRecipe
from diffstudio.training.recipe.optimiser_recipe import DecayName, OptimiserName


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
    built = optimisers.build_optimisers(
        OptimiserRecipe(name=name, learning_rate=0.02, muon_learning_rate=0.1, momentum=0.5), bowl
    )
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
        for optimiser in optimisers.build_optimisers(OptimiserRecipe(name=name), bowl)
        for group in optimiser.param_groups
        for parameter in group["params"]
    ]
    assert sorted(held) == sorted(id(parameter) for parameter in bowl.parameters())


def test_the_rate_rises_stays_and_falls() -> None:
    recipe = OptimiserRecipe(warm_up_steps=10, decay=DecayName.LINEAR, decay_share=0.5)
    multipliers = [optimisers.learning_rate_multiplier(recipe, step, 100) for step in range(100)]
    assert multipliers[0] == 0.1 and multipliers[9] == multipliers[50] == 1.0
    assert multipliers[75] == pytest.approx(0.5) and multipliers[99] == pytest.approx(0.02)
    assert min(multipliers) > 0


@pytest.mark.parametrize("decay", list(DecayName))
def test_the_rate_before_the_first_step_of_a_continued_run(decay: DecayName) -> None:
    """Where a run that diverges goes back to."""
    recipe = OptimiserRecipe(warm_up_steps=10, decay=decay, decay_share=0.5)
    assert optimisers.learning_rate_multiplier(recipe, -240, 100) == 0.1
    assert optimisers.multiplier_by_time(recipe, -240, -0.2) == 0.1


def test_cosine_and_constant() -> None:
    recipe = OptimiserRecipe(warm_up_steps=0, decay=DecayName.COSINE, decay_share=1.0)
    assert optimisers.learning_rate_multiplier(recipe, 50, 100) == pytest.approx(0.5)
    constant = OptimiserRecipe(warm_up_steps=0, decay=DecayName.CONSTANT)
    assert optimisers.learning_rate_multiplier(constant, 99, 100) == 1.0


def test_a_short_run_still_has_most_of_its_rate() -> None:
    assert optimisers.learning_rate_multiplier(OptimiserRecipe(warm_up_steps=200, decay_share=0.3), 10, 20) == 1.0


def test_muon_in_float32_makes_the_steps_of_torchs_within_bfloat16() -> None:
    torch.manual_seed(0)
    one, other = Bowl(), Bowl()
    other.load_state_dict(one.state_dict())
    for bowl, dtype in ((one, "bfloat16"), (other, "float32")):
        recipe = OptimiserRecipe(muon_learning_rate=0.02, weight_decay=0.1, muon_dtype=dtype)
        muon = optimisers.build_optimisers(recipe, bowl)[0]
        for _ in range(10):
            bowl.zero_grad()
            bowl.loss().backward()
            muon.step()
    assert isinstance(muon, optimisers.Muon)
    torch.testing.assert_close(one.blocks[0].weight, other.blocks[0].weight, rtol=0.02, atol=0.01)
    assert not torch.equal(one.blocks[0].weight, other.blocks[0].weight)


def test_muon_leaves_matrices_without_gradients_as_they_are() -> None:
    moved, frozen = torch.ones(2, 2, requires_grad=True), torch.ones(2, 2, requires_grad=True)
    muon = optimisers.Muon([moved, frozen], lr=0.1, weight_decay=0.5)
    muon.step()
    assert torch.equal(moved, frozen)
    moved.grad = torch.eye(2)
    muon.step()
    assert torch.equal(frozen, torch.ones(2, 2)) and (moved < 1).all()
    assert frozen not in muon.state and "momentum_buffer" in muon.state[moved]


@pytest.mark.parametrize("shape", [(6, 3), (3, 6)])
def test_muon_in_float32_makes_matrices_nearly_orthogonal(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = optimisers._orthogonal(matrix, (3.4445, -4.7750, 2.0315), 5, 1e-7)
    values = torch.linalg.svdvals(found)
    assert found.shape == shape and values.min() > 0.6 and values.max() < 1.3


@pytest.mark.parametrize("shape", [(6, 3), (3, 6)])
def test_stacked_matrices_become_what_each_does_alone(shape: tuple[int, int]) -> None:
    stack = torch.randn(4, *shape, generator=torch.Generator().manual_seed(0))
    together = optimisers._orthogonal(stack, (3.4445, -4.7750, 2.0315), 5, 1e-7)
    for matrix, found in zip(stack, together, strict=True):
        torch.testing.assert_close(found, optimisers._orthogonal(matrix, (3.4445, -4.7750, 2.0315), 5, 1e-7))
