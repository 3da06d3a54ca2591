"""Downloads models from links, one after the other, with a progress bar. Nothing is downloaded before it is asked for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

from PySide6.QtCore import QObject, Signal

from diffstudio.errors import DiffstudioError, Interrupted
from diffstudio.studio.library.link_download import RemoteFile, discard, fetch, look_up, unfinished
from diffstudio.studio.library.links import FileLink
from diffstudio.ui.models.adding.download_bar import DownloadBar
from diffstudio.ui.tasks import Tasks


class LinkDownloads(QObject):
    """Looks files up, fetches them into the folder that `folder()` returns, and lists the unfinished ones."""

    looked_up = Signal(object)  # RemoteFile
    look_up_failed = Signal(str)  # a message
    finished = Signal(object)  # Path of the imported file
    failed = Signal(str)  # a message
    cancelled = Signal(str)  # the file's name

    def __init__(self, folder: Callable[[], Path]) -> None:
        super().__init__()
        self._folder = folder
        self._tasks = Tasks("link-downloads", workers=2)
        self._queue: list[RemoteFile] = []
        self._current: RemoteFile | None = None
        self._running: asyncio.Task[None] | None = None
        self._looking: threading.Event | None = None
        self._stop, self._discards, self._closed = threading.Event(), False, False
        self._number = 0
        self.bar = DownloadBar()
        self.bar.pause_requested.connect(self.pause)
        self.bar.resume_requested.connect(self.resume)
        self.bar.cancel_requested.connect(self.cancel)

    # Looking up

    def look_up(self, link: FileLink) -> None:
        """Ask the host for the name and the size of a file; `looked_up` or `look_up_failed` follows."""
        self.stop_looking()
        stop = self._looking = threading.Event()
        self._tasks.start(self._look_up(link, stop))

    def stop_looking(self) -> None:
        if self._looking is not None:
            self._looking.set()
            self._looking = None

    async def _look_up(self, link: FileLink, stop: threading.Event) -> None:
        try:
            remote = await self._tasks.to_thread(look_up, link, stop.is_set)
        except Interrupted:
            return
        except DiffstudioError as error:
            if not stop.is_set():
                self.look_up_failed.emit(str(error))
            return
        if not stop.is_set():
            self.looked_up.emit(remote)

    # Fetching

    def start(self, remote: RemoteFile) -> None:
        """Fetch a file, after those that are queued. One that was interrupted is resumed."""
        if remote != self._current and remote not in self._queue:
            self._queue.append(remote)
        if self._running is None:
            if remote == self._current:
                self._queue.insert(0, remote)
            self._next()
        elif self._current is not None:
            self.bar.show_running(self._current, len(self._queue))

    def pause(self) -> None:
        """Stop, and keep what has been downloaded."""
        self._stop.set()

    def resume(self) -> None:
        if self._running is None and self._current is not None:
            self.start(self._current)

    def cancel(self) -> None:
        """Stop, and delete what has been downloaded."""
        if self._running is not None:
            self._discards = True
            self._stop.set()
        elif self._current is not None:
            self._tasks.start(self._discard(self._current))

    def busy(self) -> bool:
        return self._running is not None

    def show_unfinished(self) -> None:
        """Offer to resume what was interrupted, also in an earlier session."""
        if self._running is None and not self._closed:
            self._tasks.start(self._show_unfinished())

    def close(self) -> None:
        """Stop; what has been downloaded is kept and offered the next time."""
        self._closed = True
        self._queue.clear()
        self.stop_looking()
        self._stop.set()
        self._tasks.close()

    def _next(self) -> None:
        if self._closed or not self._queue:
            self._running = None
            return
        remote = self._current = self._queue.pop(0)
        self._stop, self._discards = threading.Event(), False
        self._number += 1
        self.bar.show_running(remote, len(self._queue))
        self._running = self._tasks.start(self._fetch(remote, self._number, self._stop))

    async def _fetch(self, remote: RemoteFile, number: int, stop: threading.Event) -> None:
        folder = self._folder()
        try:
            path = await self._tasks.to_thread_with_progress(
                lambda progress: fetch(remote, folder, progress, stop.is_set), partial(self._show_progress, number)
            )
        except Interrupted:
            await self._stopped(remote, folder)
        except DiffstudioError as error:
            self._running = None
            self.failed.emit(str(error))
            await self._go_on()
        else:
            self._current = self._running = None
            self.bar.hide()
            self.finished.emit(path)
            await self._go_on()

    async def _stopped(self, remote: RemoteFile, folder: Path) -> None:
        self._running = None
        if self._discards:
            await self._discard(remote)
        else:
            await self._show_unfinished()

    async def _discard(self, remote: RemoteFile) -> None:
        self._current = None
        self.bar.hide()
        await self._tasks.to_thread(discard, remote, self._folder())
        self.cancelled.emit(remote.name)
        await self._go_on()

    async def _go_on(self) -> None:
        if self._queue and self._running is None:
            self._next()
        else:
            await self._show_unfinished()

    async def _show_unfinished(self) -> None:
        """Show the current one, or another one, that can be resumed."""
        left = await self._tasks.to_thread(unfinished, self._folder())
        if self._running is not None or self._closed:
            return
        known = {one.remote: one.done_bytes for one in left}
        self._current = self._current if self._current in known else next(iter(known), None)
        if self._current is None:
            self.bar.hide()
        else:
            self.bar.show_paused(self._current, known[self._current])

    def _show_progress(self, number: int, done: int, of: int) -> None:
        if number == self._number and self._running is not None:
            self.bar.show_progress(done, of)
