"""A pipeline of diffusers that draws in a thread of its own and stands still after each call of its network.

Pipelines differ in the callbacks they have, and some have none; but all ask a scheduler what to make of each answer of
the network. That question is where a pipeline is held, looked at and, if it must be, ended.
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

_GO_ON, _END = True, False


@dataclass(frozen=True, slots=True)
class Reached:
    """The pipeline stands still after a call of its network."""

    latents: Tensor  # as the pipeline holds them
    estimate: Tensor  # of the clean latents, of the same shape; the latents themselves where none is known
    share: float  # of its calls that are done, up to 1
    level: (
        float | None
    )  # the noise now: t of a flow, sigma / alpha of every other; None where the scheduler does not say


class PipelineStepper:
    """`with` it a pipeline is asked for one step at a time. What the pipeline raises is raised by `next`."""

    def __init__(self, draw: Callable[[], Any], schedulers: Sequence[Any]) -> None:
        self._draw, self._schedulers = draw, schedulers
        self._thread = ThreadPoolExecutor(1, "pipeline")
        self._said: SimpleQueue[Reached | Future[Any]] = SimpleQueue()
        self._answers: SimpleQueue[bool] = SimpleQueue()
        self._future: Future[Any] | None = None
        self._calls: dict[int, int] = {}  # of the network, by scheduler in the order of their turns

    def __enter__(self) -> Self:
        for scheduler in self._schedulers:
            scheduler.step = self._held(scheduler)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._answers.put(_END)
        self._thread.shutdown(wait=True)
        for scheduler in self._schedulers:
            del scheduler.step  # the class has its own

    def _held(self, scheduler: Any) -> Callable[..., Any]:
        step = scheduler.step

        @functools.wraps(step)  # pipelines look at its parameters
        def held(model_output: Tensor, timestep: Any, sample: Tensor, *rest: Any, **named: Any) -> Any:
            answer = step(model_output, timestep, sample, *rest, **named)
            latents = answer[0] if isinstance(answer, tuple) else answer.prev_sample
            estimate = _estimate(scheduler, answer, model_output, sample)
            self._stand_still(
                Reached(latents, latents if estimate is None else estimate, self._share(scheduler), _level(scheduler))
            )
            return answer

        return held

    def _share(self, scheduler: Any) -> float:
        """Of the pipeline's work, one more call of the network being done; each scheduler has an equal part of it."""
        calls = self._calls[id(scheduler)] = self._calls.get(id(scheduler), 0) + 1
        part = min(1.0, calls / max(1, len(scheduler.timesteps)))
        return (len(self._calls) - 1 + part) / len(self._schedulers)

    def _stand_still(self, reached: Reached) -> None:
        """In the pipeline's thread."""
        self._said.put(reached)
        if self._answers.get() is _END:
            raise Interrupted("Stopped")

    def next(self) -> Reached | Any:
        """Where the pipeline stands after one more call of its network, or in the end what it made."""
        if self._future is None:
            self._future = self._thread.submit(self._draw)
            self._future.add_done_callback(self._said.put)
        else:
            self._answers.put(_GO_ON)
        said = self._said.get()
        return said if isinstance(said, Reached) else said.result()


def is_flow(scheduler: Any) -> bool:
    config: Mapping[str, Any] = getattr(scheduler, "config", {})
    return (
        "FlowMatch" in type(scheduler).__name__
        or bool(config.get("use_flow_sigmas"))
        or config.get("prediction_type") == "flow_prediction"
    )


def _estimate(scheduler: Any, answer: Any, velocity: Tensor, sample: Tensor) -> Tensor | None:
    """The clean latents by the scheduler's own reckoning, as far as it keeps it."""
    if "FlowMatch" in type(scheduler).__name__ and velocity.shape == sample.shape:
        sigma = float(scheduler.sigmas[max(0, scheduler.step_index - 1)])
        return sample.float() - sigma * velocity.float()
    kept = getattr(scheduler, "model_outputs", None)  # of multistep solvers that think in clean images
    if (
        kept
        and isinstance(kept[-1], Tensor)
        and (scheduler.config.get("predict_x0") or "dpmsolver++" in str(scheduler.config.get("algorithm_type")))
    ):
        return kept[-1]
    said = answer[1] if isinstance(answer, tuple) and len(answer) > 1 else getattr(answer, "pred_original_sample", None)
    return said if isinstance(said, Tensor) and said.shape == sample.shape else None


def _level(scheduler: Any) -> float | None:
    sigmas, index = getattr(scheduler, "sigmas", None), getattr(scheduler, "step_index", None)
    if not isinstance(sigmas, Tensor) or index is None or not 0 <= index < len(sigmas):
        return None
    level = float(sigmas[index])
    return level if torch.isfinite(torch.tensor(level)) else None
