"""Objective: what one kind of model is trained for. The trainer has its steps, EMA weights and state in common."""

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
from diffstudio.training.recipe import ObjectiveName


@dataclass(frozen=True, slots=True)
class Update:
    """What one update reports; losses are those before it."""

    loss: float
    gradient_norm: float
    generator_loss: float | None = None  # of a GAN, whose `loss` is the discriminator's


@dataclass(frozen=True, slots=True)
class FixedLosses:
    """The held-out measure, on the held-out images and on as many training images, with the same noise every time."""

    levels: tuple[float, ...]  # t, rising; empty where the measure has no noise levels
    held_out: tuple[float, ...]  # mean at each
    training: tuple[float, ...]  # the same, or a single one without levels
    loss: float  # on the held-out images, over all levels

    @property
    def training_loss(self) -> float:
        return sum(self.training) / len(self.training)


@dataclass(frozen=True, slots=True)
class Diversity:
    """How much of the real images samples cover, and how much those of one condition vary."""

    samples: int
    precision: float  # of the samples: evaluation.prdc
    coverage: float  # of the held-out images
    real_precision: float  # of as many training images
    real_coverage: float
    within: float | None  # mean distance of two samples of one class over that of two training images; None for text
    recall: float | None = None
    real_recall: float | None = None  # of as many training images


class Objective(Protocol):
    """What a kind of model trains, and what is measured on it. Built by `objectives.build.build_objective`."""

    kind: ObjectiveName
    optimisers: Optimisers
    team: Team  # that trains it; its updates are those of the global batch
    loss_falls: bool  # whether a loss far above its minimum means that training diverged: not against an adversary

    @property
    def network(self) -> nn.Module:
        """Whose EMA weights generate."""

    @property
    def others(self) -> Mapping[str, nn.Module]:
        """Networks that are only needed for training, by their keys in the training state."""

    def rebuild_optimisers(self) -> None:
        """For the network's parameters of now, after they were sharded."""

    def update(self, batch: Batch, share: float) -> Update:
        """One update of all networks, for the share of the run that is done: 0 to 1."""

    def fixed_losses(self, network: nn.Module, batches: Batches) -> FixedLosses | None:
        """The held-out measure of a network, lower is better; None without held-out images."""

    def baseline(self, batches: Batches) -> float | None:
        """The measure of a Gaussian model of the training images; None without held-out images."""

    def diversity(self, network: nn.Module, batches: Batches) -> Diversity | None:
        """Of many samples, where they take one call each; None otherwise, and with too few images."""

    def prepare_checkpoint(self, network: nn.Module, batches: Batches) -> None:
        """Set what the network stores besides its weights."""

    def model(self, network: nn.Module, tokenizer: CaptionTokenizer | None, classes: Sequence[str]) -> Model:
        """The network as a Model that images are sampled with."""


def gradient_norm(parameters: Iterable[Tensor], clip_norm: float, team: Team) -> float:
    """Sum the gradients of these parameters over the team and clip them together; returns their norm before."""
    parameters = list(parameters)
    team.sum_gradients(parameters)
    return number(nn.utils.clip_grad_norm_(parameters, clip_norm))
