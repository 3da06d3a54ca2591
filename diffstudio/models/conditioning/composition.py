"""Composition: prompts joined with AND, whose predictions are combined in each network call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from diffstudio.diffusion.denoiser import Network
from diffstudio.diffusion.guidance import PairedNetwork

T = TypeVar("T")

# n encoded texts of B rows each -> the network for a batch of n · B images, in the same order.
NetworkOf = Callable[[Sequence[T]], Network]

_MOST_AT_ONCE = 2  # texts of each image in one network call: as many as guidance alone takes


@dataclass(frozen=True, slots=True)
class Composition(Generic[T]):
    """The encoded subprompts of B images, one entry with B rows for each, and their weights w [n][B].

    The conditional prediction is unconditional + sum_i w_i (conditional_i - unconditional): Liu et al. 2022, arXiv
    2206.01714, eq. 11, with the CFG scale taken out of their weights, as in AUTOMATIC1111.
    """

    subprompts: tuple[T, ...]
    weights: tuple[tuple[float, ...], ...]

    @property
    def first(self) -> T:
        return self.subprompts[0]

    @property
    def is_plain(self) -> bool:
        """Whether it is one prompt with weight 1 for each image."""
        return len(self.weights) == 1 and all(weight == 1 for weight in self.weights[0])

    @property
    def needs_unconditional(self) -> bool:
        """Whether the unconditional prediction has a share in the conditional one."""
        return any(abs(sum(weights) - 1) > 1e-6 for weights in zip(*self.weights, strict=True))

    def mapped(self, change: Callable[[T], T]) -> Composition[T]:
        """The composition with `change` applied to each encoded text."""
        return Composition(tuple(change(text) for text in self.subprompts), self.weights)

    def each_mapped(self, changes: Sequence[Callable[[T], T]]) -> Composition[T]:
        """With other encoded texts: the first change is of the first subprompt, and so on."""
        return Composition(
            tuple(change(text) for change, text in zip(changes, self.subprompts, strict=True)), self.weights
        )

    def conditional(self, negative: T | None, network_of: NetworkOf[T]) -> Network:
        """The network that predicts the conditional. `negative` has B rows; None unless `needs_unconditional`."""
        if self.is_plain:
            return network_of(self.subprompts)
        if negative is not None and self.needs_unconditional:
            paired = self.paired(negative, network_of)
            return lambda x_t, t: paired(x_t, t)[0]
        predict = _predictor(self.subprompts, network_of)
        return lambda x_t, t: self.combine(predict(x_t, t), None)

    def paired(self, negative: T, network_of: NetworkOf[T]) -> PairedNetwork:
        """The conditional and unconditional predictions."""
        predict = _predictor((*self.subprompts, negative), network_of)

        def both(x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
            *conditional, unconditional = predict(x_t, t)
            return self.combine(conditional, unconditional), unconditional

        return both

    def combine(self, conditional: Sequence[Tensor], unconditional: Tensor | None) -> Tensor:
        """The subprompts' predictions [B,...] combined; without the unconditional one, weights must add up to 1."""
        if self.is_plain:
            return conditional[0]
        like = conditional[0]
        weights = torch.tensor(self.weights, dtype=torch.float32, device=like.device)  # [n,B]
        weights = weights.view(*weights.shape, *(1,) * (like.ndim - 1))
        stacked = torch.stack(tuple(conditional)).float()  # half precision would be magnified
        if unconditional is None:
            return (weights * stacked).sum(0)
        base = unconditional.float()
        return base + (weights * (stacked - base)).sum(0)


def _predictor(texts: Sequence[T], network_of: NetworkOf[T]) -> Callable[[Tensor, Tensor], list[Tensor]]:
    """The predictions [B,...] for each text, a few texts in one call."""
    groups = [texts[first : first + _MOST_AT_ONCE] for first in range(0, len(texts), _MOST_AT_ONCE)]
    networks = [(network_of(group), len(group)) for group in groups]

    def predict(x_t: Tensor, t: Tensor) -> list[Tensor]:
        return [
            prediction
            for network, count in networks
            for prediction in network(torch.cat((x_t,) * count), torch.cat((t,) * count)).chunk(count)
        ]

    return predict
