"""The jobs that failed, until they are tried again or dismissed: a message about the newest one, and a list of all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count

from PySide6.QtCore import QObject, Signal

from diffstudio.errors import CheckpointMissing, DiffstudioError
from diffstudio.models.components.download import downloadable
from diffstudio.studio.requests import PictureRequest
from diffstudio.ui.generate.queue.failed_list import FailedJob
from diffstudio.ui.widgets import actions

ShowMessage = Callable[[str, str, str, Callable[[], object] | None], None]  # kind, text, button, what the button does


class FailedJobs(QObject):
    """Remembers every job that failed. Tried again, a job that fails once more is remembered anew."""

    changed = Signal()  # `jobs`
    retry_requested = Signal(object)  # PictureRequest
    download_requested = Signal(object)  # names of missing components, see models/components/requirements.py
    download_stopped = Signal()

    def __init__(self, show_message: ShowMessage, withdraw_message: Callable[[str], None]) -> None:
        """`withdraw_message` hides a message that is still shown."""
        super().__init__()
        self._show_message, self._withdraw_message = show_message, withdraw_message
        self.jobs: list[FailedJob] = []  # the newest first
        self._keys = count(1)
        self._key = 0  # of the job that failed, or whose components were asked for, last
        self._downloading: FailedJob | None = None  # whose components are downloaded

    def add(self, request: PictureRequest, error: DiffstudioError) -> None:
        missing = downloadable(error.missing_components if isinstance(error, CheckpointMissing) else ())
        self._key = next(self._keys)
        self._set([FailedJob(self._key, request, str(error), missing), *self.jobs])
        self._offer("bad", str(error))

    def act(self, key: int) -> None:
        """Try a job again, or download first what it lacks."""
        job = self._find(key)
        if job is None:  # its message is older than what was done in the list
            return
        if job.missing:
            self._key, self._downloading = key, job
            self.download_requested.emit(job.missing)
        else:
            self.dismiss(key)
            self.retry_requested.emit(job.request)

    def act_on_all(self) -> None:
        """Try all jobs again that lack nothing, in the order in which they failed."""
        for job in reversed([job for job in self.jobs if not job.missing]):
            self.act(job.key)

    def dismiss(self, key: int) -> None:
        """Forget a job, also its message."""
        for job in self.jobs:
            if job.key == key:
                self._withdraw_message(job.reason)
        self._set([job for job in self.jobs if job.key != key])

    def dismiss_all(self) -> None:
        for job in self.jobs:
            self.dismiss(job.key)

    def change_requests(self, change: Callable[[PictureRequest], PictureRequest]) -> None:
        """Put other requests in place of those that failed, as after a model was renamed."""
        self._set([replace(job, request=change(job.request)) for job in self.jobs])

    def show_download_progress(self, text: str) -> None:
        """A component that a failed job needs is being downloaded."""
        self._show_message("info", text, actions.STOP, self.download_stopped.emit)

    def show_download_finished(self, text: str) -> None:
        if (asked := self._downloading) is not None:
            self._set([replace(each, missing=_without(each.missing, asked.missing)) for each in self.jobs])
        self._offer_download("good", text)

    def show_download_failed(self, text: str) -> None:
        """`text` says why; it is empty when the user stopped the download."""
        self._offer_download("bad" if text else "info", text or "Download stopped. The next attempt resumes from here.")

    def _offer_download(self, kind: str, text: str) -> None:
        """Show how a download ended, with the button of the job that asked for it."""
        if (asked := self._downloading) is not None and self._find(asked.key) is not None:
            self._key = asked.key
        self._downloading = None
        self._offer(kind, text)

    def _offer(self, kind: str, text: str) -> None:
        """Show a message with the button of the job that it is about."""
        job, key = self._find(self._key), self._key
        self._show_message(kind, text, job.action() if job is not None else "", lambda: self._act_on_message(key, text))

    def _act_on_message(self, key: int, text: str) -> None:
        job = self._find(key)
        if job is None or not job.missing:
            self._withdraw_message(text)
        self.act(key)

    def _find(self, key: int) -> FailedJob | None:
        return next((job for job in self.jobs if job.key == key), None)

    def _set(self, jobs: list[FailedJob]) -> None:
        self.jobs = jobs
        self.changed.emit()


def _without(names: tuple[str, ...], found: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if name not in found)
