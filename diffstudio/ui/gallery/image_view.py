"""Shows one image, fitted or zoomed. Wheel and keys zoom; dragging pans, or drags the file out when fitted."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QImage, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QWheelEvent
from PySide6.QtWidgets import QApplication, QWidget

from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.helpers import describe, set_tooltip
from diffstudio.ui.widgets.images import copy_and_drag
from diffstudio.ui.widgets.images.image_painting import mark, rounded
from diffstudio.ui.widgets.images.keyboard_focus import KeyboardFocus
from diffstudio.ui.widgets.images.zoom import View, WheelSteps, Zoom, is_small

BACK_TIP = "Back to the gallery (Escape)"
MARGIN = 24  # px around a fitted image


class ImageView(QWidget):
    """Keys: + and - zoom, 0 fits, 1 shows actual pixels, arrows request the previous and next image."""

    previous_requested = Signal()
    next_requested = Signal()
    closed = Signal()
    zoomed = Signal(object)  # screen px per image px

    def __init__(self) -> None:
        super().__init__()
        describe(self, "Image", "")
        set_tooltip(self, "")
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMinimumSize(120, 120)
        self._image, self._path = QImage(), Path()
        self._zoom, self._wheel = Zoom(), WheelSteps()
        self._size = QSize(1, 1)  # of the original; `_image` may be a thumbnail
        self._press_position: QPointF | None = None
        self._message = ""
        self._keyboard_focus = KeyboardFocus(self)

    def set_image(self, image: QImage, size: QSize, path: Path, name: str) -> None:
        """Show an image whose original has `size` px; `image` may be a thumbnail until the original is read."""
        if path != self._path:
            self._zoom.reset()
        self._image, self._size, self._path, self._message = image, size, path, ""
        self.setAccessibleName(f"Image: {name}")
        self.update()
        self.zoomed.emit(self.zoom())

    def set_message(self, text: str) -> None:
        """Show why there is no image."""
        self._image, self._message = QImage(), text
        self.setAccessibleDescription(text)
        self.update()

    def image(self) -> QImage:
        return self._image

    def path(self) -> Path:
        return self._path

    def zoom(self) -> float:
        """Screen px per image px."""
        return self._zoom.scale(self._view())

    def is_fitted(self) -> bool:
        return self._zoom.factor is None

    def set_zoom(self, zoom: float | None, around: QPointF | None = None) -> None:
        """Set the zoom; None fits. The image point under `around`, in widget coordinates, stays in place."""
        self._zoom.set_factor(zoom, self._view(), around)
        self._show_zoom()

    def zoom_by(self, steps: int, around: QPointF | None = None) -> None:
        """Zoom in (1) or out (-1) by a step."""
        self._zoom.step(steps, self._view(), around)
        self._show_zoom()

    def _show_zoom(self) -> None:
        self.update()
        self.zoomed.emit(self.zoom())

    def _view(self) -> View:
        area = QRectF(self.rect()).adjusted(MARGIN, MARGIN, -MARGIN, -MARGIN)
        return View(area, self._size, self.devicePixelRatioF())

    def image_rect(self) -> QRectF:
        """The rectangle in which the image is drawn."""
        return self._zoom.rect(self._view())

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        if self._image.isNull():
            painter.setPen(theme.colour("dim"))
            flags = int(Qt.AlignmentFlag.AlignCenter) | int(Qt.TextFlag.TextWordWrap)
            painter.drawText(self.rect().adjusted(40, 0, -40, 0), flags, self._message)
        elif self.is_fitted():
            place = self.image_rect()
            rounded(painter, self._image, place, sharp=is_small(self._size) and place.width() >= self._size.width())
        else:
            sharp = self.zoom() >= 1  # as in the Generate room
            painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform, not sharp)
            painter.drawImage(self.image_rect(), self._image)
        if self._keyboard_focus.shown:
            mark(painter, self.image_rect().intersected(QRectF(self.rect())), theme.RADIUS)

    def wheelEvent(self, event: QWheelEvent) -> None:
        steps = self._wheel.add(event)
        if steps and not self._image.isNull():
            self.zoom_by(steps, event.position())
        event.accept()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        match event.key():
            case Qt.Key.Key_Left | Qt.Key.Key_Up | Qt.Key.Key_PageUp:
                self.previous_requested.emit()
            case Qt.Key.Key_Right | Qt.Key.Key_Down | Qt.Key.Key_PageDown | Qt.Key.Key_Space:
                self.next_requested.emit()
            case Qt.Key.Key_Plus | Qt.Key.Key_Equal:
                self.zoom_by(1)
            case Qt.Key.Key_Minus:
                self.zoom_by(-1)
            case Qt.Key.Key_0:
                self.set_zoom(None)
            case Qt.Key.Key_1:
                self.set_zoom(1.0)
            case Qt.Key.Key_Escape:
                self.closed.emit()
            case _:
                super().keyPressEvent(event)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        self._press_position = event.position() if event.button() == Qt.MouseButton.LeftButton else None

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        if self._press_position is None or self._image.isNull():
            return
        moved = event.position() - self._press_position
        if not self.is_fitted():
            self._zoom.pan(moved, self._view())
            self._press_position = event.position()
            self.update()
        elif moved.manhattanLength() >= QApplication.startDragDistance():
            self._press_position = None
            copy_and_drag.drag(self, self._image, self._path)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        self._press_position = None

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        closer = 1.0 if self.zoom() < 1 else 8.0
        self.set_zoom(closer if self.is_fitted() else None, event.position())
