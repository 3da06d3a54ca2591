"""BatchesAhead: threads draw the next batches while an accelerator computes a step."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import torch

from diffstudio.training.data.batches import Batch, Batches

_AHEAD = 4  # batches that are drawn or waiting
_THREADS = 2


class BatchesAhead:
    """`at(step)` is that of `batches`, on `device`; the batches after it are drawn meanwhile. Close it at the end.

    The batches are the same as without threads, since each depends only on its step. On a processor there are no threads:
    they would take from the step what they save.
    """

    def __init__(self, batches: Batches, device: torch.device) -> None:
        self._batches, self._device = batches, device
        batches.keep_on(device)
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="batches")
        self._drawn: dict[int, Future[Batch]] = {}

    def at(self, step: int) -> Batch:
        if self._device.type == "cpu":
            return self._draw(step)
        wanted = range(step, step + _AHEAD)
        for other in set(self._drawn) - set(wanted):  # after a jump to another step
            self._drawn.pop(other).cancel()
        for other in wanted:
            if other not in self._drawn:
                self._drawn[other] = self._executor.submit(self._draw, other)
        return self._drawn.pop(step).result()

    def close(self) -> None:
        self._executor.shutdown(cancel_futures=True)

    def _draw(self, step: int) -> Batch:
        return self._batches.at(step, self._device)
