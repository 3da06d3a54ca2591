"""WholeImages: named images side by side that share the width, all of one size, in rows where it does not suffice."""

from __future__ import annotations

from collections.abc import Mapping

from PySide6.QtCore import Signal
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from diffstudio.ui.lab.results.whole_image import WholeImage
from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.helpers import ElidedLabel
from diffstudio.ui.widgets.images.roving_focus import RovingFocus

LEAST, LARGEST = 120, 288  # px of an image, at 100%
_SPACING, _ABOVE_NAME = 12, 4  # px


class WholeImages(QWidget):
    """As many columns as fit with images of LEAST px, as large as the width permits, LARGEST px at most."""

    menu_requested = Signal(object, object)  # ImageTarget, QPoint

    def __init__(self, parts: Mapping[str, str]) -> None:
        """`parts` are the keys of the images, and the names below them."""
        super().__init__()
        self.images = {part: WholeImage(LEAST, name) for part, name in parts.items()}
        self._names = [ElidedLabel(name, "dim") for name in parts.values()]
        for child in (*self.images.values(), *self._names):
            child.setParent(self)
        for image in self.images.values():
            image.menu_requested.connect(self.menu_requested)
        self._focus = RovingFocus(self)
        self._focus.set_images(self.images.values())
        policy = QSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Minimum)
        policy.setHeightForWidth(True)
        self.setSizePolicy(policy)
        self.setMinimumWidth(theme.scaled(LEAST))

    def heightForWidth(self, width: int) -> int:
        columns, side = self._columns(width)
        rows = -(-len(self.images) // columns)
        return rows * self._row_height(side) + (rows - 1) * _SPACING

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        columns, side = self._columns(self.width())
        for place, (image, name) in enumerate(zip(self.images.values(), self._names, strict=True)):
            row, column = divmod(place, columns)
            x, y = column * (side + _SPACING), row * (self._row_height(side) + _SPACING)
            image.setFixedSize(side, side)
            image.move(x, y)
            name.setGeometry(x, y + side + _ABOVE_NAME, side, self._name_height())

    def _columns(self, width: int) -> tuple[int, int]:
        """How many columns, and the side of an image in px."""
        count, least = len(self.images), theme.scaled(LEAST)
        columns = max(1, min(count, (width + _SPACING) // (least + _SPACING)))
        return columns, min(theme.scaled(LARGEST), max(least, (width + _SPACING) // columns - _SPACING))

    def _row_height(self, side: int) -> int:
        return side + _ABOVE_NAME + self._name_height()

    def _name_height(self) -> int:
        return max(name.sizeHint().height() for name in self._names)
