"""Rescans the folder of the gallery in a thread, and says in a sentence what was found."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from PySide6.QtCore import QObject, Signal

from diffstudio.errors import DiffstudioError
from diffstudio.studio.gallery.gallery import Gallery
from diffstudio.studio.gallery.rescan import RescanReport, rescan, times_of
from diffstudio.ui.tasks import Tasks


class Rescanner(QObject):
    """One rescan at a time. `close` ends it early. What a person did not ask for says nothing twice."""

    started = Signal()
    ended = Signal()
    reported = Signal(object, bool)  # RescanReport, whether a person asked for it
    failed = Signal(object)  # DiffstudioError

    def __init__(self, gallery: Gallery, tasks: Tasks) -> None:
        super().__init__()
        self._gallery, self._tasks, self._busy = gallery, tasks, False
        self._closing = threading.Event()
        self._times: Mapping[Path, int | None] = {}  # of the folders at the last rescan
        self._said: tuple[str, ...] = ()  # what could not be read or written then

    def start(self, *, asked: bool) -> None:
        """Rescan, unless that is in progress."""
        if not self._busy:
            self._busy = True
            self.started.emit()
            self._tasks.start(self._rescan(asked))

    def start_if_changed(self) -> None:
        """Rescan if files were added to the folders or removed from them since the last time. Quick if not."""
        if not self._busy:
            self._tasks.start(self._look())

    async def _look(self) -> None:
        before = self._times
        times = await self._tasks.to_thread(times_of, tuple(before))
        if times != before and before is self._times:
            self._times = times  # should it fail, as without the drive, that is said once
            self.start(asked=False)

    def close(self) -> None:
        self._closing.set()

    async def _rescan(self, asked: bool) -> None:
        try:
            report = await self._tasks.to_thread(rescan, self._gallery, self._closing.is_set)
        except DiffstudioError as error:
            if not self._times:  # its return is noticed; while it is away, that was said
                self._times = {self._gallery.folder: None}
            self.failed.emit(error)
        else:
            self._times = report.times
            said = (*(why for _, why in report.unreadable), *map(str, report.unsaved))
            if said == self._said and not asked:
                report = replace(report, unreadable=(), unsaved=())
            self._said = said
            self.reported.emit(report, asked)
        finally:
            self._busy = False
            self.ended.emit()


def report_message(report: RescanReport, asked: bool) -> tuple[str, str]:
    """What to show after a rescan: the kind of a message and its text, which is empty when there is nothing to say."""
    if report.unreadable:
        path, why = report.unreadable[0]
        more = f" {len(report.unreadable) - 1:,} more were skipped too." if len(report.unreadable) > 1 else ""
        return "warn", f"Skipped: {why}{more}"
    if report.unsaved:
        return "warn", str(report.unsaved[0])
    if report.anything:
        return ("warn" if report.missing else "good"), f"Folder rescanned: {report.summary}."
    return "good", "Folder rescanned: nothing has changed." if asked else ""
