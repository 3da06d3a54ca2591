"""Trainer: the steps, EMA weights and state of a run, for any objective. No files, no processes."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from diffstudio.errors import RunProblem
from diffstudio.networks.state_dict_keys import with_current_keys
from diffstudio.networks.unet import PixelNetwork
from diffstudio.training import optimisers
from diffstudio.training.data.batches import Batch, Batches, derived_seed
from diffstudio.training.distributed import sharding
from diffstudio.training.distributed.team import ALONE, Kind, Order, Team
from diffstudio.training.ema import ema_model
from diffstudio.training.objectives.build import build_objective
from diffstudio.training.objectives.objective import TEACHER, FixedLosses
from diffstudio.training.power_ema import PowerAverages
from diffstudio.training.recipe import Recipe
from diffstudio.training.recipe.objective_recipe import ObjectiveName


@dataclass(frozen=True, slots=True)
class StepResult:
    loss: float
    gradient_norm: float
    learning_rate: float  # of the first optimiser
    generator_loss: float | None = None  # of a GAN, whose `loss` is the discriminator's
    upper_loss: float | None = None  # of the upper level, if there is one; `loss` is the base's


class Trainer:
    """`step(batch)` makes one update; `state()` and `restore()` cover everything that the next update depends on."""

    def __init__(self, recipe: Recipe, *, classes: int, vocabulary: int, device: torch.device) -> None:
        """Weights initialised from the recipe's seed. `recipe.run.dtype` must be resolved: not `auto`."""
        self.recipe, self.device = recipe, device
        self.team: Team = ALONE
        self._whole: dict[Kind, tuple[int, nn.Module]] = {}  # of sharded weights: copies in one piece, by their step
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derived_seed(recipe.run.seed, "weights", 0))
            self.objective = build_objective(recipe, classes=classes, vocabulary=vocabulary, device=device)
        self.average = ema_model(self.objective.network, recipe.optimiser.ema)
        follows = recipe.run.ema_snapshots > 0 and recipe.objective.kind is ObjectiveName.DIFFUSION
        self.powers = PowerAverages(self.objective.network) if follows else None  # of the leading process only
        self.step_number = 0  # number of steps done
        self.elapsed_seconds = 0.0  # of all processes of the run, without the time it was paused or waited
        self.progress = 0.0  # the share of the run that is done, where its length is a time
        self.ends_after = math.inf  # seconds of training, once its learning rate began to fall early
        self.rate_scale = 1.0  # factor of all learning rates, below 1 after a roll-back
        self.held_out_losses: list[tuple[int, float]] = []  # step and loss
        self.fingerprint: str | None = None  # of the dataset that the run started with

    @property
    def network(self) -> nn.Module:
        """The network that is trained to generate; a copy where its weights are sharded."""
        return self._in_one_piece(self.objective.network, Kind.WEIGHTS)

    @property
    def ema_network(self) -> nn.Module:
        """The network with the averaged weights."""
        return self._in_one_piece(self.average.module, Kind.AVERAGE)

    @property
    def sharded(self) -> bool:
        return bool(self._whole)

    def join(self, team: Team, *, shard: bool = False) -> None:
        """Train with a team from now on, whose processes have the same state. `shard`: each keeps a part of it."""
        self.team = self.objective.team = team
        if not shard:
            return
        if self.powers is not None:
            raise RunProblem(
                "Post-hoc EMA is not possible",
                "the weights of this run are sharded over several processes",
                "Set run.ema_snapshots to 0",
            )
        state = self.state()
        for kind in (Kind.WEIGHTS, Kind.AVERAGE):
            self._whole[kind] = (-1, copy.deepcopy(self.objective.network))
        for network in (self.objective.network, self.average.module):
            assert isinstance(network, PixelNetwork)
            sharding.shard(network, self.device)
        self.average.requires_grad_(False)
        self.objective.rebuild_optimisers()
        self.restore(state)

    def gather(self, kind: Kind) -> None:
        """A process's part in gathering sharded weights, by order of the leader."""
        if kind is Kind.STATE:
            sharding.gathered(self._parts())
        else:
            sharded = self.objective.network if kind is Kind.WEIGHTS else self.average.module
            sharding.gathered(sharded.state_dict())

    def _in_one_piece(self, network: nn.Module, kind: Kind) -> nn.Module:
        if not self._whole:
            return network
        step, copied = self._whole[kind]
        if step != self.step_number:
            self.team.order(Order(kind))
            copied.load_state_dict(sharding.gathered(network.state_dict()))
            self._whole[kind] = (self.step_number, copied)
        return copied

    def begin_with(self, weights: Mapping[str, Any]) -> None:
        """Weights to start from, also of the average and of a teacher."""
        teacher = self.objective.others.get(TEACHER)
        for network in (self.objective.network, self.average.module, *([teacher] if teacher is not None else ())):
            network.load_state_dict(weights)

    def step(self, batch: Batch) -> StepResult:
        """One update. The loss is the mean over the batch, before the update."""
        optimisers.set_learning_rate(self.objective.optimisers, self._rate_multiplier() * self.rate_scale)
        update = self.objective.update(batch, self._share())
        if self.team.is_leader or self.sharded:  # the leader alone draws and measures with it
            self.average.update_parameters(self.objective.network)
        self.step_number += 1
        if self.powers is not None and self.team.is_leader:
            self.powers.update(self.objective.network, self.step_number)
        rate = self.objective.optimisers[0].param_groups[0]["lr"]
        return StepResult(update.loss, update.gradient_norm, rate, update.generator_loss, update.upper_loss)

    def _rate_multiplier(self) -> float:
        """By the steps, or the time, since the run started or was last continued."""
        run = self.recipe.run
        step = self.step_number - run.first_step
        if run.schedule == "time":
            return optimisers.multiplier_by_time(self.recipe.optimiser, step, self.progress)
        return optimisers.learning_rate_multiplier(self.recipe.optimiser, step, run.steps - run.first_step)

    def _share(self) -> float:
        """The completed share of the run; 1 in an extended run, whose schedules have ended."""
        run = self.recipe.run
        if run.first_step:
            return 1.0
        return self.progress if run.schedule == "time" else self.step_number / run.steps

    def fixed_losses(self, batches: Batches) -> FixedLosses | None:
        """The held-out measure of the EMA weights; None without held-out images."""
        return self.objective.fixed_losses(self.ema_network, batches)

    def state(self) -> dict[str, Any]:
        """The training state for `torch.save`. The keys are a file format."""
        if self.sharded:
            self.team.order(Order(Kind.STATE))
        parts = sharding.gathered(self._parts()) if self.sharded else self._parts()
        return {
            "step": self.step_number,
            "elapsed_seconds": self.elapsed_seconds,
            "fingerprint": self.fingerprint,
            "progress": self.progress,
            "ends_after": self.ends_after,
            "rate_scale": self.rate_scale,
            "held_out_losses": self.held_out_losses,
        } | parts

    def _parts(self) -> dict[str, Any]:
        """The tensors of the state: with sharded weights, this process's parts of them."""
        others = {name: network.state_dict() for name, network in self.objective.others.items()}
        powers = {} if self.powers is None else {"power_averages": self.powers.state()}
        return (
            {
                "network": self.objective.network.state_dict(),
                "average": self.average.state_dict(),
                "optimisers": [optimiser.state_dict() for optimiser in self.objective.optimisers],
            }
            | ({"others": others} if others else {})
            | powers
        )

    def restore(self, state: Mapping[str, Any]) -> None:
        """Load what `state()` returned. KeyError, ValueError, RuntimeError when it does not fit this network."""
        step, elapsed_seconds = state["step"], state["elapsed_seconds"]
        if type(step) is not int or step < 0 or not isinstance(elapsed_seconds, (int, float)):
            raise ValueError("its step or elapsed time is missing")
        load = sharding.load_weights if self.sharded else nn.Module.load_state_dict
        load(self.objective.network, with_current_keys(state["network"]))
        load(self.average, with_current_keys(state["average"]))
        for name, network in self.objective.others.items():
            network.load_state_dict(state["others"][name])
        if self.powers is not None:
            if "power_averages" in state:
                self.powers.restore(state["power_averages"])
            else:  # this run had no such averages until now
                self.powers.restart(self.average.module)
        for optimiser, stored in zip(self.objective.optimisers, state["optimisers"], strict=True):
            # Only what was learned is restored: rates and the like are those of the recipe, which may have been changed.
            settings = [{name: group[name] for name in group if name != "params"} for group in optimiser.param_groups]
            optimiser.load_state_dict(stored)
            for group, values in zip(optimiser.param_groups, settings, strict=True):
                group.update(values)
        if self.sharded:
            sharding.shard_optimiser_state(self.objective.optimisers)
        self.step_number, self.elapsed_seconds = step, float(elapsed_seconds)
        self.fingerprint = state["fingerprint"]
        self.progress, self.rate_scale = float(state.get("progress", 0.0)), float(state.get("rate_scale", 1.0))
        self.ends_after = float(state.get("ends_after", math.inf))
        self.held_out_losses = [(int(at), float(loss)) for at, loss in state.get("held_out_losses", ())]
