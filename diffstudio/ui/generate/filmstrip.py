"""The filmstrip: what the picture was thought to be after each step, to be looked through with mouse or keyboard."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QPoint, QRectF, QSize, Qt
from PySide6.QtGui import QImage, QMouseEvent, QPainter, QPaintEvent, QPen, QResizeEvent
from PySide6.QtWidgets import QAbstractSlider, QSizePolicy

from diffstudio.studio.events import Picture
from diffstudio.studio.jobs.preview_history import PreviewHistory
from diffstudio.ui.generate.canvas import smooth
from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.helpers import describe
from diffstudio.ui.widgets.images import numpy_to_qimage, rounded

SIDE = 72
GAP = 8
_HINT = "Drag here, or use the arrow keys, to look through the steps"


class Filmstrip(QAbstractSlider):
    """A slider over the steps, 1 .. steps, that shows them. `sliderMoved` and `valueChanged` say where a person is.

    While pictures are being made the value follows the newest step unless a person has gone back.
    """

    def __init__(self) -> None:
        super().__init__()
        describe(self, "Steps of the picture", _HINT)
        self.setOrientation(Qt.Orientation.Horizontal)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setFixedHeight(SIDE)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._film = PreviewHistory()
        self._image = 0
        self._tiles: dict[tuple[int, int], QImage] = {}
        self.clear(1)

    def clear(self, steps: int) -> None:
        """An empty strip for so many steps."""
        self._film, self._tiles, self._image = PreviewHistory(), {}, 0
        self.blockSignals(True)
        self.setRange(1, max(1, steps))
        self.setPageStep(max(1, steps // 10))
        self.setValue(1)
        self.blockSignals(False)
        self.update()

    def put(self, step: int, first: int, pictures: Sequence[Picture]) -> None:
        """The estimates after a step, of the images `first` and on. The newest step becomes the value if it was before."""
        follows = self.value() >= self.last()
        self._film.put(step, first, pictures)
        self._tiles.pop((step, self._image), None)
        if follows:
            self.blockSignals(True)
            self.setValue(step)
            self.blockSignals(False)
        self.update()

    def set_film(self, film: Sequence[tuple[Picture, ...]]) -> None:
        """All steps, once the worker has them together."""
        follows = self.value() >= self.last()
        self._film, self._tiles = PreviewHistory(), {}
        for index, pictures in enumerate(film):
            self._film.put(index + 1, 0, pictures)
        if follows:
            self.blockSignals(True)
            self.setValue(self.last())
            self.blockSignals(False)
        self.update()

    def last(self) -> int:
        """The newest step there is; 0 for none."""
        return len(self._film)

    def at(self, step: int) -> tuple[Picture, ...]:
        """The estimates after a step, or after the nearest one before it that was kept."""
        return self._film.at(step)

    def set_image(self, index: int) -> None:
        """Which of several pictures the strip shows."""
        if index != self._image:
            self._image = index
            self.update()

    def sizeHint(self) -> QSize:
        return QSize(9 * (SIDE + GAP), SIDE)

    def minimumSizeHint(self) -> QSize:
        return QSize(2 * (SIDE + GAP), SIDE)

    # Tiles: as many as fit, each standing for a stretch of steps

    def tiles(self) -> list[tuple[int, QRectF]]:
        """(step, rectangle): the steps shown, the last always among them."""
        steps, room = self.maximum(), max(SIDE, self.width())
        count = max(1, min(steps, (room + GAP) // (SIDE + GAP)))
        gap = (
            min(2.0 * GAP, (room - count * SIDE) / (count - 1)) if 1 < count < steps else GAP
        )  # a full strip fills the room
        shown = [round(1 + (steps - 1) * index / max(1, count - 1)) for index in range(count)] if count > 1 else [steps]
        return [(step, QRectF(index * (SIDE + gap), 0, SIDE, SIDE)) for index, step in enumerate(shown)]

    def _step_at(self, x: float) -> int:
        """Between the middles of two tiles lie the steps between them."""
        tiles = self.tiles()
        middles = [cell.center().x() for _, cell in tiles]
        if x <= middles[0]:
            return self._within(tiles[0][0])
        for (step, _), (following, _), left, right in zip(tiles, tiles[1:], middles, middles[1:], strict=False):
            if x <= right:
                return self._within(round(step + (following - step) * (x - left) / (right - left)))
        return self._within(tiles[-1][0])

    def _within(self, step: int) -> int:
        return min(max(1, step), max(1, self.last()))

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        tiles, radius = self.tiles(), 7.0
        nearest = min((step for step, _ in tiles), key=lambda step: abs(step - self.value()))
        for step, cell in tiles:
            image = self._tile(step)
            if image is None:
                painter.setPen(Qt.PenStyle.NoPen)
                painter.setBrush(theme.colour("panel"))
                painter.drawRoundedRect(cell, radius, radius)
                continue
            rounded(painter, image, cell, radius)
            if step == nearest and self.isEnabled():
                painter.setPen(QPen(theme.colour("text" if self.hasFocus() else "accent"), 2))
                painter.setBrush(Qt.BrushStyle.NoBrush)
                painter.drawRoundedRect(cell.adjusted(1, 1, -1, -1), radius - 1, radius - 1)

    def _tile(self, step: int) -> QImage | None:
        if step > self.last():
            return None
        key = (step, self._image)
        if key not in self._tiles:
            pictures = self.at(step)
            if not pictures:
                return None
            image = numpy_to_qimage(pictures[min(self._image, len(pictures) - 1)])
            side = round(SIDE * self.devicePixelRatioF())
            size = image.size().scaled(side, side, Qt.AspectRatioMode.KeepAspectRatioByExpanding)
            image = smooth(image, size)
            self._tiles[key] = image.copy((size.width() - side) // 2, (size.height() - side) // 2, side, side)
        return self._tiles[key]

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self.update()

    # What a person does

    def setValue(self, value: int) -> None:
        super().setValue(min(value, max(1, self.last())))

    def sliderChange(self, change: QAbstractSlider.SliderChange) -> None:
        super().sliderChange(change)
        if change == QAbstractSlider.SliderChange.SliderValueChange:
            if self.value() > max(1, self.last()):  # the keyboard went beyond what there is
                self.setValue(self.last())
            self.setAccessibleDescription(f"Step {self.value()} of {self.maximum()}")
            self.update()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        if event.button() == Qt.MouseButton.LeftButton and self.last():
            self.setSliderDown(True)
            self.setValue(self._step_at(event.position().x()))

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        if self.isSliderDown():
            self.setValue(self._step_at(event.position().x()))

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        self.setSliderDown(False)

    def place_of(self, step: int) -> QPoint:
        """The middle of the tile nearest to a step."""
        return min(self.tiles(), key=lambda tile: abs(tile[0] - step))[1].center().toPoint()
