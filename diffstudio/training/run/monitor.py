"""What is learnt about a run while it runs: its speed, whether it diverges, and whether anything was learned."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from diffstudio.errors import Diverged
from diffstudio.training.run.run_folder import RunStep
from diffstudio.training.trainer import StepResult, Trainer

_BAD_STEPS = 20  # in a row whose loss is no number
_TIMES_THE_BEST = 4.0  # a smoothed loss beyond this many times its lowest has left all bounds
_SMOOTHING = 0.98
_STEPS_BEFORE_JUDGING = 50
LEARNED_BELOW = 0.8  # of the loss of knowing nothing


@dataclass(slots=True)
class DivergenceMonitor:
    """Raises Diverged when the loss is no longer a number, or climbs far from its lowest and stays there."""

    smoothed: float | None = None
    lowest: float = math.inf
    bad_steps: int = 0
    seen: int = 0

    def see(self, step: int, loss: float) -> None:
        if not math.isfinite(loss):
            self.bad_steps += 1
            if self.bad_steps >= _BAD_STEPS:
                raise Diverged(
                    "The training diverged",
                    f"at step {step:,} the loss has not been a number for {_BAD_STEPS} steps",
                    "Start again with a lower learning rate; the last checkpoint is from before",
                )
            return
        self.bad_steps = 0
        self.seen += 1
        self.smoothed = loss if self.smoothed is None else _SMOOTHING * self.smoothed + (1 - _SMOOTHING) * loss
        self.lowest = min(self.lowest, self.smoothed)
        if self.seen >= _STEPS_BEFORE_JUDGING and self.smoothed > _TIMES_THE_BEST * self.lowest:
            raise Diverged(
                "The training diverged",
                f"at step {step:,} the loss is {self.smoothed:.3g}, after {self.lowest:.3g}",
                "Start again with a lower learning rate; the last checkpoint is from before",
            )


@dataclass(slots=True)
class StepMeter:
    """Means over the steps since the last event, and the speed over the last minute or so."""

    batch: int
    seconds: float = 0.0
    results: list[StepResult] = field(default_factory=list)
    recent_loss: float = math.nan
    speeds: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=60))

    def see(self, result: StepResult, seconds: float) -> None:
        self.results.append(result)
        self.seconds += seconds

    def event(self, trainer: Trainer, steps: int) -> RunStep:
        count = len(self.results)
        self.speeds.append((count, self.seconds))
        per_second = sum(count for count, _ in self.speeds) / sum(seconds for _, seconds in self.speeds)
        self.recent_loss = sum(result.loss for result in self.results) / count
        event = RunStep(
            step=trainer.step_number,
            steps=steps,
            images_seen=trainer.step_number * self.batch,
            loss=self.recent_loss,
            gradient_norm=sum(result.gradient_norm for result in self.results) / count,
            learning_rate=self.results[-1].learning_rate,
            images_per_second=per_second * self.batch,
            elapsed_seconds=trainer.elapsed_seconds,
            left_seconds=(steps - trainer.step_number) / per_second,
        )
        self.results, self.seconds = [], 0.0
        return event


def verdict(loss: float, ignorant: float) -> tuple[bool, str]:
    """Whether a run learned, and the sentence to show: its loss beside that of answering with the mean picture."""
    if not math.isfinite(loss):
        return (
            False,
            "Its loss is no number: nothing can be made with this checkpoint. Start again with a lower learning rate.",
        )
    share = loss / ignorant
    if share < LEARNED_BELOW:
        return True, f"It learned: its error is {share:.0%} of what the mean picture scores."
    return False, (
        f"It learned little: its error is {share:.0%} of what the mean picture scores. "
        "Give it more steps, or look at whether the pictures have something in common."
    )
