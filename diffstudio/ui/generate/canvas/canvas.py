"""The canvas: one image, or a grid of a request's images, as large as fits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path

from PySide6.QtCore import QPoint, QRectF, QSize, Qt, Signal
from PySide6.QtGui import (
    QContextMenuEvent,
    QFontMetrics,
    QImage,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QResizeEvent,
)
from PySide6.QtWidgets import QSizePolicy, QWidget

from diffstudio.studio.events import Picture
from diffstudio.ui.generate.sections.init_image_preview import InitOverlay
from diffstudio.ui.widgets import image_actions, theme
from diffstudio.ui.widgets.helpers import describe
from diffstudio.ui.widgets.images import fitted, numpy_to_qimage, rounded

GAP = 8  # px between the images of a grid
MAX_SMOOTH_SCALE = 4  # by bicubic resampling; Qt scales further while painting


@dataclass(slots=True)
class CanvasImage:
    """One image of the request: a preview until it is saved."""

    image: QImage = field(default_factory=QImage)
    path: Path | None = None
    scaled: QImage = field(default_factory=QImage)  # for the size it is drawn at
    scaled_for: QSize = field(default_factory=QSize)


class Canvas(QWidget):
    """Click an image of a grid to show it alone; click again or press Escape to show the grid. Arrow keys select."""

    context_menu_requested = Signal(object)  # QPoint, global
    selected = Signal()

    def __init__(self) -> None:
        super().__init__()
        describe(self, "Image", "Right-click for actions, or drag the image into another program")
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumSize(160, 120)
        self._images: list[CanvasImage] = []
        self._scrubbed: list[CanvasImage] | None = None
        self._chosen = 0
        self._alone = False
        self._shape = QSize(1, 1)
        self._note = ""
        self._init_path: Path | None = None
        self._init_overlay: InitOverlay | None = None
        self._click_or_drag = image_actions.ClickOrDrag()

    # Contents

    def begin(self, count: int, shape: QSize) -> None:
        """Show `count` empty cells of about this shape."""
        self._images = [CanvasImage() for _ in range(count)]
        self._scrubbed, self._chosen, self._alone, self._note = None, 0, False, ""
        self._shape = shape
        self.update()

    def show_previews(self, first: int, previews: Sequence[Picture]) -> None:
        for index, preview in enumerate(previews, first):
            if index < len(self._images):
                self._images[index] = CanvasImage(numpy_to_qimage(preview))
        if self._scrubbed is None:
            self.update()

    def show_saved(self, index: int, image: QImage, path: Path) -> None:
        if index < len(self._images):
            self._images[index] = CanvasImage(image, path)
            self.update()

    def show_one(self, image: QImage, path: Path | None) -> None:
        self.begin(1, image.size())
        self._images[0] = CanvasImage(image, path)
        self.update()

    def scrub(self, previews: Sequence[Picture] | None) -> None:
        """Show these previews in place of the images; None shows the images again."""
        self._scrubbed = None if previews is None else [CanvasImage(numpy_to_qimage(preview)) for preview in previews]
        self.update()

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
        overlay, cells = self._init_overlay, self._displayed()
        alone = len(cells) == 1 or self._alone
        shown = alone and self.path() is not None and self.path() == self._init_path
        return overlay if shown and overlay is not None and not overlay.changes_nothing() else None

    def is_empty(self) -> bool:
        return all(shown.image.isNull() for shown in self._displayed())

    def count(self) -> int:
        return len(self._images)

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

    def _displayed(self) -> list[CanvasImage]:
        return self._scrubbed if self._scrubbed is not None else self._images

    # Layout

    def cells(self) -> list[tuple[int, QRectF]]:
        """(index, rectangle) of every cell that is drawn."""
        images = self._displayed()
        room = QRectF(self.rect())
        if not images or room.isEmpty():
            return []
        if self._alone or len(images) == 1:
            index = min(self._chosen, len(images) - 1)
            if (overlay := self.init_overlay()) is not None:
                return [(index, overlay.place(room))]
            return [(index, fitted(self._size_of(images[index]), room))]
        count, shape = len(images), self._size_of(images[0])
        columns = max(range(1, count + 1), key=lambda columns: _cell_width(room, shape, count, columns))
        rows = math.ceil(count / columns)
        width = _cell_width(room, shape, count, columns)
        height = width * shape.height() / shape.width()
        left = room.x() + (room.width() - columns * width - (columns - 1) * GAP) / 2
        top = room.y() + (room.height() - rows * height - (rows - 1) * GAP) / 2
        lefts = [round(left + column * (width + GAP)) for column in range(columns)]
        tops = [round(top + row * (height + GAP)) for row in range(rows)]
        return [
            (index, QRectF(lefts[index % columns], tops[index // columns], round(width), round(height)))
            for index in range(count)
        ]

    def _size_of(self, shown: CanvasImage) -> QSize:
        return self._shape if shown.image.isNull() else shown.image.size()

    def _at(self, point: QPoint) -> int | None:
        return next((index for index, cell in self.cells() if cell.contains(point)), None)

    # Painting

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        images, ratio = self._displayed(), self.devicePixelRatioF()
        cells, overlay = self.cells(), self.init_overlay()
        for index, cell in cells:
            shown = images[index]
            radius = 0.0 if overlay is not None else 12.0 if cell.width() > 240 else float(theme.RADIUS)
            if shown.image.isNull():
                painter.setPen(Qt.PenStyle.NoPen)
                painter.setBrush(theme.colour("panel"))
                painter.drawRoundedRect(cell, radius, radius)
                continue
            target = QSize(round(cell.width() * ratio), round(cell.height() * ratio))
            if shown.scaled_for != target:
                large = shown.image.size() * MAX_SMOOTH_SCALE
                shown.scaled = smooth(shown.image, target if large.width() > target.width() else large)
                shown.scaled_for = target
            if overlay is not None:
                overlay.paint_below(painter, cell)
            rounded(painter, shown.scaled, cell, radius)
            if overlay is not None:
                overlay.paint_above(painter, cell)
            if len(cells) > 1 and index == self._chosen and self.hasFocus():
                painter.setPen(QPen(theme.colour("accent"), 2))
                painter.setBrush(Qt.BrushStyle.NoBrush)
                painter.drawRoundedRect(cell.adjusted(1, 1, -1, -1), radius, radius)
        if self._note and cells:
            self._paint_note(painter, reduce(QRectF.united, (cell for _, cell in cells)))

    def _paint_note(self, painter: QPainter, room: QRectF) -> None:
        font = theme.font(theme.SMALL_PIXELS)
        metrics = QFontMetrics(font)
        text = metrics.elidedText(self._note, Qt.TextElideMode.ElideRight, max(40, round(room.width()) - 48))
        width, height = metrics.horizontalAdvance(text) + 20, 26
        pill = QRectF(room.left() + 12, room.bottom() - height - 12, width, height)
        ground = theme.colour("background")
        ground.setAlphaF(0.82)
        painter.setPen(theme.colour("line"))
        painter.setBrush(ground)
        painter.drawRoundedRect(pill, height / 2, height / 2)
        painter.setPen(theme.colour("text"))
        painter.setFont(font)
        painter.drawText(pill, int(Qt.AlignmentFlag.AlignCenter), text)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self.update()

    # User input

    def mousePressEvent(self, event: QMouseEvent) -> None:
        super().mousePressEvent(event)
        index = self._at(event.position().toPoint())
        if index is not None:
            self._choose(index)
            self._click_or_drag.begin(event)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        if self._click_or_drag.becomes_drag(event) and not self.image().isNull():
            image_actions.drag(self, self.image(), self.path())

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        if self._click_or_drag.end() and event.button() == Qt.MouseButton.LeftButton and len(self._images) > 1:
            self._set_alone(not self._alone)

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        place = event.globalPos()
        if event.reason() == QContextMenuEvent.Reason.Keyboard:
            place = self.mapToGlobal(self.rect().center())
        if not self.image().isNull():
            self.context_menu_requested.emit(place)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        steps = {Qt.Key.Key_Left: -1, Qt.Key.Key_Right: 1, Qt.Key.Key_Up: -1, Qt.Key.Key_Down: 1}
        count = len(self._images)
        if event.key() == Qt.Key.Key_Escape and self._alone:
            self._set_alone(False)
        elif (
            event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_Space)
            and count > 1
            and not event.modifiers()
        ):
            self._set_alone(not self._alone)
        elif event.key() in steps and count > 1 and not event.modifiers():
            self._choose((self._chosen + steps[Qt.Key(event.key())]) % count)
        else:
            super().keyPressEvent(event)

    def _choose(self, index: int) -> None:
        if index != self._chosen:
            self._chosen = index
            self.selected.emit()
        self.update()

    def _set_alone(self, alone: bool) -> None:
        self._alone = alone
        self.update()


def _cell_width(room: QRectF, shape: QSize, count: int, columns: int) -> float:
    rows = math.ceil(count / columns)
    across = (room.width() - (columns - 1) * GAP) / columns
    down = (room.height() - (rows - 1) * GAP) / rows
    return max(1.0, min(across, down * shape.width() / shape.height()))


def smooth(image: QImage, size: QSize) -> QImage:
    """Resize an image to `size` px.

    Enlarging is bicubic: Qt's bilinear filter shows diamond artefacts from 64 px images.
    """
    if size.width() <= image.width() * 1.2 or size.width() > 4096:
        return image.scaled(size, Qt.AspectRatioMode.IgnoreAspectRatio, Qt.TransformationMode.SmoothTransformation)
    from PIL import Image  # after the first paint of the window

    image = image.convertToFormat(QImage.Format.Format_RGB32)  # what Qt paints fastest; PIL need not know the order
    small = Image.frombuffer(
        "RGBX", (image.width(), image.height()), bytes(image.constBits()), "raw", "RGBX", image.bytesPerLine(), 1
    )
    large = small.resize((max(1, size.width()), max(1, size.height())), Image.Resampling.BICUBIC)
    return QImage(large.tobytes(), large.width, large.height, 4 * large.width, QImage.Format.Format_RGB32).copy()
