"""Two images compared: side by side, or one over the other with a slider. Zoom and position are the same for both."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from PySide6.QtCore import QPoint, QPointF, QRectF, QSize, QSizeF, Qt, Signal
from PySide6.QtGui import QImage, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPen, QWheelEvent
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from diffstudio.ui.gallery.image_view import BACK_TIP
from diffstudio.ui.tasks import Tasks
from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.controls import SecondaryButton
from diffstudio.ui.widgets.helpers import ElidedLabel, describe
from diffstudio.ui.widgets.images.drag_source import DragSource, whole
from diffstudio.ui.widgets.images.image_menu import ImageTarget
from diffstudio.ui.widgets.images.image_painting import mark
from diffstudio.ui.widgets.images.image_reading import read_or_reason
from diffstudio.ui.widgets.images.keyboard_focus import KeyboardFocus
from diffstudio.ui.widgets.images.zoom import View, WheelSteps, Zoom, is_small
from diffstudio.ui.widgets.images.zoom_buttons import ZoomButtons
from diffstudio.ui.widgets.inputs.chip_row import ChipRow
from diffstudio.ui.widgets.inputs.sliders import Slider

MAX_SIDE = 8192  # px; larger images are decoded at this size
SIDE_BY_SIDE, OVER = "side", "over"
GAP = 8  # px between the two images
_DIVIDER_REACH = 10  # px around the divider in which a press takes it
_DIVIDER_STEP = 0.02  # of the width, by key


class ComparePane(QWidget):
    """Paints both images. A smaller image is drawn as large as the larger one, so that the same place is seen in both.

    Keys: + and - zoom, 0 fits, 1 shows actual pixels, arrows move the divider, Escape closes.
    """

    closed = Signal()
    zoomed = Signal(object)  # screen px per px of the larger image
    divider_moved = Signal(object)  # 0 to 1

    def __init__(self) -> None:
        super().__init__()
        describe(self, "Comparison", "The wheel zooms and dragging moves both images")
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMinimumSize(160, 120)
        self._images = [QImage(), QImage()]
        self._messages = ["", ""]
        self._mode = SIDE_BY_SIDE
        self._zoom, self._wheel = Zoom(), WheelSteps()
        self._divider = 0.5
        self._press: QPointF | None = None
        self._drags_divider = False
        self._keyboard_focus = KeyboardFocus(self)

    def set_image(self, index: int, image: QImage, message: str = "") -> None:
        self._images[index], self._messages[index] = image, message
        self.setAccessibleDescription(" ".join(filter(None, self._messages)))
        self.update()
        self.zoomed.emit(self.zoom())

    def image(self, index: int) -> QImage:
        return self._images[index]

    def reset(self) -> None:
        """Forget both images, the zoom and the divider."""
        self._images, self._messages = [QImage(), QImage()], ["", ""]
        self._divider = 0.5
        self._zoom.reset()
        self.update()

    def swap(self) -> None:
        self._images.reverse()
        self._messages.reverse()
        self.update()

    def set_mode(self, mode: str) -> None:
        self._mode = mode
        self.update()
        self.zoomed.emit(self.zoom())

    def divider(self) -> float:
        return self._divider

    def set_divider(self, share: float) -> None:
        share = min(max(share, 0.0), 1.0)
        if share != self._divider:
            self._divider = share
            self.divider_moved.emit(share)
            self.update()

    def zoom(self) -> float:
        """Screen px per px of the larger image."""
        return self._zoom.scale(self._view())

    def is_fitted(self) -> bool:
        return self._zoom.factor is None

    def set_zoom(self, zoom: float | None, around: QPointF | None = None) -> None:
        """Zoom both images; None fits. What is under `around`, in widget coordinates, stays there."""
        self._zoom.set_factor(zoom, self._view(around), around)
        self._show_zoom()

    def zoom_by(self, steps: int, around: QPointF | None = None) -> None:
        """Zoom in (1) or out (-1) by a step."""
        self._zoom.step(steps, self._view(around), around)
        self._show_zoom()

    def _show_zoom(self) -> None:
        self.update()
        self.zoomed.emit(self.zoom())

    def _view(self, around: QPointF | None = None) -> View:
        """Of the image at a point, or else of the first one: both are zoomed alike."""
        areas = self.areas()
        area = next((each for each in areas if around is not None and each.contains(around)), areas[0])
        return View(area, self._frame(), self.devicePixelRatioF())

    def areas(self) -> list[QRectF]:
        """Where each image may be drawn."""
        whole = QRectF(self.rect())
        if self._mode == OVER:
            return [whole, whole]
        width = (whole.width() - GAP) / 2
        return [QRectF(0, 0, width, whole.height()), QRectF(width + GAP, 0, width, whole.height())]

    def image_rect(self, index: int) -> QRectF:
        """Where an image is drawn, beyond its area too when it is zoomed."""
        place = self._zoom.rect(View(self.areas()[index], self._frame(), self.devicePixelRatioF()))
        image = self._images[index]
        return place if image.isNull() else _inside(image, place)

    def _frame(self) -> QSize:
        """The size of the larger image, in px."""
        sizes = [image.size() for image in self._images if not image.isNull()] or [QSize(1, 1)]
        return max(sizes, key=lambda size: size.width() * size.height())

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        line = self._divider * self.width()
        for index, area in enumerate(self.areas()):
            clip = area
            if self._mode == OVER:
                clip = QRectF(0, 0, line, area.height()) if index == 0 else QRectF(line, 0, area.width(), area.height())
            painter.setClipRect(clip)
            if self._images[index].isNull():
                painter.setPen(theme.colour("dim"))
                flags = int(Qt.AlignmentFlag.AlignCenter) | int(Qt.TextFlag.TextWordWrap)
                painter.drawText(clip.adjusted(16, 0, -16, 0), flags, self._messages[index])
                continue
            place = self.image_rect(index)
            enlarged = place.width() >= self._images[index].width()
            sharp = enlarged and (is_small(self._images[index].size()) or not self.is_fitted())
            painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform, not sharp)
            painter.drawImage(place, self._images[index])
        painter.setClipping(False)
        if self._mode == OVER:
            painter.setPen(QPen(theme.colour("accent"), 2))
            painter.drawLine(QPointF(line, 0), QPointF(line, self.height()))
        if self._keyboard_focus.shown:
            mark(painter, QRectF(self.rect()))

    def wheelEvent(self, event: QWheelEvent) -> None:
        if steps := self._wheel.add(event):
            self.zoom_by(steps, event.position())
        event.accept()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        if event.button() == Qt.MouseButton.LeftButton:
            self._press = event.position()
            near = abs(event.position().x() - self._divider * self.width()) <= _DIVIDER_REACH
            self._drags_divider = self._mode == OVER and (near or self.is_fitted())
            if self._drags_divider:
                self.set_divider(event.position().x() / max(1, self.width()))

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        if self._press is None:
            return
        if self._drags_divider:
            self.set_divider(event.position().x() / max(1, self.width()))
        elif not self.is_fitted():
            self._zoom.pan(event.position() - self._press, self._view())
            self._press = event.position()
            self.update()

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        self._press = None

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        self.set_zoom(max(1.0, 2 * self.zoom()) if self.is_fitted() else None, event.position())

    def keyPressEvent(self, event: QKeyEvent) -> None:
        match event.key():
            case Qt.Key.Key_Plus | Qt.Key.Key_Equal:
                self.zoom_by(1)
            case Qt.Key.Key_Minus:
                self.zoom_by(-1)
            case Qt.Key.Key_0:
                self.set_zoom(None)
            case Qt.Key.Key_1:
                self.set_zoom(1.0)
            case Qt.Key.Key_Left | Qt.Key.Key_Right:
                step = _DIVIDER_STEP if event.key() == Qt.Key.Key_Right else -_DIVIDER_STEP
                self.set_divider(self._divider + step)
            case Qt.Key.Key_Escape:
                self.closed.emit()
            case _:
                super().keyPressEvent(event)


def _inside(image: QImage, place: QRectF) -> QRectF:
    """The largest rectangle with the aspect ratio of an image in `place`, to fractions of a pixel."""
    scale = min(place.width() / image.width(), place.height() / image.height())
    size = QSizeF(image.width() * scale, image.height() * scale)
    corner = place.center() - QPointF(size.width() / 2, size.height() / 2)
    return QRectF(corner, size)


class CompareView(QWidget):
    """The two images below a bar with their names, the mode, the divider and the zoom."""

    closed = Signal()

    def __init__(self, tasks: Tasks) -> None:
        super().__init__()
        self._tasks = tasks
        self._reading: list[asyncio.Task[None]] = []
        self.paths: list[Path] = []
        self.pane = ComparePane()
        DragSource(self.pane, self._target_at)
        self.back = SecondaryButton("", "arrow-left", BACK_TIP, name="Gallery")
        self.mode = ChipRow(
            [(SIDE_BY_SIDE, "Side by side"), (OVER, "Slider")],
            tooltips=("Both images next to each other", "One image over the other, with a divider to drag"),
            name="How to compare",
        )
        self.mode.setFixedWidth(sum(self.mode.chip(each).sizeHint().width() for each in (SIDE_BY_SIDE, OVER)) + 6)
        self.divider = Slider()
        self.divider.setRange(0, 1000)
        self.divider.setValue(500)
        self.divider.setMinimumWidth(64)
        describe(self.divider, "Divider", "Where the one image ends and the other begins (Left, Right)")
        self.swap = SecondaryButton("", "arrows-left-right", "Swap the two images", name="Swap")
        self.zoom = ZoomButtons()
        self.names = [ElidedLabel("", "dim"), ElidedLabel("", "dim")]
        self._lay_out()
        self._connect()
        self._show_mode(SIDE_BY_SIDE)

    def compare(self, paths: Sequence[Path], names: Sequence[str]) -> None:
        """Read two image files and show them; what cannot be read says so in its place."""
        for task in self._reading:
            task.cancel()
        self.paths = list(paths)
        self.pane.reset()
        self.divider.setValue(500)
        for name, text in zip(self.names, names, strict=True):
            name.setText(text)
        self.pane.setAccessibleName(f"Comparison of {names[0][:80]} and {names[1][:80]}")
        tasks = [self._tasks.start(self._read(path)) for path in self.paths]
        self._reading = [task for task in tasks if task is not None]

    async def _read(self, path: Path) -> None:
        image, reason = await self._tasks.to_thread(read_or_reason, path, MAX_SIDE)
        for index, each in enumerate(self.paths):
            if each == path:
                self.pane.set_image(index, image, reason)

    def _target_at(self, point: QPoint) -> ImageTarget | None:
        """The image that a press begins to drag; in the other mode, and while zoomed, dragging moves what is seen."""
        if self.mode.value() != SIDE_BY_SIDE or not self.pane.is_fitted():
            return None
        index = next((index for index in (0, 1) if self.pane.image_rect(index).contains(point)), None)
        return whole(ImageTarget(self.paths[index], self.pane.image(index))) if index is not None else None

    def _show_mode(self, mode: str) -> None:
        self.pane.set_mode(mode)
        self.divider.setVisible(mode == OVER)

    def _swap(self) -> None:
        self.paths.reverse()
        first, second = (name.text() for name in self.names)
        self.names[0].setText(second)
        self.names[1].setText(first)
        self.pane.swap()

    def _lay_out(self) -> None:
        above = QHBoxLayout()
        above.setContentsMargins(16, 12, 16, 4)
        above.setSpacing(8)
        above.addWidget(self.back)
        above.addWidget(self.mode)
        above.addWidget(self.divider, 1)
        above.addStretch(1)
        above.addWidget(self.swap)
        above.addWidget(self.zoom)
        titles = QHBoxLayout()
        titles.setContentsMargins(16, 0, 16, 4)
        titles.setSpacing(GAP)
        for name, side in zip(self.names, (Qt.AlignmentFlag.AlignLeft, Qt.AlignmentFlag.AlignRight), strict=True):
            name.setAlignment(side)
            titles.addWidget(name, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addLayout(above)
        column.addLayout(titles)
        column.addWidget(self.pane, 1)

    def _connect(self) -> None:
        pane = self.pane
        self.back.clicked.connect(self.closed)
        pane.closed.connect(self.closed)
        self.mode.value_changed.connect(self._show_mode)
        self.swap.clicked.connect(self._swap)
        self.divider.valueChanged.connect(lambda value: pane.set_divider(value / 1000))
        pane.divider_moved.connect(lambda share: self.divider.setValue(round(1000 * share)))
        pane.zoomed.connect(lambda zoom: self.zoom.show_zoom(zoom, fits=pane.is_fitted()))
        self.zoom.stepped.connect(lambda steps: pane.zoom_by(steps))
        self.zoom.toggled.connect(lambda: pane.set_zoom(1.0 if pane.is_fitted() else None))
