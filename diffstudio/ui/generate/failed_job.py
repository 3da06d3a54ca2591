"""The message about a job that failed, with a button that tries it again or downloads what it lacks."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import QObject, Signal

from diffstudio.errors import CheckpointMissing, DiffstudioError
from diffstudio.models.components.download import downloadable
from diffstudio.studio.requests import PictureRequest
from diffstudio.ui.shell.downloads import button_text
from diffstudio.ui.widgets import actions

ShowMessage = Callable[[str, str, str, Callable[[], object] | None], None]  # kind, text, button, what the button does


class FailedJob(QObject):
    """Remembers the request of the job that failed last."""

    retry_requested = Signal(object)  # PictureRequest
    download_requested = Signal(object)  # names of missing components, see models/components/requirements.py
    download_stopped = Signal()

    def __init__(self, show_message: ShowMessage) -> None:
        super().__init__()
        self._show_message = show_message
        self._request: PictureRequest | None = None

    def show(self, request: PictureRequest | None, error: DiffstudioError) -> None:
        self._request = request
        components = error.missing_components if isinstance(error, CheckpointMissing) else ()
        if missing := downloadable(components):
            self._show_message(
                "bad", str(error), f"{button_text(missing)}…", lambda: self.download_requested.emit(missing)
            )
        else:
            self._offer_retry("bad", str(error))

    def show_download_progress(self, text: str) -> None:
        """A component that the failed request needs is being downloaded."""
        self._show_message("info", text, actions.STOP, self.download_stopped.emit)

    def show_download_finished(self, text: str) -> None:
        self._offer_retry("good", text)

    def show_download_failed(self, text: str) -> None:
        """`text` says why; it is empty when the user stopped the download."""
        self._offer_retry("bad" if text else "info", text or "Download stopped. The next attempt resumes from here.")

    def _offer_retry(self, kind: str, text: str) -> None:
        self._show_message(kind, text, actions.TRY_AGAIN if self._request is not None else "", self._retry)

    def _retry(self) -> None:
        if self._request is not None:
            self._show_message("info", "", "", None)
            self.retry_requested.emit(self._request)
