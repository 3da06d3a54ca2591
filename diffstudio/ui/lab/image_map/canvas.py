"""MapCanvas: thousands of points with zooming and panning, and the image of the point under the mouse."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QEvent, QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import (
    QContextMenuEvent,
    QEnterEvent,
    QFocusEvent,
    QImage,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QResizeEvent,
    QWheelEvent,
)
from PySide6.QtWidgets import QSizePolicy, QWidget

from diffstudio.plurals import count_of
from diffstudio.studio.evaluations.plots.raster import Stamp, draw, stamp
from diffstudio.studio.evaluations.plots.scatter import Group, shape_of
from diffstudio.studio.evaluations.views.image_map import ImageMapView
from diffstudio.ui.lab.image_map.colours import colour_of
from diffstudio.ui.lab.image_map.viewport import STEP, Points, Viewport, nearest, next_in_direction
from diffstudio.ui.tasks import NewestFirstQueue
from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.helpers import describe
from diffstudio.ui.widgets.images.image_painting import fitted, rounded
from diffstudio.ui.widgets.images.image_reading import read_image

RADIUS, SMALL_RADIUS = 3.2, 2.2  # px of a point, and where there are many
MANY = 8000  # points
_HEIGHT, _LEAST = 460, 240  # px
_REACH = 14  # px from the mouse to a point
_IMAGE, _KEPT = 128, 400  # px of the image at the mouse; images in memory
_DRAG = 4  # px, from which a press is no click
_DIRECTIONS = {Qt.Key.Key_Left: (-1, 0), Qt.Key.Key_Right: (1, 0), Qt.Key.Key_Up: (0, -1), Qt.Key.Key_Down: (0, 1)}
_WHEEL_STEP = 120.0  # eighths of a degree


class MapCanvas(QWidget):
    """Wheel and +/- zoom, dragging moves, a click or the arrows choose a point, with Shift a second one."""

    chosen = Signal(object, object)  # int | None, int | None: the point and the second one
    menu_wanted = Signal(object, object)  # int, QPoint
    view_changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._points: Points = np.zeros((0, 2))
        self._group: NDArray[np.int64] = np.zeros(0, np.int64)
        self._groups: Sequence[Group] = ()
        self._shown: NDArray[np.int64] = np.zeros(0, np.int64)  # the points of groups that are not hidden
        self._places: Points = np.zeros((0, 2))  # of these
        self._viewport: Viewport | None = None
        self._stamps: list[Stamp] = []
        self._look = ("", 0.0)  # theme and pixel ratio of the stamps
        self._picture: QImage | None = None  # the points as they are now
        self._view: ImageMapView | None = None
        self._images: OrderedDict[Path, QImage] = OrderedDict()
        self._reading = NewestFirstQueue("image-map", capacity=30)
        self._reading.completed.connect(self._read)
        self.hovered: int | None = None
        self.first: int | None = None
        self.second: int | None = None
        self._pressed: QPointF | None = None
        self._dragging = False
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMinimumSize(_LEAST, _LEAST)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setFixedHeight(_HEIGHT)
        describe(self, "Image map", " ")

    # What is shown

    def shows(self, view: ImageMapView) -> bool:
        return self._view is view

    def show_points(
        self, view: ImageMapView, points: Points, groups: Sequence[Group], group: NDArray[np.int64]
    ) -> None:
        """Show points [N,2] of a map, y upwards, the whole of them. `group` is the number of each in `groups`."""
        self._view, self._points = view, points
        self.hovered = self.first = self.second = None
        self._viewport = Viewport.of(points, self.width(), self.height())
        self.show_groups(groups, group)
        self._changed()

    def show_groups(
        self, groups: Sequence[Group], group: NDArray[np.int64], hidden: frozenset[int] = frozenset()
    ) -> None:
        """Colour the same points by other groups, and leave some groups out."""
        self._groups, self._group, self._look = groups, group, ("", 0.0)
        self._shown = np.nonzero(~np.isin(group, list(hidden)))[0]
        kept = [
            None if point is None or int(group[point]) in hidden else point
            for point in (self.hovered, self.first, self.second)
        ]
        self.hovered, self.first, self.second = kept
        if self.first is None:
            self.first, self.second = self.second, None
        self._redraw()
        self._changed()

    def choose(self, point: int | None, *, second: bool = False) -> None:
        """Choose a point; `second` keeps the one before."""
        if second and self.first is not None and point != self.first:
            self.second = point
        else:
            self.first, self.second = point, None
        if point is not None and self._viewport is not None:
            moved = self._viewport.showing(*map(float, self._points[point]))
            if moved != self._viewport:
                self._set_viewport(moved)
        self._changed()

    def zoom(self, steps: float, at: QPointF | None = None) -> None:
        if self._viewport is not None:
            place = (at.x(), at.y()) if at is not None else (None, None)
            self._set_viewport(self._viewport.zoomed(STEP**steps, *place))

    def show_all(self) -> None:
        if self._viewport is not None:
            self._set_viewport(self._viewport.all())

    @property
    def zoomed(self) -> bool:
        return self._viewport is not None and self._viewport.zoom > 1

    def place_of(self, point: int) -> QPointF:
        """Where a point is now."""
        assert self._viewport is not None
        ((x, y),) = self._viewport.places(self._points[point : point + 1])
        return QPointF(x, y)

    def shut_down(self) -> None:
        self._reading.close()

    def sizeHint(self) -> QSize:
        return QSize(640, _HEIGHT)

    # Painting

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        if self._viewport is None or not len(self._points):
            painter.fillRect(self.rect(), theme.colour("background"))
            return
        painter.drawImage(QRectF(self.rect()), self._drawn())
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        for point, role in ((self.second, "warn"), (self.first, "accent"), (self.hovered, "text")):
            if point is not None:
                painter.setPen(QPen(theme.colour(role), 2))
                painter.setBrush(Qt.BrushStyle.NoBrush)
                painter.drawEllipse(self.place_of(point), 7, 7)
        if self.hovered is not None:
            self._paint_image(painter, self.hovered)
        painter.setPen(QPen(theme.colour("accent" if self.hasFocus() else "line"), 1))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawRoundedRect(QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5), theme.RADIUS, theme.RADIUS)

    def _drawn(self) -> QImage:
        """The points in pixels of the screen, drawn again only when something changed."""
        ratio = self.devicePixelRatioF()
        look = (theme.name(), ratio)
        if self._look != look:
            radius = (SMALL_RADIUS if len(self._points) > MANY else RADIUS) * ratio
            background = theme.roles().background
            self._stamps = [stamp(shape_of(one), radius, colour_of(one), background) for one in self._groups]
            self._look, self._picture = look, None
        if self._picture is None:
            width, height = round(self.width() * ratio), round(self.height() * ratio)
            pixels = draw(
                self._places * ratio, self._group[self._shown], self._stamps, width, height, theme.roles().background
            )
            self._picture = QImage(pixels.data, width, height, 4 * width, QImage.Format.Format_RGB32).copy()
        return self._picture

    def _paint_image(self, painter: QPainter, point: int) -> None:
        """The image of a point beside it, inside the canvas."""
        assert self._view is not None
        file, place = self._view.file(point), self.place_of(point)
        image = self._images.get(file) if file is not None else None
        if image is None and file is not None:
            self._reading.submit(file, partial(read_image, file, 2 * _IMAGE))
        painter.setFont(theme.font(theme.SMALL_PIXELS))
        metrics = painter.fontMetrics()
        side, shown = float(theme.scaled(_IMAGE)), image is not None and not image.isNull()
        lines = [self._view.label(point), f"{self._view.part(point).name} · {self._view.name(point)}"]
        lines = [line for line in lines if line]
        width, height = side + 16, (side + 6 if shown else 0) + len(lines) * metrics.height() + 14
        left = place.x() + 14 if place.x() + 14 + width <= self.width() else place.x() - 14 - width
        top = min(max(4.0, place.y() - height / 2), max(4.0, self.height() - height - 4))
        card = QRectF(max(4.0, left), top, width, height)
        painter.setPen(QPen(theme.colour("line"), 1))
        painter.setBrush(theme.colour("raised"))
        painter.drawRoundedRect(card, theme.RADIUS, theme.RADIUS)
        y = card.y() + 7
        if image is not None and shown:
            rounded(painter, image, fitted(image.size(), QRectF(card.x() + 8, y, side, side)), 4)
            y += side + 6
        for line in lines:
            painter.setPen(theme.colour("text" if line == lines[0] else "dim"))
            room = QRectF(card.x() + 8, y, side, metrics.height())
            elided = metrics.elidedText(line, Qt.TextElideMode.ElideMiddle, int(side))
            painter.drawText(room, int(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter), elided)
            y += metrics.height()

    def _read(self, file: Path, image: QImage | None) -> None:
        self._images[file] = image or QImage()
        while len(self._images) > _KEPT:
            self._images.popitem(last=False)
        self.update()

    # Mouse and keys

    def mousePressEvent(self, event: QMouseEvent) -> None:
        if event.button() == Qt.MouseButton.LeftButton:
            self._pressed, self._dragging = event.position(), False

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        if self._pressed is not None and self._viewport is not None:
            moved = event.position() - self._pressed
            if self._dragging or moved.manhattanLength() >= _DRAG:
                self._dragging, self._pressed = True, event.position()
                self._set_viewport(self._viewport.moved(moved.x(), moved.y()))
            return
        self._hover(self._point_at(event.position()))

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        if event.button() == Qt.MouseButton.LeftButton and self._pressed is not None and not self._dragging:
            shift = bool(event.modifiers() & Qt.KeyboardModifier.ShiftModifier)
            self.choose(self._point_at(event.position()), second=shift)
        self._pressed = None

    def enterEvent(self, event: QEnterEvent) -> None:
        self._hover(self._point_at(event.position()))

    def leaveEvent(self, event: QEvent) -> None:
        self._hover(None)

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Zoom when the map has the focus; otherwise the column scrolls."""
        if not self.hasFocus():
            event.ignore()
            return
        self.zoom(event.angleDelta().y() / _WHEEL_STEP, event.position())
        event.accept()

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        keyboard = event.reason() == QContextMenuEvent.Reason.Keyboard
        point = self.first if keyboard else self._point_at(QPointF(event.pos()))
        if point is not None:
            place = self.mapToGlobal(self.place_of(point).toPoint()) if keyboard else event.globalPos()
            self.menu_wanted.emit(point, place)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        key, shift = Qt.Key(event.key()), bool(event.modifiers() & Qt.KeyboardModifier.ShiftModifier)
        match key:
            case _ if key in _DIRECTIONS:
                self._go(*_DIRECTIONS[key], second=shift)
            case Qt.Key.Key_Plus | Qt.Key.Key_Equal:
                self.zoom(1, self.place_of(self.first) if self.first is not None else None)
            case Qt.Key.Key_Minus:
                self.zoom(-1)
            case Qt.Key.Key_0:
                self.show_all()
            case Qt.Key.Key_Return | Qt.Key.Key_Enter | Qt.Key.Key_Space if self.first is not None:
                self.menu_wanted.emit(self.first, self.mapToGlobal(self.place_of(self.first).toPoint()))
            case Qt.Key.Key_Escape if self.first is not None:
                self.choose(None)
            case _:
                super().keyPressEvent(event)

    def focusInEvent(self, event: QFocusEvent) -> None:
        super().focusInEvent(event)
        self.update()

    def resizeEvent(self, event: QResizeEvent) -> None:
        if self._viewport is not None:
            self._set_viewport(self._viewport.resized(self.width(), self.height()))

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange:
            self.update()

    def _go(self, dx: int, dy: int, *, second: bool) -> None:
        """Choose the next point in a direction, or the one nearest to the middle; with `second` move the second one."""
        if not len(self._shown):
            return
        start = self.second if second and self.second is not None else self.first
        if start is None:
            found = nearest(self._places, self.width() / 2, self.height() / 2, np.inf)
        else:
            found = next_in_direction(self._places, int(np.searchsorted(self._shown, start)), dx, dy)
        if found is not None:
            self.choose(int(self._shown[found]), second=second)

    def _point_at(self, place: QPointF) -> int | None:
        found = nearest(self._places, place.x(), place.y(), _REACH)
        return int(self._shown[found]) if found is not None else None

    def _hover(self, point: int | None) -> None:
        if point != self.hovered:
            self.hovered = point
            self.update()

    def _set_viewport(self, viewport: Viewport) -> None:
        self._viewport = viewport
        self._redraw()
        self.view_changed.emit()

    def _redraw(self) -> None:
        if self._viewport is not None:
            self._places = self._viewport.places(self._points[self._shown])
        self._picture = None
        self.update()

    def _changed(self) -> None:
        chosen = [point for point in (self.first, self.second) if point is not None]
        words = [self._view.in_words(point) for point in chosen] if self._view is not None else []
        self.setAccessibleDescription("; ".join(words) or count_of(len(self._shown), "image"))
        self.chosen.emit(self.first, self.second)
        self.update()
