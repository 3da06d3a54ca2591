"""The result of a filmed reverse process: where each frame is, and the figures of its step. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from diffstudio.errors import DiffstudioError
from diffstudio.studio.evaluations.results.stored import typed_result
from diffstudio.studio.number_text import formatted

FORMAT = 1
PARTS = ("state", "estimate", "noise", "score")  # the images of a step
HOW_TO_READ = (
    "x_t is the state before the step, scaled to a roughly constant variance. The estimate of x_0 is the clean image that "
    "the model predicts: the composition first, then details. The noise is the rest of x_t without the estimate, "
    "(x_t - alpha x_0) / sigma; for a good model it is white noise with a standard deviation of 1. The score, "
    "-noise / sigma, is the direction in which images become more likely. Noise and score are grey where they are 0, and "
    "black or white at 3 standard deviations (noise) or at 3 / sigma (score)."
)


@dataclass(frozen=True, slots=True)
class FilmedStep:
    """What the model was asked at the start of a step, and what it said."""

    t: float
    alpha: float
    sigma: float
    noise_rms: float  # root mean square of the noise: about 1
    score_rms: float
    change: (
        float  # root mean square of the change of the estimate since the step before, in [-1,1] or latents; 0 at first
    )
    files: Mapping[str, str]  # of each of PARTS, in the result's folder

    @property
    def log_snr(self) -> float:
        """log(alpha^2 / sigma^2); -inf where alpha is 0."""
        return 2 * math.log(self.alpha / self.sigma) if self.alpha > 0 else -math.inf

    def text(self) -> str:
        return (
            f"t {self.t:.4g}, alpha {self.alpha:.3f}, sigma {self.sigma:.3f}, "
            f"log-SNR {formatted(self.log_snr, '.2f')}, "
            f"noise {self.noise_rms:.2f}, score {self.score_rms:.3g}"
        )


@dataclass(frozen=True, slots=True)
class ReverseResult:
    checkpoint: str
    prompt: str
    steps: Sequence[FilmedStep]
    image: str  # the file of the finished image
    film: str  # the animated file
    settings: Mapping[str, object] = field(default_factory=dict)
    notes: Sequence[str] = ()
    problem: DiffstudioError | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "checkpoint": self.checkpoint,
            "prompt": self.prompt,
            "steps": [asdict(step) for step in self.steps],
            "image": self.image,
            "film": self.film,
            "settings": dict(self.settings),
            "notes": list(self.notes),
            "how_to_read": HOW_TO_READ,
        }

    def text(self) -> str:
        settings = ", ".join(f"{name} {value}" for name, value in self.settings.items())
        lines = [f"{self.checkpoint}: {self.prompt!r}" if self.prompt else self.checkpoint, settings, ""]
        lines += [f"{number:>3}  {step.text()}" for number, step in enumerate(self.steps, 1)]
        lines += ["", f"image: {self.image}", f"film: {self.film}"]
        lines += ["", *self.notes] if self.notes else []
        return "\n".join([*lines, "", HOW_TO_READ])

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ReverseResult:
        """What `to_json` gave. RunProblem for a newer format; KeyError, TypeError or ValueError for anything else."""
        return typed_result(cls, values, FORMAT)
