"""Team: the processes that train one run together. The first one leads; a single process is a team of one.

Each process has its own copy of the weights and its part of every batch; gradients are summed before each update, so the
copies stay equal. Only the leader makes decisions (time, commands, samples, files); it sends the others orders (`Order`).
`meeting` creates teams.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import torch
from torch import Tensor

from diffstudio.errors import RunProblem
from diffstudio.training.distributed.portion import Portion
from diffstudio.training.distributed.sharding import is_sharded

BEAT_SECONDS = 20.0  # without an order, after which the leader says that it is still there
_BUCKET_BYTES = 32 * 2**20  # of gradients that are summed by one message
_OF_THE_LIBRARY = re.compile(r"^\[[^]]*\] |\. This is .*$")  # in messages of gloo: its source file, and advice
RESUME = "Resume the run from its last saved state"


class Kind(IntEnum):
    """The kinds of orders of the leader. The values are sent only between processes of one version."""

    WAIT = 0  # nothing: the leader is alive
    STEP = 1
    STATE = 2  # to gather the state of sharded weights
    AVERAGE = 3  # to gather the EMA weights
    WEIGHTS = 4  # to gather the raw weights
    RESTORE = 5  # a state, which is shared next
    SHARE = 6  # to receive bytes
    END = 7


@dataclass(frozen=True, slots=True)
class Order:
    """The next action of every process. A STEP includes everything it depends on that only the leader knows."""

    kind: Kind
    step: int = 0
    progress: float = 0.0
    rate_scale: float = 1.0


class Team:
    """The team of a single process: nothing is exchanged."""

    rank, world = 0, 1

    @property
    def is_leader(self) -> bool:
        return self.rank == 0

    def portion(self, total: int) -> Portion:
        """This process's part of a batch of `total` images."""
        return Portion.of(total, self.rank, self.world)

    def mean(self, own: Tensor, portion: Portion) -> Tensor:
        """The mean over the global batch, from the mean over this process's portion.

        Its gradient in each process is that process's part of the total, and `sum_gradients` adds them up, so functions
        of batch means, such as a variance, have the same gradient as in a single process.
        """
        return own

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace each gradient by its sum over all processes."""

    def order(self, order: Order) -> None:
        """Send an order to the other processes. RunProblem if one of them has ended."""

    def receive(self) -> Order:
        """Wait for the next order of the leader. RunProblem if it has ended."""
        raise NotImplementedError

    def share(self, data: bytes) -> bytes:
        """Send the leader's bytes to every process; returns them."""
        return data

    def asked_to_stop(self) -> bool:
        """Whether the run is to be stopped by the wish of another process than the leader."""
        return False

    def close(self) -> None:
        """Tell the other processes that the run has ended; called by the leader between two steps."""

    def abandon(self) -> None:
        """Break the connections after a failure, so that the others notice."""


ALONE = Team()


class Processes(Team):
    """A team of several processes, connected by torch.distributed. Orders and gradient sums use different groups."""

    def __init__(
        self,
        rank: int,
        world: int,
        gradients: Any,
        orders: Any,
        lost: Callable[[], str] = lambda: "",
        stop: Callable[[], bool] = lambda: False,
        *,
        beat: float = BEAT_SECONDS,
    ) -> None:
        """`gradients` and `orders` are process groups; `orders` is on the CPU. `lost()` says why a process has ended.

        `stop()` is whether another process asks the leader to stop the run.
        """
        self.rank, self.world = rank, world
        self._gradients, self._orders, self._why, self._stop = gradients, orders, lost, stop
        self._lock = threading.Lock()  # orders are sent from two threads
        self._last = time.monotonic()
        self._failure: RunProblem | None = None
        self._closed = threading.Event()
        self._on_close: list[Callable[[], None]] = []
        self._on_abandon: list[Callable[[], None]] = []
        if self.is_leader:
            self._heart = threading.Thread(target=self._beat, args=(beat,), name="orders", daemon=True)
            self._heart.start()

    def asked_to_stop(self) -> bool:
        return self._stop()

    def on_end(self, close: Callable[[], None], abandon: Callable[[], None]) -> None:
        """Register callbacks for when the team is closed or abandoned."""
        self._on_close.append(close)
        self._on_abandon.append(abandon)

    def mean(self, own: Tensor, portion: Portion) -> Tensor:
        with self._noticing():
            total: Tensor = _Sum.apply(own * portion.share, self._sum)  # type: ignore[no-untyped-call]
        return total

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Sum gradients in buckets, one message each; gradients that FSDP has already summed are skipped."""
        found = [parameter.grad for parameter in parameters if parameter.grad is not None]
        with torch.no_grad(), self._noticing():
            for bucket in _buckets([gradient for gradient in found if not is_sharded(gradient)]):
                flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
                self._sum(flat)
                parts = flat.split([gradient.numel() for gradient in bucket])
                for gradient, part in zip(bucket, parts, strict=True):
                    gradient.copy_(part.view_as(gradient))

    def order(self, order: Order) -> None:
        with self._lock:
            if self._failure is not None:
                raise self._failure
            with self._noticing():
                self._send(order)

    def receive(self) -> Order:
        while True:
            values = torch.zeros(4, dtype=torch.float64)
            with self._noticing():
                self._orders.broadcast(values, root=0).wait()
            kind, step, progress, rate_scale = values.tolist()
            if kind != Kind.WAIT:
                return Order(Kind(int(kind)), int(step), progress, rate_scale)

    def share(self, data: bytes) -> bytes:
        if not self.is_leader and self.receive().kind is not Kind.SHARE:
            raise RunProblem("The run ended before this process could take part", self._reason(None))
        with self._lock, self._noticing():
            if self.is_leader:
                self._send(Order(Kind.SHARE))
            length = torch.tensor([len(data)])
            self._orders.broadcast(length, root=0).wait()
            content = torch.empty(int(length), dtype=torch.uint8)
            if self.is_leader and data:
                content = torch.frombuffer(bytearray(data), dtype=torch.uint8)
            if len(content):
                self._orders.broadcast(content, root=0).wait()
        return content.numpy().tobytes()

    def close(self) -> None:
        self._closed.set()
        if self.is_leader:
            with suppress(RuntimeError), self._lock:
                self._send(Order(Kind.END))
        for act in self._on_close:
            act()

    def abandon(self) -> None:
        self._closed.set()
        for act in self._on_abandon:
            act()

    def _send(self, order: Order) -> None:
        values = torch.tensor([order.kind, order.step, order.progress, order.rate_scale], dtype=torch.float64)
        self._orders.broadcast(values, root=0).wait()
        self._last = time.monotonic()

    def _sum(self, values: Tensor) -> None:
        """Sum in place; values on an Apple GPU, which no process group supports, go through the CPU."""
        if values.device.type in ("cpu", "cuda"):
            self._gradients.allreduce([values]).wait()
        else:  # pragma: no cover - needs such a device
            on_cpu = values.cpu()
            self._gradients.allreduce([on_cpu]).wait()
            values.copy_(on_cpu)

    def _beat(self, seconds: float) -> None:
        """Send heartbeats while the leader draws samples or is paused, so that a busy leader does not seem dead."""
        while not self._closed.wait(seconds / 4):
            with self._lock:
                if time.monotonic() - self._last < seconds or self._closed.is_set():
                    continue
                try:
                    with self._noticing():
                        self._send(Order(Kind.WAIT))
                except RunProblem as error:
                    self._failure = error
                    return

    @contextmanager
    def _noticing(self) -> Iterator[None]:
        """Raise RunProblem if a process has ended, which makes every exchange with it fail."""
        try:
            yield
        except RuntimeError as error:
            self._failure = RunProblem(
                "Training stopped because one of its processes has ended", self._reason(error), RESUME
            )
            raise self._failure from error

    def _reason(self, error: RuntimeError | None) -> str:
        if not self.is_leader or error is None:
            return "the first one has ended, or the connection to it is broken; see its run folder for the reason"
        line = (str(error).splitlines() or [type(error).__name__])[0]
        return self._why() or _OF_THE_LIBRARY.sub("", line)[:200]


class _Sum(torch.autograd.Function):
    """The sum over all processes. The gradient passes unchanged, because every process has its own part of the total."""

    @staticmethod
    def forward(context: Any, values: Tensor, add: Callable[[Tensor], None]) -> Tensor:
        total = values.detach().clone()
        add(total)
        return total

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


def _buckets(gradients: list[Tensor]) -> Iterator[list[Tensor]]:
    """Consecutive gradients of one data type, up to _BUCKET_BYTES together."""
    bucket: list[Tensor] = []
    size = 0
    for gradient in gradients:
        if bucket and (size + gradient.nbytes > _BUCKET_BYTES or gradient.dtype != bucket[0].dtype):
            yield bucket
            bucket, size = [], 0
        bucket.append(gradient)
        size += gradient.nbytes
    if bucket:
        yield bucket
