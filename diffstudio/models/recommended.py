"""The sampling settings that a checkpoint recommends: its header's, else those of its family. No torch is imported."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from diffstudio.errors import CheckpointDamaged
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.families_table import FLOW_SPACING_NAMES, SAMPLER_NAMES, Family, recommended_settings
from diffstudio.models.fitted_steps.ladders import SPACING
from diffstudio.models.fitted_steps.stored import fitted_steps

# What recipes of version 0.1 name without anyone having chosen it; read as today's defaults.
DEFAULTS_OF_0_1 = {"sampler": "heun", "spacing": "uniform", "steps": 20}
LATEST_MIN_TIMESTEP = 0.9
_MOST_STEPS = 1000


def recommended_for(checkpoint: Checkpoint, *, fitted: bool = False) -> Family | None:
    """The family with the settings recommended for this checkpoint; None for an unknown family.

    Headers of checkpoints trained here hold `guidance` and, since version 0.2, `sampling`: sampler, spacing and steps.
    Values that cannot be used are ignored. With `fitted`, for those who make requests, fitted steps that are recommended
    replace sampler, spacing and steps: a request carries their times (`studio.fitted_spacing`), `sampling_values` has them
    too, and evaluations compute theirs, so that checkpoints with and without fitted steps are measured alike.
    """
    usual = recommended_settings(checkpoint.family, checkpoint.edition, f"{checkpoint.path.stem} {checkpoint.title}")
    if usual is None or usual.one_call:
        return usual
    if not usual.latent:
        usual = _with_sampling(_with_guidance(usual, checkpoint), checkpoint)
    return _with_fitted_steps(usual, checkpoint) if fitted else usual


def _with_guidance(usual: Family, checkpoint: Checkpoint) -> Family:
    try:
        scale = float(checkpoint.json("guidance")["scale"])
    except (CheckpointDamaged, KeyError, TypeError, ValueError, OverflowError):
        return usual
    return replace(usual, guidance=scale) if 0 <= scale <= 100 else usual


def _with_sampling(usual: Family, checkpoint: Checkpoint) -> Family:
    try:
        sampling = checkpoint.json("sampling")
    except CheckpointDamaged:
        return usual
    match sampling:
        case {"sampler": str(sampler), "spacing": str(spacing), "steps": int(steps)} if (
            sampling != DEFAULTS_OF_0_1
            and sampler in SAMPLER_NAMES
            and spacing in FLOW_SPACING_NAMES
            and type(steps) is int
            and 1 <= steps <= _MOST_STEPS
        ):
            return replace(usual, sampler=sampler, spacing=spacing, steps=steps)
    return usual


def min_timestep_of(checkpoint: Checkpoint) -> float:
    """The smallest t with which samplers call the network: see `diffusion.denoiser.MinTimestep`. 0 without a usable one."""
    try:
        value = checkpoint.json("sampling")["min_timestep"]
    except (CheckpointDamaged, KeyError, TypeError):
        return 0.0
    return float(value) if type(value) in (int, float) and 0 <= value <= LATEST_MIN_TIMESTEP else 0.0


def _with_fitted_steps(usual: Family, checkpoint: Checkpoint) -> Family:
    """With the ladder that is recommended among the fitted ones, if one is."""
    ladder = fitted_steps(checkpoint).recommended
    return usual if ladder is None else replace(usual, sampler=ladder.sampler, spacing=SPACING, steps=ladder.steps)


def recommended_values(checkpoint: Checkpoint, *, fitted: bool = False) -> dict[str, Any]:
    """As `recommended_for`, as fields of a request; empty for an unknown family."""
    usual = recommended_for(checkpoint, fitted=fitted)
    if usual is None:
        return {}
    return {"steps": usual.steps, "sampler": usual.sampler, "spacing": usual.spacing, "guidance": usual.guidance}


def sampling_values(checkpoint: Checkpoint, *, steps: int = 0, sampler: str = "", spacing: str = "") -> dict[str, Any]:
    """Fields of SampleOptions: what is given, and for the rest what Generate recommends, with the times of fitted steps.

    Where no steps are fitted for what is given, the header's settings fill the rest. Empty for an unknown family.
    """
    usual = recommended_values(checkpoint)
    if not usual:
        return {}
    given = {"steps": steps, "sampler": sampler, "spacing": spacing}
    asked = {name: value for name, value in given.items() if value}
    fitted = fitted_steps(checkpoint)
    best = fitted.recommended
    if spacing == SPACING or (not spacing and best is not None):
        named = sampler or (best.sampler if best is not None else usual["sampler"])
        ladder = fitted.of(named, steps or (best.steps if best is not None else usual["steps"]))
        if ladder is not None:
            found = {"steps": ladder.steps, "sampler": ladder.sampler, "spacing": SPACING, "times": ladder.times}
            return usual | found | asked
    return usual | asked
