"""The estimates of a job's denoising steps, recorded so that it can be restarted from one of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from diffstudio.studio.events import Picture
from diffstudio.studio.jobs.preview_history import PreviewHistory

if TYPE_CHECKING:
    from torch import Tensor

LARGEST_RECORDING_BYTES = 512 << 20


@dataclass(slots=True)
class BatchRecord:
    """Every estimate that a batch's sampler was given, in order: given them again, the sampler repeats exactly."""

    first: int  # the index in the request of the batch's first image
    count: int
    steps: int  # of its sampler, over all passes
    estimates: list[Tensor] = field(default_factory=list)  # each [B,C,h,w], on the CPU
    calls_after: list[int] = field(default_factory=list)  # the number of estimates when step i + 1 was done

    def before(self, step: int) -> list[Tensor]:
        """The estimates of steps 1 .. step - 1, as far as they are recorded."""
        done = min(step - 1, len(self.calls_after))
        return self.estimates[: self.calls_after[done - 1]] if done > 0 else []


@dataclass(slots=True)
class Recording:
    """The estimates of a job's batches, while they fit into 512 MiB, and the previews of its steps."""

    batches: list[BatchRecord] = field(default_factory=list)
    complete: bool = True  # False once they did not fit; then none are kept
    preview_history: PreviewHistory = field(default_factory=PreviewHistory)
    _estimate_bytes: int = 0

    def begin(self, first: int, count: int, steps: int) -> BatchRecord:
        """Start a new batch.

        What an earlier attempt recorded of these images, in a batch that was too large, is dropped.
        """
        while self.batches and self.batches[-1].first >= first:
            self.batches.pop()
        self.preview_history.cut(first)
        self.batches.append(BatchRecord(first, count, steps))
        return self.batches[-1]

    def add(self, estimate: Tensor) -> None:
        """Record the next estimate of the newest batch; once it is too much, nothing is kept of any."""
        size = estimate.numel() * estimate.element_size()
        self.complete = self.complete and self._estimate_bytes + size <= LARGEST_RECORDING_BYTES
        if self.complete:
            self._estimate_bytes += size
            self.batches[-1].estimates.append(estimate.detach().cpu())
        else:
            for batch in self.batches:
                batch.estimates.clear()

    def stepped(self, index: int, previews: tuple[Picture, ...]) -> None:
        if self.complete:
            self.batches[-1].calls_after.append(len(self.batches[-1].estimates))
        if previews:
            self.preview_history.put(index, self.batches[-1].first, previews)


@dataclass(frozen=True, slots=True)
class Replay:
    """Restart a recorded job from `step` (1 .. steps): its earlier steps are given the recorded estimates."""

    recording: Recording
    step: int
