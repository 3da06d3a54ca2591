"""Control: a job's switches, turned from any thread and obeyed by the one that works. No torch is imported here.

Also what a job leaves behind for the filmstrip and for starting again from one of its steps.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from diffstudio.errors import Stopped
from diffstudio.studio.events import Picture
from diffstudio.studio.film import Film

if TYPE_CHECKING:
    from torch import Tensor

LARGEST_RECORDING_BYTES = 512 << 20


class Control:
    """Stop and pause, looked at before every call of the network.

    `on_pause` and `on_resume` are called by the working thread when it really pauses and goes on; `on_resume` may wait for
    the accelerator, and may raise Stopped.
    """

    def __init__(self, on_pause: Callable[[], None] | None = None, on_resume: Callable[[], None] | None = None) -> None:
        self._on_pause, self._on_resume = on_pause, on_resume
        self._changed = threading.Condition()
        self._stopped = False
        self._paused = False
        self.paused_seconds = 0.0  # in pauses so far, waiting for the accelerator afterwards included

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def pause(self) -> None:
        with self._changed:
            self._paused = True

    def resume(self) -> None:
        with self._changed:
            self._paused = False
            self._changed.notify_all()

    def stopped(self) -> bool:
        return self._stopped

    def paused(self) -> bool:
        return self._paused

    def check(self) -> None:
        """Return when the next piece of work may begin. Raises Stopped when it may not."""
        if self._paused and not self._stopped:
            self._wait()
        if self._stopped:
            raise Stopped("Stopped")

    def _wait(self) -> None:
        began = time.monotonic()
        if self._on_pause is not None:
            self._on_pause()
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or not self._paused)
        try:
            if self._on_resume is not None and not self._stopped:
                self._on_resume()
        finally:
            self.paused_seconds += time.monotonic() - began


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
    film: Film = field(default_factory=Film)
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
