"""The mask editor: paint an inpaint mask over an image, and drag its edges outwards to outpaint."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import QEvent, QPointF, QRect, QRectF, QSize, Qt, Signal
from PySide6.QtGui import (
    QColor,
    QEnterEvent,
    QImage,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QResizeEvent,
    QWheelEvent,
)
from PySide6.QtWidgets import QApplication, QSizePolicy, QWidget

from diffstudio.ui.generate.mask.layer import Brush, MaskLayer, mask_colour
from diffstudio.ui.generate.mask.result_frame import paint_frame, paint_padding
from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.helpers import describe
from diffstudio.ui.widgets.images.image_painting import mark
from diffstudio.ui.widgets.images.keyboard_focus import KeyboardFocus
from diffstudio.ui.widgets.images.zoom import is_small

SMALLEST, LARGEST = 2, 512  # px of the image: brush diameter
SNAP = 8  # px of the image: edges move in multiples of this
MAX_OUTPAINT = 2048
_REACH = 10  # px of the screen: distance at which an edge can be grabbed
_MARGIN = 40  # px of the screen around the image, room for dragging edges
_MASK_OPACITY = 0.6  # opacity of the mask over the image
_LABEL = QSize(60, 18)  # px of the screen: the size of an outpaint margin
_LABEL_AT = (QPointF(40, 0), QPointF(0, 18), QPointF(-40, 0), QPointF(0, -18))  # its centre, from that of the handle

Sides = tuple[int, int, int, int]  # left, top, right, bottom in px of the image
FrameOf = Callable[[Sides, QImage | None], QRectF | None]  # the frame of what is generated; None: the whole canvas


def _whole_canvas(sides: Sides, mask: QImage | None) -> QRectF | None:
    return None


class MaskEditor(QWidget):
    """Shows an image, its mask and the outpaint margins. The brush paints the mask; edges are dragged outwards."""

    painted = Signal()  # the mask has changed
    extended = Signal()  # the outpaint margins have changed
    brush_changed = Signal()  # its size, or brush or eraser, by a key

    def __init__(self) -> None:
        super().__init__()
        describe(
            self,
            "Mask",
            "Paint the area to inpaint. [ and ] change the brush size, E or holding Alt erasing, the mouse wheel zooms, "
            "and dragging with Space held moves the image",
        )
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMouseTracking(True)
        self.setMinimumSize(200, 160)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.brush, self.softness, self.erasing = 64, 0.3, False
        self._image, self._mask = QImage(), MaskLayer(QSize(0, 0))
        self._sides: Sides = (0, 0, 0, 0)
        self._frame_of: FrameOf = _whole_canvas
        self._result: QRectF | None = None  # what `_frame_of` last returned
        self._zoom, self._shift = 1.0, QPointF()
        self._pan_start: QPointF | None = None  # while the image is panned
        self._edge: int | None = None  # the edge being dragged
        self._space = False
        self._pointer: QPointF | None = None
        self._keyboard_focus = KeyboardFocus(self)

    # Contents

    def set_image(self, image: QImage, mask: QImage | None = None, sides: Sides = (0, 0, 0, 0)) -> None:
        """`mask` is greyscale, white where masked; it is stretched to the size of the image."""
        self._image = image.convertToFormat(QImage.Format.Format_RGB32)
        self._mask = MaskLayer(image.size(), mask)
        self._sides, self._zoom, self._shift = sides, 1.0, QPointF()
        self._update_result()

    def set_mask(self, mask: QImage) -> None:
        """Take another mask, white where masked; it is stretched to the size of the image."""
        self._mask = MaskLayer(self._image.size(), mask)
        self._mask_changed()

    def mask_image(self) -> QImage:
        """The mask at the size of the image, greyscale: white where masked."""
        return self._mask.greyscale()

    def is_blank(self) -> bool:
        """Whether the mask is empty."""
        return self._mask.is_blank()

    def sides(self) -> Sides:
        """The outpaint margins."""
        return self._sides

    def set_sides(self, sides: Sides) -> None:
        self._sides = sides
        self._update_result()

    def set_frame_of(self, frame_of: FrameOf) -> None:
        """`frame_of(sides, mask)`: the frame of what is generated, in px of the image, from its top left corner."""
        self._frame_of = frame_of
        self._update_result()

    def result_rect(self) -> QRectF | None:
        """The frame of what is generated, in px of the screen; None when it is the whole canvas."""
        if self._result is None:
            return None
        corner, scale, box = self.image_rect().topLeft(), self.scale(), self._result
        return QRectF(
            corner.x() + scale * box.x(), corner.y() + scale * box.y(), scale * box.width(), scale * box.height()
        )

    def _update_result(self) -> None:
        self._result = None
        if not self._image.isNull():
            self._result = self._frame_of(self._sides, None if self.is_blank() else self.mask_image())
        self.update()

    # Editing the whole mask

    def invert(self) -> None:
        self._mask.invert()
        self._mask_changed()

    def clear(self) -> None:
        self._mask.clear()
        self._mask_changed()

    def fill(self) -> None:
        self._mask.fill()
        self._mask_changed()

    def undo(self) -> None:
        if self._mask.undo():
            self._mask_changed()

    def redo(self) -> None:
        if self._mask.redo():
            self._mask_changed()

    def can_undo(self) -> bool:
        return self._mask.can_undo()

    def can_redo(self) -> bool:
        return self._mask.can_redo()

    def _mask_changed(self) -> None:
        self.painted.emit()
        self._update_result()

    # Geometry

    def scale(self) -> float:
        """Screen px per image px."""
        width, height = self._shown_size()
        room_x, room_y = max(1, self.width() - 2 * _MARGIN), max(1, self.height() - 2 * _MARGIN)
        return self._zoom * min(room_x / max(1, width), room_y / max(1, height))

    def frame(self) -> QRectF:
        """The image with its outpaint margins, in screen px."""
        scale = self.scale()
        left, top, right, bottom = (scale * side for side in self._sides)
        return self.image_rect().adjusted(-left, -top, right, bottom)

    def image_rect(self) -> QRectF:
        scale, (width, height), (left, top, _, _) = self.scale(), self._shown_size(), self._around()
        x, y = (self.width() - scale * width) / 2 + scale * left, (self.height() - scale * height) / 2 + scale * top
        moved = QPointF(x, y) + self._shift
        return QRectF(moved.x(), moved.y(), scale * self._image.width(), scale * self._image.height())

    def _around(self) -> tuple[float, float, float, float]:
        """What is shown around the image, px: its outpaint margins, and the padding of the frame beyond them."""
        (left, top, right, bottom), box = self._sides, self._result
        if box is None:
            return left, top, right, bottom
        beyond_right, beyond_bottom = box.right() - self._image.width(), box.bottom() - self._image.height()
        return max(left, -box.x()), max(top, -box.y()), max(right, beyond_right), max(bottom, beyond_bottom)

    def _shown_size(self) -> tuple[float, float]:
        left, top, right, bottom = self._around()
        return self._image.width() + left + right, self._image.height() + top + bottom

    def to_image(self, point: QPointF) -> QPointF:
        corner = self.image_rect().topLeft()
        return QPointF((point.x() - corner.x()) / self.scale(), (point.y() - corner.y()) / self.scale())

    def _edge_at(self, point: QPointF) -> int | None:
        frame = self.frame()
        if not frame.adjusted(-_REACH, -_REACH, _REACH, _REACH).contains(point) or self._zoom > 1:
            return None
        if frame.adjusted(2, 2, -2, -2).contains(point) and self.image_rect().contains(point):
            return None  # painting takes precedence inside
        away = (
            abs(point.x() - frame.left()),
            abs(point.y() - frame.top()),
            abs(point.x() - frame.right()),
            abs(point.y() - frame.bottom()),
        )
        nearest = min(range(4), key=lambda side: away[side])
        return nearest if away[nearest] <= _REACH else None

    # Painting

    def begin_stroke(self, point: QPointF) -> None:
        """Begin a stroke at `point`, in px of the image."""
        self._update_region(self._mask.begin_stroke(point, self._brush()))

    def stroke_to(self, point: QPointF) -> None:
        self._update_region(self._mask.stroke_to(point, self._brush()))

    def end_stroke(self) -> None:
        if self._mask.end_stroke():
            self._mask_changed()

    def _brush(self) -> Brush:
        alt = bool(QApplication.keyboardModifiers() & Qt.KeyboardModifier.AltModifier)
        return Brush(self.brush, self.softness, self.erasing != alt)

    def _update_region(self, region: QRect) -> None:
        """Repaint a region of the image, given in px of the image."""
        corner, scale = self.image_rect().topLeft(), self.scale()
        shown = QRectF(
            corner.x() + region.x() * scale,
            corner.y() + region.y() * scale,
            region.width() * scale,
            region.height() * scale,
        )
        self.update(shown.toAlignedRect().adjusted(-2, -2, 2, 2))

    def set_brush(self, brush: int) -> None:
        self.brush = max(SMALLEST, min(LARGEST, brush))
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform, not is_small(self._image.size()))
        frame, where, result = self.frame(), self.image_rect(), self.result_rect()
        if result is not None:
            paint_padding(painter, frame, result)
        if any(self._sides):
            painter.fillRect(frame, theme.colour("raised"))
            tint = mask_colour()
            tint.setAlphaF(0.25)
            painter.fillRect(frame, tint)
        painter.drawImage(where, self._image)
        painter.setOpacity(_MASK_OPACITY)
        painter.drawImage(where, self._mask.image)
        painter.setOpacity(1.0)
        painter.setPen(QPen(theme.colour("accent" if any(self._sides) else "line"), 1))
        painter.drawRect(frame)
        if result is not None:
            paint_frame(painter, frame, result)
        self._paint_handles(painter, frame)
        painting = self._edge is None and self._pan_start is None
        if painting and self._pointer is not None and where.contains(self._pointer):
            radius = self.brush / 2 * self.scale()
            painter.setBrush(Qt.BrushStyle.NoBrush)
            for colour, width in ((QColor(0, 0, 0, 160), 3.0), (QColor(255, 255, 255, 230), 1.2)):
                painter.setPen(QPen(colour, width))
                painter.drawEllipse(self._pointer, radius, radius)
        if self._keyboard_focus.shown:
            mark(painter, frame.intersected(QRectF(self.rect())))

    def _paint_handles(self, painter: QPainter, frame: QRectF) -> None:
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(theme.colour("accent"))
        middle = frame.center()
        places = (
            QPointF(frame.left(), middle.y()),
            QPointF(middle.x(), frame.top()),
            QPointF(frame.right(), middle.y()),
            QPointF(middle.x(), frame.bottom()),
        )
        for side, place in enumerate(places):
            upright = side % 2 == 0
            size = QSize(5, 28) if upright else QSize(28, 5)
            painter.drawRoundedRect(
                QRectF(place.x() - size.width() / 2, place.y() - size.height() / 2, size.width(), size.height()),
                2.5,
                2.5,
            )
            if self._sides[side]:
                away = _LABEL_AT[side] - QPointF(_LABEL.width() / 2, _LABEL.height() / 2)
                spot = QRectF(place + away, _LABEL.toSizeF())
                painter.setBrush(theme.colour("panel"))  # keeps the text legible over any image
                painter.drawRoundedRect(spot, 4, 4)
                painter.setPen(theme.colour("text"))
                painter.setFont(theme.font(theme.SMALL_PIXELS))
                painter.drawText(spot, int(Qt.AlignmentFlag.AlignCenter), f"+{self._sides[side]} px")
                painter.setPen(Qt.PenStyle.NoPen)
                painter.setBrush(theme.colour("accent"))

    # User input

    def mousePressEvent(self, event: QMouseEvent) -> None:
        point = event.position()
        self._edge = self._edge_at(point) if event.button() is Qt.MouseButton.LeftButton and not self._space else None
        if event.button() is Qt.MouseButton.MiddleButton or (
            self._space and event.button() is Qt.MouseButton.LeftButton
        ):
            self._pan_start = point - self._shift
        elif event.button() is Qt.MouseButton.LeftButton and self._edge is None:
            self.begin_stroke(self.to_image(point))

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        point = event.position()
        self._move_brush_outline(point)
        if self._pan_start is not None:
            self._shift = point - self._pan_start
            self.update()
        elif self._edge is not None:
            self._drag_edge(self._edge, point)
        elif self._mask.is_painting():
            self.stroke_to(self.to_image(point))
        else:
            edge = self._edge_at(point)
            inside = self.image_rect().contains(point)
            shape = Qt.CursorShape.BlankCursor if inside and edge is None else Qt.CursorShape.ArrowCursor
            if edge is not None:
                shape = Qt.CursorShape.SizeHorCursor if edge % 2 == 0 else Qt.CursorShape.SizeVerCursor
            self.setCursor(Qt.CursorShape.OpenHandCursor if self._space else shape)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        self._pan_start = self._edge = None
        self.end_stroke()
        self.update()

    def _move_brush_outline(self, point: QPointF | None) -> None:
        reach = self.brush / 2 * self.scale() + 4
        for spot in (self._pointer, point):
            if spot is not None:
                self.update(QRectF(spot.x() - reach, spot.y() - reach, 2 * reach, 2 * reach).toAlignedRect())
        self._pointer = point

    def _drag_edge(self, side: int, point: QPointF) -> None:
        at = self.to_image(point)
        size = self._image.size()
        beyond = (-at.x(), -at.y(), at.x() - size.width(), at.y() - size.height())[side]
        snapped = max(0, min(MAX_OUTPAINT, round(beyond / SNAP) * SNAP))
        sides = [*self._sides]
        if sides[side] != snapped:
            sides[side] = snapped
            self.set_sides((sides[0], sides[1], sides[2], sides[3]))
            self.extended.emit()

    def wheelEvent(self, event: QWheelEvent) -> None:
        point = event.position()
        before = self.to_image(point)
        self._zoom = max(1.0, min(16.0, self._zoom * 1.0015 ** event.angleDelta().y()))
        if self._zoom == 1.0:
            self._shift = QPointF()
        else:
            corner, scale = self.image_rect().topLeft(), self.scale()
            self._shift += point - QPointF(corner.x() + before.x() * scale, corner.y() + before.y() * scale)
        self.update()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        match event.key():
            case Qt.Key.Key_BracketLeft | Qt.Key.Key_BracketRight:
                wider = event.key() == Qt.Key.Key_BracketRight
                self.set_brush(round(self.brush * (1.25 if wider else 0.8)) + (1 if wider else 0))
                self.brush_changed.emit()
            case Qt.Key.Key_E:
                self.erasing = not self.erasing
                self.brush_changed.emit()
            case Qt.Key.Key_Space:
                self._space = True
                self.setCursor(Qt.CursorShape.OpenHandCursor)
            case _:
                super().keyPressEvent(event)

    def keyReleaseEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Space and not event.isAutoRepeat():
            self._space = False
        super().keyReleaseEvent(event)

    def leaveEvent(self, event: QEvent) -> None:
        self._move_brush_outline(None)
        super().leaveEvent(event)

    def enterEvent(self, event: QEnterEvent) -> None:
        self.setFocus()
        super().enterEvent(event)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self.update()
