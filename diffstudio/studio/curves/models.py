"""The noise schedule, training distribution and step times of a checkpoint, from its header or its folder. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from diffstudio.diffusion.curve_points import NoiseCurve
from diffstudio.diffusion.tables import ALIGNED_SDXL
from diffstudio.errors import CheckpointDamaged
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.families_table import DDPM, FAMILIES, PIXEL
from diffstudio.models.detection.prediction_type import DIFFUSERS_PREDICTIONS
from diffstudio.studio.curves.noise_levels import TrainingLevels
from diffstudio.studio.curves.schedules import (
    DDPM_LINEAR,
    RECTIFIED_FLOW,
    STABLE_DIFFUSION,
    Array,
    ScheduleArrays,
    not_shown,
    schedule_arrays,
)
from diffstudio.studio.curves.spacings import SpacingArrays, align_your_steps, leading, log_snr, sampling_times

_SECOND_TIMES = (0.9, 0.95)  # limits of the second time of `log_snr`, as in `models.families.pixel`
_CURVES = {"squaredcos_cap_v2": "cosine"}  # diffusers' names of beta schedules that differ from ours
_LARGEST_CONFIG_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class ModelNoise:
    schedule: ScheduleArrays
    prediction: str = ""  # eps, v, flow or x0; empty if unknown
    levels: TrainingLevels | None = None  # noise levels of training; None if unknown
    note: str = ""  # a sentence about assumptions
    second_time: float | None = None  # of the spacing `log_snr`
    offset: int = 0  # of the spacing `leading`
    aligned_xl: bool = False

    def times(self, steps: int, spacing: str | NoiseCurve) -> Array:
        """The step times [steps + 1], as from `Model.times` for whole images. BadRequest likewise."""
        special: Mapping[object, SpacingArrays] = {
            "log_snr": partial(log_snr, second=self.second_time),
            "leading": partial(leading, offset=self.offset),
            "align_your_steps": partial(align_your_steps, table=ALIGNED_SDXL if self.aligned_xl else None),
        }
        return sampling_times(self.schedule, steps, special.get(spacing, spacing))


def has_noise_schedule(checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint is sampled step by step."""
    family = FAMILIES.get(checkpoint.family)
    return checkpoint.can_generate and family is not None and not family.one_call and not family.text_only


def model_noise(checkpoint: Checkpoint) -> ModelNoise:
    """The noise settings of a checkpoint, as far as they are known. BadRequest for a schedule that cannot be read."""
    if checkpoint.family == PIXEL.name:
        return _trained_here(checkpoint)
    config = _scheduler_config(checkpoint.path)
    if FAMILIES[checkpoint.family].flow:
        return _flow(config)
    prediction = checkpoint.prediction or DIFFUSERS_PREDICTIONS.get(str(config.get("prediction_type", "epsilon")), "")
    usual = dict(DDPM_LINEAR if checkpoint.family == DDPM else STABLE_DIFFUSION)
    values = dict(usual)
    note = "The noise schedule of Stable Diffusion is assumed, because the file does not specify one."
    if config:
        betas = str(config.get("beta_schedule", usual["curve"]))
        values |= {
            "curve": _CURVES.get(betas, betas),
            "steps": config.get("num_train_timesteps", 1000),
            "beta_first": config.get("beta_start", usual["beta_first"]),
            "beta_last": config.get("beta_end", usual["beta_last"]),
            "zero_terminal_snr": bool(config.get("rescale_betas_zero_snr", False)),
        }
        note = ""
    offset = config.get("steps_offset")
    return ModelNoise(
        schedule_arrays(values),
        prediction,
        TrainingLevels(),
        note,
        offset=offset if type(offset) is int and offset > 0 else 0,
        aligned_xl=checkpoint.family.startswith("sdxl"),
    )


def _trained_here(checkpoint: Checkpoint) -> ModelNoise:
    try:
        schedule, guidance = checkpoint.json("schedule"), checkpoint.json("guidance")
    except CheckpointDamaged as damage:
        raise not_shown(damage.what) from damage
    try:
        recipe = checkpoint.json("recipe")
    except CheckpointDamaged:
        recipe = None
    match guidance:
        case {"interval": [int() | float(), int() | float() as highest]}:
            second = float(min(max(_SECOND_TIMES[0], highest), _SECOND_TIMES[1]))
        case _:
            second = _SECOND_TIMES[1]
    arrays = schedule_arrays(schedule if isinstance(schedule, dict) else {})
    note = ""
    match recipe:
        case {"objective": {"noise_levels": "adaptive"}}:
            note = "It was trained with adaptive noise levels, so their distribution is not shown here."
    return ModelNoise(arrays, "x0", TrainingLevels.from_recipe(recipe), note=note, second_time=second)


def _flow(config: Mapping[str, Any]) -> ModelNoise:
    shift = config.get("shift")
    if isinstance(shift, (int, float)) and not config.get("use_dynamic_shifting") and not config.get("shift_terminal"):
        return ModelNoise(schedule_arrays({**RECTIFIED_FLOW, "shift": shift}), "flow")
    note = "Its steps are shifted towards noise depending on the image size; they are shown without this shift."
    return ModelNoise(schedule_arrays(RECTIFIED_FLOW), "flow", note=note)


def _scheduler_config(path: Path) -> dict[str, Any]:
    """The `scheduler_config.json` of a diffusers folder; empty for a single file, or if it cannot be read."""
    try:
        with (path / "scheduler" / "scheduler_config.json").open("rb") as file:
            values = json.loads(file.read(_LARGEST_CONFIG_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}
