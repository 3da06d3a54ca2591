"""ImageRow: related images in rows that wrap, such as those of an interpolation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QSize, Signal
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QVBoxLayout, QWidget

from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.controls import SectionLabel
from diffstudio.ui.widgets.helpers import ElidedLabel, describe
from diffstudio.ui.widgets.images.image_menu import ImageTarget
from diffstudio.ui.widgets.images.image_reading import numpy_to_qimage
from diffstudio.ui.widgets.images.image_thumbnail import ImageThumbnail
from diffstudio.ui.widgets.images.roving_focus import RovingFocus
from diffstudio.ui.widgets.layout.flow_layout import FlowLayout

_SPACING = 8  # px


class ImageRow(QWidget):
    """A row of images with the usual image menu; hidden without images.

    Images are `side` px wide, and grow up to `largest` while all of them fit into one row.
    """

    menu_requested = Signal(object, object)  # ImageTarget, QPoint

    def __init__(self, heading: str, side: int, largest: int = 0) -> None:
        super().__init__()
        self._side = self._least = side
        self._largest = max(side, largest)
        self._cells: list[_Cell] = []
        self._flow = FlowLayout(spacing=_SPACING)
        self._focus = RovingFocus(self)
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
        gone = self._cells[len(images) :]
        del self._cells[len(images) :]
        self._focus.set_images(self.thumbnails())
        for cell in gone:
            self._flow.removeWidget(cell)
            cell.hide()
            cell.deleteLater()
        for cell, (name, image) in zip(self._cells, images, strict=True):
            cell.show_image(name, image)
        self._fit()
        self.setVisible(bool(images))

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._fit()

    def minimumSizeHint(self) -> QSize:
        """With images that have not grown, so that a narrower window makes them smaller again."""
        return QSize(self._least, super().minimumSizeHint().height())

    def _fit(self) -> None:
        count = max(1, len(self._cells))
        across = (self.width() - _SPACING * (count - 1)) // count
        self._side = max(self._least, min(across, self._largest))
        for cell in self._cells:
            cell.set_side(self._side)

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

    def set_side(self, side: int) -> None:
        self.thumbnail.set_side(side)
        self._name.setFixedWidth(side)
