"""JobContext: how a running job is controlled, and where its results go. No torch is imported here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from diffstudio.studio.events import JobId
from diffstudio.studio.jobs.job_control import JobControl
from diffstudio.studio.jobs.recording import Recording, Replay
from diffstudio.studio.requests import PictureRequest

if TYPE_CHECKING:
    from PIL import Image

    from diffstudio.imaging.exact_files import ExactValues


class SavedImage(Protocol):
    @property
    def path(self) -> Path: ...


class ImageStore(Protocol):
    """Where finished images are saved: the gallery, or the files that the command line names."""

    def add(
        self, image: Image.Image, request: PictureRequest, *, extra: Mapping[str, Any], exact: ExactValues | None = None
    ) -> SavedImage: ...


class JobStore(ImageStore, Protocol):
    """An image store that finds the images of a job again after a crash."""

    def saved_images(self, token: str) -> int:
        """How many images of the job with this token are stored; they are stored in order."""
        ...


def _no_other_models() -> int:
    return 0


@dataclass(frozen=True, slots=True)
class JobContext:
    job: JobId
    store: ImageStore
    job_control: JobControl
    previews: bool = True  # whether the events of its steps carry previews
    done: int = 0  # images of the request that are already saved
    recording: Recording = field(default_factory=Recording)  # of its steps
    replay: Replay | None = None  # an earlier recording, whose first steps are repeated without the network
    drop_other_models: Callable[[], int] = _no_other_models  # frees the other models in memory; returns their number
    token: str = ""  # the job's, stored with its images

    def save(
        self, image: Image.Image, request: PictureRequest, metadata: Mapping[str, Any], exact: ExactValues | None = None
    ) -> SavedImage:
        """Store a finished image with its metadata and the job's token, and its exact values where it has more."""
        about = {**metadata, **({"job": self.token} if self.token else {})}
        if exact is None:
            return self.store.add(image, request, extra=about)
        return self.store.add(image, request, extra=about, exact=exact)
