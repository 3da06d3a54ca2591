"""The events of a job, from Started to its ending.

All are frozen and picklable, so that the worker could be a separate process.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from diffstudio.errors import DiffstudioError
from diffstudio.studio.requests import PictureRequest

Picture: TypeAlias = NDArray[np.uint8]  # [H,W,3] RGB; in events at most 512 px a side
JobId: TypeAlias = int  # id in the queue; ids grow with every submission and are never reused


@dataclass(frozen=True, slots=True)
class Started:
    job: JobId
    request: PictureRequest


@dataclass(frozen=True, slots=True)
class Loading:
    """Slow work outside the denoising steps: loading, upscaling, waiting."""

    job: JobId
    what: str  # shown to the user
    fraction: float | None = None  # done, 0 to 1; None when unknown


@dataclass(frozen=True, slots=True)
class Noted:
    """A notice: something differs from what was asked for, and the job continues."""

    job: JobId
    text: str  # a sentence


@dataclass(frozen=True, slots=True)
class Stepped:
    job: JobId
    index: int  # of the step just done, 1 .. steps, within this batch
    steps: int
    first: int  # index of the batch's first image in the request, from 0
    count: int  # images in the request
    noise_level: float  # sigma(t) / alpha(t) after the step; inf where alpha = 0
    previews: tuple[Picture, ...]  # of the x_0 estimates, one for each image of the batch; may be empty
    seconds_per_step: float
    seconds_left: float  # for the whole request
    batch: int = 1  # images in the batch


@dataclass(frozen=True, slots=True)
class Paused:
    job: JobId


@dataclass(frozen=True, slots=True)
class Resumed:
    job: JobId


@dataclass(frozen=True, slots=True)
class ImageSaved:
    job: JobId
    index: int  # in the request, from 0
    path: Path
    image: Picture  # at most 512 px a side; the file has full size


@dataclass(frozen=True, slots=True)
class Finished:
    job: JobId
    seconds: float


@dataclass(frozen=True, slots=True)
class Cancelled:
    job: JobId


@dataclass(frozen=True, slots=True)
class Failed:
    job: JobId
    error: DiffstudioError  # what happened, why, and what to do


Event: TypeAlias = Started | Loading | Noted | Stepped | Paused | Resumed | ImageSaved | Finished | Cancelled | Failed
ENDINGS = (Finished, Cancelled, Failed)  # exactly one of these is the last event of each job
