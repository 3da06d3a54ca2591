"""One picture as large as it fits, or closer: wheel and keys zoom, dragging moves it, or drags it out when it fits."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import QMimeData, QPointF, QRectF, QSize, Qt, QUrl, Signal
from PySide6.QtGui import QDrag, QImage, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPixmap, QWheelEvent
from PySide6.QtWidgets import QApplication, QWidget

from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.helpers import describe
from diffstudio.ui.widgets.images import fitted, rounded

LARGEST_ZOOM = 32.0
STEP = 1.25
SHARP_FROM = 4.0  # beyond this many screen px per picture px, the pixels themselves are shown
MARGIN = 24  # px around a picture that fits


class PictureView(QWidget):
    """Shows `image`; keys: + and - zoom, 0 fits, 1 shows one pixel as one, arrows ask for the neighbours."""

    previous_requested = Signal()
    next_requested = Signal()
    closed = Signal()
    zoomed = Signal(object)  # screen px per picture px

    def __init__(self) -> None:
        super().__init__()
        describe(self, "Image", "")
        self.setToolTip("")
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMinimumSize(120, 120)
        self._image, self._path = QImage(), Path()
        self._zoom: float | None = None  # None: as large as it fits
        self._centre = QPointF()  # of the view, in the picture's px
        self._size = QSize(1, 1)  # of the whole picture; the image may be a small copy of it
        self._pressed: QPointF | None = None
        self._message = ""

    def set_picture(self, image: QImage, size: QSize, path: Path, name: str) -> None:
        """Show a picture of `size` px, by its whole or by a smaller image of it until the whole is there."""
        if path != self._path:
            self._zoom = None
            self._centre = QPointF(size.width() / 2, size.height() / 2)
        self._image, self._size, self._path, self._message = image, size, path, ""
        self.setAccessibleName(f"Image: {name}")
        self.update()
        self.zoomed.emit(self.zoom())

    def set_message(self, text: str) -> None:
        """Say why there is no picture."""
        self._image, self._message = QImage(), text
        self.setAccessibleDescription(text)
        self.update()

    def image(self) -> QImage:
        return self._image

    def path(self) -> Path:
        return self._path

    def zoom(self) -> float:
        """Screen px per picture px."""
        return self._fit() if self._zoom is None else self._zoom

    def is_fitted(self) -> bool:
        return self._zoom is None

    def set_zoom(self, zoom: float | None, around: QPointF | None = None) -> None:
        """None fits. `around` is a point of this widget that stays where it is."""
        if zoom is None:
            self._zoom = None
            self._centre = QPointF(self._size.width() / 2, self._size.height() / 2)
        else:
            zoom = min(max(zoom, min(self._fit(), 0.1)), LARGEST_ZOOM)
            middle = QPointF(self.width() / 2, self.height() / 2)
            offset = (around or middle) - middle
            self._centre += offset / self.zoom() - offset / zoom
            self._zoom = zoom
            self._keep_inside()
        self.update()
        self.zoomed.emit(self.zoom())

    def picture_rect(self) -> QRectF:
        """Where the picture is drawn."""
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
            rounded(painter, self._image, self.picture_rect())
        else:
            sharp = self._zoom >= SHARP_FROM
            painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform, not sharp)
            painter.drawImage(self.picture_rect(), self._image)

    def wheelEvent(self, event: QWheelEvent) -> None:
        turns = event.angleDelta().y() / 120
        if turns and not self._image.isNull():
            self.set_zoom(self.zoom() * STEP**turns, event.position())
        event.accept()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        match event.key():
            case Qt.Key.Key_Left | Qt.Key.Key_Up | Qt.Key.Key_PageUp:
                self.previous_requested.emit()
            case Qt.Key.Key_Right | Qt.Key.Key_Down | Qt.Key.Key_PageDown | Qt.Key.Key_Space:
                self.next_requested.emit()
            case Qt.Key.Key_Plus | Qt.Key.Key_Equal:
                self.set_zoom(self.zoom() * STEP)
            case Qt.Key.Key_Minus:
                self.set_zoom(self.zoom() / STEP)
            case Qt.Key.Key_0:
                self.set_zoom(None)
            case Qt.Key.Key_1:
                self.set_zoom(1.0)
            case Qt.Key.Key_Escape:
                self.closed.emit()
            case _:
                super().keyPressEvent(event)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        self._pressed = event.position() if event.button() == Qt.MouseButton.LeftButton else None

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        if self._pressed is None or self._image.isNull():
            return
        moved = event.position() - self._pressed
        if self._zoom is not None:
            self._centre -= moved / self._zoom
            self._pressed = event.position()
            self._keep_inside()
            self.update()
        elif moved.manhattanLength() >= QApplication.startDragDistance():
            self._pressed = None
            self._drag_out()

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        self._pressed = None

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        self.set_zoom(
            1.0 if self._zoom is None and self._fit() < 1 else 8.0 if self._zoom is None else None, event.position()
        )

    def _drag_out(self) -> None:
        data = QMimeData()
        data.setUrls([QUrl.fromLocalFile(str(self._path))])
        drag = QDrag(self)
        drag.setMimeData(data)
        small = self._image.scaled(
            96, 96, Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.SmoothTransformation
        )
        drag.setPixmap(QPixmap.fromImage(small))
        drag.exec(Qt.DropAction.CopyAction)

    def _fit(self) -> float:
        room = QRectF(self.rect()).adjusted(MARGIN, MARGIN, -MARGIN, -MARGIN)
        return max(0.01, min(room.width() / self._size.width(), room.height() / self._size.height()))

    def _keep_inside(self) -> None:
        """The picture covers the middle of the view."""
        self._centre = QPointF(
            min(max(self._centre.x(), 0.0), self._size.width()), min(max(self._centre.y(), 0.0), self._size.height())
        )
