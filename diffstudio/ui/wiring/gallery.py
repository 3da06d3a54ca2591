"""Keeps the Gallery room and the recent images in sync with the gallery: new, changed, deleted and rescanned images."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal

from diffstudio import paths
from diffstudio.errors import DiffstudioError
from diffstudio.ui.tasks import Tasks
from diffstudio.ui.window import MainWindow
from diffstudio.ui.wiring.file_writer import FileWriter
from diffstudio.ui.wiring.images import ImageController
from diffstudio.ui.wiring.jobs import JobController
from diffstudio.ui.wiring.navigation import GENERATE, Navigation

if TYPE_CHECKING:  # imported after the first paint
    from diffstudio.studio.gallery.gallery import Gallery
    from diffstudio.studio.gallery.records import GalleryImage
    from diffstudio.ui.gallery.room import GalleryRoom


class GalleryController(QObject):
    """Connects the gallery and its room. `gallery` returns the gallery once it is open; the room is created on demand."""

    _damaged = Signal(object)  # Path of the damaged database, which was kept; emitted in any thread

    def __init__(
        self,
        window: MainWindow,
        jobs: JobController,
        tasks: Tasks,
        file_writer: FileWriter,
        gallery: Callable[[], Gallery | None],
    ) -> None:
        super().__init__()
        self._window, self._jobs, self._tasks, self._file_writer = window, jobs, tasks, file_writer
        self._gallery = gallery
        self._room: GalleryRoom | None = None
        self._closing = threading.Event()  # for threads, which must not hold a QObject
        self._damaged.connect(self._show_damage)
        jobs.image_saved.connect(self._add)

    def make_room(self, gallery: Gallery, navigation: Navigation, images: ImageController) -> GalleryRoom:
        """The Gallery room in its last state, connected to the other rooms."""
        from diffstudio.studio.gallery.view_state import read_view, save_view
        from diffstudio.ui.gallery.room import GalleryRoom

        loaded = read_view()
        if loaded.problem:
            self._window.show_message("warn", loaded.problem)
        self._room = room = GalleryRoom(gallery, loaded.state)
        room.view_changed.connect(
            lambda view: self._file_writer.write(paths.gallery_view_file(), partial(save_view, view))
        )
        room.paint_requested.connect(navigation.paint_on)
        room.use_settings_requested.connect(navigation.use_settings)
        room.upscale_requested.connect(images.upscale)
        room.start_requested.connect(navigation.start_from)
        room.generate_requested.connect(lambda: self._window.show_room(GENERATE))
        room.show_steps_requested.connect(navigation.show_image)
        room.changed.connect(self._jobs.show_recent)
        return room

    def start(self, gallery: Gallery) -> None:
        """Rescan a newly opened gallery, and report damage to its database."""
        gallery.on_damage = self._damaged.emit
        if gallery.damaged_copy is not None:
            self._show_damage(gallery.damaged_copy)
        else:
            self._rescan()

    def stop(self) -> None:
        """Cancel a rescan."""
        self._closing.set()

    def show_changed(self, images: Sequence[GalleryImage]) -> None:
        """Show new records of images."""
        if self._room is not None:
            self._room.images_changed(images)

    def show_deleted(self, image_ids: Sequence[int]) -> None:
        """Remove images that were moved to the trash."""
        self._jobs.show_recent()
        if self._room is not None:
            self._room.images_deleted(image_ids)

    def refresh(self) -> None:
        """Show images that were restored from the trash or found by a rescan."""
        self._jobs.show_recent()
        if self._room is not None:
            self._room.refresh()

    def _add(self, path: Path) -> None:
        if self._room is not None:
            self._room.image_added(path)

    def _show_damage(self, kept: Path) -> None:
        self._window.show_message(
            "warn",
            "The gallery's database was damaged. It is rebuilt from the image files, with their stars and notes. "
            f"The damaged file is kept as {kept.name}.",
        )
        self._rescan()

    def _rescan(self) -> None:
        """Look for unrecorded images, and for operations that were interrupted when the program was killed."""
        if (gallery := self._gallery()) is not None:
            self._tasks.start(self._rescan_and_show(gallery))

    async def _rescan_and_show(self, gallery: Gallery) -> None:
        from diffstudio.studio.gallery.rescan import rescan

        rebuilding = gallery.needs_rescan
        try:
            report = await self._tasks.to_thread(rescan, gallery, self._closing.is_set)
        except DiffstudioError as error:
            self._window.show_message("warn", str(error))
            return
        if rebuilding or report.anything:
            self.refresh()
