"""What is done with the selected images of the gallery: the actions of every room, and stars, notes and tags."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

from PySide6.QtCore import QObject, Signal
from PySide6.QtWidgets import QMenu, QWidget

from diffstudio.plurals import count_of
from diffstudio.studio.gallery.gallery import Gallery
from diffstudio.studio.gallery.records import GalleryImage
from diffstudio.studio.gallery.source_files import gaps_of, request_to_reuse
from diffstudio.ui.shell import gallery_changes
from diffstudio.ui.tasks import Tasks
from diffstudio.ui.widgets import actions
from diffstudio.ui.widgets.images.image_menu import ImageActions, ImageTarget
from diffstudio.ui.widgets.menus import MenuEntry


class SelectionActions(QObject):
    """Acts on the images that `selection` returns. What changes rows, deleting and undo, is the room's."""

    use_settings_requested = Signal(object, object)  # PictureRequest, Gaps
    records_changed = Signal(object)  # list[GalleryImage]: the new records of images that were starred, noted or tagged

    def __init__(
        self, gallery: Gallery, tasks: Tasks, selection: Callable[[], list[GalleryImage]], parent: QWidget
    ) -> None:
        super().__init__(parent)
        self._gallery, self._tasks, self._selection = gallery, tasks, selection
        self.actions = ImageActions(parent)
        self.actions.offers_steps = True
        self.actions.use_settings_requested.connect(lambda target: self._tasks.start(self._use_settings(target.record)))
        self.actions.star_requested.connect(lambda targets, starred: self._star(_records(targets), starred))

    def only_image(self) -> GalleryImage | None:
        """The selected image, if exactly one is selected."""
        images = self._selection()
        return images[0] if len(images) == 1 else None

    def targets(self) -> list[ImageTarget]:
        images = self._selection()
        alone = len(images) == 1  # only then its request is used; reading those of thousands would take seconds
        return [ImageTarget(image.path, request=image.request if alone else None, record=image) for image in images]

    def use_settings(self) -> None:
        self.actions.use_settings(self.targets())

    async def _use_settings(self, image: GalleryImage) -> None:
        """In a thread: where a file of the request is gone, the image is read, and files are hashed to find it again."""
        request = await self._tasks.to_thread(request_to_reuse, image)
        if request is not None:
            self.use_settings_requested.emit(request, await self._tasks.to_thread(gaps_of, image.path))

    def upscale(self) -> None:
        self.actions.upscale(self.targets())

    def compare(self) -> None:
        self.actions.compare(self.targets())

    def copy(self) -> None:
        self.actions.copy(self.targets())

    def save_as(self) -> None:
        self.actions.save_as(self.targets())

    def show_in_folder(self) -> None:
        self.actions.show_in_folder(self.targets())

    def star_selected(self) -> None:
        self.actions.star(self.targets())

    def star(self, image: GalleryImage) -> None:
        """Star an image, or remove its star."""
        if image.trashed is None:
            self._star([image], not image.starred)

    def _star(self, images: Sequence[GalleryImage], starred: bool) -> None:
        self._tasks.start(self._change(images, lambda gallery, image: gallery.star(image.id, starred)))

    def set_note(self, image: GalleryImage, note: str) -> None:
        self._tasks.start(self._change([image], lambda gallery, each: gallery.set_note(each.id, note)))

    def add_tags(self, tags: Sequence[str]) -> None:
        self._tasks.start(self._change(self._selection(), lambda gallery, image: gallery.tag(image.id, add=tags)))

    def remove_tag(self, tag: str) -> None:
        self._tasks.start(self._change(self._selection(), lambda gallery, image: gallery.tag(image.id, remove=[tag])))

    def shared_tags(self) -> tuple[str, ...]:
        """The tags that all selected images have, in the order of the first."""
        images = self._selection()
        if not images:
            return ()
        shared = reduce(set.intersection, ({tag.casefold() for tag in image.tags} for image in images))
        return tuple(tag for tag in images[0].tags if tag.casefold() in shared)

    async def _change(self, images: Sequence[GalleryImage], change: gallery_changes.Change) -> None:
        """Change stars, notes or tags, up to an image that could not be changed."""

        def report(done: int, count: int) -> None:
            self.actions.message.emit("info", f"Changing images: {done:,} of {count:,}…")

        renewed, problem = await gallery_changes.change(self._tasks, self._gallery, images, change, report)
        if renewed:
            self.records_changed.emit(renewed)
        if problem is not None:
            self.actions.message.emit("warn", str(problem))
        elif len(images) >= gallery_changes.MANY:
            self.actions.message.emit("info", f"{count_of(len(images), 'image')} changed.")

    def menu(self, open_image: Callable[[], object] | None) -> QMenu:
        """The context menu of the selection; without `open_image`, the full view is open already."""
        targets = self.targets()
        first: list[MenuEntry | None] = (
            [(actions.OPEN, "corners-out", open_image)] if open_image and len(targets) == 1 else []
        )
        return self.actions.menu(targets, first)


def _records(targets: Sequence[ImageTarget]) -> list[GalleryImage]:
    return [target.record for target in targets if target.record is not None]
