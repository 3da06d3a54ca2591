"""The state of the job that the Generate room shows: the running one, or the last one that ran."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path

from PySide6.QtCore import QSize
from PySide6.QtGui import QImage

from diffstudio.errors import DiffstudioError
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.studio.events import JobId, Stepped
from diffstudio.studio.generation.init_image import canvas_size
from diffstudio.studio.requests import PictureRequest, UpscaleRequest
from diffstudio.ui.generate import labels
from diffstudio.ui.widgets.formatting import human_duration
from diffstudio.ui.widgets.images.image_reading import image_size


@dataclass(slots=True)
class JobState:
    """Collected from the worker's events; before the first job there is neither `job` nor `request`."""

    job: JobId | None = None
    request: PictureRequest | None = None
    busy: bool = False
    paused: bool = False
    finished: bool = False
    newest: Stepped | None = None
    notes: list[str] = field(default_factory=list)
    saved_images: dict[int, tuple[QImage, Path]] = field(default_factory=dict)  # by index in the request

    @property
    def saved(self) -> int:
        """The number of images saved."""
        return len(self.saved_images)

    def end(self, *, finished: bool = False) -> None:
        self.busy = self.paused = False
        self.finished = finished

    def fraction(self, event: Stepped) -> float:
        """How much of the job is done after a step, 0 to 1."""
        return (event.first + event.batch * event.index / event.steps) / max(1, event.count)

    def paused_text(self) -> str:
        return f"Paused{self._at_step()}"

    def finished_text(self, seconds: float) -> str:
        return f"{labels.image_count(self.saved)}  ·  {human_duration(seconds)}"

    def stopped_text(self) -> str:
        kept = f"  ·  {labels.image_count(self.saved)} kept" if self.saved else ""
        return f"Stopped{self._at_step()}{kept}"

    def only_resizes(self) -> bool:
        """Whether the job only runs an upscaler, without steps."""
        return isinstance(self.request, UpscaleRequest) and not self.request.checkpoint

    def _at_step(self) -> str:
        return f" at step {self.newest.index} of {self.newest.steps}" if self.newest else ""


@dataclass(frozen=True, slots=True)
class Restart:
    """What a restart makes: `path` is that of an image alone, and None for the whole job."""

    step: int
    request: PictureRequest | None
    path: Path | None = None
    resumes: bool = False  # from the first step that was not made
    takes_prompt: bool = False  # the current prompt and CFG scale, in place of those in `request`


def shape_of(request: PictureRequest, checkpoint: Checkpoint | None) -> QSize:
    """About the size of the images that a request makes with `checkpoint`, in px."""
    if isinstance(request, UpscaleRequest):
        return image_size(request.source)
    if request.width is None and request.height is None:
        with contextlib.suppress(DiffstudioError):
            if (canvas := canvas_size(request)) is not None:
                return QSize(*canvas)
    usual = (checkpoint.width, checkpoint.height) if checkpoint and checkpoint.width and checkpoint.height else (1, 1)
    return QSize(request.width or usual[0], request.height or usual[1])
