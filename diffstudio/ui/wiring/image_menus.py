"""Connects the menu of an image, in the rooms that do not hold the gallery themselves, with the gallery and the rooms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from PySide6.QtCore import QObject, QPoint, Signal

from diffstudio.errors import DiffstudioError
from diffstudio.studio.gallery.gallery import Gallery
from diffstudio.studio.gallery.records import GalleryImage
from diffstudio.ui.shell import gallery_changes
from diffstudio.ui.tasks import Tasks
from diffstudio.ui.widgets.images.image_menu import ImageActions, ImageTarget
from diffstudio.ui.window import MainWindow


class ImageMenus(QObject):
    """`gallery` returns the gallery once it is open."""

    changed = Signal(object)  # list[GalleryImage]: starred or not any more
    deleted = Signal(object)  # list[int] of ids
    restored = Signal(object)  # list[GalleryImage]

    def __init__(self, tasks: Tasks, window: MainWindow, gallery: Callable[[], Gallery | None]) -> None:
        super().__init__()
        self._tasks, self._window, self._gallery = tasks, window, gallery
        self._deleted: list[int] = []  # by the last deletion, for its undo

    def attach(self, actions: ImageActions) -> None:
        """Answer what the actions of a room ask of the gallery."""
        actions.menu_requested.connect(
            lambda target, position: self._tasks.start(self._open_menu(actions, target, position))
        )
        actions.star_requested.connect(lambda targets, starred: self._tasks.start(self._star(targets, starred)))
        actions.delete_requested.connect(lambda targets: self._tasks.start(self._delete(targets)))

    async def _open_menu(self, actions: ImageActions, target: ImageTarget, position: QPoint) -> None:
        actions.show_menu(replace(target, record=await self._record(target)), position)

    async def _record(self, target: ImageTarget) -> GalleryImage | None:
        gallery = self._gallery()
        if gallery is None or target.path is None:
            return None
        try:
            return await self._tasks.to_thread(gallery.find, target.path)
        except DiffstudioError as error:
            self._window.show_message("bad", str(error))
            return None

    async def _star(self, targets: Sequence[ImageTarget], starred: bool) -> None:
        gallery = self._gallery()
        assert gallery is not None  # the records come from it
        renewed, problem = await gallery_changes.star(self._tasks, gallery, _records(targets), starred)
        if renewed:
            self.changed.emit(renewed)
        if problem is not None:
            self._window.show_message("warn", str(problem))

    async def _delete(self, targets: Sequence[ImageTarget]) -> None:
        gallery = self._gallery()
        assert gallery is not None
        records = _records(targets)
        deleted, problem = await gallery_changes.delete(self._tasks, gallery, records)
        if deleted:
            self._deleted = deleted
            self.deleted.emit(deleted)
        if problem is not None:
            self._window.show_message("bad", str(problem), _UNDO if deleted else "", self._undo)
        elif deleted:
            self._window.show_message("info", f"{records[0].name} moved to the gallery's trash.", _UNDO, self._undo)

    def _undo(self) -> None:
        deleted, self._deleted = self._deleted, []
        if deleted:
            self._tasks.start(self._restore(deleted))

    async def _restore(self, image_ids: Sequence[int]) -> None:
        gallery = self._gallery()
        assert gallery is not None
        images, problem = await gallery_changes.restore(self._tasks, gallery, image_ids)
        self._window.show_message("bad" if problem is not None else "info", str(problem or ""))
        if images:
            self.restored.emit(images)


_UNDO = "Undo"


def _records(targets: Sequence[ImageTarget]) -> list[GalleryImage]:
    return [target.record for target in targets if target.record is not None]
