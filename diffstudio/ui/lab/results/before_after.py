"""BeforeAfter: one image before and after, with a divider between them that follows the mouse and the arrow keys."""

from __future__ import annotations

from PySide6.QtCore import QPoint, QPointF, QRect, QRectF, Qt, Signal
from PySide6.QtGui import QContextMenuEvent, QImage, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QSizePolicy, QWidget

from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.helpers import describe
from diffstudio.ui.widgets.images.drag_source import DragSource, whole
from diffstudio.ui.widgets.images.image_menu import ImageTarget
from diffstudio.ui.widgets.images.image_painting import fitted, mark

HEIGHTS = 240, 448  # px, at 100%: the least and the largest
_TOOLTIP = (
    "Drag the divider, click where it should be, or press Left and Right; Home and End show only one side. "
    "Both images can be dragged to a panel"
)
_HEIGHT = 0.4  # of the width
_REACH = 12  # px around the divider in which a press takes it
_STEP = 0.05  # of the width, by an arrow key
_KEYS = {Qt.Key.Key_Left: -_STEP, Qt.Key.Key_Right: _STEP, Qt.Key.Key_Home: -1.0, Qt.Key.Key_End: 1.0}


class BeforeAfter(QWidget):
    """On the left of the divider the image before, on its right what is between the mean and the sample."""

    menu_requested = Signal(object, object)  # ImageTarget, QPoint

    def __init__(self) -> None:
        super().__init__()
        self._before, self._mean, self._sample = QImage(), QImage(), QImage()
        self.share, self.divider = 0.0, 0.5
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMouseTracking(True)  # its cursor says where the divider can be dragged
        self._moves_divider = False
        DragSource(self, self.target_at)
        policy = QSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Minimum)
        policy.setHeightForWidth(True)
        self.setSizePolicy(policy)
        self.setMinimumSize(120, theme.scaled(HEIGHTS[0]))
        describe(self, "Before and after", _TOOLTIP)

    def heightForWidth(self, width: int) -> int:
        least, largest = (theme.scaled(height) for height in HEIGHTS)
        return min(largest, max(least, round(_HEIGHT * width)))

    def show_images(self, before: QImage, mean: QImage, sample: QImage) -> None:
        """A null image where there is none."""
        self._before, self._mean, self._sample = (_on_white(image) for image in (before, mean, sample))
        self.update()

    def set_share(self, share: float) -> None:
        """0 shows the mean, 1 the sample."""
        self.share = share
        self.update()

    def set_divider(self, place: float) -> None:
        self.divider = min(1.0, max(0.0, place))
        self.setAccessibleDescription(f"{self.divider:.0%} of the width show the image before")
        self.update()

    def after(self) -> QImage:
        """What stands on the right of the divider, in the size of the restored image."""
        image = self._mean.copy()
        if self.share > 0 and not self._sample.isNull() and not image.isNull():
            painter = QPainter(image)
            painter.setOpacity(self.share)
            painter.drawImage(0, 0, self._sample)
            painter.end()
        return image

    def image_rect(self) -> QRectF:
        return fitted(self._mean.size(), QRectF(self.rect()).adjusted(2, 2, -2, -2))

    def paintEvent(self, event: QPaintEvent) -> None:
        if self._mean.isNull():
            return
        painter, where = QPainter(self), self.image_rect()
        smooth = where.width() < self._mean.width()  # enlarged pixels stay sharp
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform, smooth)
        painter.drawImage(where, self._mean)
        if not self._sample.isNull() and self.share > 0:
            painter.setOpacity(self.share)
            painter.drawImage(where, self._sample)
            painter.setOpacity(1)
        x = self._divider_x()
        if not self._before.isNull():
            painter.setClipRect(QRectF(where.left(), where.top(), x - where.left(), where.height()))
            painter.drawImage(where, self._before)
            painter.setClipping(False)
        self._draw_divider(painter, where, x)
        if theme.name() == "light":
            painter.setPen(QPen(theme.colour("line"), 1))
            painter.drawRect(where)
        if self.hasFocus():
            mark(painter, where)

    def _draw_divider(self, painter: QPainter, where: QRectF, x: float) -> None:
        painter.setPen(QPen(theme.colour("accent"), 2))
        painter.drawLine(QPointF(x, where.top()), QPointF(x, where.bottom()))
        font = theme.font(theme.SMALL_PIXELS, bold=True)
        painter.setFont(font)
        for text, left in (("Before", True), ("After", False)):
            width, height = painter.fontMetrics().horizontalAdvance(text) + 10, painter.fontMetrics().height() + 4
            box = QRect(round(where.left()) + 6 if left else round(where.right()) - width - 6,
                        round(where.bottom()) - height - 6, width, height)  # fmt: skip
            if (left and box.right() < x) or (not left and box.left() > x):
                painter.fillRect(box, theme.colour("panel"))
                painter.setPen(theme.colour("text"))
                painter.drawText(box, int(Qt.AlignmentFlag.AlignCenter), text)

    def target_at(self, point: QPoint) -> ImageTarget | None:
        """The image that a press at a point begins to drag: none near the divider, which is moved then."""
        where = self.image_rect()
        if not where.contains(point) or self._is_near_divider(point.x()):
            return None
        on_left = point.x() < self._divider_x() and not self._before.isNull()
        return whole(ImageTarget(None, self._before if on_left else self.after()))

    def _divider_x(self) -> float:
        where = self.image_rect()
        return where.left() + self.divider * where.width()

    def _is_near_divider(self, x: float) -> bool:
        return abs(x - self._divider_x()) <= _REACH

    def mousePressEvent(self, event: QMouseEvent) -> None:
        self._moves_divider = self._is_near_divider(event.position().x())

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        if event.buttons() == Qt.MouseButton.NoButton:
            near = self._is_near_divider(event.position().x())
            self.setCursor(Qt.CursorShape.SplitHCursor if near else Qt.CursorShape.ArrowCursor)
        elif self._moves_divider and event.buttons() & Qt.MouseButton.LeftButton:
            self._move_divider(event)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        if event.button() is Qt.MouseButton.LeftButton:
            self._move_divider(event)

    def _move_divider(self, event: QMouseEvent) -> None:
        where = self.image_rect()
        if where.width() > 0:
            self.set_divider((event.position().x() - where.left()) / where.width())

    def keyPressEvent(self, event: QKeyEvent) -> None:
        change = _KEYS.get(Qt.Key(event.key()))
        if change is None:
            super().keyPressEvent(event)
        else:
            self.set_divider(self.divider + change)

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        keyboard = event.reason() == QContextMenuEvent.Reason.Keyboard
        place = self.mapToGlobal(self.rect().center()) if keyboard else event.globalPos()
        self.menu_requested.emit(ImageTarget(None, self.after()), place)


def _on_white(image: QImage) -> QImage:
    """Without transparency, so that two images can be blended."""
    if image.isNull() or not image.hasAlphaChannel():
        return image
    white = QImage(image.size(), QImage.Format.Format_RGB32)
    white.fill(Qt.GlobalColor.white)
    painter = QPainter(white)
    painter.drawImage(0, 0, image)
    painter.end()
    return white
