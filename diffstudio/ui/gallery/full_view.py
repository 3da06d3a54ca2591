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
from diffstudio.ui.widgets.helpers import label
from diffstudio.ui.widgets.images.image_reading import read_image, unreadable

MAX_SIDE = 8192  # px; larger images are decoded at this size


class FullView(QWidget):
    """An ImageView with a bar above it."""

    closed = Signal()
    step_requested = Signal(object)  # -1 or 1

    def __init__(self, tasks: Tasks) -> None:
        super().__init__()
        self._tasks = tasks
        self._reading: asyncio.Task[None] | None = None
        self.image_view = ImageView()
        self.back = SecondaryButton("Gallery", "arrow-left", BACK_TIP)
        self.zoom_label = label("", "dim")
        self.previous = SecondaryButton("", "caret-left", "Previous image (Left)", name="Previous image")
        self.next = SecondaryButton("", "caret-right", "Next image (Right)", name="Next image")
        self.zoom_out = SecondaryButton("", "minus", "Zoom out (-)", name="Zoom out")
        self.zoom_in = SecondaryButton("", "plus", "Zoom in (+)", name="Zoom in")
        self.zoom_fit = SecondaryButton("", "corners-out", "Fit to window (0)", name="Fit")
        above = QHBoxLayout()
        above.setContentsMargins(16, 12, 16, 4)
        above.setSpacing(4)
        above.addWidget(self.back)
        above.addStretch(1)
        for part in (self.zoom_label, self.zoom_out, self.zoom_fit, self.zoom_in):
            above.addWidget(part)
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
        self.zoom_in.clicked.connect(lambda: self.image_view.zoom_by(1))
        self.zoom_out.clicked.connect(lambda: self.image_view.zoom_by(-1))
        self.zoom_fit.clicked.connect(lambda: self.image_view.set_zoom(None))
        self.image_view.previous_requested.connect(lambda: self.step_requested.emit(-1))
        self.image_view.next_requested.connect(lambda: self.step_requested.emit(1))
        self.image_view.closed.connect(self.closed)
        self.image_view.zoomed.connect(lambda zoom: self.zoom_label.setText(f"{zoom:.0%}"))

    def set_neighbours(self, previous: bool, following: bool) -> None:
        """Enable the buttons for the previous and the next image."""
        self.previous.setEnabled(previous)
        self.next.setEnabled(following)

    def show_image(self, image: GalleryImage, small: QImage) -> None:
        """Show the thumbnail at once, and the image when it is read."""
        if self.image_view.path() == image.path and not self.image_view.image().isNull():
            return
        if self._reading is not None:
            self._reading.cancel()
        self._set_pixels(image, small)
        self._reading = self._tasks.start(self._read(image))

    async def _read(self, image: GalleryImage) -> None:
        pixels = await self._tasks.to_thread(read_image, image.path, MAX_SIDE)
        if pixels.isNull():
            self.image_view.set_message(await self._tasks.to_thread(unreadable, image.path))
        else:
            self._set_pixels(image, pixels)

    def _set_pixels(self, image: GalleryImage, pixels: QImage) -> None:
        self.image_view.set_image(pixels, QSize(image.width, image.height), image.path, title(image)[:300])
