"""The run section of a recipe: duration, hardware, checkpoints and samples. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from diffstudio.models.detection.families_table import PIXEL


@dataclass(frozen=True, slots=True)
class RunRecipe:
    steps: int = 6000
    minutes: float = 0.0  # if not 0, the run lasts this long, and `steps` is not used
    schedule: str = "steps"  # what ends a run: `steps` or `time`; in earlier runs minutes became steps
    first_step: int = 0  # where the run was last continued: its schedule starts there
    first_seconds: float = 0.0  # of training before that
    end_step: int = 0  # chosen by cross-validation: the run ends there, before its schedule; 0: with its schedule
    patience: int = -1  # end after so many held-out losses without a new minimum; 0: never; -1: if a time is given
    batch: int = 64
    seed: int = 0
    dtype: str = "auto"  # `float32`, `bfloat16` or `auto`: the faster one, measured when the run starts
    device: str = "auto"
    threads: int = 0  # 0: one per core
    compile: bool = False  # torch.compile on a CUDA device: faster steps, after a minute of compiling
    sample_every: int = 500  # steps
    sample_count: int = 16
    checkpoint_every: int = 500
    keep_checkpoints: int = 8  # besides the best and the newest one, evenly spaced over the run
    ema_snapshots: int = 0  # how often the averages of `training.power_ema` are stored, evenly spaced over the run
    start_from: str = (
        ""  # the checkpoint whose weights the run starts from: its path, or the name of an included one; empty: none
    )
    held_out_every: int = 250
    prompts: tuple[str, ...] = ()  # of the sample sheets; by default captions of the folder
    sample_steps: int = PIXEL.steps  # these five are also the recommended settings of the run's checkpoints
    sample_sampler: str = PIXEL.sampler
    sample_spacing: str = PIXEL.spacing
    sample_guidance: float = PIXEL.guidance
    sample_min_timestep: float = -1.0  # the network is called with no smaller t; -1: by its prediction and its images
