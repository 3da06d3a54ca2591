"""What the canvas shows: the images of a request, previews of their steps in their place, and which one is selected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PySide6.QtCore import QSize
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QWidget

from diffstudio.studio.events import Picture
from diffstudio.ui.generate.sections.init_image_preview import InitOverlay
from diffstudio.ui.widgets.images.image_reading import numpy_to_qimage
from diffstudio.ui.widgets.images.zoom import is_small


@dataclass(slots=True)
class CanvasImage:
    """One image of the request: a preview until it is saved."""

    image: QImage = field(default_factory=QImage)
    path: Path | None = None
    full: bool = False  # `image` has all pixels of the file; it may be reduced otherwise
    requested: bool = False  # all pixels are being read
    scaled: QImage = field(default_factory=QImage)  # for the size it is drawn at
    scaled_for: QSize = field(default_factory=QSize)


class CanvasContents(QWidget):
    """Holds the images. A widget that paints them overrides `_changed`."""

    def __init__(self) -> None:
        super().__init__()
        self._images: list[CanvasImage] = []
        self._scrubbed: list[CanvasImage] | None = None
        self._chosen = 0
        self._alone = False
        self._shape = QSize(1, 1)
        self._note = ""
        self._init_path: Path | None = None
        self._init_overlay: InitOverlay | None = None

    def _changed(self) -> None:
        """Other images are shown."""
        self.update()

    def begin(self, count: int, shape: QSize) -> None:
        """Show `count` empty cells of about this shape."""
        self._images = [CanvasImage() for _ in range(count)]
        self._scrubbed, self._chosen, self._alone, self._note = None, 0, False, ""
        self._shape = shape
        self._changed()

    def show_previews(self, first: int, previews: Sequence[Picture]) -> None:
        for index, preview in enumerate(previews, first):
            if index < len(self._images):
                self._images[index] = CanvasImage(numpy_to_qimage(preview))
        if self._scrubbed is None:
            self._changed()

    def show_saved(self, index: int, image: QImage, path: Path) -> None:
        if index < len(self._images):
            self._images[index] = CanvasImage(image, path)
            self._changed()

    def show_one(self, image: QImage, path: Path | None) -> None:
        """Show one image with all its pixels."""
        self.begin(1, image.size())
        self._images[0] = CanvasImage(image, path, full=True)
        self._changed()

    def set_full_image(self, path: Path, image: QImage) -> None:
        """All pixels of an image that was shown reduced, now that they are read; a null image changes nothing."""
        for index, shown in enumerate(self._images):
            if shown.path == path and not image.isNull():
                self._images[index] = CanvasImage(image, path, full=True)
        self._changed()

    def scrub(self, previews: Sequence[Picture] | None) -> None:
        """Show these previews in place of the images; None shows the images again."""
        self._scrubbed = None if previews is None else [CanvasImage(numpy_to_qimage(preview)) for preview in previews]
        self._changed()

    def scrubbing(self) -> bool:
        return self._scrubbed is not None

    def set_note(self, note: str) -> None:
        """Show a note in the corner: what the image is while it is not finished."""
        if note != self._note:
            self._note = note
            self.update()

    def set_init_overlay(self, path: Path | None, overlay: InitOverlay | None) -> None:
        """How the image at `path` is used as the init image, drawn while it is shown alone; None without one."""
        self._init_path, self._init_overlay = path, overlay
        self.update()

    def init_overlay(self) -> InitOverlay | None:
        """The overlay that is drawn; None where the image shown is not the init image, or used just as it is."""
        overlay = self._init_overlay
        shown = self.is_alone() and self.path() is not None and self.path() == self._init_path
        return overlay if shown and overlay is not None and not overlay.changes_nothing() else None

    def is_empty(self) -> bool:
        return all(shown.image.isNull() for shown in self._displayed())

    def count(self) -> int:
        return len(self._images)

    def is_alone(self) -> bool:
        """Whether one image is shown, and not a grid."""
        return self._alone or len(self._displayed()) == 1

    def chosen(self) -> int:
        """Index of the image that the menu and the filmstrip refer to."""
        return self._chosen

    def image(self) -> QImage:
        """The selected image as shown; null before the first one."""
        images = self._displayed()
        return images[self._chosen].image if self._chosen < len(images) else QImage()

    def path(self) -> Path | None:
        """The file of the selected image: None for a preview."""
        images = self._displayed()
        return images[self._chosen].path if self._chosen < len(images) else None

    def file(self) -> Path | None:
        """The file of the selected image, also while one of its steps is shown."""
        return self._images[self._chosen].path if self._chosen < len(self._images) else None

    def _displayed(self) -> list[CanvasImage]:
        return self._scrubbed if self._scrubbed is not None else self._images

    def _size_of(self, shown: CanvasImage) -> QSize:
        return self._shape if shown.image.isNull() else shown.image.size()

    def _full_size(self, index: int) -> QSize:
        """The size in px of the file of image `index`, or of what it is going to be; also while a preview is shown."""
        base = self._images[index] if index < len(self._images) else CanvasImage()
        shown = self._displayed()[index].image
        if base.full or shown.isNull():
            return self._size_of(base)
        wanted = self._shape.height() * shown.width() / max(1, shown.height())
        same_shape = abs(wanted - self._shape.width()) <= max(2.0, 0.02 * wanted)
        return self._shape if same_shape and self._shape.width() > shown.width() else shown.size()

    def _is_small(self, index: int) -> bool:
        """Whether image `index` is shown pixel by pixel: it is below 256 px, and no preview of a larger one."""
        size = self._full_size(index)
        return is_small(size) and self._displayed()[index].image.size() == size
