"""Record the x_0 estimates of a job, so that it can be restarted from any of its steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from diffstudio.errors import BadRequest
from diffstudio.studio.events import Picture
from diffstudio.studio.jobs.preview_history import PreviewHistory

if TYPE_CHECKING:
    from torch import Tensor

LARGEST_RECORDING_BYTES = 512 << 20
STEPS_TOO_LARGE = "it was too large for its steps to be kept"


def not_restartable(why: str) -> BadRequest:
    """The error of an image that cannot be restarted from a step."""
    return BadRequest("This image cannot be restarted", why, "Generate it again")


@dataclass(slots=True)
class BatchRecord:
    """Every estimate that a batch's sampler received, in order: replayed, they reproduce the same steps exactly."""

    first: int  # index of the batch's first image in the request
    count: int
    steps: int  # over all passes
    estimates: list[Tensor] = field(default_factory=list)  # each [B,C,h,w], on the CPU
    calls_after: list[int] = field(default_factory=list)  # [i]: the number of estimates up to step i + 1
    complete: bool = True  # False once its estimates did not fit; then none are kept

    def before(self, step: int) -> list[Tensor]:
        """The recorded estimates of steps 1 .. step - 1."""
        done = min(step - 1, len(self.calls_after))
        return self.estimates[: self.calls_after[done - 1]] if done > 0 else []

    def drop(self) -> int:
        """Drop the estimates; returns their bytes."""
        dropped = sum(_bytes(estimate) for estimate in self.estimates)
        self.estimates.clear()
        self.complete = False
        return dropped


@dataclass(slots=True)
class Recording:
    """The estimates of a job's batches, and the previews of its steps.

    When all batches together exceed 512 MiB, only those of the newest are kept, if they fit alone.
    """

    batches: list[BatchRecord] = field(default_factory=list)
    preview_history: PreviewHistory = field(default_factory=PreviewHistory)
    _estimate_bytes: int = 0

    @property
    def complete(self) -> bool:
        """Whether the estimates of every batch are kept."""
        return all(batch.complete for batch in self.batches)

    def begin(self, first: int, count: int, steps: int) -> BatchRecord:
        """Start a new batch.

        Records of the same images from an attempt that ran out of memory are dropped.
        """
        while self.batches and self.batches[-1].first >= first:
            self._estimate_bytes -= self.batches.pop().drop()
        self.preview_history.cut(first)
        self.batches.append(BatchRecord(first, count, steps))
        return self.batches[-1]

    def add(self, estimate: Tensor) -> None:
        """Record the next estimate of the newest batch."""
        size, newest = _bytes(estimate), self.batches[-1]
        if not newest.complete:
            return
        if self._estimate_bytes + size > LARGEST_RECORDING_BYTES:
            self._estimate_bytes -= sum(batch.drop() for batch in self.batches[:-1])
        if self._estimate_bytes + size > LARGEST_RECORDING_BYTES:
            self._estimate_bytes -= newest.drop()
        else:
            self._estimate_bytes += size
            newest.estimates.append(estimate.detach().cpu())

    def stepped(self, index: int, previews: tuple[Picture, ...]) -> None:
        newest = self.batches[-1]
        if newest.complete:
            newest.calls_after.append(len(newest.estimates))
        if previews:
            self.preview_history.put(index, newest.first, previews)


@dataclass(frozen=True, slots=True)
class Replay:
    """Restart a recorded job from `step` (1 .. steps): the steps before it replay the recorded estimates."""

    recording: Recording
    step: int


def _bytes(estimate: Tensor) -> int:
    return estimate.numel() * estimate.element_size()
