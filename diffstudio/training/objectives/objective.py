"""Objective: the losses, updates and measures of one kind of model. The trainer adds steps, EMA weights and state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from diffstudio.models.model import Model
from diffstudio.networks.caption_tokenizer import CaptionTokenizer
from diffstudio.training.data.batches import Batch, Batches
from diffstudio.training.distributed.sharding import number
from diffstudio.training.distributed.team import Team
from diffstudio.training.optimisers import Optimisers
from diffstudio.training.recipe.objective_recipe import ObjectiveName

TEACHER = "teacher"  # key of the network that a few-steps run learns from, in `others` and in the training state


@dataclass(frozen=True, slots=True)
class Update:
    """The report of one update; losses are those before the update."""

    loss: float
    gradient_norm: float
    generator_loss: float | None = None  # of a GAN, whose `loss` is the discriminator's
    upper_loss: float | None = None  # of the upper level, if there is one; `loss` is the base's


@dataclass(frozen=True, slots=True)
class FixedLosses:
    """The held-out measure on the held-out images and on as many training images, with the same noise every time."""

    levels: tuple[float, ...]  # t, increasing; empty if the measure has no noise levels
    held_out: tuple[float, ...]  # mean at each level; empty without levels
    training: tuple[float, ...]  # mean at each level, or a single value without levels
    loss: float  # on the held-out images, over all levels
    learned_levels: tuple[float, ...] = ()  # t at which the run knows the loss of its training batches
    learned: tuple[float, ...] = ()  # that loss, in the units of the others
    drawn: tuple[float, ...] = ()  # density of adaptive noise levels at these t
    upper: float | None = None  # the loss of the upper level on the held-out images, if there is one
    of_images: tuple[float, ...] = ()  # the loss on each held-out image, over all levels; empty where it has none

    @property
    def training_loss(self) -> float:
        return sum(self.training) / len(self.training)


@dataclass(frozen=True, slots=True)
class Diversity:
    """How well samples cover the real images, and how much samples of one class vary."""

    samples: int
    precision: float  # of the samples: evaluation.prdc
    coverage: float  # of the held-out images
    real_precision: float  # of as many training images
    real_coverage: float
    within: float | None  # mean distance within a class, samples / training images; None for text
    recall: float | None = None
    real_recall: float | None = None  # of as many training images


class Objective(Protocol):
    """The training objective of a kind of model, with its measures. Built by `objectives.build.build_objective`."""

    kind: ObjectiveName
    optimisers: Optimisers
    team: Team  # that trains it; its updates are those of the global batch
    loss_falls: bool  # whether a loss far above its minimum means divergence; not so for a GAN

    @property
    def network(self) -> nn.Module:
        """The network whose EMA weights generate images."""

    @property
    def others(self) -> Mapping[str, nn.Module]:
        """Networks that only training needs, by their keys in the training state."""

    def rebuild_optimisers(self) -> None:
        """For the network's parameters of now, after they were sharded."""

    def update(self, batch: Batch, share: float) -> Update:
        """One update of all networks; `share` is the completed share of the run, 0 to 1."""

    def fixed_losses(self, network: nn.Module, batches: Batches) -> FixedLosses | None:
        """The held-out measure of a network, lower is better; None without held-out images."""

    def baseline(self, batches: Batches) -> float | None:
        """The measure of a Gaussian model of the training images; None without held-out images."""

    def diversity(self, network: nn.Module, batches: Batches) -> Diversity | None:
        """The diversity of many samples if the model generates in one call; None otherwise, or with too few images."""

    def prepare_checkpoint(self, network: nn.Module, batches: Batches) -> None:
        """Set the buffers that the network stores besides its weights."""

    def model(self, network: nn.Module, tokenizer: CaptionTokenizer | None, classes: Sequence[str]) -> Model:
        """The network as a Model for sampling."""


def gradient_norm(parameters: Iterable[Tensor], clip_norm: float, team: Team) -> float:
    """Sum the gradients of these parameters over the team and clip them together; returns their norm before."""
    parameters = list(parameters)
    team.sum_gradients(parameters)
    return number(nn.utils.clip_grad_norm_(parameters, clip_norm))
