"""Shows one image, fitted or zoomed. Wheel and keys zoom; dragging pans, or drags the file out when fitted."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QImage, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QWheelEvent
from PySide6.QtWidgets import QApplication, QWidget

from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.helpers import describe, set_tooltip
from diffstudio.ui.widgets.images import copy_and_drag
from diffstudio.ui.widgets.images.image_painting import fitted, rounded

BACK_TIP = "Back to the gallery (Esc)"
MAX_ZOOM = 32.0
ZOOM_STEP = 1.25
NEAREST_FROM = 4.0  # screen px per image px; from here on, pixels are drawn without smoothing
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
        self._zoom: float | None = None  # None: as large as it fits
        self._centre = QPointF()  # of the view, in image px
        self._size = QSize(1, 1)  # of the original; `_image` may be a thumbnail
        self._press_position: QPointF | None = None
        self._message = ""

    def set_image(self, image: QImage, size: QSize, path: Path, name: str) -> None:
        """Show an image whose original has `size` px; `image` may be a thumbnail until the original is read."""
        if path != self._path:
            self._zoom = None
            self._centre = QPointF(size.width() / 2, size.height() / 2)
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
        return self._fit() if self._zoom is None else self._zoom

    def is_fitted(self) -> bool:
        return self._zoom is None

    def set_zoom(self, zoom: float | None, around: QPointF | None = None) -> None:
        """Set the zoom; None fits. The image point under `around`, in widget coordinates, stays in place."""
        if zoom is None:
            self._zoom = None
            self._centre = QPointF(self._size.width() / 2, self._size.height() / 2)
        else:
            zoom = min(max(zoom, min(self._fit(), 0.1)), MAX_ZOOM)
            middle = QPointF(self.width() / 2, self.height() / 2)
            offset = (around or middle) - middle
            self._centre += offset / self.zoom() - offset / zoom
            self._zoom = zoom
            self._keep_inside()
        self.update()
        self.zoomed.emit(self.zoom())

    def image_rect(self) -> QRectF:
        """The rectangle in which the image is drawn."""
        if self._zoom is None:
            room = QRectF(self.rect()).adjusted(MARGIN, MARGIN, -MARGIN, -MARGIN)
            return fitted(self._size, room)
        size = QPointF(self._size.width() * self._zoom, self._size.height() * self._zoom)
        corner = QPointF(self.width() / 2, self.height() / 2) - self._centre * self._zoom
        return QRectF(corner.x(), corner.y(), size.x(), size.y())

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        if self._image.isNull():
            painter.setPen(theme.colour("dim"))
            flags = int(Qt.AlignmentFlag.AlignCenter) | int(Qt.TextFlag.TextWordWrap)
            painter.drawText(self.rect().adjusted(40, 0, -40, 0), flags, self._message)
        elif self._zoom is None:
            rounded(painter, self._image, self.image_rect())
        else:
            sharp = self._zoom >= NEAREST_FROM
            painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform, not sharp)
            painter.drawImage(self.image_rect(), self._image)

    def wheelEvent(self, event: QWheelEvent) -> None:
        notches = event.angleDelta().y() / 120
        if notches and not self._image.isNull():
            self.set_zoom(self.zoom() * ZOOM_STEP**notches, event.position())
        event.accept()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        match event.key():
            case Qt.Key.Key_Left | Qt.Key.Key_Up | Qt.Key.Key_PageUp:
                self.previous_requested.emit()
            case Qt.Key.Key_Right | Qt.Key.Key_Down | Qt.Key.Key_PageDown | Qt.Key.Key_Space:
                self.next_requested.emit()
            case Qt.Key.Key_Plus | Qt.Key.Key_Equal:
                self.set_zoom(self.zoom() * ZOOM_STEP)
            case Qt.Key.Key_Minus:
                self.set_zoom(self.zoom() / ZOOM_STEP)
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
        if self._zoom is not None:
            self._centre -= moved / self._zoom
            self._press_position = event.position()
            self._keep_inside()
            self.update()
        elif moved.manhattanLength() >= QApplication.startDragDistance():
            self._press_position = None
            copy_and_drag.drag(self, self._image, self._path)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        self._press_position = None

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        self.set_zoom(
            1.0 if self._zoom is None and self._fit() < 1 else 8.0 if self._zoom is None else None, event.position()
        )

    def _fit(self) -> float:
        room = QRectF(self.rect()).adjusted(MARGIN, MARGIN, -MARGIN, -MARGIN)
        return max(0.01, min(room.width() / self._size.width(), room.height() / self._size.height()))

    def _keep_inside(self) -> None:
        """Keep the centre of the view inside the image."""
        self._centre = QPointF(
            min(max(self._centre.x(), 0.0), self._size.width()), min(max(self._centre.y(), 0.0), self._size.height())
        )
