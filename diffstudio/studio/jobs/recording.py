"""Record the x_0 estimates of a job, so that it can be restarted from any of its steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from diffstudio.studio.events import Picture
from diffstudio.studio.jobs.preview_history import PreviewHistory
from diffstudio.studio.requests import PictureRequest

if TYPE_CHECKING:
    from torch import Tensor

LARGEST_RECORDING_BYTES = 512 << 20
_MAY_DIFFER = ("prompt", "negative", "guidance", "checkpoint")  # after a restart from a step


@dataclass(slots=True)
class BatchRecord:
    """Every estimate that a batch's sampler received, in order: replayed, they reproduce the same steps exactly."""

    first: int  # index of the batch's first image in the request
    count: int
    steps: int  # over all passes
    estimates: list[Tensor] = field(default_factory=list)  # each [B,C,h,w], on the CPU
    calls_after: list[int] = field(default_factory=list)  # [i]: the number of estimates up to step i + 1

    def before(self, step: int) -> list[Tensor]:
        """The recorded estimates of steps 1 .. step - 1."""
        done = min(step - 1, len(self.calls_after))
        return self.estimates[: self.calls_after[done - 1]] if done > 0 else []


@dataclass(slots=True)
class Recording:
    """The estimates of a job's batches, if they fit into 512 MiB, and the previews of its steps."""

    batches: list[BatchRecord] = field(default_factory=list)
    complete: bool = True  # False once the estimates did not fit; then none are kept
    preview_history: PreviewHistory = field(default_factory=PreviewHistory)
    _estimate_bytes: int = 0

    def begin(self, first: int, count: int, steps: int) -> BatchRecord:
        """Start a new batch.

        Records of the same images from an attempt that ran out of memory are dropped.
        """
        while self.batches and self.batches[-1].first >= first:
            dropped = self.batches.pop()
            self._estimate_bytes -= sum(estimate.numel() * estimate.element_size() for estimate in dropped.estimates)
        self.preview_history.cut(first)
        self.batches.append(BatchRecord(first, count, steps))
        return self.batches[-1]

    def add(self, estimate: Tensor) -> None:
        """Record the next estimate of the newest batch. Once the limit is exceeded, all estimates are dropped."""
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
    """Restart a recorded job from `step` (1 .. steps): the steps before it replay the recorded estimates."""

    recording: Recording
    step: int


def settings_before_restart(request: PictureRequest) -> dict[str, Any]:
    """The fields of a request that must not differ between a recorded job and its restart from a step."""
    return {name: value for name, value in request.to_json().items() if name not in _MAY_DIFFER}
