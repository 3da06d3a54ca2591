"""How a training run is going: its throughput, whether its loss diverges, and whether it learned anything."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from diffstudio.errors import Diverged
from diffstudio.training.run.events import RunStep
from diffstudio.training.trainer import StepResult, Trainer

_MAX_BAD_STEPS = 20  # in a row with a loss that is NaN or Inf
_DIVERGED_FACTOR = 4.0  # of the lowest smoothed loss
_SMOOTHING = 0.98  # decay of the moving average
_STEPS_BEFORE_JUDGING = 50
LEARNED_BELOW = 0.8  # of the loss of always predicting the mean image


@dataclass(slots=True)
class DivergenceMonitor:
    """Raises Diverged when the loss stays NaN or Inf, or its moving average rises far above its minimum."""

    smoothed: float | None = None
    lowest: float = math.inf
    bad_steps: int = 0
    seen: int = 0

    def update(self, step: int, loss: float) -> None:
        if not math.isfinite(loss):
            self.bad_steps += 1
            if self.bad_steps >= _MAX_BAD_STEPS:
                raise _diverged(f"at step {step:,} the loss has been NaN or Inf for {_MAX_BAD_STEPS} steps")
            return
        self.bad_steps = 0
        self.seen += 1
        self.smoothed = loss if self.smoothed is None else _SMOOTHING * self.smoothed + (1 - _SMOOTHING) * loss
        self.lowest = min(self.lowest, self.smoothed)
        if self.seen >= _STEPS_BEFORE_JUDGING and self.smoothed > _DIVERGED_FACTOR * self.lowest:
            raise _diverged(f"at step {step:,} the loss is {self.smoothed:.3g}, after {self.lowest:.3g}")


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

    def step_event(self, trainer: Trainer, steps: int) -> RunStep:
        """The event for the steps since the last one; starts the next means."""
        count = len(self.results)
        self.speeds.append((count, self.seconds))
        steps_per_second = sum(count for count, _ in self.speeds) / sum(seconds for _, seconds in self.speeds)
        self.recent_loss = sum(result.loss for result in self.results) / count
        event = RunStep(
            step=trainer.step_number,
            steps=steps,
            images_seen=trainer.step_number * self.batch,
            loss=self.recent_loss,
            gradient_norm=sum(result.gradient_norm for result in self.results) / count,
            learning_rate=self.results[-1].learning_rate,
            images_per_second=steps_per_second * self.batch,
            elapsed_seconds=trainer.elapsed_seconds,
            left_seconds=(steps - trainer.step_number) / steps_per_second,
        )
        self.results, self.seconds = [], 0.0
        return event


def verdict(loss: float, baseline: float) -> tuple[bool, str]:
    """Whether a run learned, and a sentence that compares its loss with the loss of always predicting the mean image."""
    if not math.isfinite(loss):
        return (
            False,
            "The loss is NaN or Inf: this checkpoint cannot generate images. Start again with a lower learning rate.",
        )
    ratio = loss / baseline
    if ratio < LEARNED_BELOW:
        return True, f"It learned: its loss is {ratio:.0%} of that of always predicting the mean image."
    return False, (
        f"It learned little: its loss is {ratio:.0%} of that of always predicting the mean image. "
        "Train for more steps, or check whether the images have something in common."
    )
