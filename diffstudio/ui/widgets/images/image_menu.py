"""The one menu of an image in every room, and the actions behind it.

A room says which images it means (`ImageTarget`) and connects the signals. An action that can never apply in a place is
left out; one that does not apply to this image is disabled, and its tooltip says why.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PySide6.QtCore import QMimeData, QObject, QPoint, QUrl, Signal
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QApplication, QMenu, QWidget

from diffstudio import paths
from diffstudio.errors import DiffstudioError
from diffstudio.studio.gallery.records import GalleryImage
from diffstudio.studio.metadata.gaps import NO_GAPS, Gaps
from diffstudio.studio.requests import PictureRequest
from diffstudio.ui.widgets import actions
from diffstudio.ui.widgets.images import copy_and_drag
from diffstudio.ui.widgets.images.image_reading import read_image, unreadable
from diffstudio.ui.widgets.images.pasted_images import keep_image
from diffstudio.ui.widgets.menus import MenuEntry, build_menu, entry

_ONE_ONLY = "Select a single image for this"
_NO_PREVIEW = "This preview is not saved yet"
_NOT_IN_GALLERY = "This image is not in the gallery"


@dataclass(frozen=True, slots=True)
class ImageTarget:
    """An image as a room shows it."""

    path: Path | None = None  # None when it is in no file of its own
    image: QImage = field(default_factory=QImage)  # null when it is to be read from the file
    request: PictureRequest | None = None
    record: GalleryImage | None = None  # of an image in the gallery
    prompt: str = ""  # of an image without a request
    gaps: Gaps = NO_GAPS  # what its settings leave open; of a record they are read when they are used
    is_preview: bool = False  # of a running job, reduced: not to be used in place of the result

    def file(self) -> Path | None:
        """The file of the image; one without a file is kept in one. None for a preview. StorageProblem."""
        if self.path is not None:
            return self.path
        return None if self.is_preview or self.image.isNull() else keep_image(self.image)

    def pixels(self) -> QImage:
        return read_image(self.path) if self.image.isNull() and self.path is not None else self.image

    def text(self) -> str:
        return self.request.prompt if self.request is not None else self.prompt

    @property
    def name(self) -> str:
        """The file name that a copy of it gets; in the gallery's trash, files have other names."""
        if self.record is not None:
            return self.record.name
        return self.path.name if self.path is not None else "image.png"

    @property
    def in_trash(self) -> bool:
        return self.record is not None and self.record.trashed is not None


class ImageActions(QObject):
    """What can be done with images. The signals are answered by the room or by the application."""

    use_settings_requested = Signal(object)  # ImageTarget
    show_steps_requested = Signal(object)  # ImageTarget, to be shown in the Generate room
    start_requested = Signal(object)  # Path of the init image
    paint_requested = Signal(object)  # Path of the image to paint a mask on
    upscale_requested = Signal(object)  # Path
    star_requested = Signal(object, object)  # list[ImageTarget], whether they get a star
    compare_requested = Signal(object)  # list[Path], one or two
    delete_requested = Signal(object)  # list[ImageTarget]
    restore_requested = Signal(object)  # list[ImageTarget] in the trash
    purge_requested = Signal(object)  # list[ImageTarget] in the trash
    message = Signal(str, str)  # kind, text
    menu_requested = Signal(object, object)  # ImageTarget without its record, QPoint: answer with `show_menu`

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self._parent_widget = parent
        self.offers_steps = False  # in rooms that do not show the steps themselves

    # Actions

    def use_settings(self, targets: Sequence[ImageTarget]) -> None:
        if len(targets) == 1 and targets[0].request is not None:
            self.use_settings_requested.emit(targets[0])

    def start_from(self, targets: Sequence[ImageTarget]) -> None:
        self._with_file(targets, self.start_requested.emit)

    def paint(self, targets: Sequence[ImageTarget]) -> None:
        self._with_file(targets, self.paint_requested.emit)

    def upscale(self, targets: Sequence[ImageTarget]) -> None:
        self._with_file(targets, self.upscale_requested.emit)

    def compare(self, targets: Sequence[ImageTarget]) -> None:
        """Two images at once; one is compared with the next that is chosen in the gallery."""
        if not 1 <= len(targets) <= 2:
            return
        try:
            files = [file for target in targets if (file := target.file()) is not None]
        except DiffstudioError as error:
            self.message.emit("bad", str(error))
            return
        if len(files) == len(targets):
            self.compare_requested.emit(files)

    def _with_file(self, targets: Sequence[ImageTarget], do: Callable[[Path], object]) -> None:
        if len(targets) != 1:
            return
        try:
            file = targets[0].file()
        except DiffstudioError as error:
            self.message.emit("bad", str(error))
            return
        if file is not None:
            do(file)

    def copy_prompt(self, targets: Sequence[ImageTarget]) -> None:
        if len(targets) == 1 and targets[0].text():
            copy_and_drag.copy_text(targets[0].text())

    def copy(self, targets: Sequence[ImageTarget]) -> None:
        """Copy one image to the clipboard as pixels and as a file; several images as files."""
        if not targets:
            return
        data = QMimeData()
        files = [target.path for target in targets if target.path is not None]
        if files:
            data.setUrls([QUrl.fromLocalFile(str(path)) for path in files])
        one = len(targets) == 1
        if one:
            pixels = read_image(files[0]) if files else targets[0].image
            if pixels.isNull():
                self.message.emit("bad", unreadable(files[0]) if files else _NO_PREVIEW)
                return
            data.setImageData(pixels)
        QApplication.clipboard().setMimeData(data)
        copied = "Image copied to the clipboard." if one else f"{len(files):,} files copied to the clipboard."
        self.message.emit("good", copied)

    def save_as(self, targets: Sequence[ImageTarget]) -> None:
        """Ask for a file name and save a copy, with its settings."""
        if len(targets) == 1:
            target = targets[0]
            failed = lambda error: self.message.emit("bad", str(error))  # noqa: E731
            saved = lambda path: self.message.emit("good", f"Saved as {paths.short(path)}.")  # noqa: E731
            copy_and_drag.save_as(self._parent_widget, target.image, target.path, target.name, failed, saved)

    def show_in_folder(self, targets: Sequence[ImageTarget]) -> None:
        if len(targets) == 1 and (path := targets[0].path) is not None and not copy_and_drag.show_in_folder(path):
            self.message.emit("warn", copy_and_drag.not_shown(path))

    def star(self, targets: Sequence[ImageTarget]) -> None:
        """Star the images, or remove their stars if all of them have one."""
        known = [target for target in targets if target.record is not None and not target.in_trash]
        if known:
            self.star_requested.emit(known, not all_starred(known))

    def delete(self, targets: Sequence[ImageTarget]) -> None:
        if known := [target for target in targets if target.record is not None]:
            (self.purge_requested if known[0].in_trash else self.delete_requested).emit(known)

    def show_steps(self, targets: Sequence[ImageTarget]) -> None:
        """Show an image in the Generate room, with the filmstrip of its steps."""
        if len(targets) == 1 and targets[0].path is not None:
            self.show_steps_requested.emit(targets[0])

    # The menu

    def open_menu(self, target: ImageTarget, position: QPoint) -> None:
        """Open the menu at a point of the screen, once the gallery has been asked for the image."""
        if target.path is not None:
            self.menu_requested.emit(target, position)
        elif not target.image.isNull():
            self.show_menu(target, position)

    def show_menu(self, target: ImageTarget, position: QPoint) -> None:
        self.menu([target]).popup(position)

    def menu(self, targets: Sequence[ImageTarget], first: Sequence[MenuEntry | None] = ()) -> QMenu:
        """The menu of the images that are selected; `first` are entries of the room itself, above the others."""
        entries: list[MenuEntry | None] = [*first, None] if first else []
        if targets and targets[0].in_trash:
            entries += self._trash_entries(targets)
        else:
            entries += self._entries(targets)
        return build_menu(self._parent_widget, entries, "Image")

    def _entries(self, targets: Sequence[ImageTarget]) -> list[MenuEntry | None]:
        one = targets[0] if len(targets) == 1 else None
        needs_one = "" if one is not None else _ONE_ONLY
        no_file = needs_one or (_NO_PREVIEW if one is not None and one.is_preview and one.path is None else "")
        in_no_file = needs_one or (
            "" if one is not None and one.path is not None else "This image has not been saved to a file"
        )
        unknown = "" if any(target.record is not None for target in targets) else _NOT_IN_GALLERY
        entries: list[MenuEntry | None] = []
        if one is not None and one.request is not None:
            entries.append(entry(actions.USE_SETTINGS, lambda: self.use_settings(targets)))
        if one is not None and one.request is not None and one.path is not None and self.offers_steps:
            entries.append(entry(actions.SHOW_STEPS, lambda: self.show_steps(targets)))
        if one is not None and one.text():
            entries.append(entry(actions.COPY_PROMPT, lambda: self.copy_prompt(targets)))
        if entries:
            entries.append(None)
        compare = actions.COMPARE if len(targets) == 2 else actions.COMPARE_WITH
        not_two = no_file if len(targets) < 2 else "" if len(targets) == 2 else "Select one or two images for this"
        star = actions.REMOVE_STAR if all_starred(targets) else actions.STAR
        entries += [
            entry(actions.START_FROM_IMAGE, lambda: self.start_from(targets), no_file),
            entry(actions.PAINT, lambda: self.paint(targets), no_file),
            entry(actions.UPSCALE, lambda: self.upscale(targets), no_file),
            None,
            entry(actions.COPY_IMAGE if one is not None else actions.COPY_FILES, lambda: self.copy(targets)),
            entry(actions.SAVE_AS, lambda: self.save_as(targets), needs_one),
            entry(actions.SHOW_IN_FOLDER, lambda: self.show_in_folder(targets), in_no_file),
            None,
            entry(star, lambda: self.star(targets), unknown),
            entry(compare, lambda: self.compare(targets), not_two),
            None,
            entry(actions.DELETE, lambda: self.delete(targets), unknown),
        ]
        return entries

    def _trash_entries(self, targets: Sequence[ImageTarget]) -> list[MenuEntry | None]:
        needs_one = "" if len(targets) == 1 else _ONE_ONLY
        return [
            entry(actions.RESTORE, lambda: self.restore_requested.emit(list(targets))),
            entry(actions.COPY_IMAGE if len(targets) == 1 else actions.COPY_FILES, lambda: self.copy(targets)),
            entry(actions.SAVE_AS, lambda: self.save_as(targets), needs_one),
            entry(actions.SHOW_IN_FOLDER, lambda: self.show_in_folder(targets), needs_one),
            None,
            entry(actions.PURGE, lambda: self.purge_requested.emit(list(targets))),
        ]


def all_starred(targets: Sequence[ImageTarget]) -> bool:
    """Whether the images of the gallery among them have a star, and there are any."""
    records = [target.record for target in targets if target.record is not None]
    return bool(records) and all(record.starred for record in records)
