"""What may be said about a job. Every event is frozen and picklable, so that the worker could be another process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from diffstudio.errors import DiffstudioError
from diffstudio.studio.requests import PictureRequest

Picture: TypeAlias = NDArray[np.uint8]  # [H,W,3] RGB, at most 512 px a side
JobId: TypeAlias = int  # the queue's row; it grows with every submission and is never used again


@dataclass(frozen=True, slots=True)
class Started:
    job: JobId
    request: PictureRequest


@dataclass(frozen=True, slots=True)
class Loading:
    """Something that takes a while before the first step, or between two: `what` is shown, `fraction` is None when
    unknown.
    """

    job: JobId
    what: str
    fraction: float | None = None


@dataclass(frozen=True, slots=True)
class Noted:
    """Something is not as the person would expect, and the job goes on all the same."""

    job: JobId
    text: str  # a sentence


@dataclass(frozen=True, slots=True)
class Stepped:
    job: JobId
    index: int  # the step just done, 1 .. steps, within this batch
    steps: int
    first: int  # which of the request's images the batch starts with, 0-based
    count: int  # how many images the request asks for
    noise_level: float  # sigma(t) / alpha(t) reached, inf at alpha = 0
    previews: tuple[Picture, ...]  # the estimate of the clean image, one for each image of the batch; may be empty
    seconds_per_step: float
    seconds_left: float  # for the whole request


@dataclass(frozen=True, slots=True)
class Paused:
    job: JobId


@dataclass(frozen=True, slots=True)
class Resumed:
    job: JobId


@dataclass(frozen=True, slots=True)
class ImageSaved:
    job: JobId
    index: int  # which of the request's images, 0-based
    path: Path
    image: Picture  # at most 512 px; the file holds the whole


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
    error: DiffstudioError  # says what, why, and what to do


Event: TypeAlias = Started | Loading | Noted | Stepped | Paused | Resumed | ImageSaved | Finished | Cancelled | Failed
ENDINGS = (Finished, Cancelled, Failed)  # exactly one of these is the last thing said about a job
