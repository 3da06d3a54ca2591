"""One picture large, with its neighbours a key away."""

from __future__ import annotations

import asyncio

from PySide6.QtCore import QSize, Signal
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from diffstudio.studio.gallery.gallery import GalleryImage
from diffstudio.ui.gallery.image_view import STEP, PictureView
from diffstudio.ui.gallery.item_model import title
from diffstudio.ui.tasks import Tasks
from diffstudio.ui.widgets.controls import SecondaryButton
from diffstudio.ui.widgets.helpers import label
from diffstudio.ui.widgets.images import read_image

LARGEST_SHOWN = 8192  # px a side that is decoded


class FullView(QWidget):
    """One picture with its zoom and its neighbours."""

    closed = Signal()
    step_requested = Signal(object)  # -1 or 1

    def __init__(self, tasks: Tasks) -> None:
        super().__init__()
        self._tasks = tasks
        self._reading: asyncio.Task[None] | None = None
        self.picture = PictureView()
        self.back = SecondaryButton("Gallery", "arrow-left", "Back to the gallery (Esc)")
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
        column.addWidget(self.picture, 1)
        self.back.clicked.connect(self.closed)
        self.previous.clicked.connect(lambda: self.step_requested.emit(-1))
        self.next.clicked.connect(lambda: self.step_requested.emit(1))
        self.zoom_in.clicked.connect(lambda: self.picture.set_zoom(self.picture.zoom() * STEP))
        self.zoom_out.clicked.connect(lambda: self.picture.set_zoom(self.picture.zoom() / STEP))
        self.zoom_fit.clicked.connect(lambda: self.picture.set_zoom(None))
        self.picture.previous_requested.connect(lambda: self.step_requested.emit(-1))
        self.picture.next_requested.connect(lambda: self.step_requested.emit(1))
        self.picture.closed.connect(self.closed)
        self.picture.zoomed.connect(lambda zoom: self.zoom_label.setText(f"{zoom:.0%}"))

    def set_neighbours(self, previous: bool, following: bool) -> None:
        """Whether there is a picture on either side."""
        self.previous.setEnabled(previous)
        self.next.setEnabled(following)

    def show_image(self, image: GalleryImage, small: QImage) -> None:
        """The small picture at once, the whole when it is read."""
        if self.picture.path() == image.path and not self.picture.image().isNull():
            return
        if self._reading is not None:
            self._reading.cancel()
        self._set(image, small)
        self._reading = self._tasks.start(self._read(image))

    async def _read(self, image: GalleryImage) -> None:
        whole = await self._tasks.to_thread(read_image, image.path, LARGEST_SHOWN)
        if whole.isNull():
            self.picture.set_message(f"{image.path.name} cannot be read. It may have been moved or damaged.")
        else:
            self._set(image, whole)

    def _set(self, image: GalleryImage, pixels: QImage) -> None:
        self.picture.set_picture(pixels, QSize(image.width, image.height), image.path, title(image)[:300])
