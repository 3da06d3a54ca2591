"""The training history of a run from its events: curves, stability and duration. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from diffstudio.plurals import count_of
from diffstudio.studio.evaluations.plots.figure import thinned
from diffstudio.training.run.events import (
    RunEarlyDecay,
    RunEarlyStop,
    RunEvent,
    RunFailed,
    RunFinished,
    RunHeldOut,
    RunRolledBack,
    RunStarted,
    RunStep,
    RunStopped,
)

Curve = tuple[tuple[float, ...], tuple[float, ...]]  # minutes of training, values


@dataclass(frozen=True, slots=True)
class TrainingHistory:
    """The training of one run."""

    steps: int
    images_seen: int
    seconds: float  # of training, without pauses and waiting
    parameters: int
    device: str
    loss: Curve
    gradient_norm: Curve
    held_out: Curve
    rolled_back: tuple[str, ...]  # a sentence for each time
    restarts: int  # how often another process resumed it
    ended: str  # why it ended early; empty if it did not
    failed: bool = False  # whether that is a failure
    verdict: str = ""
    objective: str = "diffusion"  # a value of recipe.ObjectiveName

    @property
    def is_stable(self) -> bool:
        return not self.rolled_back and not self.failed

    def sentence(self) -> str:
        """A description of how stable training was."""
        parts = [count_of(len(self.rolled_back), "roll-back") if self.rolled_back else "no roll-backs"]
        if self.restarts:
            parts.append(f"resumed {self.restarts} times" if self.restarts > 1 else "resumed once")
        if self.ended:
            parts.append(self.ended)
        return ", ".join(parts)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


CURVES = ("loss", "gradient_norm", "held_out")  # the fields of TrainingHistory that are curves
_FAILED = "Failed"


def with_failed(values: Mapping[str, Any]) -> dict[str, Any]:
    """The stored fields of a TrainingHistory, where an older version wrote no `failed`."""
    return {"failed": str(values.get("ended")).startswith(_FAILED), **values}


def history(events: Sequence[RunEvent]) -> TrainingHistory:
    """The history from the events of a run, in order."""
    started = [event for event in events if isinstance(event, RunStarted)]
    steps = [event for event in events if isinstance(event, RunStep)]
    held_out: list[tuple[float, float]] = []
    minutes = 0.0
    for event in events:
        if isinstance(event, RunStep):
            minutes = event.elapsed_seconds / 60
        elif isinstance(event, RunHeldOut):
            held_out.append((minutes, event.loss))
    times = [event.elapsed_seconds / 60 for event in steps]
    ended, failed = _how_ended(events)
    return TrainingHistory(
        steps=steps[-1].step if steps else 0,
        images_seen=steps[-1].images_seen if steps else 0,
        seconds=steps[-1].elapsed_seconds if steps else 0.0,
        parameters=started[-1].parameters if started else 0,
        device=started[-1].device if started else "",
        objective=started[-1].objective if started else "",
        loss=thinned(times, [event.loss for event in steps]),
        gradient_norm=thinned(times, [event.gradient_norm for event in steps]),
        held_out=thinned([time for time, _ in held_out], [loss for _, loss in held_out]),
        rolled_back=tuple(event.why for event in events if isinstance(event, RunRolledBack)),
        restarts=max(0, len(started) - 1),
        ended=ended,
        failed=failed,
        verdict=next((event.verdict for event in reversed(events) if isinstance(event, RunFinished)), ""),
    )


def _how_ended(events: Sequence[RunEvent]) -> tuple[str, bool]:
    """Why a run ended early, and whether it failed."""
    goes_on = False  # after a stop or a failure, in another process
    for event in reversed(events):
        match event:
            case RunStarted():
                goes_on = True
            case RunFailed(why=why) if not goes_on:
                return f"{_FAILED}: {why}", True
            case RunStopped(step=step) if not goes_on:
                return f"Stopped at step {step:,}", False
            case RunEarlyDecay(why=why) | RunEarlyStop(why=why):
                return why, False
    return "", False
