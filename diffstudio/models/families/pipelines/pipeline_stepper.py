"""Run a diffusers pipeline in a thread, one network call at a time.

Pipelines differ in their callbacks, and some have none; but all pass each output of the network to the `step` of a
scheduler. There the pipeline waits, its latents are read, and it can be ended.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor

from diffstudio.errors import Interrupted

_CONTINUE, _END = True, False


@dataclass(frozen=True, slots=True)
class Reached:
    """The pipeline waits after a call of its network."""

    latents: Tensor  # as the pipeline holds them
    estimate: Tensor  # of the clean latents, of the same shape; the latents themselves where none is known
    share: float  # of its network calls that are done, up to 1
    level: float | None  # the noise level: t of a flow, else sigma / alpha; None if the scheduler does not report it


class PipelineStepper:
    """A context manager; within it, `next` runs the pipeline to its next network call and raises what it raises."""

    def __init__(self, run: Callable[[], Any], schedulers: Sequence[Any]) -> None:
        self._run, self._schedulers = run, schedulers
        self._thread = ThreadPoolExecutor(1, "pipeline")
        self._results: SimpleQueue[Reached | Future[Any]] = SimpleQueue()
        self._commands: SimpleQueue[bool] = SimpleQueue()
        self._future: Future[Any] | None = None
        self._calls: dict[int, int] = {}  # of the network, by the id of the scheduler, in the order of first use

    def __enter__(self) -> Self:
        for scheduler in self._schedulers:
            scheduler.step = self._waiting_step(scheduler)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._commands.put(_END)
        self._thread.shutdown(wait=True)
        for scheduler in self._schedulers:
            del scheduler.step  # the class has its own

    def _waiting_step(self, scheduler: Any) -> Callable[..., Any]:
        step = scheduler.step

        @functools.wraps(step)  # pipelines look at its parameters
        def waiting_step(model_output: Tensor, timestep: Any, sample: Tensor, *rest: Any, **named: Any) -> Any:
            output = step(model_output, timestep, sample, *rest, **named)
            latents = output[0] if isinstance(output, tuple) else output.prev_sample
            estimate = _estimate(scheduler, output, model_output, sample)
            self._wait_at(
                Reached(latents, latents if estimate is None else estimate, self._share(scheduler), _level(scheduler))
            )
            return output

        return waiting_step

    def _share(self, scheduler: Any) -> float:
        """The share of the network calls that are done, this one included; schedulers have equal shares."""
        calls = self._calls[id(scheduler)] = self._calls.get(id(scheduler), 0) + 1
        done = min(1.0, calls / max(1, len(scheduler.timesteps)))
        return (len(self._calls) - 1 + done) / len(self._schedulers)

    def _wait_at(self, reached: Reached) -> None:
        """Called in the pipeline's thread. Interrupted when the context ends."""
        self._results.put(reached)
        if self._commands.get() is _END:
            raise Interrupted("Stopped")

    def next(self) -> Reached | Any:
        """The state after one more call of the network, or finally the pipeline's output."""
        if self._future is None:
            self._future = self._thread.submit(self._run)
            self._future.add_done_callback(self._results.put)
        else:
            self._commands.put(_CONTINUE)
        result = self._results.get()
        return result if isinstance(result, Reached) else result.result()


def is_flow(scheduler: Any) -> bool:
    config: Mapping[str, Any] = getattr(scheduler, "config", {})
    return (
        "FlowMatch" in type(scheduler).__name__
        or bool(config.get("use_flow_sigmas"))
        or config.get("prediction_type") == "flow_prediction"
    )


def _estimate(scheduler: Any, output: Any, velocity: Tensor, sample: Tensor) -> Tensor | None:
    """The scheduler's own estimate of the clean latents; None if it keeps none."""
    if "FlowMatch" in type(scheduler).__name__ and velocity.shape == sample.shape:
        sigma = float(scheduler.sigmas[max(0, scheduler.step_index - 1)])
        return sample.float() - sigma * velocity.float()
    kept = getattr(scheduler, "model_outputs", None)  # of multistep solvers in data prediction
    if (
        kept
        and isinstance(kept[-1], Tensor)
        and (scheduler.config.get("predict_x0") or "dpmsolver++" in str(scheduler.config.get("algorithm_type")))
    ):
        return kept[-1]
    clean = (
        output[1] if isinstance(output, tuple) and len(output) > 1 else getattr(output, "pred_original_sample", None)
    )
    return clean if isinstance(clean, Tensor) and clean.shape == sample.shape else None


def _level(scheduler: Any) -> float | None:
    sigmas, index = getattr(scheduler, "sigmas", None), getattr(scheduler, "step_index", None)
    if not isinstance(sigmas, Tensor) or index is None or not 0 <= index < len(sigmas):
        return None
    level = float(sigmas[index])
    return level if torch.isfinite(torch.tensor(level)) else None
