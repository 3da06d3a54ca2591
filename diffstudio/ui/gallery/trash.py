"""The gallery's trash: deletes images to it, undoes that, and restores or empties it after a question."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from PySide6.QtCore import QObject, Signal
from PySide6.QtWidgets import QMessageBox, QWidget

from diffstudio.errors import DiffstudioError
from diffstudio.studio.gallery.gallery import Gallery
from diffstudio.studio.gallery.records import GalleryImage
from diffstudio.ui.tasks import Tasks
from diffstudio.ui.widgets.dialogs import choose_action


class GalleryTrash(QObject):
    """Remembers the images deleted last, for undo. Files and records are changed in the thread of `tasks`."""

    restored = Signal(object, int)  # list[GalleryImage]; the number of images whose files are missing
    emptied = Signal(int)  # the number of images moved to the system's trash
    changed = Signal()  # emptying was tried
    failed = Signal(object)  # DiffstudioError

    def __init__(self, gallery: Gallery, tasks: Tasks, parent: QWidget) -> None:
        super().__init__(parent)
        self._gallery, self._tasks, self._parent_widget = gallery, tasks, parent
        self._last_deleted: list[int] = []
        self._order = asyncio.Lock()  # an undo waits for the deletion before it

    async def delete(self, images: Sequence[GalleryImage]) -> list[int]:
        """Move images to the trash; returns the ids of those that left the gallery, up to one that could not."""
        deleted: list[int] = []
        async with self._order:
            try:
                for image in images:
                    deleted += await self._tasks.to_thread(self._gallery.delete, [image.id])
            except DiffstudioError as error:
                self.failed.emit(error)
            in_trash = [image.id for image in images if image.id in deleted and not image.missing]
            if in_trash:
                self._last_deleted = in_trash
        return deleted

    def undo(self) -> None:
        """Restore the images deleted last, if any."""
        self._tasks.start(self._restore_last())

    def restore_all(self) -> None:
        self._tasks.start(self._restore(None))

    async def _restore_last(self) -> None:
        async with self._order:
            if self._last_deleted:
                await self._restore(self._last_deleted)

    def empty(self) -> None:
        """Move everything in the gallery's trash to the system's trash."""
        self._tasks.start(self._empty())

    async def _empty(self) -> None:
        try:
            count = await self._tasks.to_thread(self._gallery.empty_trash)
        except DiffstudioError as error:
            self.failed.emit(error)
        else:
            self._last_deleted = []
            self.emptied.emit(count)
        self.changed.emit()

    def ask(self, count: int) -> QMessageBox:
        """Ask whether to restore or empty the trash of `count` images. The dialog is opened, not waited for."""
        are = "image is" if count == 1 else "images are"
        return choose_action(
            self._parent_widget,
            "Trash",
            f"{count:,} {are} in the gallery's trash.",
            "Restore them to the gallery, or move them to the system's trash.",
            {"Restore": self.restore_all, "Empty trash": self.empty},
        )

    async def _restore(self, image_ids: Sequence[int] | None) -> None:
        """Restore these images, or all."""

        images: list[GalleryImage] = []

        def restore() -> int:
            chosen = self._gallery.trashed() if image_ids is None else image_ids
            for each in chosen:  # one by one: those before one that cannot be restored are shown
                restored = self._gallery.undo([each])
                images.extend(image for one in restored if (image := self._gallery.get(one)) is not None)
            return 0 if image_ids is None else len(chosen) - len(images)

        try:
            missing = await self._tasks.to_thread(restore)
        except DiffstudioError as error:
            if images:
                self.restored.emit(images, 0)
            self.failed.emit(error)
            self.changed.emit()
            return
        self._last_deleted = []
        self.restored.emit(images, missing)
