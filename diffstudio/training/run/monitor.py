"""How a training run is going: its throughput, and whether its loss diverges."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from diffstudio.errors import Diverged
from diffstudio.training.run.clock import RunClock
from diffstudio.training.run.events import RunStep
from diffstudio.training.trainer import StepResult, Trainer

_MAX_BAD_STEPS = 20  # in a row with a loss that is NaN or Inf
_DIVERGED_FACTOR = 4.0  # of the lowest smoothed loss
_SMOOTHING = 0.98  # decay of the moving average
_STEPS_BEFORE_JUDGING = 50
_HEALTHY_FACTOR = 1.5


@dataclass(slots=True)
class DivergenceMonitor:
    """Raises Diverged when the loss stays NaN or Inf, or its moving average rises far above its minimum."""

    smoothed: float | None = None
    lowest: float = math.inf
    bad_steps: int = 0
    seen: int = 0

    @property
    def healthy(self) -> bool:
        """Whether the weights of now are worth going back to."""
        return self.bad_steps == 0 and (self.smoothed is None or self.smoothed <= _HEALTHY_FACTOR * self.lowest)

    def state(self) -> dict[str, float | int | None]:
        return asdict(self)

    @classmethod
    def restored(cls, state: Mapping[str, Any] | None) -> DivergenceMonitor:
        """The monitor with this state, or a new one for states of earlier versions, which have none."""
        try:
            return cls(**state) if state is not None else cls()
        except TypeError:
            return cls()

    def update(self, step: int, loss: float, *, falls: bool = True) -> None:
        """Diverged after 20 NaN or Inf losses in a row, or, if the loss `falls`, when it is far above its minimum."""
        if not math.isfinite(loss):
            self.bad_steps += 1
            if self.bad_steps >= _MAX_BAD_STEPS:
                raise _diverged(f"at step {step:,} the loss has been NaN or Inf for {_MAX_BAD_STEPS} steps")
            return
        self.bad_steps = 0
        self.seen += 1
        self.smoothed = loss if self.smoothed is None else _SMOOTHING * self.smoothed + (1 - _SMOOTHING) * loss
        self.lowest = min(self.lowest, self.smoothed)
        if falls and self.seen >= _STEPS_BEFORE_JUDGING and self.smoothed > _DIVERGED_FACTOR * self.lowest:
            raise _diverged(f"at step {step:,} the loss is {self.smoothed:.3g}, after {self.lowest:.3g}")


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _diverged(why: str) -> Diverged:
    return Diverged(
        "The training diverged", why, "Start again with a lower learning rate; the last checkpoint precedes it"
    )


@dataclass(slots=True)
class StepMeter:
    """Means over the steps since the last event, and the throughput over the last minute or so."""

    batch: int
    seconds: float = 0.0
    results: list[StepResult] = field(default_factory=list)
    recent_loss: float = math.nan
    speeds: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=60))  # steps, seconds

    def update(self, result: StepResult, seconds: float) -> None:
        self.results.append(result)
        self.seconds += seconds

    def step_event(self, trainer: Trainer, clock: RunClock) -> RunStep:
        """The event for the steps since the last one; starts the next means."""
        count = len(self.results)
        self.speeds.append((count, self.seconds))
        steps_per_second = sum(count for count, _ in self.speeds) / sum(seconds for _, seconds in self.speeds)
        self.recent_loss = sum(result.loss for result in self.results) / count
        event = RunStep(
            step=trainer.step_number,
            steps=clock.steps(trainer.step_number),
            images_seen=trainer.step_number * self.batch,
            loss=self.recent_loss,
            gradient_norm=sum(result.gradient_norm for result in self.results) / count,
            learning_rate=self.results[-1].learning_rate,
            images_per_second=steps_per_second * self.batch,
            elapsed_seconds=trainer.elapsed_seconds,
            left_seconds=clock.left_seconds(trainer.step_number, 1 / steps_per_second),
            progress=clock.progress(trainer.step_number),
            generator_loss=_mean([one.generator_loss for one in self.results if one.generator_loss is not None]),
            upper_loss=_mean([one.upper_loss for one in self.results if one.upper_loss is not None]),
        )
        self.results, self.seconds = [], 0.0
        return event
