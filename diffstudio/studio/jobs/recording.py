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
    """Every estimate that one batch's sampler was given, in order: calling the sampler with them again repeats it exactly."""

    first: int  # which of the request's images the batch starts with
    count: int
    steps: int  # that its sampler takes
    estimates: list[Tensor] = field(default_factory=list)  # each [B,C,h,w], on the CPU
    calls_after: list[int] = field(
        default_factory=list
    )  # how many estimates had been asked for when step i + 1 was done

    def before(self, step: int) -> list[Tensor]:
        """The estimates that steps 1 .. step - 1 asked for, as far as they are recorded."""
        done = min(step - 1, len(self.calls_after))
        return self.estimates[: self.calls_after[done - 1]] if done > 0 else []


@dataclass(slots=True)
class Recording:
    """What a job's batches were told, while it fits into 512 MiB; and its film."""

    batches: list[BatchRecord] = field(default_factory=list)
    complete: bool = True  # False once it was too much: the estimates are forgotten then
    film: PreviewHistory = field(default_factory=PreviewHistory)
    _estimate_bytes: int = 0

    def begin(self, first: int, count: int, steps: int) -> BatchRecord:
        """A new batch; what was recorded of these images before, in a batch that was too large, is dropped."""
        while self.batches and self.batches[-1].first >= first:
            self.batches.pop()
        self.film.cut(first)
        self.batches.append(BatchRecord(first, count, steps))
        return self.batches[-1]

    def told(self, estimate: Tensor) -> None:
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
            self.film.put(index, self.batches[-1].first, previews)


@dataclass(frozen=True, slots=True)
class Replay:
    """Begin again from `step` (1 .. steps) of a recorded job: what its earlier steps were told is told again."""

    recording: Recording
    step: int
