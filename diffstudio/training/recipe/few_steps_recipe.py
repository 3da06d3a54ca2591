"""The section of a recipe for distilling a checkpoint to few steps. No torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FewStepsRecipe:
    """Distillation of a trained checkpoint, the teacher, to few steps: see training.few_steps."""

    enabled: bool = False
    segments: int = 1  # of the noise levels; 1: a consistency model
    teacher_calls: int = 8  # network calls of the teacher on each path
    points: int = 3  # states on each path that the network is trained on
    # The teacher's own:
    guidance: float = 1.0  # CFG scale that is distilled into the model
    guidance_interval: tuple[float, float] = (0.05, 0.95)
    min_timestep: float = 0.0  # the smallest t with which it is called
    teacher: str = ""  # its name
    teacher_sha256: str = ""
