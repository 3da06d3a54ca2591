"""The bar at the foot of the Models room that shows a download: how much there is, and how to stop or resume it."""

from __future__ import annotations

import time

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QFrame, QHBoxLayout, QVBoxLayout

from diffstudio.studio.library.link_download import RemoteFile
from diffstudio.ui.widgets import actions
from diffstudio.ui.widgets.controls import ProgressLine, SecondaryButton
from diffstudio.ui.widgets.formatting import human_bytes, human_duration
from diffstudio.ui.widgets.helpers import ElidedLabel, describe, label

_RATE_SECONDS = 5.0  # over which the rate is measured
_LEAST_SECONDS = 0.8  # before it is shown


class DownloadBar(QFrame):
    """A download under way, or one that can be resumed. Hidden while there is neither."""

    pause_requested = Signal()
    resume_requested = Signal()
    cancel_requested = Signal()  # and delete what has been downloaded

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("panel")
        self.title, self.amount = ElidedLabel(""), label("", "dim")
        self.line = ProgressLine("Progress of the download")
        self.pause = SecondaryButton("Pause", "pause", "Pause the download. What has been downloaded is kept")
        self.resume = SecondaryButton("Resume", "play", "Resume the download where it stopped")
        self.cancel = SecondaryButton(actions.CANCEL, "x", "Cancel the download and delete what has been downloaded")
        self._samples: list[tuple[float, int]] = []
        header, column, row = QHBoxLayout(), QVBoxLayout(), QHBoxLayout(self)
        header.addWidget(self.title, 1)
        header.addWidget(self.amount)
        column.setSpacing(6)
        column.addLayout(header)
        column.addWidget(self.line)
        row.setContentsMargins(24, 8, 20, 10)
        row.setSpacing(8)
        row.addLayout(column, 1)
        for button in (self.pause, self.resume, self.cancel):
            row.addWidget(button)
        self.pause.clicked.connect(self.pause_requested)
        self.resume.clicked.connect(self.resume_requested)
        self.cancel.clicked.connect(self.cancel_requested)
        self.hide()

    def show_running(self, remote: RemoteFile, queued: int) -> None:
        more = f", {queued:,} more queued" if queued else ""
        self._show_title(f"Downloading {remote.name} from {remote.host}{more}", is_running=True)
        if not self._samples:
            self.show_progress(0, remote.size_bytes)

    def show_progress(self, done: int, of: int) -> None:
        """Show the bytes so far and in total, the rate and the time left, as far as they are known."""
        now = time.monotonic()
        self._samples = [one for one in self._samples if now - one[0] < _RATE_SECONDS] + [(now, done)]
        begun, at_begin = self._samples[0]
        rate = (done - at_begin) / (now - begun) if now - begun > _LEAST_SECONDS else 0.0
        parts = [_amount(done, of)]
        if rate > 0:
            parts.append(f"{human_bytes(rate)}/s")
            if of > done:
                parts.append(f"{human_duration(float(round((of - done) / rate)))} left")
        self.line.set_fraction(done / of if of else None)
        self.amount.setText(" · ".join(parts))

    def show_paused(self, remote: RemoteFile, done: int) -> None:
        """Show a download that can be resumed."""
        self._show_title(f"{remote.name} from {remote.host} is incomplete", is_running=False)
        self.line.set_fraction(done / remote.size_bytes if remote.size_bytes else 0.0)
        self.amount.setText(_amount(done, remote.size_bytes))

    def _show_title(self, text: str, *, is_running: bool) -> None:
        if not is_running or self.title.text() != text:
            self._samples = []
        self.title.setText(text)
        describe(self, text)
        describe(self.line, text)
        had_focus = self.pause.hasFocus() or self.resume.hasFocus()
        self.pause.setVisible(is_running)
        self.resume.setVisible(not is_running)
        if had_focus:
            (self.pause if is_running else self.resume).setFocus()
        self.show()


def _amount(done: int, of: int) -> str:
    return f"{human_bytes(done)} of {human_bytes(of)}" if of else human_bytes(done)
