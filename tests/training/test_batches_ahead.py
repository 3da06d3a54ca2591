"""Batches that are drawn ahead are those of their steps, also after a jump, and an error comes with its step."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch

from diffstudio.networks.transformer import Condition
from diffstudio.training.batches_ahead import BatchesAhead
from diffstudio.training.data.batches import Batch

CPU = torch.device("cpu")
META = torch.device("meta")  # stands for an accelerator: nothing is computed on it


@dataclass
class Counted:
    device: torch.device = META
    drawn: list[int] = field(default_factory=list)

    def keep_on(self, device: torch.device) -> None:
        assert device == self.device

    def at(self, step: int, device: torch.device) -> Batch:
        assert device == self.device
        self.drawn.append(step)
        if step == 9:
            raise ValueError("step 9")
        return Batch(torch.full((1, 3, 2, 2), float(step)), Condition(), torch.Generator().manual_seed(step))


def test_each_batch_is_that_of_its_step_and_is_drawn_once() -> None:
    counted = Counted()
    ahead = BatchesAhead(counted, META)  # type: ignore[arg-type]
    steps = [0, 1, 2, 1, 2, 3]  # a roll-back to step 1
    assert [ahead.at(step).images[0, 0, 0, 0].item() for step in steps] == steps
    ahead.close()
    assert counted.drawn.count(0) == 1 and set(counted.drawn) <= set(range(7))


def test_an_error_comes_with_its_step() -> None:
    ahead = BatchesAhead(Counted(), META)  # type: ignore[arg-type]
    assert ahead.at(8).images[0, 0, 0, 0] == 8
    with pytest.raises(ValueError, match="step 9"):
        ahead.at(9)
    ahead.close()


def test_a_processor_draws_no_batch_ahead() -> None:
    counted = Counted(CPU)
    ahead = BatchesAhead(counted, CPU)  # type: ignore[arg-type]
    assert [ahead.at(step).images[0, 0, 0, 0].item() for step in (0, 1)] == [0, 1]
    ahead.close()
    assert counted.drawn == [0, 1]
