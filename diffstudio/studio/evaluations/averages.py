"""What `diffstudio models ema` found about averages of a run's weights, as JSON in the folder of its job. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffstudio.errors import newer_format
from diffstudio.studio.evaluations.results.stored import damage_named, file_inside
from diffstudio.training.run.run_folder import RunFolder

FORMAT = 1
RESULT = "models.json"
SHORTEST, LONGEST = 0.005, 0.25  # lengths that can be rebuilt, as in `training.power_ema`


@dataclass(frozen=True, slots=True)
class Averages:
    """Held-out losses by length (sigma_rel), and what was made of one length."""

    losses: Mapping[float, float]
    length: float
    checkpoint: str = ""  # the file that was written; empty if none was
    samples: tuple[str, ...] = ()  # files in the folder of the job

    def to_json(self) -> dict[str, Any]:
        losses = [[length, loss] for length, loss in self.losses.items()]
        values = {"format": FORMAT, "losses": losses, "length": self.length}
        return values | {"checkpoint": self.checkpoint, "samples": list(self.samples)}


def read_averages(values: Mapping[str, Any], folder: Path) -> Averages:
    """The inverse of `to_json`, with whole paths of the samples. RunProblem for a result that is damaged or newer."""
    with damage_named("The result"):
        if int(values["format"]) > FORMAT:
            raise newer_format("The result", values["format"], FORMAT)
        losses = {float(length): float(loss) for length, loss in values["losses"]}
        samples = tuple(str(file_inside(folder, str(name))) for name in values["samples"])
        return Averages(losses, float(values["length"]), str(values["checkpoint"]), samples)


def has_averages(run: RunFolder) -> bool:
    """Whether a run has stored averages from which others can be rebuilt."""
    return next(run.ema_folder.glob("[0-9]*.safetensors"), None) is not None
