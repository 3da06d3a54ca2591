"""Several processes train as one does: the same draws, losses, gradients and weights, whatever the split."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from diffstudio.diffusion.objectives.parameterisation import Prediction
from diffstudio.errors import RunProblem
from diffstudio.networks.conditioning import Conditioning
from diffstudio.training.data.batches import Batch, Batches
from diffstudio.training.distributed import team as team_module
from diffstudio.training.distributed.team import ALONE, Kind, Order, Processes, Team
from diffstudio.training.recipe import ObjectiveRecipe, Recipe
from diffstudio.training.recipe.objective_recipe import GanLossName, NoiseLevelsName
from diffstudio.training.recipe.optimiser_recipe import OptimiserName
from diffstudio.training.trainer import Trainer
from tests.training.distributed.threads import together
from tests.training.objectives.small import CPU, dataset, recipe

STEPS, BATCH = 20, 6
IMAGES = dataset(40, 8)
CLOSE = 1e-5


def diffusion() -> Recipe:
    of = recipe("diffusion")
    return replace(
        of,
        network=replace(of.network, heads=2, margin=1, drop_condition=0.1),
        data=replace(of.data, flips=0.5, rotation_degrees=10.0, augment_labels=True),
        optimiser=replace(of.optimiser, name=OptimiserName.MUON, muon_dtype="float32", clip_norm=2.0),
    )


def without_adam(of: Recipe) -> Recipe:
    """Adam without momentum turns the rounding error of a gradient of nearly 0 into a step as large as any."""
    return replace(of, optimiser=replace(of.optimiser, name=OptimiserName.SGD, momentum=0.9))


KINDS: dict[str, Callable[[], Recipe]] = {
    "diffusion": diffusion,
    "edm": lambda: replace(diffusion(), objective=ObjectiveRecipe(prediction=Prediction.EDM, learned_variance=True)),
    "adaptive": lambda: replace(diffusion(), objective=ObjectiveRecipe(NoiseLevelsName.ADAPTIVE)),
    "perceptual": lambda: without_adam(replace(diffusion(), objective=ObjectiveRecipe(perceptual=3.0))),
    "vae": lambda: recipe("vae"),
    "gan": lambda: without_adam(recipe("gan", diff_augment="on")),
    "gan-plain": lambda: without_adam(recipe("gan", gan_loss=GanLossName.NON_SATURATING)),
}


def small(kind: str) -> Recipe:
    of = KINDS[kind]()
    return replace(of, run=replace(of.run, batch=BATCH))


def trainer_of(of: Recipe) -> Trainer:
    return Trainer(of, classes=2, vocabulary=0, device=CPU)


class Record:
    """What the updates of a trainer are made of."""

    def __init__(self, trainer: Trainer) -> None:
        self.losses: list[float] = []
        self.gradients: list[Tensor] = []  # of all networks, clipped
        self._of_step: list[Tensor] = []
        for optimiser in trainer.objective.optimisers:
            optimiser.register_step_pre_hook(self._note)

    def _note(self, optimiser: torch.optim.Optimizer, *_: Any) -> None:
        groups = optimiser.param_groups
        found = [each.grad.flatten() for group in groups for each in group["params"] if each.grad is not None]
        self._of_step.append(torch.cat(found).clone())

    def step(self, trainer: Trainer, batch: Batch) -> None:
        self._of_step.clear()
        self.losses.append(trainer.step(batch).loss)
        self.gradients.append(torch.cat(self._of_step))

    def is_close_to(self, other: Record) -> bool:
        losses = zip(self.losses, other.losses, strict=True)
        gradients = zip(self.gradients, other.gradients, strict=True)
        return all(abs(one - two) < CLOSE * max(1, abs(two)) for one, two in losses) and all(
            float((one - two).norm()) < CLOSE * float(two.norm()) for one, two in gradients
        )


def trained(trainer: Trainer, team: Team, steps: int = STEPS) -> Record:
    trainer.join(team)
    batches, record = Batches(IMAGES, trainer.recipe, None, team), Record(trainer)
    for step in range(steps):
        record.step(trainer, batches.at(step))
    return record


def weights(trainer: Trainer) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in trainer.network.parameters()])


@cache
def alone(kind: str, steps: int = STEPS) -> tuple[Record, Tensor]:
    """What one process does, and its last weights."""
    trainer = trainer_of(small(kind))
    return trained(trainer, ALONE, steps), weights(trainer)


@pytest.mark.parametrize(
    ("kind", "world"),
    [("diffusion", 2), ("diffusion", 3), ("edm", 2), ("adaptive", 2), ("vae", 2), ("gan", 2), ("gan-plain", 2)],
)
def test_twenty_steps_are_those_of_one_process_with_the_same_global_batch(kind: str, world: int) -> None:
    expected, weights_alone = alone(kind)
    trainers = [trainer_of(small(kind)) for _ in range(world)]
    records = together(world, lambda team: trained(trainers[team.rank], team))
    assert all(record.is_close_to(expected) for record in records)
    assert all(torch.equal(weights(trainers[0]), weights(other)) for other in trainers[1:])
    torch.testing.assert_close(weights(trainers[0]), weights_alone, rtol=0, atol=1e-4)


def test_a_perceptual_loss_is_that_of_the_global_batch_too() -> None:
    """In two steps: its features have kinks, at which rounding errors of gradients grow."""
    expected, _ = alone("perceptual", 2)
    trainers = [trainer_of(small("perceptual")) for _ in range(2)]
    records = together(2, lambda team: trained(trainers[team.rank], team, 2))
    assert all(record.is_close_to(expected) for record in records)


def test_the_mean_of_each_process_alone_would_not_do() -> None:
    """The loss of a VAE is a function of the mean error of the batch: without the exchange its gradients differ."""
    expected, _ = alone("vae", 2)

    class Careless(Processes):
        def mean(self, own: Tensor, portion: Any) -> Tensor:
            return own * portion.share

    trainers = [trainer_of(small("vae")) for _ in range(2)]

    def careless(team: Processes) -> Record:
        team.__class__ = Careless
        return trained(trainers[team.rank], team, 2)

    assert not together(2, careless)[0].is_close_to(expected)


def test_random_numbers_do_not_depend_on_the_split() -> None:
    """Images, augmentation, conditions, times and noise of all parts are together those of the whole batch, to the bit."""
    of = diffusion()
    of = replace(of, run=replace(of.run, batch=7), network=replace(of.network, conditioning=Conditioning.CLASS))

    class Member(Team):
        def __init__(self, rank: int) -> None:
            self.rank, self.world = rank, 3

    whole = Batches(IMAGES, of, None).at(4)
    parts = [Batches(IMAGES, of, None, Member(rank)).at(4) for rank in range(3)]
    assert [len(part.images) for part in parts] == [2, 2, 3]
    assert torch.equal(torch.cat([part.images for part in parts]), whole.images)
    for name in ("class_labels", "augment_labels"):
        assert torch.equal(torch.cat([getattr(part.condition, name) for part in parts]), getattr(whole.condition, name))
    noise = [part.portion.cut(torch.randn(part.portion.total, 3, generator=part.generator)) for part in parts]
    assert torch.equal(torch.cat(noise), torch.randn(7, 3, generator=whole.generator))


def test_a_function_of_a_mean_has_the_gradient_of_the_whole_batch() -> None:
    values = torch.tensor([1.0, 2.0, 4.0, 5.0, 7.0])
    factor = torch.tensor(3.0, requires_grad=True)
    ((factor * values).mean().log()).backward()

    def part(team: Processes) -> Tensor:
        own, portion = torch.tensor(3.0, requires_grad=True), team.portion(5)
        team.mean((own * portion.cut(values)).mean(), portion).log().backward()
        team.sum_gradients([own])
        assert own.grad is not None
        return own.grad

    for gradient in together(2, part):
        torch.testing.assert_close(gradient, factor.grad)


def test_gradients_are_summed_bucket_by_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever their shapes and data types; parameters without one are left out."""
    monkeypatch.setattr(team_module, "_BUCKET_BYTES", 24)

    def summed(team: Processes) -> list[Tensor]:
        parameters = [torch.zeros(shape, requires_grad=True) for shape in ((2, 3), (5,), (), (1,))]
        parameters.append(torch.zeros(4, dtype=torch.float64, requires_grad=True))
        for index, each in enumerate(parameters):
            if index != 3:
                each.grad = torch.full_like(each, 10.0**index * (team.rank + 1))
        team.sum_gradients(parameters)
        assert parameters[3].grad is None
        return [each.grad for each in parameters if each.grad is not None]

    for found in together(2, summed):
        assert [float(each.sum()) for each in found] == [3 * 6, 30 * 5, 300, 30000 * 4]


def test_the_others_do_what_the_leader_orders() -> None:
    def act(team: Processes) -> list[object]:
        if team.is_leader:
            team.order(Order(Kind.STEP, 2**40 + 1, 0.1, 0.5))
            shared = team.share(b"a state")
            empty = team.share(b"")
            time.sleep(0.3)  # the leader draws samples, and says meanwhile that it is there
            team.close()
            return [shared, empty]
        return [team.receive(), team.share(b""), team.share(b""), team.receive().kind]

    lead, other = together(2, act, beat=0.05)
    assert lead == [b"a state", b""]
    assert other == [Order(Kind.STEP, 2**40 + 1, 0.1, 0.5), b"a state", b"", Kind.END]


def test_who_should_get_a_state_and_is_sent_home_says_so() -> None:
    def act(team: Processes) -> None:
        if team.is_leader:
            team.close()
        else:
            team.share(b"")

    with pytest.raises(RunProblem, match="ended before this process could take part"):
        together(2, act)


@pytest.mark.parametrize("leader_ends", [True, False])
def test_a_process_that_ends_ends_the_others_with_a_sentence(leader_ends: bool) -> None:
    ended = threading.Event()

    def act(team: Processes) -> str:
        if team.is_leader is leader_ends:
            ended.set()
            team._gradients = team._orders = None  # closes the connections, as the end of a process does
            return ""
        ended.wait()
        try:
            if team.is_leader:
                while True:
                    team.order(Order(Kind.STEP))
            team.receive()
        except RunProblem as error:
            return str(error)
        return "nothing was noticed"

    said = "".join(together(2, act))
    assert said.startswith("Training stopped because one of its processes has ended:")
    assert said.endswith("Resume the run from its last saved state.")
    assert ("the first one has" in said) is leader_ends and "gloo" not in said


def test_alone_nothing_changes() -> None:
    value, parameter = torch.tensor([1.0, math.pi]), torch.zeros(2, requires_grad=True)
    parameter.grad = value.clone()
    assert ALONE.mean(value, ALONE.portion(2)) is value
    ALONE.sum_gradients([parameter])
    assert torch.equal(parameter.grad, value)
    assert ALONE.share(b"x") == b"x" and ALONE.is_leader
    portion = ALONE.portion(2)
    assert portion.share == 1 and portion.cut(value) is value
