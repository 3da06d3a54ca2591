"""Logistic regression: fitted to its optimum, for any number of classes and weights of the examples."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

_LEAST_CHANGE = {torch.float32: 1e-9, torch.float64: 1e-16}  # of the loss in one iteration


def fit_logistic(
    x: Tensor,
    labels: Tensor,
    classes: int,
    penalty: float,
    importance: Tensor | None = None,
    *,
    iterations: int = 100,
    tolerance: float = 1e-5,
    bias_penalty: float = 0.0,
    check: Callable[[], None] = lambda: None,
) -> tuple[Tensor, Tensor]:
    """The weight [K,D] and bias [K] that minimise mean cross-entropy + penalty |weight|^2 / 2, which is convex, with L-BFGS.

    x [N,D], labels [N] below `classes`; in the data type of x, float32 or float64. The bias has a penalty of its own, usually
    none. `importance` [N] weighs the examples in the mean; None gives all the same. scikit-learn's C is 1 / (N penalty).
    With two classes, the difference of their weights is that of binary logistic regression with half the penalties.
    `iterations` and `tolerance` (of the largest absolute gradient) end the search. `check` is called before each pass over
    the data and may raise.
    """
    weight = torch.zeros(classes, x.shape[1], dtype=x.dtype, requires_grad=True)
    bias = torch.zeros(classes, dtype=x.dtype, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [weight, bias],
        max_iter=iterations,
        tolerance_grad=tolerance,
        tolerance_change=_LEAST_CHANGE[x.dtype],
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        check()
        optimiser.zero_grad()
        logits = x @ weight.T + bias
        if importance is None:
            entropy = F.cross_entropy(logits, labels)
        else:
            entropy = importance @ F.cross_entropy(logits, labels, reduction="none") / importance.sum()
        value = entropy + penalty / 2 * weight.square().sum() + bias_penalty / 2 * bias.square().sum()
        torch.autograd.backward(value)
        return value

    optimiser.step(loss)
    return weight.detach(), bias.detach()
