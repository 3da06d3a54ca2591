"""The average in closed form."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from diffstudio.training.ema import ema_model


def test_the_average_is_the_exponential_one_with_a_short_beginning() -> None:
    line = nn.Linear(1, 1, bias=False)
    average = ema_model(line, decay=0.5)
    expected = None
    for update, value in enumerate([1.0, 5.0, -3.0, 2.0, 8.0]):
        with torch.no_grad():
            line.weight.fill_(value)
        average.update_parameters(line)
        kept = min(0.5, (1 + update) / (10 + update))
        expected = value if expected is None else kept * expected + (1 - kept) * value
    assert average.module.weight.item() == pytest.approx(expected)  # type: ignore[union-attr, operator]
