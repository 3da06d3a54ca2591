"""The actions on the selected images of the gallery, and their context menu."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from PySide6.QtCore import QMimeData, QObject, QUrl, Signal
from PySide6.QtWidgets import QApplication, QMenu, QWidget

from diffstudio.errors import DiffstudioError, StorageProblem
from diffstudio.studio.gallery.gallery import Gallery
from diffstudio.studio.gallery.records import GalleryImage
from diffstudio.studio.gallery.source_files import request_to_reuse
from diffstudio.studio.metadata import metadata
from diffstudio.ui.tasks import Tasks
from diffstudio.ui.widgets import actions, image_actions
from diffstudio.ui.widgets.images import read_image, unreadable
from diffstudio.ui.widgets.menus import MenuEntry, build_menu, entry


class SelectionActions(QObject):
    """Acts on the images that `selection` returns. What changes rows, deleting and undo, is the room's."""

    use_settings_requested = Signal(object)  # PictureRequest
    upscale_requested = Signal(object)  # Path
    start_requested = Signal(object)  # Path of the init image
    records_changed = Signal(object)  # list[GalleryImage]: the new records of images that were starred
    message = Signal(str, str)  # kind, text

    def __init__(
        self, gallery: Gallery, tasks: Tasks, selection: Callable[[], list[GalleryImage]], parent: QWidget
    ) -> None:
        super().__init__(parent)
        self._gallery, self._tasks, self._selection, self._parent_widget = gallery, tasks, selection, parent

    def only_image(self) -> GalleryImage | None:
        """The selected image, if exactly one is selected."""
        images = self._selection()
        return images[0] if len(images) == 1 else None

    def use_settings(self) -> None:
        if (image := self.only_image()) is not None:
            self._tasks.start(self._use_settings(image))

    async def _use_settings(self, image: GalleryImage) -> None:
        """In a thread: where a file of the request is gone, the image is read, and files are hashed to find it again."""
        request = await self._tasks.to_thread(request_to_reuse, image)
        if request is not None:
            self.use_settings_requested.emit(request)

    def upscale(self) -> None:
        if (image := self.only_image()) is not None:
            self.upscale_requested.emit(image.path)

    def start_from(self) -> None:
        if (image := self.only_image()) is not None:
            self.start_requested.emit(image.path)

    def copy_prompt(self) -> None:
        image = self.only_image()
        if image is not None and image.request is not None:
            image_actions.copy_text(image.request.prompt)

    def copy(self) -> None:
        """Copy one image to the clipboard as pixels and as a file; several images as files."""
        images = self._selection()
        if not images:
            return
        data = QMimeData()
        data.setUrls([QUrl.fromLocalFile(str(image.path)) for image in images])
        if len(images) == 1:
            pixels = read_image(images[0].path)
            if pixels.isNull():
                self.message.emit("bad", unreadable(images[0].path))
                return
            data.setImageData(pixels)
        QApplication.clipboard().setMimeData(data)
        one = len(images) == 1
        self.message.emit(
            "good", "Image copied to the clipboard." if one else f"{len(images):,} files copied to the clipboard."
        )

    def save_as(self) -> None:
        """Ask for a file name and save a copy with its settings."""
        image = self.only_image()
        if image is not None:
            image_actions.ask_where_to_save(self._parent_widget, image.path, partial(self.save_copy, image))

    def save_copy(self, image: GalleryImage, target: Path) -> None:
        self._tasks.start(self._save_copy(image, target))

    async def _save_copy(self, image: GalleryImage, target: Path) -> None:
        try:
            await self._tasks.to_thread(metadata.save_copy, image.path, target)
        except DiffstudioError as error:
            self.message.emit("bad", str(error))
        else:
            self.message.emit("good", f"Saved as {target}.")

    def show_in_folder(self) -> None:
        image = self.only_image()
        if image is not None and not image_actions.show_in_folder(image.path):
            self.message.emit("warn", image_actions.not_shown(image.path))

    def star_selected(self) -> None:
        self.star(self._selection())

    def star(self, images: Sequence[GalleryImage]) -> None:
        """Star the images, or remove their stars if all of them have one."""
        starred = not all(image.starred for image in images)
        self._tasks.start(self._change(images, lambda image: self._gallery.star(image.id, starred)))

    def set_note(self, image: GalleryImage, note: str) -> None:
        self._tasks.start(self._change([image], lambda each: self._gallery.set_note(each.id, note)))

    async def _change(
        self, images: Sequence[GalleryImage], change: Callable[[GalleryImage], StorageProblem | None]
    ) -> None:
        """Change stars or notes in the thread of `tasks`, up to an image that could not be changed."""

        def work() -> tuple[list[GalleryImage], DiffstudioError | None]:
            renewed: list[GalleryImage] = []
            problem: DiffstudioError | None = None
            for image in images:
                try:
                    problem = change(image) or problem
                    if (record := self._gallery.get(image.id)) is not None:
                        renewed.append(record)
                except DiffstudioError as error:
                    return renewed, error
            return renewed, problem

        renewed, problem = await self._tasks.to_thread(work)
        if renewed:
            self.records_changed.emit(renewed)
        if problem is not None:
            self.message.emit("warn", str(problem))

    def menu(self, open_image: Callable[[], object] | None, delete: Callable[[], object]) -> QMenu:
        """The context menu of the selection; without `open_image`, the full view is open already."""
        images, one = self._selection(), self.only_image()
        entries: list[MenuEntry | None] = []
        if one is not None and open_image is not None:
            entries += [("Open", "corners-out", open_image), None]
        entries.append(entry(actions.COPY_IMAGE if one else actions.COPY_FILES, self.copy))
        if one is not None:
            entries += [entry(actions.SAVE_AS, self.save_as), None]
            if one.request is not None:
                entries += [
                    entry(actions.USE_SETTINGS, self.use_settings),
                    entry(actions.COPY_PROMPT, self.copy_prompt),
                    None,
                ]
            entries += [
                entry(actions.START_FROM_IMAGE, self.start_from),
                entry(actions.UPSCALE, self.upscale),
                entry(actions.SHOW_IN_FOLDER, self.show_in_folder),
            ]
        all_starred = all(image.starred for image in images)
        star = actions.REMOVE_STAR if all_starred else actions.STAR
        entries += [None, entry(star, self.star_selected), entry(actions.DELETE, delete)]
        return build_menu(self._parent_widget, entries, "Image")
