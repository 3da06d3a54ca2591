"""ImageRow: related images in rows that wrap, such as those of an interpolation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import Signal
from PySide6.QtWidgets import QVBoxLayout, QWidget

from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.controls import SectionLabel
from diffstudio.ui.widgets.helpers import ElidedLabel, describe
from diffstudio.ui.widgets.images.image_menu import ImageTarget
from diffstudio.ui.widgets.images.image_reading import numpy_to_qimage
from diffstudio.ui.widgets.images.image_thumbnail import ImageThumbnail
from diffstudio.ui.widgets.layout.flow_layout import FlowLayout


class ImageRow(QWidget):
    """A row of images with the usual image menu; hidden without images."""

    menu_requested = Signal(object, object)  # ImageTarget, QPoint

    def __init__(self, heading: str, side: int) -> None:
        super().__init__()
        self._side = side
        self._cells: list[_Cell] = []
        self._flow = FlowLayout(spacing=8)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        column.addWidget(SectionLabel(heading))
        column.addLayout(self._flow)
        describe(self, heading, " ")
        self.hide()

    def show_images(self, images: Sequence[tuple[str, NDArray[np.uint8]]]) -> None:
        """Show names and images [H,W,3]. Existing images are replaced in place, so that the focus is kept."""
        while len(self._cells) < len(images):
            cell = _Cell(self._side)
            cell.thumbnail.menu_requested.connect(self.menu_requested)
            self._cells.append(cell)
            self._flow.addWidget(cell)
        while len(self._cells) > len(images):
            cell = self._cells.pop()
            self._flow.removeWidget(cell)
            cell.hide()
            cell.deleteLater()
        for cell, (name, image) in zip(self._cells, images, strict=True):
            cell.show_image(name, image)
        self.setVisible(bool(images))

    def thumbnails(self) -> list[ImageThumbnail]:
        return [cell.thumbnail for cell in self._cells]


class _Cell(QWidget):
    def __init__(self, side: int) -> None:
        super().__init__()
        self.thumbnail = ImageThumbnail(ImageTarget(), side, name="Image")
        self._name = ElidedLabel("", "dim", pixels=theme.SMALL_PIXELS)
        self._name.setFixedWidth(side)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addWidget(self.thumbnail)
        column.addWidget(self._name)

    def show_image(self, name: str, image: NDArray[np.uint8]) -> None:
        shown = numpy_to_qimage(image)
        self.thumbnail.target = ImageTarget(image=shown)
        self.thumbnail.set_image(shown)
        describe(self.thumbnail, name)
        self._name.setText(name)
