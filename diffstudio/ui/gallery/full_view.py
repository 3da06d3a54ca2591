"""One image at full size, with buttons for zoom and for the previous and next image."""

from __future__ import annotations

import asyncio

from PySide6.QtCore import QSize, Signal
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from diffstudio.studio.gallery.records import GalleryImage
from diffstudio.ui.gallery.image_view import BACK_TIP, ImageView
from diffstudio.ui.gallery.item_model import title
from diffstudio.ui.tasks import Tasks
from diffstudio.ui.widgets.controls import SecondaryButton
from diffstudio.ui.widgets.images.image_reading import read_image, unreadable
from diffstudio.ui.widgets.images.zoom_buttons import ZoomButtons

MAX_SIDE = 8192  # px; larger images are decoded at this size


class FullView(QWidget):
    """An ImageView with a bar above it."""

    closed = Signal()
    step_requested = Signal(object)  # -1 or 1

    def __init__(self, tasks: Tasks) -> None:
        super().__init__()
        self._tasks = tasks
        self._reading: asyncio.Task[None] | None = None
        self._version: tuple[object, ...] = ()  # of the file that is shown
        self.image_view = ImageView()
        self.back = SecondaryButton("Gallery", "arrow-left", BACK_TIP)
        self.zoom = ZoomButtons()
        self.previous = SecondaryButton("", "caret-left", "Previous image (Left)", name="Previous image")
        self.next = SecondaryButton("", "caret-right", "Next image (Right)", name="Next image")
        above = QHBoxLayout()
        above.setContentsMargins(16, 12, 16, 4)
        above.setSpacing(4)
        above.addWidget(self.back)
        above.addStretch(1)
        above.addWidget(self.zoom)
        above.addSpacing(8)
        above.addWidget(self.previous)
        above.addWidget(self.next)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addLayout(above)
        column.addWidget(self.image_view, 1)
        self.back.clicked.connect(self.closed)
        self.previous.clicked.connect(lambda: self.step_requested.emit(-1))
        self.next.clicked.connect(lambda: self.step_requested.emit(1))
        view = self.image_view
        self.zoom.stepped.connect(lambda steps: view.zoom_by(steps))
        self.zoom.toggled.connect(lambda: view.set_zoom(1.0 if view.is_fitted() else None))
        self.image_view.previous_requested.connect(lambda: self.step_requested.emit(-1))
        self.image_view.next_requested.connect(lambda: self.step_requested.emit(1))
        self.image_view.closed.connect(self.closed)
        view.zoomed.connect(lambda zoom: self.zoom.show_zoom(zoom, fits=view.is_fitted()))

    def set_neighbours(self, previous: bool, following: bool) -> None:
        """Enable the buttons for the previous and the next image."""
        self.previous.setEnabled(previous)
        self.next.setEnabled(following)

    def read_again(self) -> None:
        """Read the image the next time that it is shown, for its file may have changed."""
        self._version = ()

    def show_image(self, image: GalleryImage, small: QImage) -> None:
        """Show the thumbnail at once, and the image when it is read, unless this version of its file is shown."""
        version = (image.path, image.created, image.size_bytes)
        if self._version == version and not self.image_view.image().isNull():
            return
        self._version = version
        if self._reading is not None:
            self._reading.cancel()
        self._set_pixels(image, small, QSize(image.width, image.height))
        self._reading = self._tasks.start(self._read(image))

    async def _read(self, image: GalleryImage) -> None:
        pixels = await self._tasks.to_thread(read_image, image.path, MAX_SIDE)
        if pixels.isNull():
            self.image_view.set_message(await self._tasks.to_thread(unreadable, image.path))
        else:
            recorded = QSize(image.width, image.height)
            reduced = max(pixels.width(), pixels.height()) >= MAX_SIDE
            self._set_pixels(image, pixels, recorded if reduced else pixels.size())

    def _set_pixels(self, image: GalleryImage, pixels: QImage, size: QSize) -> None:
        self.image_view.set_image(pixels, size, image.path, title(image)[:300])
