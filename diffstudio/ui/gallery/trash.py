"""The gallery's trash: deletes images to it, undoes that, restores them, and deletes them for good after a question."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from PySide6.QtCore import QObject, Signal
from PySide6.QtWidgets import QMessageBox, QWidget

from diffstudio.errors import DiffstudioError
from diffstudio.studio.gallery.gallery import Gallery
from diffstudio.studio.gallery.records import GalleryImage
from diffstudio.ui.shell import gallery_changes
from diffstudio.ui.tasks import Tasks
from diffstudio.ui.widgets import actions
from diffstudio.ui.widgets.dialogs import confirm


class GalleryTrash(QObject):
    """Remembers which images were deleted, for undo. Files and records are changed in the thread of `tasks`."""

    restored = Signal(object, int)  # list[GalleryImage]; the number of images whose files are missing
    emptied = Signal(int)  # the number of images moved to the system trash
    purged = Signal(object)  # list[int], the ids of the images that were deleted for good
    changed = Signal()  # emptying was tried
    failed = Signal(object)  # DiffstudioError
    nothing_to_undo = Signal()
    progressed = Signal(str, int, int)  # what is done to many images; how many are done, of how many

    def __init__(self, gallery: Gallery, tasks: Tasks, parent: QWidget) -> None:
        super().__init__(parent)
        self._gallery, self._tasks, self._parent_widget = gallery, tasks, parent
        self._deleted: list[list[int]] = []  # by each deletion that can be undone, the last one at the end
        self._order = asyncio.Lock()  # an undo waits for the deletion before it
        self._taken: set[int] = set()  # the ids of images that are being moved or deleted

    async def delete(self, images: Sequence[GalleryImage]) -> list[int]:
        """Move images to the trash; returns the ids of those that left the gallery, up to one that could not.

        Those that are being deleted already are left out.
        """
        with self._take(image.id for image in images) as taken:
            mine = set(taken)
            images = [image for image in images if image.id in mine]
            async with self._order:
                deleted, problem = await gallery_changes.delete(
                    self._tasks, self._gallery, images, self._report("Moving images to the trash")
                )
                if problem is not None:
                    self.failed.emit(problem)
                left = set(deleted)
                if in_trash := [image.id for image in images if image.id in left and not image.missing]:
                    self._deleted.append(in_trash)
        return deleted

    def undo(self) -> None:
        """Restore the images of the last deletion that was not undone yet."""
        self._tasks.start(self._restore_last())

    def restore(self, image_ids: Sequence[int]) -> None:
        """Move images from the trash to where they were."""
        self._tasks.start(self._restore(image_ids))

    async def _restore_last(self) -> None:
        async with self._order:
            if self._deleted:
                await self._restore(self._deleted[-1])
            else:
                self.nothing_to_undo.emit()

    def empty(self) -> None:
        """Move everything in the gallery's trash to the system trash."""
        self._tasks.start(self._empty())

    async def _empty(self) -> None:
        try:
            count = await self._tasks.to_thread(self._gallery.empty_trash)
        except DiffstudioError as error:
            self.failed.emit(error)
        else:
            self._deleted.clear()
            self.emptied.emit(count)
        self.changed.emit()

    def ask_to_empty(self, count: int) -> QMessageBox:
        """Ask whether to empty the trash of `count` images. The dialog is opened, not waited for."""
        are = "image is" if count == 1 else "images are"
        return confirm(
            self._parent_widget,
            actions.EMPTY_TRASH.removesuffix("…"),
            f"{count:,} {are} in the gallery's trash.",
            "They will be moved to the system trash.",
            self.empty,
        )

    def ask_to_purge(self, images: Sequence[GalleryImage]) -> QMessageBox:
        """Ask whether to delete images in the trash for good."""
        what = images[0].name if len(images) == 1 else f"{len(images):,} images"
        ids = [image.id for image in images]
        return confirm(
            self._parent_widget,
            actions.PURGE.removesuffix("…"),
            f"Delete {what} permanently?",
            "This cannot be undone.",
            lambda: self._tasks.start(self._purge(ids)),
        )

    async def _purge(self, image_ids: Sequence[int]) -> None:
        def purge(image_id: int) -> list[int]:
            return [image_id] if self._gallery.purge([image_id]) else []

        report = self._report("Deleting images permanently")
        with self._take(image_ids) as taken:
            gone, problem = await gallery_changes.in_turn(self._tasks, taken, purge, report)
        if problem is not None:
            self.failed.emit(problem)
        self._forget(gone)
        self.purged.emit(gone)

    def _forget(self, image_ids: Sequence[int]) -> None:
        """These are not in the trash any more."""
        gone = set(image_ids)
        left = ([each for each in batch if each not in gone] for batch in self._deleted)
        self._deleted = [batch for batch in left if batch]

    @contextmanager
    def _take(self, image_ids: Iterable[int]) -> Iterator[list[int]]:
        """Those of the images that are not being moved or deleted yet; within it they are."""
        taken = [each for each in image_ids if each not in self._taken]
        self._taken.update(taken)
        try:
            yield taken
        finally:
            self._taken.difference_update(taken)

    def _report(self, what: str) -> gallery_changes.Report:
        return lambda done, count: self.progressed.emit(what, done, count)

    async def _restore(self, image_ids: Sequence[int]) -> None:
        """Restore these images, one by one: those before one that cannot be restored are shown."""
        with self._take(image_ids) as taken:
            if not taken:  # they are on their way
                return
            images, problem = await gallery_changes.restore(
                self._tasks, self._gallery, taken, self._report("Restoring images")
            )
        if problem is None:
            self._forget(taken)
            self.restored.emit(images, len(taken) - len(images))
            return
        self._forget([image.id for image in images])
        if images:
            self.restored.emit(images, 0)
        self.failed.emit(problem)
        self.changed.emit()
